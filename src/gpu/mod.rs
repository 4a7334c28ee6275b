//! Runs graphs on a GPU. Only this room and the facade use wgpu. The room takes graphs and returns tensors; only
//! [`Gpu`], [`Projector`] and [`Scorer`] depend on the model.
//!
//! # Waiting
//! A function that waits for a device has two forms. `x_async` returns a future, for browsers and for programs with
//! their own executor. `x` blocks the thread; it does not exist in a browser, where no code may block. Any executor may
//! run the futures, on any thread: while a future is pending, the context's poller thread polls the device (a browser
//! polls on its own). A function that only records or submits (to write an input, to run, to encode) does not wait and
//! has one form.

mod answer;
mod autotune;
mod blocking;
mod compile;
mod context;
mod devices;
mod executable;
#[cfg(test)]
pub(crate) mod faults;
mod model;
mod needs;
mod objects;
mod pace;
mod peak;
mod pipelines;
#[cfg(not(target_arch = "wasm32"))]
mod poller;
mod prepared;
mod profile;
mod projector;
mod ranking;
mod readback;
mod report;
mod scorer;
mod shards;
mod spares;
mod stamps;
mod texture;
#[cfg(feature = "files")]
mod tile_cache;
mod tune;
mod waits;
mod weights;

pub use autotune::Trial;
pub(crate) use blocking::Boxed;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use blocking::block_on;
pub use context::Context;
#[cfg(not(target_arch = "wasm32"))]
pub use devices::devices;
pub use devices::{Devices, Selection, devices_async};
pub use executable::Executable;
pub use model::{Gpu, Pending};
pub use needs::{REQUIRED, Required, WANTED, Wanted, descriptor};
pub use profile::{Profile, ProfileRow, Timed};
pub use projector::{PendingScores, Projector};
pub use ranking::{Ranked, Standing};
pub use readback::Readback;
pub use report::{DeviceReport, Kind};
pub use scorer::{ScoredSlice, Scorer};
pub use shards::ShardLoader;
pub use stamps::Span;
pub(crate) use texture::TextureCopy;
#[cfg(feature = "files")]
pub use tile_cache::TileCache;
pub use weights::GpuWeights;
/// The version of wgpu whose devices a host may lend.
pub use wgpu;
pub(crate) use wgpu::WasmNotSendSync;
