//! The model on a GPU: the backend. With `scorer`, the one file of this room that knows the model; the others know graphs.

use std::time::{Duration, Instant};

use super::context::Context;
use super::executable::{Arriving, Executable};
use super::passes::{Passes, Wanted};
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
    passes: Passes<(Input, Request), Pass>,
}

/// A prepared forward pass.
#[derive(Debug)]
struct Pass {
    forward: Forward,
    executable: Executable,
}

impl Gpu {
    /// Uploads a model's weights.
    ///
    /// # Errors
    /// If the device is out of memory or lost, or a weight is larger than its largest buffer.
    pub fn new(context: &Context, config: &Config, weights: &Weights<Tensor>) -> Result<Self> {
        Self::on(context.without_shader_checks(), config, weights)
    }

    /// The same with naga's run-time checks in every shader, as a browser has them: slower, and what tests compare with.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    pub fn with_shader_checks(context: &Context, config: &Config, weights: &Weights<Tensor>) -> Result<Self> {
        Self::on(context.clone(), config, weights)
    }

    fn on(context: Context, config: &Config, weights: &Weights<Tensor>) -> Result<Self> {
        let context = context.paced(config)?;
        let specs = Weights::specs(config);
        let elem = context.limits().elem;
        let leaves = specs.leaves().into_iter().zip(weights.leaves());
        let weights = GpuWeights::upload_as(&context, leaves.map(|(spec, tensor)| (spec.name.as_str(), tensor, stored(spec, elem))))?;
        Ok(Self { context, config: config.clone(), weights, passes: Passes::default() })
    }

    /// Forgets all passes, for tests that want to see them made.
    #[cfg(test)]
    pub(crate) fn forget(&self) {
        self.passes.forget();
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
    pub fn forward(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Features> {
        self.submit(image, mask, request)?.wait()
    }

    /// Has the device run a batch of images through the model, and does not wait. Another batch may be submitted before this one's features are
    /// taken: then the device need not wait for the host. Each batch on its way takes memory for its features, and no more.
    ///
    /// # Errors
    /// As [`Gpu::forward`].
    pub fn submit(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        self.submit_by(image, mask, request, |pass| pass.run().map(|()| None))
    }

    /// The same, with a look at the device's clock when the pass begins and when it ends: [`Pending::wait_clocked`].
    ///
    /// # Errors
    /// As [`Gpu::forward`].
    pub fn submit_clocked(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Pending> {
        self.submit_by(image, mask, request, Executable::run_clocked)
    }

    fn submit_by(
        &self,
        image: &Tensor,
        mask: Option<&[bool]>,
        request: &Request,
        run: impl Fn(&Executable) -> Result<Option<Clocked>>,
    ) -> Result<Pending> {
        let (_, grid) = self.config.check_image(image.shape())?;
        let pass = self.wanted(image.shape(), mask, request)?;
        pass.write(image, mask)?;
        let clocked = run(&pass.executable)?;
        Ok(Pending { clocked, ..pass.begin(grid)? })
    }

    /// How long the pass alone takes, by the host's clock, `runs` times: the images lie on the device before each, and the features stay there.
    ///
    /// # Errors
    /// As [`Gpu::forward`].
    pub fn pass_times(&self, image: &Tensor, request: &Request, runs: usize) -> Result<Vec<Duration>> {
        let pass = self.wanted(image.shape(), None, request)?;
        pass.write(image, None)?;
        let run = || {
            let started = Instant::now();
            pass.executable.run()?;
            self.context.wait("timing the pass")?;
            Ok(started.elapsed())
        };
        // The first takes the images to the device.
        run()?;
        (0..runs).map(|_| run()).collect()
    }

    /// Runs the same once more, a dispatch at a time, and says where the time goes.
    ///
    /// # Errors
    /// As [`Gpu::forward`].
    pub fn profile(&self, image: &Tensor, mask: Option<&[bool]>, request: &Request) -> Result<Profile> {
        let pass = self.wanted(image.shape(), mask, request)?;
        pass.write(image, mask)?;
        pass.executable.run()?;
        pass.executable.profile()
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

    fn wanted(&self, image_shape: &[usize], mask: Option<&[bool]>, request: &Request) -> Result<Wanted<'_, (Input, Request), Pass>> {
        let input = self.input(image_shape, mask.is_some())?;
        if let Some(mask) = mask {
            self.config.check_mask(mask.len(), input.batch, self.config.grid(input.height, input.width)?)?;
        }
        self.passes.wanted(
            (input, request.clone()),
            |(input, request)| self.plan(*input, request),
            |(input, _), planned| self.prepare(*input, planned),
        )
    }

    fn plan(&self, input: Input, request: &Request) -> Result<(Graph, Plan, Forward)> {
        let (graph, forward) = record(&self.config, *self.context.limits(), input, request)?;
        let planned = plan(&graph, self.context.limits())?;
        Ok((graph, planned, forward))
    }

    fn prepare(&self, input: Input, (graph, planned, forward): (Graph, Plan, Forward)) -> Result<Pass> {
        let executable = Executable::new(&self.context, graph, planned, &self.weights)?;
        let grid = self.config.grid(input.height, input.width)?;
        executable.write(forward.table, 0, rope::table(&self.config, grid).data())?;
        Ok(Pass { forward, executable })
    }
}

impl Pass {
    fn write(&self, image: &Tensor, mask: Option<&[bool]>) -> Result<()> {
        self.executable.write(self.forward.image, 0, image.data())?;
        let Some((id, mask)) = self.forward.mask.zip(mask) else { return Ok(()) };
        let mask: Vec<f32> = mask.iter().map(|&masked| f32::from(u8::from(masked))).collect();
        self.executable.write(id, 0, &mask)
    }

    /// Has what was asked for copied to the host.
    fn begin(&self, grid: Grid) -> Result<Pending> {
        let Forward { x_norm, x_prenorm, layers, taps, .. } = &self.forward;
        let begin = |id: &TensorId| self.executable.begin(*id);
        Ok(Pending {
            grid,
            range: self.executable.context().limits().elem.into(),
            clocked: None,
            x_norm: begin(x_norm)?,
            x_prenorm: x_prenorm.as_ref().map(begin).transpose()?,
            layers: layers.iter().map(|(n, id)| Ok((*n, begin(id)?))).collect::<Result<_>>()?,
            taps: taps.iter().map(|(name, id)| Ok((name.clone(), begin(id)?))).collect::<Result<_>>()?,
        })
    }
}

/// Features on their way from the device: what [`Gpu::submit`] gives.
#[derive(Debug)]
pub struct Pending {
    grid: Grid,
    /// Of what the pass hands from operation to operation.
    range: Range,
    clocked: Option<Clocked>,
    x_norm: Arriving,
    x_prenorm: Option<Arriving>,
    layers: Vec<(usize, Arriving)>,
    taps: Vec<(String, Arriving)>,
}

impl Pending {
    /// Blocks until the features are there.
    ///
    /// # Errors
    /// If they are not finite, or the device is lost.
    pub fn wait(self) -> Result<Features> {
        self.wait_clocked().map(|(features, _)| features)
    }

    /// Blocks until the features are there. With them, when the device began and ended the pass; `None` if that was not asked for
    /// ([`Gpu::submit_clocked`]), or the device has no timestamps.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub fn wait_clocked(self) -> Result<(Features, Option<Span>)> {
        let span = self.clocked.map(Clocked::wait).transpose()?.and_then(|spans| spans.first().copied());
        let features = Features {
            grid: self.grid,
            x_norm: self.x_norm.wait()?,
            x_prenorm: self.x_prenorm.map(Arriving::wait).transpose()?,
            layers: self.layers.into_iter().map(|(n, x)| Ok((n, x.wait()?))).collect::<Result<_>>()?,
            taps: self.taps.into_iter().map(|(name, x)| Ok((name, x.wait()?))).collect::<Result<_>>()?,
        };
        if features.are_finite() { Ok((features, span)) } else { Err(features.overflow(self.range)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Selection;
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
        let model = Model::open("seeded:0").expect("seeded weights");
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
            let pass = gpu.prepare(input, gpu.plan(input, &request).expect("a plan")).expect("room");
            let taken = allocated().zip(before).map(|(after, before)| after - before);
            println!("{side}: {:.1} MB planned, {:.1} MB allocated", planned as f64 / 1e6, taken.map_or(f64::NAN, |b| b as f64 / 1e6));
            assert!(planned <= most, "{side}: {planned} bytes are planned");
            // The allocator rounds; drivers without a report of it cannot be asked.
            assert!(
                taken.is_none_or(|taken| taken >= planned && taken <= most),
                "{side}: {taken:?} bytes are allocated, {planned} planned"
            );
            drop(pass);
        }
    }
}
