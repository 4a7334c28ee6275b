//! Copies between a host's textures and our tensors. They are no part of a graph.

use crate::graph::Kernel;

/// Pixels of a workgroup along each axis.
pub const TEXTURE_SIDE: u32 = 8;

/// Returns the kernel that copies a texture's first channel into a tensor [H, W] of f32. Bindings: the texture, the
/// tensor.
pub fn texture_read() -> Kernel {
    let parts = vec![include_str!("../../shaders/texture/read.wgsl")];
    Kernel { name: "texture read", parts, constants: vec![("SIDE", TEXTURE_SIDE.into())] }
}

/// Returns the kernel that copies a tensor [H, W, `channels`] of f32 into a texture of `rgba16float`. Bindings: the
/// tensor, the texture.
///
/// # Panics
/// If `channels` is not 1 to 4.
pub fn texture_write(channels: usize) -> Kernel {
    assert!((1..=4).contains(&channels), "a texel has 1 to 4 channels, not {channels}");
    let parts = vec![include_str!("../../shaders/texture/write.wgsl")];
    Kernel { name: "texture write", parts, constants: vec![("SIDE", TEXTURE_SIDE.into()), ("CHANNELS", (channels as u32).into())] }
}
