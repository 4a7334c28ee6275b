//! The model on a GPU. Only this file, `projector.rs` and `scorer.rs` depend on the model; the other files of this room
//! work on graphs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use web_time::Instant;

use super::blocking::Boxed;
#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::context::Context;
use super::executable::{Arriving, Executable};
use super::prepared::{InUse, Prepared};
use super::profile::Profile;
use super::spares::Spares;
use super::stamps::{Clocked, Span};
use super::weights::{GpuWeights, Upload};
use crate::error::Result;
use crate::graph::{Footprint, Graph, Plan, TensorId, plan};
use crate::tensor::{Tensor, TensorView};
use crate::vit::config::{Config, Grid};
use crate::vit::features::{Features, Range, Request};
use crate::vit::forward::{BatchShape, Forward, record, stored};
use crate::vit::model::Model;
use crate::vit::rope;
use crate::vit::weights::Weights;

/// A model's weights on a device, and the passes prepared for the most recent image sizes.
#[derive(Debug)]
pub struct Gpu {
    context: Context,
    config: Config,
    weights: GpuWeights,
    prepared: Prepared<(BatchShape, Request), PreparedForward>,
    spares: Spares,
}

/// A forward pass that is planned and has its GPU objects.
#[derive(Debug)]
struct PreparedForward {
    forward: Forward,
    executable: Executable,
}

impl Gpu {
    /// Loads a model onto a device, one parameter after another: the host holds one parameter, and at most about 64 MiB
    /// that the device has not copied yet.
    ///
    /// # Errors
    /// If a tensor cannot be read, the device is out of memory or lost, or a weight is larger than its largest buffer.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(context: &Context, model: &Model) -> Result<Self> {
        block_on(Self::open_async(context, model))
    }

    /// [`Gpu::open`] as a future.
    ///
    /// # Errors
    /// If a tensor cannot be read, the device is out of memory or lost, or a weight is larger than its largest buffer.
    pub async fn open_async(context: &Context, model: &Model) -> Result<Self> {
        let mut upload = Upload::new(context);
        for spec in Weights::specs(model.config()).leaves() {
            let tensor = model.checkpoint().load(&spec.name)?;
            upload.add(&spec.name, &tensor, stored(spec, context.limits().elem)).await?;
        }
        Self::assembled(context.without_shader_checks(), model.config(), upload.finish().await?).await
    }

    /// Uploads weights that are in memory.
    ///
    /// # Errors
    /// If the device is out of memory or lost, or a weight is larger than its largest buffer.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(context: &Context, config: &Config, weights: &Weights<Tensor>) -> Result<Self> {
        block_on(Self::new_async(context, config, weights))
    }

    /// [`Gpu::new`] as a future.
    ///
    /// # Errors
    /// If the device is out of memory or lost, or a weight is larger than its largest buffer.
    pub async fn new_async(context: &Context, config: &Config, weights: &Weights<Tensor>) -> Result<Self> {
        Self::on(context.without_shader_checks(), config, weights).await
    }

    /// Uploads a model's weights as [`Gpu::new`] does, and keeps naga's run-time checks in every shader, as a browser
    /// does. Slower; tests compare with it.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with_shader_checks(context: &Context, config: &Config, weights: &Weights<Tensor>) -> Result<Self> {
        block_on(Self::on(context.clone(), config, weights))
    }

    async fn on(context: Context, config: &Config, weights: &Weights<Tensor>) -> Result<Self> {
        let specs = Weights::specs(config);
        let elem = context.limits().elem;
        let leaves = specs.leaves().into_iter().zip(weights.leaves());
        let leaves = leaves.map(|(spec, tensor)| (spec.name.as_str(), tensor, stored(spec, elem)));
        let weights = GpuWeights::upload_as_async(&context, leaves.collect()).await?;
        Self::assembled(context, config, weights).await
    }

    /// Makes a model of weights that are on the device.
    ///
    /// # Errors
    /// If the device is out of memory or lost.
    pub(super) async fn assembled(context: Context, config: &Config, weights: GpuWeights) -> Result<Self> {
        let context = context.paced(config).await?;
        Ok(Self { context, config: config.clone(), weights, prepared: Prepared::default(), spares: Spares::default() })
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

    /// Returns the model's sizes and precisions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the weights, which the passes of all image sizes share.
    pub fn weights(&self) -> &GpuWeights {
        &self.weights
    }

    /// Runs a batch of images through the model; blocks until the features are on the host.
    ///
    /// `image` is [B, in_chans, H, W], or [B, 1, H, W] whose one channel stands for all (CT), already normalised;
    /// `mask` [B * P], if given, is true where `mask_token` replaces a patch.
    ///
    /// # Errors
    /// If the image, the mask or the request does not fit the model, or the device refuses the work, is out of memory
    /// or lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward<'a>(&self, image: impl Into<TensorView<'a>>, mask: Option<&[bool]>, request: &Request) -> Result<Features> {
        block_on(self.forward_async(image, mask, request))
    }

    /// [`Gpu::forward`] as a future.
    ///
    /// # Errors
    /// If the image, the mask or the request does not fit the model, or the device refuses the work, is out of memory
    /// or lost.
    pub async fn forward_async<'a>(&self, image: impl Into<TensorView<'a>>, mask: Option<&[bool]>, request: &Request) -> Result<Features> {
        self.submit_async(image, mask, request).await?.await
    }

    /// Submits a batch of images to the device, and does not wait. The caller may submit another batch before it takes
    /// this one's features, so that the device does not idle. Each batch on its way takes memory only for its features.
    ///
    /// # Errors
    /// As [`Gpu::forward`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn submit<'a>(&self, image: impl Into<TensorView<'a>>, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        block_on(self.submit_async(image, mask, request))
    }

    /// [`Gpu::submit`] as a future, which is ready once the batch is submitted. Before that, the future may wait for
    /// another thread's submission, or for the device to prepare a pass for a new image size.
    ///
    /// # Errors
    /// As [`Gpu::forward_async`].
    pub async fn submit_async<'a>(&self, image: impl Into<TensorView<'a>>, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        self.submit_timed(image.into(), mask, request, false).await
    }

    /// Submits as [`Gpu::submit`] does, and times the pass by the device's clock; [`Pending::wait_clocked`] returns the
    /// time.
    ///
    /// # Errors
    /// As [`Gpu::forward`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn submit_clocked<'a>(&self, image: impl Into<TensorView<'a>>, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        block_on(self.submit_clocked_async(image, mask, request))
    }

    /// [`Gpu::submit_clocked`] as a future.
    ///
    /// # Errors
    /// As [`Gpu::forward_async`].
    pub async fn submit_clocked_async<'a>(
        &self,
        image: impl Into<TensorView<'a>>,
        mask: Option<&[bool]>,
        request: &Request,
    ) -> Result<Pending> {
        self.submit_timed(image.into(), mask, request, true).await
    }

    async fn submit_timed(&self, image: TensorView<'_>, mask: Option<&[bool]>, request: &Request, timed: bool) -> Result<Pending> {
        let (_, grid) = self.config.check_image(image.shape())?;
        let forward = self.prepared(image.shape(), mask, request).await?;
        forward.write(image, mask)?;
        let clocked = if timed {
            forward.executable.run_clocked().await?
        } else {
            forward.executable.run()?;
            None
        };
        Ok(Pending::of(forward.begin(grid, clocked)?.features(self.spares.clone())))
    }

    /// Takes features back whose values are no longer needed. A later batch uses their memory, which saves the time to
    /// allocate it. At most the memory of one batch is kept.
    pub fn reuse(&self, features: Features) {
        self.spares.give(features);
    }

    /// Measures how long the pass alone takes, by the host's clock, `runs` times. The images are on the device before
    /// each run, and the features stay there.
    ///
    /// # Errors
    /// As [`Gpu::forward`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn pass_times<'a>(&self, image: impl Into<TensorView<'a>>, request: &Request, runs: usize) -> Result<Vec<Duration>> {
        block_on(self.pass_times_async(image, request, runs))
    }

    /// [`Gpu::pass_times`] as a future.
    ///
    /// # Errors
    /// As [`Gpu::forward_async`].
    pub async fn pass_times_async<'a>(&self, image: impl Into<TensorView<'a>>, request: &Request, runs: usize) -> Result<Vec<Duration>> {
        let image = image.into();
        let forward = self.prepared(image.shape(), None, request).await?;
        forward.write(image, None)?;
        forward.executable.warm("timing the pass").await?;
        let mut times = Vec::with_capacity(runs);
        for _ in 0..runs {
            let started = Instant::now();
            forward.executable.run()?;
            self.context.done("timing the pass").await?;
            times.push(started.elapsed());
        }
        Ok(times)
    }

    /// Runs a batch until the device is warm, then once a dispatch at a time, and reports where the time goes.
    ///
    /// # Errors
    /// As [`Gpu::forward`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile<'a>(&self, image: impl Into<TensorView<'a>>, mask: Option<&[bool]>, request: &Request) -> Result<Profile> {
        block_on(self.profile_async(image, mask, request))
    }

    /// [`Gpu::profile`] as a future.
    ///
    /// # Errors
    /// As [`Gpu::forward_async`].
    pub async fn profile_async<'a>(&self, image: impl Into<TensorView<'a>>, mask: Option<&[bool]>, request: &Request) -> Result<Profile> {
        let image = image.into();
        let forward = self.prepared(image.shape(), mask, request).await?;
        forward.write(image, mask)?;
        forward.executable.warm("profiling").await?;
        forward.executable.profile_async().await
    }

    /// Returns the device memory that a pass over images of this shape needs. Allocates nothing.
    ///
    /// # Errors
    /// If the images or the request do not fit the model, or the pass does not fit the device.
    pub fn bytes(&self, image_shape: &[usize], masked: bool, request: &Request) -> Result<Footprint> {
        let (_, planned, _) = self.plan(self.input(image_shape, masked)?, request)?;
        Ok(planned.bytes())
    }

    fn input(&self, image_shape: &[usize], masked: bool) -> Result<BatchShape> {
        let (batch, _) = self.config.check_image(image_shape)?;
        Ok(BatchShape { batch, channels: image_shape[1], height: image_shape[2], width: image_shape[3], masked })
    }

    /// Returns the pass over images of this shape, which it prepares if there is none.
    async fn prepared(
        &self,
        image_shape: &[usize],
        mask: Option<&[bool]>,
        request: &Request,
    ) -> Result<InUse<'_, (BatchShape, Request), PreparedForward>> {
        let input = self.input(image_shape, mask.is_some())?;
        if let Some(mask) = mask {
            self.config.check_mask(mask.len(), input.batch, self.config.grid(input.height, input.width)?)?;
        }
        let plan = |(input, request): (BatchShape, Request)| self.plan(input, &request);
        let prepare = |(input, _), planned| -> Boxed<'_, _> { Box::pin(self.prepare(input, planned)) };
        self.prepared.get((input, request.clone()), plan, prepare).await
    }

    fn plan(&self, input: BatchShape, request: &Request) -> Result<(Graph, Plan, Forward)> {
        let (graph, forward) = record(&self.config, *self.context.limits(), input, request)?;
        let planned = plan(&graph, self.context.limits())?;
        Ok((graph, planned, forward))
    }

    async fn prepare(&self, input: BatchShape, (graph, planned, forward): (Graph, Plan, Forward)) -> Result<PreparedForward> {
        let executable = Executable::new_async(&self.context, graph, planned, &self.weights).await?;
        let grid = self.config.grid(input.height, input.width)?;
        executable.write(forward.table, 0, rope::table(&self.config, grid).data())?;
        Ok(PreparedForward { forward, executable })
    }
}

impl PreparedForward {
    fn write(&self, image: TensorView<'_>, mask: Option<&[bool]>) -> Result<()> {
        self.executable.write(self.forward.image, 0, image.data())?;
        let Some((id, mask)) = self.forward.mask.zip(mask) else { return Ok(()) };
        let mask: Vec<f32> = mask.iter().map(|&masked| f32::from(u8::from(masked))).collect();
        self.executable.write(id, 0, &mask)
    }

    /// Begins to copy the requested outputs to the host.
    fn begin(&self, grid: Grid, clocked: Option<Clocked>) -> Result<ArrivingFeatures> {
        let Forward { x_norm, x_prenorm, layers, taps, .. } = &self.forward;
        let begin = |id: &TensorId| self.executable.begin(*id);
        Ok(ArrivingFeatures {
            grid,
            range: self.executable.context().limits().into(),
            clocked,
            x_norm: begin(x_norm)?,
            x_prenorm: x_prenorm.as_ref().map(begin).transpose()?,
            layers: layers.iter().map(|(n, id)| Ok((*n, begin(id)?))).collect::<Result<_>>()?,
            taps: taps.iter().map(|(name, id)| Ok((name.clone(), begin(id)?))).collect::<Result<_>>()?,
        })
    }
}

/// Features on their way from the device.
struct ArrivingFeatures {
    grid: Grid,
    /// The range of the element type that the operations of the pass hand to each other.
    range: Range,
    clocked: Option<Clocked>,
    x_norm: Arriving,
    x_prenorm: Option<Arriving>,
    layers: Vec<(usize, Arriving)>,
    taps: Vec<(String, Arriving)>,
}

impl ArrivingFeatures {
    async fn features(self, spares: Spares) -> Result<(Features, Option<Span>)> {
        let spans = match self.clocked {
            Some(clocked) => clocked.spans().await?,
            None => Vec::new(),
        };
        let x_norm = self.x_norm.tensor(&spares).await?;
        let x_prenorm = match self.x_prenorm {
            Some(arriving) => Some(arriving.tensor(&spares).await?),
            None => None,
        };
        let (layers, taps) = (tensors(self.layers, &spares).await?, tensors(self.taps, &spares).await?);
        let features = Features { grid: self.grid, x_norm, x_prenorm, layers, taps };
        if features.are_finite() { Ok((features, spans.first().copied())) } else { Err(features.overflow(self.range)) }
    }
}

async fn tensors<N>(arriving: Vec<(N, Arriving)>, spares: &Spares) -> Result<Vec<(N, Tensor)>> {
    let mut tensors = Vec::with_capacity(arriving.len());
    for (name, tensor) in arriving {
        tensors.push((name, tensor.tensor(spares).await?));
    }
    Ok(tensors)
}

/// The features of a submitted batch, as a future. [`Gpu::submit`] and [`crate::backbone::Backbone::submit`] return it.
/// Any executor may await it, on any thread, because the context polls the device meanwhile. If it is dropped, the
/// device still finishes the batch, and the features are lost.
pub struct Pending(Boxed<'static, Result<(Features, Option<Span>)>>);

impl Pending {
    #[cfg(not(target_arch = "wasm32"))]
    fn of(features: impl Future<Output = Result<(Features, Option<Span>)>> + Send + 'static) -> Self {
        Self(Box::pin(features))
    }

    #[cfg(target_arch = "wasm32")]
    fn of(features: impl Future<Output = Result<(Features, Option<Span>)>> + 'static) -> Self {
        Self(Box::pin(features))
    }

    /// Wraps features that are already computed.
    #[cfg(feature = "cpu")]
    pub(crate) fn ready(features: Features) -> Self {
        Self::of(std::future::ready(Ok((features, None))))
    }

    /// Blocks until the features are on the host.
    ///
    /// # Errors
    /// If the features are not finite, or the device is lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(self) -> Result<Features> {
        block_on(self)
    }

    /// Blocks until the features are on the host, and returns them with the times at which the device began and ended
    /// the pass. The span is `None` on the CPU, on a device without timestamps, and for a batch that was not submitted
    /// with [`Gpu::submit_clocked`].
    ///
    /// # Errors
    /// As [`Pending::wait`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait_clocked(self) -> Result<(Features, Option<Span>)> {
        block_on(self.wait_clocked_async())
    }

    /// [`Pending::wait_clocked`] as a future.
    ///
    /// # Errors
    /// If the features are not finite, or the device is lost.
    pub async fn wait_clocked_async(self) -> Result<(Features, Option<Span>)> {
        self.0.await
    }
}

impl Future for Pending {
    type Output = Result<Features>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(task).map_ok(|(features, _)| features)
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Selection;
    use crate::vit::config::ModelSize;
    use crate::vit::model::Model;
    use std::io::Write;

    /// Bounds the memory of large images without the weights, as the plan and the device's allocator count it. Blocks
    /// share slots, so one block of ViT-B takes as much as twelve.
    #[test]
    fn large_images_fit_small_devices() {
        let context = match Context::new(&Selection::Auto) {
            Ok(context) => context,
            Err(problem) => {
                assert!(std::env::var_os("MEDDINO_REQUIRE_GPU").is_none_or(|v| v != "1"), "MEDDINO_REQUIRE_GPU=1, but {problem}");
                let _ = writeln!(std::io::stderr(), "SKIPPED large_images_fit_small_devices: {problem}");
                return;
            }
        };
        let model = Model::seeded(0, ModelSize::Base);
        let mut weights = model.weights().expect("seeded weights");
        weights.blocks.truncate(1);
        let config = Config { depth: 1, ..model.config().clone() };
        let gpu = Gpu::new(&context, &config, &weights).expect("room for the weights");
        let allocated = || context.device().generate_allocator_report().map(|report| report.total_allocated_bytes);
        for (side, most) in [(896, 250_000_000), (2048, 700_000_000)] {
            let (shape, request) = ([1, 1, side, side], Request::default());
            let Footprint { inputs, outputs, slots, .. } = gpu.bytes(&shape, false, &request).expect("a plan");
            let planned = inputs + outputs + slots;
            let (all_blocks, _) =
                record(model.config(), *gpu.context.limits(), gpu.input(&shape, false).expect("an image"), &request).expect("recorded");
            assert_eq!(plan(&all_blocks, gpu.context.limits()).expect("a plan").bytes().slots, slots, "blocks share slots");
            let before = allocated();
            let input = gpu.input(&shape, false).expect("an image");
            let forward = block_on(gpu.prepare(input, gpu.plan(input, &request).expect("a plan"))).expect("room");
            let increase = allocated().zip(before).map(|(after, before)| after - before);
            println!(
                "{side}: {:.1} MB planned, {:.1} MB allocated",
                planned as f64 / 1e6,
                increase.map_or(f64::NAN, |bytes| bytes as f64 / 1e6)
            );
            assert!(planned <= most, "{side}: {planned} bytes are planned");
            // The allocator rounds up. Some drivers have no allocator report.
            assert!(
                increase.is_none_or(|bytes| bytes >= planned && bytes <= most),
                "{side}: {increase:?} bytes are allocated, {planned} planned"
            );
            drop(forward);
        }
    }
}
