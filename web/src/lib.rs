//! meddino for JavaScript: scans from the files of a page, a model on WebGPU or the CPU, features, components and similarity.
//!
//! These are the plain classes. They run in a worker, because a file is read piece by piece while the caller waits,
//! which browsers allow workers alone. `js/meddino.js` starts such a worker and has the same as promises.

mod blob;
mod colours;
mod device;
mod engine;
mod error;
mod features;
mod head;
mod identity;
mod image;
mod labels;
mod loader;
mod options;
mod scan;
mod weights;

use wasm_bindgen::prelude::wasm_bindgen;

/// Prints panics, which are errors of this program, to the console.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| web_sys::console::error_1(&panic.to_string().into())));
}
