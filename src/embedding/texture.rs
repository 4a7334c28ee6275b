//! Writes a map of tokens into a texture.

use super::map::{Operation, TokenMap};
use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::block_on;
use crate::gpu::{Executable, TextureCopy, wgpu};
use crate::graph::{Role, TensorId};
use crate::kernels::{Field, Values, taps};
use crate::maps::Mesh;

/// One image of a map of up to four channels, as a texture of the slice's size or of any other size. Values are
/// interpolated bilinearly between the centres of the patches.
#[derive(Debug)]
pub struct MapTexture {
    executable: Executable,
    pixels: TensorId,
    size: [usize; 2],
    writer: TextureCopy,
}

impl MapTexture {
    /// Prepares image `image` of the map, counted from 0. `mesh` gives the positions of the patches on the texture:
    /// [`super::Pass::mesh`], or a mesh of another size. `range` gives the values that become 0 and 1; values beyond it
    /// are clamped.
    ///
    /// # Errors
    /// If the map lacks the image, has other patches than the mesh or more than four channels, if the range is empty,
    /// or if the operation does not fit the device.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(map: &TokenMap, image: usize, mesh: &Mesh, range: (f32, f32)) -> Result<Self> {
        block_on(Self::new_async(map, image, mesh, range))
    }

    /// [`MapTexture::new`] as a future.
    ///
    /// # Errors
    /// If the map lacks the image, has other patches than the mesh or more than four channels, if the range is empty,
    /// or if the operation does not fit the device.
    pub async fn new_async(map: &TokenMap, image: usize, mesh: &Mesh, range: (f32, f32)) -> Result<Self> {
        let (lo, hi) = range;
        if !(lo.is_finite() && hi.is_finite() && lo < hi) {
            return Err(Error::option("range", format!("{lo} to {hi}; expected two finite values in order")));
        }
        let (channels, patches) = (map.channels, mesh.grid.patches());
        if !(1..=4).contains(&channels) || map.prefix + patches != map.tokens {
            return Err(Error::option(
                "map",
                format!("{} tokens of {channels} channels; expected {} + {patches} tokens of 1 to 4", map.tokens, map.prefix),
            ));
        }
        if image >= map.images {
            return Err(Error::option("image", format!("there is no image {image} in a batch of {}, counted from 0", map.images)));
        }
        let first = (image * map.tokens + map.prefix) * channels;
        let field = Field { first, height: mesh.grid.rows, width: mesh.grid.cols, channels };
        let values = Values { lo, hi, mean: lo, divisor: hi - lo, ..Values::SAME };
        let size = [mesh.slice.0, mesh.slice.1];
        let operation = map.then(|g, id| {
            let inputs = mesh.lines().map(|lines| (lines.len(), taps(&lines)));
            let tables = inputs.each_ref().map(|(lines, table)| g.tensor("taps", [*lines, table.len() / lines], Role::Input));
            let result = g.resize("map texture", id, field, tables, values, [size[0], size[1], channels])?;
            Ok(Operation { result, inputs: tables.into_iter().zip(inputs.map(|(_, table)| table)).collect() })
        });
        let (executable, pixels) = operation.await?;
        Ok(Self { executable, pixels, size, writer: TextureCopy::writer(&map.context, channels).await? })
    }

    /// Records the commands that fill the texture: `Rgba16Float`, of the mesh's size, usage `STORAGE_BINDING`. Channels
    /// that the map lacks are 0, and the fourth is 1. The map's own channels are 0 in places that the model did not
    /// see.
    ///
    /// # Errors
    /// If the texture has the wrong size or format, or lacks the usage.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, texture: &wgpu::TextureView) -> Result<()> {
        self.executable.encode(encoder);
        self.writer.encode(encoder, self.pixels().as_entire_buffer_binding(), texture, self.size)
    }

    /// Returns the same values as a buffer: [H, W, channels] of f32.
    pub fn pixels(&self) -> &wgpu::Buffer {
        self.executable.buffer(self.pixels).expect("a result is written")
    }
}
