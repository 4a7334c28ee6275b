//! The way from a slice to tokens as commands in a host's encoder.

use std::time::Duration;

use super::map::Map;
use super::source::Source;
use crate::ct::{self, Size, Window};
use crate::error::{Error, Result};
use crate::gpu::{Executable, Gpu, Readback, TextureCopy, wgpu};
use crate::graph::{Bytes, Limits, Role, TensorId, plan};
use crate::kernels::{Field, Recorder, Values, taps};
use crate::maps::Mesh;
use crate::vit::config::{Grid, MAX_SIDE};
use crate::vit::features::Request;
use crate::vit::forward::{Forward, record_on};
use crate::vit::rope;

/// What a [`Pass`] is prepared for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Height and width of the slice in pixels, 1 to [`MAX_SIDE`].
    pub slice: (usize, usize),
    /// What is stored times the first, plus the second, is HU: (1, 0) where it is HU or normalised already.
    pub rescale: (f32, f32),
    /// From HU to what the model takes; [`Window::NONE`] where the values are normalised already.
    pub window: Window,
    /// The size of the image that the model is given.
    pub size: Size,
    /// What to compute beside the normalised tokens of the last block.
    pub request: Request,
    /// The time in a frame that dispatches are cut to, as far as they can be: what [`Pass::encode_some`] will be told.
    pub frame: Option<Duration>,
}

impl Settings {
    /// A slice in HU of `height` x `width` at its own size, with the authors' window.
    pub fn new(height: usize, width: usize) -> Self {
        let (window, size) = (Window::DEMO, Size::Native);
        Self { slice: (height, width), rescale: (1.0, 0.0), window, size, request: Request::default(), frame: None }
    }

    fn check(&self) -> Result<()> {
        let (height, width) = self.slice;
        if [height, width].iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
            return Err(Error::option("slice", format!("{height} x {width} pixels; sides go from 1 to {MAX_SIDE}")));
        }
        let Window { lo, hi, mean, std } = self.window;
        let bad = lo.is_nan() || hi.is_nan() || lo >= hi || !mean.is_finite() || !(std.is_finite() && std > 0.0);
        if bad || !(self.rescale.0.is_finite() && self.rescale.1.is_finite()) {
            return Err(Error::option(
                "window",
                format!("{:?} after {:?}: ends must be in order, the rest finite, the deviation above 0", self.window, self.rescale),
            ));
        }
        Ok(())
    }

    fn values(&self) -> Values {
        let Window { lo, hi, mean, std } = self.window;
        let ((scale, shift), divisor) = (self.rescale, (f64::from(std) + 1e-8) as f32);
        // Shaders need not know infinity.
        Values { scale, shift, lo: lo.max(f32::MIN), hi: hi.min(f32::MAX), mean, divisor }
    }
}

/// How a buffer of tokens is laid out: [`tokens`, `channels`], f32, row-major, from the buffer's first byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// T = `prefix` + patches.
    pub tokens: usize,
    /// C.
    pub channels: usize,
    /// Tokens before the first patch: the class token, then the registers.
    pub prefix: usize,
    /// The patches, row-major.
    pub grid: Grid,
}

/// How far a pass that is spread over frames has come, in dispatches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Recorded so far.
    pub done: usize,
    /// Of so many.
    pub of: usize,
}

impl Progress {
    /// Whether all is recorded: the tokens are there once the device has done it.
    pub fn is_finished(self) -> bool {
        self.done == self.of
    }
}

/// A model prepared for slices of one size: takes a slice from the host's memory on the device, leaves tokens there. It records commands, and neither
/// submits nor polls nor allocates (but for a bind group where a texture is read).
#[derive(Debug)]
pub struct Pass {
    executable: Executable,
    forward: Forward,
    slice: TensorId,
    size: [usize; 2],
    image_size: (usize, usize),
    layout: Layout,
    patch_size: usize,
    reader: TextureCopy,
    next: usize,
}

impl Pass {
    /// Prepares a model: compiles its kernels where they are new, and allocates what it needs besides the weights.
    ///
    /// # Errors
    /// If the slice or the request does not fit the model, or the pass does not fit the device.
    pub fn new(gpu: &Gpu, settings: &Settings) -> Result<Self> {
        settings.check()?;
        let (config, context) = (gpu.config(), gpu.context());
        let size = [settings.slice.0, settings.slice.1];
        let (height, width) = settings.size.of(size[0], size[1]);
        let grid = config.grid(height, width)?;
        let affordable = settings.frame.and_then(|frame| context.work_in(frame)).map(|work| work.max(1));
        let max_work = affordable.into_iter().chain(context.limits().max_work).min();
        let mut g = Recorder::new(Limits { max_work, ..*context.limits() });
        let slice = g.tensor("slice", size, Role::Input);
        let lines = [(size[0], height), (size[1], width)].map(|(from, to)| taps(&ct::taps(from, to)));
        let tables = [("rows", height, &lines[0]), ("columns", width, &lines[1])]
            .map(|(name, lines, table)| g.tensor(name, [lines, table.len() / lines], Role::Input));
        let field = Field { first: 0, height: size[0], width: size[1], channels: 1 };
        let image = g.resize("resize", slice, field, tables, settings.values(), [1, 1, height, width])?;
        g.keep(image);
        let forward = record_on(&mut g, config, image, false, &settings.request)?;
        let limits = *g.limits();
        let graph = g.finish();
        let planned = plan(&graph, &limits)?;
        let executable = Executable::new(context, graph, planned, gpu.weights())?;
        for (id, table) in tables.iter().zip(&lines) {
            executable.write(*id, 0, table)?;
        }
        executable.write(forward.table, 0, rope::table(config, grid).data())?;
        let prefix = config.prefix_tokens();
        Ok(Self {
            layout: Layout { tokens: prefix + grid.patches(), channels: config.embed_dim, prefix, grid },
            reader: TextureCopy::reader(context)?,
            image_size: (height, width),
            patch_size: config.patch_size,
            next: executable.graph().steps().len(),
            executable,
            forward,
            slice,
            size,
        })
    }

    /// Records the taking of a slice; a pass that is under way begins anew.
    ///
    /// # Errors
    /// If the source is of another size or format, or may not be used so.
    pub fn encode_slice(&mut self, encoder: &mut wgpu::CommandEncoder, source: Source<'_>) -> Result<()> {
        self.next = 0;
        source.encode(encoder, self.buffer(self.slice), self.size, &self.reader)
    }

    /// The buffer [H, W] of f32 that slices are taken into, for a host whose shaders write it themselves (`STORAGE`, `COPY_DST`); [`Pass::restart`] after.
    pub fn slice(&self) -> &wgpu::Buffer {
        self.buffer(self.slice)
    }

    /// Begins anew with the slice as it is.
    pub fn restart(&mut self) {
        self.next = 0;
    }

    /// Records the whole pass, from the slice to the tokens.
    pub fn encode(&mut self, encoder: &mut wgpu::CommandEncoder) {
        self.executable.encode(encoder);
        self.next = self.executable.graph().steps().len();
    }

    /// Records as many more dispatches as are planned to take no longer than `budget` together, but at least one; none where all are recorded. What is
    /// recorded over several submissions gives the same bits as one [`Pass::encode`].
    ///
    /// Planned times are by the speed that was measured when the weights were loaded; where none could be (a browser), it is a dispatch at a time.
    pub fn encode_some(&mut self, encoder: &mut wgpu::CommandEncoder, budget: Duration) -> Progress {
        if !self.progress().is_finished() {
            self.next = self.executable.encode_some(encoder, self.next, budget);
        }
        self.progress()
    }

    /// How far the pass has come; finished where none is under way.
    pub fn progress(&self) -> Progress {
        Progress { done: self.next, of: self.executable.graph().steps().len() }
    }

    /// What the dispatches from `done` to `done` are planned to take; `None` where the device's speed is not known.
    pub fn planned_time(&self, from: Progress, to: Progress) -> Option<Duration> {
        self.executable.planned_time(from.done..to.done)
    }

    /// How [`Pass::tokens`] and its like are laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// How the patches lie on the slice.
    pub fn mesh(&self) -> Mesh {
        Mesh::new(self.layout.grid, self.patch_size, self.image_size, (self.size[0], self.size[1]))
    }

    /// The image that the model is given: [H', W'], f32; height and width.
    pub fn image(&self) -> (&wgpu::Buffer, (usize, usize)) {
        (self.buffer(self.forward.image), self.image_size)
    }

    /// Every token after the last block and the final norm, as [`Pass::layout`] says; usage `STORAGE` and `COPY_SRC`.
    pub fn tokens(&self) -> &wgpu::Buffer {
        self.buffer(self.forward.x_norm)
    }

    /// The tokens as something to make maps of.
    pub fn map(&self) -> Map {
        let Layout { tokens, channels, prefix, .. } = self.layout;
        Map { buffer: self.tokens().clone(), rows: tokens, channels, prefix, context: self.executable.context().clone() }
    }

    /// Every token after block `n` and the final norm, if [`Request::layers`] asked for it.
    pub fn layer(&self, n: usize) -> Option<&wgpu::Buffer> {
        self.forward.layers.iter().find(|(layer, _)| *layer == n).map(|(_, id)| self.buffer(*id))
    }

    /// Every token after the last block, if [`Request::prenorm`] asked for it.
    pub fn prenorm(&self) -> Option<&wgpu::Buffer> {
        self.forward.x_prenorm.map(|id| self.buffer(id))
    }

    /// Records a copy of the tokens to the host's memory: a future of [T C] values, ready once the commands were submitted, done, and the device polled.
    pub fn read(&self, encoder: &mut wgpu::CommandEncoder) -> Readback {
        Readback::encode(self.executable.context(), encoder, self.tokens())
    }

    /// What is taken on the device; the weights are shared with other passes of the model.
    pub fn bytes(&self) -> Bytes {
        self.executable.plan().bytes()
    }

    fn buffer(&self, id: TensorId) -> &wgpu::Buffer {
        self.executable.buffer(id).expect("inputs and outputs that are used have buffers")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Picture, Similarity};
    use super::*;
    use crate::gpu::Context;
    use crate::gpu::faults::{each_object_fails, one_block, paced};

    /// A host's device, where nobody hears what we do not catch: there wgpu panics.
    fn lent(own: &Context) -> Context {
        let mut context = Context::from_host(own.device().clone(), own.queue().clone()).expect("enough");
        context.set_limits(*own.limits());
        context
    }

    fn encoder(context: &Context) -> wgpu::CommandEncoder {
        context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    fn texture(context: &Context, format: wgpu::TextureFormat, usage: wgpu::TextureUsages) -> wgpu::TextureView {
        let size = wgpu::Extent3d { width: 40, height: 24, depth_or_array_layers: 1 };
        let (mip_level_count, sample_count, dimension) = (1, 1, wgpu::TextureDimension::D2);
        let descriptor =
            wgpu::TextureDescriptor { label: None, size, mip_level_count, sample_count, dimension, format, usage, view_formats: &[] };
        context.device().create_texture(&descriptor).create_view(&wgpu::TextureViewDescriptor::default())
    }

    /// From a texture to tokens, to a picture, and home.
    fn tokens(gpu: &Gpu, context: &Context) -> Result<Vec<f32>> {
        let slice = texture(context, wgpu::TextureFormat::R32Float, wgpu::TextureUsages::TEXTURE_BINDING);
        let shown = texture(context, wgpu::TextureFormat::Rgba16Float, wgpu::TextureUsages::STORAGE_BINDING);
        let mut pass = Pass::new(gpu, &Settings { size: Size::Exact { height: 16, width: 32 }, ..Settings::new(24, 40) })?;
        let similarity = Similarity::new(&pass.map())?;
        let picture = Picture::new(similarity.map(), &pass.mesh(), (-1.0, 1.0))?;
        let mut encoder = encoder(context);
        pass.encode_slice(&mut encoder, Source::Texture(&slice))?;
        pass.encode(&mut encoder);
        similarity.encode(&mut encoder, 0)?;
        picture.encode(&mut encoder, &shown)?;
        let values = pass.read(&mut encoder);
        // The host's own submission is whole, whatever failed before.
        context.queue().submit([encoder.finish()]);
        context.device().poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes");
        pollster::block_on(values)
    }

    #[test]
    fn a_host_gets_an_error_for_any_object_that_fails() {
        let Some(own) = paced() else { return };
        let (context, (config, weights)) = (lent(&own), one_block());
        let gpu = Gpu::new(&context, &config, &weights).expect("room");
        let want = tokens(&gpu, &context).expect("tokens");
        assert!(want.iter().all(|v| v.is_finite()) && !want.is_empty());
        let failed = each_object_fails(&context, || (), |()| tokens(&gpu, &context), |got| *got == want);
        assert!(failed > 40, "{failed} objects failed");
    }

    #[test]
    fn a_host_whose_device_goes_gets_an_error() {
        let Some(own) = paced() else { return };
        let (context, (config, weights)) = (lent(&own), one_block());
        let gpu = Gpu::new(&context, &config, &weights).expect("room");
        let mut pass = Pass::new(&gpu, &Settings::new(24, 40)).expect("room");
        let mut begun = encoder(&context);
        pass.encode(&mut begun);
        let values = pass.read(&mut begun);
        context.device().destroy();
        // The host's handler hears of what the host does with a device that is gone; ours are errors, or nothing happens.
        let mut another = encoder(&context);
        pass.encode(&mut another);
        let late = pass.read(&mut another);
        for (encoder, values) in [(begun, values), (another, late)] {
            let scope = context.device().push_error_scope(wgpu::ErrorFilter::Validation);
            context.queue().submit([encoder.finish()]);
            let _ = pollster::block_on(scope.pop());
            let told = values.wait(&context).unwrap_err().to_string();
            assert!(told.starts_with("gpu: reading back") && told.contains("open"), "{told}");
        }
        assert!(tokens(&gpu, &context).is_err());
        assert!(Gpu::new(&context, &config, &weights).is_err());
    }
}
