//! Each kernel, and its twin on the CPU, against an f64 oracle: swept over the edges of its tiles and over real shapes, in every variant, with the device's own limits
//! and with limits forced down.

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
