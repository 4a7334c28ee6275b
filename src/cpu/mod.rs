//! The model on the CPU, straight-line: the reference for every kernel, and the backend where there is no GPU.
//!
//! One file a kernel, of the same name as its shader. It knows the model's sizes and weights; it does not know of graphs or devices.

mod attention;
mod bf16;
mod decode;
mod dot;
mod forward;
mod gelu;
mod layernorm;
mod matmul;
mod mosaic;
mod patch_embed;
mod product;
mod rope;
mod scalar;
mod simd;
mod tokens;
mod window;

pub use attention::attention;
pub use decode::{decode, decode_bytes, decoder_layers};
pub use dot::Bf16;
pub use forward::forward;
pub use gelu::gelu;
pub use layernorm::{layernorm, layernorm_gelu};
pub use matmul::{Epilogue, Layer, Precision, layers, matmul};
pub use mosaic::mosaic;
pub use patch_embed::patch_embed;
pub use rope::rope;
pub use simd::is_fused;
pub use tokens::tokens;

/// Does `work` on a thread of the pool that its kernels share their work among: a thread that waits for the pool from outside goes to sleep, and is woken, at
/// every one of them.
pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}
