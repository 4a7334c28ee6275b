//! A model on a GPU whose patch tokens stay there. The host gets their projection on a few directions, such as the scores
//! of a linear head: K values a patch and block in place of C.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use super::blocking::Boxed;
#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::context::Context;
use super::executable::{Arriving, Executable};
use super::model::Gpu;
use super::prepared::Prepared;
use super::spares::Spares;
use super::weights::GpuWeights;
use crate::error::Result;
use crate::graph::{Footprint, Graph, Plan, plan};
use crate::tensor::{Tensor, TensorView};
use crate::vit::config::{Config, Grid};
use crate::vit::features::{Projection, Range, overflow, tokens};
use crate::vit::forward::{BatchShape, Projected, record_projected};
use crate::vit::layers::Layers;
use crate::vit::rope;

/// A model and a projection of its patch tokens, and the passes prepared for the most recent image sizes. It shares the
/// model's weights.
#[derive(Debug)]
pub struct Projector {
    context: Context,
    config: Config,
    weights: GpuWeights,
    layers: Layers,
    /// K.
    directions: usize,
    prepared: Prepared<BatchShape, PreparedProjection>,
}

#[derive(Debug)]
struct PreparedProjection {
    projected: Projected,
    executable: Executable,
}

impl Projector {
    /// Uploads `projection` for the tokens of the model on `gpu`.
    ///
    /// # Errors
    /// If the projection is for tokens of another model, or the device is out of memory or lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, projection: &Projection) -> Result<Self> {
        block_on(Self::new_async(gpu, projection))
    }

    /// [`Projector::new`] as a future.
    ///
    /// # Errors
    /// If the projection is for tokens of another model, or the device is out of memory or lost.
    pub async fn new_async(gpu: &Gpu, projection: &Projection) -> Result<Self> {
        projection.check(gpu.config())?;
        let (context, config) = (gpu.context().clone(), gpu.config().clone());
        let names: Vec<[String; 2]> = projection.layers.of_model(config.depth).into_iter().map(Projected::names).collect();
        let parts = projection.by_layer();
        let tensors = names.iter().zip(&parts).flat_map(|([mean, directions], part)| [(mean.as_str(), &part.0), (directions, &part.1)]);
        let mut weights = GpuWeights::upload_async(gpu.context(), tensors.collect()).await?;
        weights.extend(gpu.weights().clone());
        let (layers, directions) = (projection.layers.clone(), projection.directions.rows());
        Ok(Self { context, config, weights, layers, directions, prepared: Prepared::default() })
    }

    /// Submits a batch of normalised images, [B, in_chans, H, W], or [B, 1, H, W] whose one channel stands for all. Does
    /// not wait for the device, so that it has the next batch before the caller takes this one's scores.
    ///
    /// # Errors
    /// If the images do not fit the model, or the device refuses the work, is out of memory or lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn submit<'a>(&self, images: impl Into<TensorView<'a>>) -> Result<PendingScores> {
        block_on(self.submit_async(images))
    }

    /// [`Projector::submit`] as a future, which is ready once the batch is submitted.
    ///
    /// # Errors
    /// If the images do not fit the model, or the device refuses the work, is out of memory or lost.
    pub async fn submit_async<'a>(&self, images: impl Into<TensorView<'a>>) -> Result<PendingScores> {
        let images = images.into();
        let input = self.input(images.shape())?;
        let grid = self.config.grid(input.height, input.width)?;
        let prepare = |input, planned| -> Boxed<'_, _> { Box::pin(self.prepare(input, planned)) };
        let pass = self.prepared.get(input, |input| self.plan(input), prepare).await?;
        pass.executable.write(pass.projected.image, 0, images.data())?;
        pass.executable.run()?;
        let scores = pass.projected.scores.iter().map(|id| pass.executable.begin(*id)).collect::<Result<_>>()?;
        Ok(PendingScores(Box::pin(patches(scores, grid, self.context.limits().into()))))
    }

    /// Returns the device memory that a pass over images of this shape needs. Allocates nothing.
    ///
    /// # Errors
    /// If the images do not fit the model, or the pass does not fit the device.
    pub fn bytes(&self, image_shape: &[usize]) -> Result<Footprint> {
        let (_, planned, _) = self.plan(self.input(image_shape)?)?;
        Ok(planned.bytes())
    }

    fn input(&self, shape: &[usize]) -> Result<BatchShape> {
        let (batch, _) = self.config.check_image(shape)?;
        Ok(BatchShape { batch, channels: shape[1], height: shape[2], width: shape[3], masked: false })
    }

    fn plan(&self, input: BatchShape) -> Result<(Graph, Plan, Projected)> {
        let (graph, projected) = record_projected(&self.config, *self.context.limits(), input, &self.layers, self.directions)?;
        let planned = plan(&graph, self.context.limits())?;
        Ok((graph, planned, projected))
    }

    async fn prepare(&self, input: BatchShape, (graph, planned, projected): (Graph, Plan, Projected)) -> Result<PreparedProjection> {
        let executable = Executable::new_async(&self.context, graph, planned, &self.weights).await?;
        let grid = self.config.grid(input.height, input.width)?;
        executable.write(projected.table, 0, rope::table(&self.config, grid).data())?;
        Ok(PreparedProjection { projected, executable })
    }
}

/// Waits for the scores [B, T, K] of all tokens of each block, and returns the sums over blocks for the patches.
async fn patches(blocks: Vec<Arriving>, grid: Grid, range: Range) -> Result<Tensor> {
    let mut sums: Option<Tensor> = None;
    for scores in blocks {
        let scores = scores.tensor(&Spares::default()).await?;
        if !scores.is_finite() {
            return Err(overflow("scores", range, None));
        }
        let patches = tokens(&scores, scores.shape()[1] - grid.patches(), grid.patches());
        match &mut sums {
            None => sums = Some(patches),
            Some(sums) => sums.data_mut().iter_mut().zip(patches.data()).for_each(|(sum, score)| *sum += score),
        }
    }
    let sums = sums.expect("a projection is of at least one block");
    if sums.is_finite() { Ok(sums) } else { Err(overflow("scores", range, None)) }
}

/// The scores of a submitted batch's patch tokens, as a future: [B, P, K]. If it is dropped, the device still finishes
/// the batch, and the scores are lost.
pub struct PendingScores(Boxed<'static, Result<Tensor>>);

impl PendingScores {
    /// Blocks until the scores are on the host: [B, P, K].
    ///
    /// # Errors
    /// If the scores are not finite, or the device is lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(self) -> Result<Tensor> {
        block_on(self)
    }
}

impl Future for PendingScores {
    type Output = Result<Tensor>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(task)
    }
}

impl std::fmt::Debug for PendingScores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingScores").finish_non_exhaustive()
    }
}
