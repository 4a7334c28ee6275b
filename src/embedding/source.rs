//! Where a slice comes from: a buffer or a texture of the host's.

use crate::error::{Error, Result};
use crate::gpu::{TextureCopy, wgpu};

/// A slice [H, W] on the device, in the units that [`super::Settings::rescale`] turns into Hounsfield units. It is taken when the encoder's commands run.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// f32, row-major, from byte `offset` (a multiple of 4) on; the buffer's usage has `COPY_SRC`.
    Buffer {
        /// The host's.
        buffer: &'a wgpu::Buffer,
        /// Of the slice's first value, in bytes.
        offset: u64,
    },
    /// The first channel of a texture of H rows and W columns, `R32Float`, `R16Float` or `Rgba8Unorm` (which holds 0 to 1); its usage has
    /// `TEXTURE_BINDING`. The view shows the whole of its first mip level.
    Texture(&'a wgpu::TextureView),
}

impl Source<'_> {
    /// Records the copy into `slice`, of [height, width] f32.
    ///
    /// # Errors
    /// If the source is too small, of another size or format, or may not be used so.
    pub(super) fn encode(
        self,
        encoder: &mut wgpu::CommandEncoder,
        slice: &wgpu::Buffer,
        size: [usize; 2],
        reader: &TextureCopy,
    ) -> Result<()> {
        match self {
            Self::Texture(view) => reader.encode(encoder, slice, view, size),
            Self::Buffer { buffer, offset } => {
                let bytes = 4 * (size[0] * size[1]) as u64;
                let refuse = |problem: String| Err(Error::option("buffer", problem));
                if !offset.is_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT) || offset.checked_add(bytes).is_none_or(|end| end > buffer.size()) {
                    return refuse(format!(
                        "{bytes} bytes of a slice of {} x {} f32 at byte {offset} do not fit its {} bytes, or do not begin at a multiple of 4",
                        size[0],
                        size[1],
                        buffer.size()
                    ));
                }
                if !buffer.usage().contains(wgpu::BufferUsages::COPY_SRC) {
                    return refuse(format!("its usage is {:?}; create it with COPY_SRC too", buffer.usage()));
                }
                encoder.copy_buffer_to_buffer(buffer, offset, slice, 0, bytes);
                Ok(())
            }
        }
    }
}
