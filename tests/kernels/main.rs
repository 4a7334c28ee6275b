//! Compares each kernel and its CPU twin with an f64 oracle, over the edges of its tiles and over real shapes, in every
//! variant, with the device's own limits and with lower limits.

mod attention;
mod cases;
mod decode;
#[path = "../device/mod.rs"]
mod device;
mod elementwise;
mod maps;
mod matmul;
mod patch_embed;
mod resize;
mod rope;
mod tokens;
