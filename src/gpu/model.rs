//! The model on a GPU: the backend. With `scorer`, the one file of this room that knows the model; the others know graphs.

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
use super::stamps::{Clocked, Span};
use super::weights::GpuWeights;
use crate::error::Result;
use crate::graph::{Footprint, Graph, Plan, TensorId, plan};
use crate::tensor::Tensor;
use crate::vit::config::{Config, Grid};
use crate::vit::features::{Features, Range, Request};
use crate::vit::forward::{Forward, Input, record, stored};
use crate::vit::rope;
use crate::vit::weights::Weights;

/// A model's weights on a device, and the passes prepared for the image sizes seen lately.
#[derive(Debug)]
pub struct Gpu {
    context: Context,
    config: Config,
    weights: GpuWeights,
    prepared: Prepared<(Input, Request), PreparedForward>,
}

/// A prepared forward pass.
#[derive(Debug)]
struct PreparedForward {
    forward: Forward,
    executable: Executable,
}

impl Gpu {
    /// Uploads a model's weights.
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

    /// The same with naga's run-time checks in every shader, as a browser has them: slower, and what tests compare with.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with_shader_checks(context: &Context, config: &Config, weights: &Weights<Tensor>) -> Result<Self> {
        block_on(Self::on(context.clone(), config, weights))
    }

    async fn on(context: Context, config: &Config, weights: &Weights<Tensor>) -> Result<Self> {
        let context = context.paced(config).await?;
        let specs = Weights::specs(config);
        let elem = context.limits().elem;
        let leaves = specs.leaves().into_iter().zip(weights.leaves());
        let leaves = leaves.map(|(spec, tensor)| (spec.name.as_str(), tensor, stored(spec, elem)));
        let weights = GpuWeights::upload_as_async(&context, leaves.collect()).await?;
        Ok(Self { context, config: config.clone(), weights, prepared: Prepared::default() })
    }

    /// Forgets what was prepared, for tests that want to see it prepared.
    #[cfg(test)]
    pub(crate) fn forget(&self) {
        self.prepared.forget();
    }

    /// The device.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The model's sizes and precisions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The weights, shared by the passes of every image size.
    pub fn weights(&self) -> &GpuWeights {
        &self.weights
    }

    /// Runs a batch of images through the model; blocks until the features are on the host.
    ///
    /// `image` is [B, in_chans, H, W], or [B, 1, H, W] whose one channel stands for all (CT), already normalised; `mask` [B * P], if given,
    /// is true where `mask_token` replaces a patch.
    ///
    /// # Errors
    /// If the image, the mask or the request does not fit the model, or the device refuses the work, is out of memory or lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Features> {
        block_on(self.forward_async(image, mask, request))
    }

    /// [`Gpu::forward`] as a future.
    ///
    /// # Errors
    /// If the image, the mask or the request does not fit the model, or the device refuses the work, is out of memory or lost.
    pub async fn forward_async(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Features> {
        self.submit_async(image, mask, request).await?.await
    }

    /// Has the device run a batch of images through the model, and does not wait. Another batch may be submitted before this one's features are
    /// taken: then the device need not wait for the host. Each batch on its way takes memory for its features, and no more.
    ///
    /// # Errors
    /// As [`Gpu::forward`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn submit(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        block_on(self.submit_async(image, mask, request))
    }

    /// [`Gpu::submit`] as a future, which is ready once the batch is submitted: until then it may wait for another thread's submission, or for
    /// the device to prepare a pass over images of a new size.
    ///
    /// # Errors
    /// As [`Gpu::forward_async`].
    pub async fn submit_async(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        self.submit_timed(image, mask, request, false).await
    }

    /// The same, with a look at the device's clock when the pass begins and when it ends: [`Pending::wait_clocked`].
    ///
    /// # Errors
    /// As [`Gpu::forward`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn submit_clocked(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        block_on(self.submit_clocked_async(image, mask, request))
    }

    /// [`Gpu::submit_clocked`] as a future.
    ///
    /// # Errors
    /// As [`Gpu::forward_async`].
    pub async fn submit_clocked_async(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        self.submit_timed(image, mask, request, true).await
    }

    async fn submit_timed(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request, timed: bool) -> Result<Pending> {
        let (_, grid) = self.config.check_image(image.shape())?;
        let forward = self.prepared(image.shape(), mask, request).await?;
        forward.write(image, mask)?;
        let clocked = if timed {
            forward.executable.run_clocked().await?
        } else {
            forward.executable.run()?;
            None
        };
        Ok(Pending::of(forward.begin(grid, clocked)?.features()))
    }

    /// How long the pass alone takes, by the host's clock, `runs` times: the images lie on the device before each, and the features stay there.
    ///
    /// # Errors
    /// As [`Gpu::forward`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn pass_times(&self, image: &Tensor, request: &Request, runs: usize) -> Result<Vec<Duration>> {
        block_on(self.pass_times_async(image, request, runs))
    }

    /// [`Gpu::pass_times`] as a future.
    ///
    /// # Errors
    /// As [`Gpu::forward_async`].
    pub async fn pass_times_async(&self, image: &Tensor, request: &Request, runs: usize) -> Result<Vec<Duration>> {
        let forward = self.prepared(image.shape(), None, request).await?;
        forward.write(image, None)?;
        let mut times = Vec::with_capacity(runs + 1);
        for _ in 0..=runs {
            let started = Instant::now();
            forward.executable.run()?;
            self.context.done("timing the pass").await?;
            times.push(started.elapsed());
        }
        // The first takes the images to the device.
        Ok(times.split_off(1))
    }

    /// Runs the same once more, a dispatch at a time, and says where the time goes.
    ///
    /// # Errors
    /// As [`Gpu::forward`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Profile> {
        block_on(self.profile_async(image, mask, request))
    }

    /// [`Gpu::profile`] as a future.
    ///
    /// # Errors
    /// As [`Gpu::forward_async`].
    pub async fn profile_async(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Profile> {
        let forward = self.prepared(image.shape(), mask, request).await?;
        forward.write(image, mask)?;
        forward.executable.run()?;
        forward.executable.profile_async().await
    }

    /// What a pass over images of this shape needs on the device, before anything is allocated.
    ///
    /// # Errors
    /// If the images or the request do not fit the model, or the pass does not fit the device.
    pub fn bytes(&self, image_shape: &[usize], masked: bool, request: &Request) -> Result<Footprint> {
        let (_, planned, _) = self.plan(self.input(image_shape, masked)?, request)?;
        Ok(planned.bytes())
    }

    fn input(&self, image_shape: &[usize], masked: bool) -> Result<Input> {
        let (batch, _) = self.config.check_image(image_shape)?;
        Ok(Input { batch, channels: image_shape[1], height: image_shape[2], width: image_shape[3], masked })
    }

    /// The pass over images of this shape.
    async fn prepared(
        &self,
        image_shape: &[usize],
        mask: Option<&[bool]>,
        request: &Request,
    ) -> Result<InUse<'_, (Input, Request), PreparedForward>> {
        let input = self.input(image_shape, mask.is_some())?;
        if let Some(mask) = mask {
            self.config.check_mask(mask.len(), input.batch, self.config.grid(input.height, input.width)?)?;
        }
        let plan = |(input, request): (Input, Request)| self.plan(input, &request);
        let prepare = |(input, _), planned| -> Boxed<'_, _> { Box::pin(self.prepare(input, planned)) };
        self.prepared.get((input, request.clone()), plan, prepare).await
    }

    fn plan(&self, input: Input, request: &Request) -> Result<(Graph, Plan, Forward)> {
        let (graph, forward) = record(&self.config, *self.context.limits(), input, request)?;
        let planned = plan(&graph, self.context.limits())?;
        Ok((graph, planned, forward))
    }

    async fn prepare(&self, input: Input, (graph, planned, forward): (Graph, Plan, Forward)) -> Result<PreparedForward> {
        let executable = Executable::new_async(&self.context, graph, planned, &self.weights).await?;
        let grid = self.config.grid(input.height, input.width)?;
        executable.write(forward.table, 0, rope::table(&self.config, grid).data())?;
        Ok(PreparedForward { forward, executable })
    }
}

impl PreparedForward {
    fn write(&self, image: &Tensor, mask: Option<&[bool]>) -> Result<()> {
        self.executable.write(self.forward.image, 0, image.data())?;
        let Some((id, mask)) = self.forward.mask.zip(mask) else { return Ok(()) };
        let mask: Vec<f32> = mask.iter().map(|&masked| f32::from(u8::from(masked))).collect();
        self.executable.write(id, 0, &mask)
    }

    /// Has what was asked for copied to the host.
    fn begin(&self, grid: Grid, clocked: Option<Clocked>) -> Result<ArrivingFeatures> {
        let Forward { x_norm, x_prenorm, layers, taps, .. } = &self.forward;
        let begin = |id: &TensorId| self.executable.begin(*id);
        Ok(ArrivingFeatures {
            grid,
            range: self.executable.context().limits().elem.into(),
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
    /// Of what the pass hands from operation to operation.
    range: Range,
    clocked: Option<Clocked>,
    x_norm: Arriving,
    x_prenorm: Option<Arriving>,
    layers: Vec<(usize, Arriving)>,
    taps: Vec<(String, Arriving)>,
}

impl ArrivingFeatures {
    async fn features(self) -> Result<(Features, Option<Span>)> {
        let spans = match self.clocked {
            Some(clocked) => clocked.spans().await?,
            None => Vec::new(),
        };
        let x_norm = self.x_norm.tensor().await?;
        let x_prenorm = match self.x_prenorm {
            Some(arriving) => Some(arriving.tensor().await?),
            None => None,
        };
        let (layers, taps) = (tensors(self.layers).await?, tensors(self.taps).await?);
        let features = Features { grid: self.grid, x_norm, x_prenorm, layers, taps };
        if features.are_finite() { Ok((features, spans.first().copied())) } else { Err(features.overflow(self.range)) }
    }
}

async fn tensors<N>(arriving: Vec<(N, Arriving)>) -> Result<Vec<(N, Tensor)>> {
    let mut tensors = Vec::with_capacity(arriving.len());
    for (name, tensor) in arriving {
        tensors.push((name, tensor.tensor().await?));
    }
    Ok(tensors)
}

/// Features that are being computed: what [`Gpu::submit`] and [`crate::backbone::Backbone::submit`] give. A future: any executor may await it,
/// on any thread, for the device is polled meanwhile. Dropped, it leaves the device to finish what nobody takes.
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

    /// Features that are there already.
    #[cfg(feature = "cpu")]
    pub(crate) fn ready(features: Features) -> Self {
        Self::of(std::future::ready(Ok((features, None))))
    }

    /// Blocks until the features are there.
    ///
    /// # Errors
    /// If they are not finite, or the device is lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(self) -> Result<Features> {
        block_on(self)
    }

    /// Blocks until the features are there. With them, when the device began and ended the pass; `None` on the CPU, if that was not asked for
    /// ([`Gpu::submit_clocked`]), and from a device without timestamps.
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

    /// What large images take beside the weights, as planned and as the device's allocator counts it. Blocks share slots, so one block of ViT-B
    /// takes as much as twelve.
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
            let (twelve, _) =
                record(model.config(), *gpu.context.limits(), gpu.input(&shape, false).expect("an image"), &request).expect("recorded");
            assert_eq!(plan(&twelve, gpu.context.limits()).expect("a plan").bytes().slots, slots, "blocks share slots");
            let before = allocated();
            let input = gpu.input(&shape, false).expect("an image");
            let forward = block_on(gpu.prepare(input, gpu.plan(input, &request).expect("a plan"))).expect("room");
            let taken = allocated().zip(before).map(|(after, before)| after - before);
            println!("{side}: {:.1} MB planned, {:.1} MB allocated", planned as f64 / 1e6, taken.map_or(f64::NAN, |b| b as f64 / 1e6));
            assert!(planned <= most, "{side}: {planned} bytes are planned");
            // The allocator rounds; drivers without a report of it cannot be asked.
            assert!(
                taken.is_none_or(|taken| taken >= planned && taken <= most),
                "{side}: {taken:?} bytes are allocated, {planned} planned"
            );
            drop(forward);
        }
    }
}
