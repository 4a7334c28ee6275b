//! A fine-tuned network on a GPU. It takes tiles of a slice and returns a score for every class at every pixel of the
//! slice.

use super::blocking::Boxed;
#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::context::Context;
use super::executable::Executable;
use super::prepared::{InUse, Prepared};
use super::weights::GpuWeights;
use crate::error::{Error, Result};
use crate::graph::{Footprint, Graph, Plan, plan};
use crate::tensor::Tensor;
use crate::vit::config::Config;
use crate::vit::decoder::{Decoder, Shape};
use crate::vit::forward::{BatchShape, stored};
use crate::vit::rope;
use crate::vit::scores::{Scores, record};
use crate::vit::weights::Weights;

/// A network's weights on a device, and the passes prepared for the most recent tile and slice sizes.
#[derive(Debug)]
pub struct Scorer {
    context: Context,
    config: Config,
    shape: Shape,
    weights: GpuWeights,
    prepared: Prepared<Key, PreparedScores>,
}

/// The shape of the tiles, and the size [Y, X] of their slice.
type Key = (BatchShape, [usize; 2]);

#[derive(Debug)]
struct PreparedScores {
    scores: Scores,
    executable: Executable,
}

impl Scorer {
    /// Uploads the weights of a model, and those of a decoder of `shape` as [`Decoder::load`] returns them.
    ///
    /// # Errors
    /// If the device is out of memory or lost, or a weight is larger than its largest buffer.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(context: &Context, config: &Config, weights: &Weights<Tensor>, shape: &Shape, decoder: &Decoder<Tensor>) -> Result<Self> {
        block_on(Self::new_async(context, config, weights, shape, decoder))
    }

    /// [`Scorer::new`] as a future.
    ///
    /// # Errors
    /// If the device is out of memory or lost, or a weight is larger than its largest buffer.
    pub async fn new_async(
        context: &Context,
        config: &Config,
        weights: &Weights<Tensor>,
        shape: &Shape,
        decoder: &Decoder<Tensor>,
    ) -> Result<Self> {
        let context = context.without_shader_checks().paced(config).await?;
        let (specs, decoder_specs) = (Weights::specs(config), Decoder::linear_specs(shape));
        let leaves = specs.leaves().into_iter().chain(decoder_specs.leaves()).zip(weights.leaves().into_iter().chain(decoder.leaves()));
        let elem = context.limits().elem;
        let leaves = leaves.map(|(spec, tensor)| (spec.name.as_str(), tensor, stored(spec, elem)));
        let weights = GpuWeights::upload_as_async(&context, leaves.collect()).await?;
        Ok(Self { context, config: config.clone(), shape: shape.clone(), weights, prepared: Prepared::default() })
    }

    /// Drops all prepared passes, so that tests can watch a preparation.
    #[cfg(test)]
    pub(crate) fn forget(&self) {
        self.prepared.forget();
    }

    /// Returns the device.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Begins a slice of `size` [Y, X] with all sums 0. The caller then adds batches of tiles, of shape [B, in_chans,
    /// H, W], or [B, 1, H, W] whose one channel stands for all channels. `weights` [H, W] are the weights of a tile's
    /// pixels in the sums. A second slice of this scorer waits until this one is finished or dropped.
    ///
    /// # Errors
    /// If the tiles do not fit the model or the slice, or the device is out of memory or lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn slice(&self, size: [usize; 2], tiles: &[usize], weights: &[f32]) -> Result<ScoredSlice<'_>> {
        block_on(self.slice_async(size, tiles, weights))
    }

    /// [`Scorer::slice`] as a future.
    ///
    /// # Errors
    /// If the tiles do not fit the model or the slice, or the device is out of memory or lost.
    pub async fn slice_async(&self, size: [usize; 2], tiles: &[usize], weights: &[f32]) -> Result<ScoredSlice<'_>> {
        let prepare = |(input, _), planned| -> Boxed<'_, _> { Box::pin(self.prepare(input, planned)) };
        let prepared = self.prepared.get(self.key(tiles, size)?, |key| self.plan(key), prepare).await?;
        prepared.executable.write(prepared.scores.weights, 0, weights)?;
        prepared.executable.zero(prepared.scores.sums)?;
        Ok(ScoredSlice { context: &self.context, prepared })
    }

    /// Returns the device memory that tiles of this shape and a slice of this size need. Allocates nothing.
    ///
    /// # Errors
    /// If the tiles do not fit the model, the slice or the device.
    pub fn bytes(&self, tiles: &[usize], size: [usize; 2]) -> Result<Footprint> {
        let (_, planned, _) = self.plan(self.key(tiles, size)?)?;
        Ok(planned.bytes())
    }

    fn key(&self, tiles: &[usize], size: [usize; 2]) -> Result<Key> {
        let (batch, grid) = self.config.check_image(tiles)?;
        let (height, width, p) = (tiles[2], tiles[3], self.config.patch_size);
        if [grid.rows * p, grid.cols * p] != [height, width] || height > size[0] || width > size[1] {
            return Err(Error::option(
                "tiles",
                format!(
                    "tiles of {height} x {width} must be whole patches of {p} x {p}, and fit into the slice of {} x {}",
                    size[0], size[1]
                ),
            ));
        }
        Ok((BatchShape { batch, channels: tiles[1], height, width, masked: false }, size))
    }

    fn plan(&self, (input, size): Key) -> Result<(Graph, Plan, Scores)> {
        let (graph, scores) = record(&self.config, &self.shape, *self.context.limits(), input, size)?;
        let planned = plan(&graph, self.context.limits())?;
        Ok((graph, planned, scores))
    }

    async fn prepare(&self, input: BatchShape, (graph, planned, scores): (Graph, Plan, Scores)) -> Result<PreparedScores> {
        let executable = Executable::new_async(&self.context, graph, planned, &self.weights).await?;
        let grid = self.config.grid(input.height, input.width)?;
        executable.write(scores.table, 0, rope::table(&self.config, grid).data())?;
        Ok(PreparedScores { scores, executable })
    }
}

/// A slice whose scores the device is summing.
pub struct ScoredSlice<'a> {
    context: &'a Context,
    prepared: InUse<'a, Key, PreparedScores>,
}

impl ScoredSlice<'_> {
    /// Adds the scores of a batch of normalised tiles, of the shape that [`Scorer::slice`] was given. `places` holds,
    /// for each tile, the row and column of its corner in the slice, and whether the tile is mirrored vertically and
    /// horizontally. The scores of a mirrored tile are mirrored back before they are added.
    ///
    /// # Errors
    /// If the device refuses the work, is out of memory or lost.
    ///
    /// # Panics
    /// If the tiles have another shape, or one reaches beyond the slice, which is a programmer's mistake.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn add(&self, tiles: &Tensor, places: &[([usize; 2], [bool; 2])]) -> Result<()> {
        block_on(self.add_async(tiles, places))
    }

    /// [`ScoredSlice::add`] as a future.
    ///
    /// # Errors
    /// If the device refuses the work, is out of memory or lost.
    ///
    /// # Panics
    /// If the tiles have another shape, or one reaches beyond the slice, which is a programmer's mistake.
    pub async fn add_async(&self, tiles: &Tensor, places: &[([usize; 2], [bool; 2])]) -> Result<()> {
        let PreparedScores { scores, executable } = &*self.prepared;
        let info = |id| executable.graph().info(id).shape.as_slice();
        let (&[_, _, height, width], &[_, rows, columns]) = (info(scores.image), info(scores.sums)) else {
            panic!("tiles have 4 axes and sums have 3")
        };
        assert_eq!(
            (tiles.shape(), places.len()),
            (info(scores.image), tiles.shape()[0]),
            "the tiles must have the shape that the slice began with, and each tile a place"
        );
        assert!(
            places.iter().all(|([row, column], _)| row + height <= rows && column + width <= columns),
            "{places:?} in {rows} x {columns}"
        );
        // Rows and columns are far below 2^24, so f32 holds them exactly.
        let place = |([row, column], [down, across]): &([usize; 2], [bool; 2])| {
            [*row as f32, *column as f32, f32::from(u8::from(*down)), f32::from(u8::from(*across))]
        };
        executable.write(scores.image, 0, tiles.data())?;
        executable.write(scores.places, 0, &places.iter().flat_map(place).collect::<Vec<f32>>())?;
        executable.run()?;
        // Waits for each batch, so that the caller can stop between two batches.
        self.context.done("segmenting a batch of tiles").await
    }

    /// Returns the weighted sums [K, Y, X]; blocks until they are on the host.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn finish(self) -> Result<Tensor> {
        block_on(self.finish_async())
    }

    /// [`ScoredSlice::finish`] as a future.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    pub async fn finish_async(self) -> Result<Tensor> {
        Ok(self.prepared.executable.read_all_async(&[self.prepared.scores.sums]).await?.remove(0))
    }
}

impl std::fmt::Debug for ScoredSlice<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScoredSlice").field("prepared", &*self.prepared).finish_non_exhaustive()
    }
}
