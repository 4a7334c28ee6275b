//! The model on the CPU in straight-line code: the reference for every kernel, and the backend without a GPU.
//!
//! Each kernel has one file, named like its shader. This room knows the model's sizes and weights, but no graphs or
//! devices.

mod ahead;
mod attention;
mod bf16;
mod decode;
mod division;
mod dot;
pub mod double;
mod forward;
mod gelu;
mod layernorm;
mod matmul;
mod mosaic;
mod patch_embed;
mod product;
mod rope;
mod scalar;
mod set;
mod simd;
mod tokens;
mod window;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

pub use attention::attention;
pub use decode::{decode, decode_bytes, decoder_layers};
pub use dot::Bf16;
pub use forward::{forward, forward_pausing, forward_while};
pub use gelu::gelu;
pub use layernorm::{layernorm, layernorm_gelu};
pub use matmul::{FactorType, Layer, LayerEpilogue, layers, matmul};
pub use mosaic::mosaic;
pub use patch_embed::patch_embed;
pub use rope::rope;
pub use set::InstructionSet;
pub use tokens::tokens;

/// Returns the result of a future that waits for nobody. Nobody may block in a browser.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("the future waits for nobody"),
    }
}

/// Runs `work` inside the rayon pool. From outside the pool, every kernel would put the caller to sleep and wake it
/// again.
pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}
