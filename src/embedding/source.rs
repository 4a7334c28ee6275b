//! The source of a slice or a mask: a buffer or a texture of the host.

use crate::error::{Error, Result};
use crate::gpu::{TextureCopy, wgpu};

/// A slice [H, W] on the device, in units that [`super::SliceInput::rescale`] turns into Hounsfield units. The device
/// reads it when it runs the encoder's commands.
#[derive(Clone, Copy, Debug)]
pub enum SliceSource<'a> {
    /// f32, row-major, from byte `offset` (a multiple of 4) on. The buffer's usage includes `COPY_SRC`.
    Buffer {
        /// The host's buffer.
        buffer: &'a wgpu::Buffer,
        /// The byte at which the slice begins.
        offset: u64,
    },
    /// The first channel of a texture of H rows and W columns, `R32Float`, `R16Float` or `Rgba8Unorm` (which holds
    /// 0 to 1). The texture's usage includes `TEXTURE_BINDING`, and the view shows the whole first mip level.
    Texture(&'a wgpu::TextureView),
}

/// The range of a buffer that a pass reads.
pub(super) struct Target<'a> {
    pub buffer: &'a wgpu::Buffer,
    /// The first byte.
    pub offset: u64,
}

impl SliceSource<'_> {
    /// Records the copy to `target`, which holds [height, width] f32.
    ///
    /// # Errors
    /// If the source is too small, has the wrong size or format, or lacks a usage.
    pub(super) fn encode(
        self,
        encoder: &mut wgpu::CommandEncoder,
        target: &Target<'_>,
        size: [usize; 2],
        reader: &TextureCopy,
    ) -> Result<()> {
        let bytes = 4 * (size[0] * size[1]) as u64;
        match self {
            Self::Texture(view) => {
                let binding = wgpu::BufferBinding { buffer: target.buffer, offset: target.offset, size: wgpu::BufferSize::new(bytes) };
                reader.encode(encoder, binding, view, size)
            }
            Self::Buffer { buffer, offset } => {
                copy(encoder, (buffer, offset), target, bytes, &format!("a slice of {} x {} f32", size[0], size[1]))
            }
        }
    }
}

/// Records the copy of `bytes` bytes from a host's buffer. Errors call these bytes `what`.
///
/// # Errors
/// If the bytes exceed the buffer or do not begin at a multiple of 4, or the buffer's usage lacks `COPY_SRC`.
pub(super) fn copy(
    encoder: &mut wgpu::CommandEncoder,
    (buffer, offset): (&wgpu::Buffer, u64),
    target: &Target<'_>,
    bytes: u64,
    what: &str,
) -> Result<()> {
    let refuse = |problem: String| Err(Error::option("buffer", problem));
    if !offset.is_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT) || offset.checked_add(bytes).is_none_or(|end| end > buffer.size()) {
        return refuse(format!(
            "{bytes} bytes of {what} at byte {offset} do not fit its {} bytes, or do not begin at a multiple of 4",
            buffer.size()
        ));
    }
    if !buffer.usage().contains(wgpu::BufferUsages::COPY_SRC) {
        return refuse(format!("its usage is {:?}; create it with COPY_SRC too", buffer.usage()));
    }
    encoder.copy_buffer_to_buffer(buffer, offset, target.buffer, target.offset, bytes);
    Ok(())
}
