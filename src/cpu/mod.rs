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

pub use attention::attention;
pub use decode::{decode, decode_bytes, decoder_layers};
pub use dot::Bf16;
pub use forward::{forward, forward_while};
pub use gelu::gelu;
pub use layernorm::{layernorm, layernorm_gelu};
pub use matmul::{FactorType, Layer, LayerEpilogue, layers, matmul};
pub use mosaic::mosaic;
pub use patch_embed::patch_embed;
pub use rope::rope;
pub use set::InstructionSet;
pub use tokens::tokens;

/// Runs `work` inside the rayon pool. From outside the pool, every kernel would put the caller to sleep and wake it
/// again.
pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}
