//! Records the computation from slices or images to tokens into a host's encoder.

use std::ops::Range;
use std::time::Duration;

use super::input::{Entrance, PassInput};
use super::layout::TokenLayout;
use super::map::TokenMap;
use super::pace::{Pace, PassProgress};
use super::reading::Reading;
use super::settings::PassSettings;
use super::source::{SliceSource, Target, copy};
use crate::count::product;
use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::block_on;
use crate::gpu::{Executable, Gpu, TextureCopy, wgpu};
use crate::graph::{Cost, Footprint, Limits, TensorId, plan};
use crate::kernels::Recorder;
use crate::maps::Mesh;
use crate::vit::config::Config;
use crate::vit::forward::{Forward, record_on};
use crate::vit::rope;

/// A model that is prepared for slices or images of one size. It takes them from the host, writes tokens to buffers on
/// the device, and only records commands: it neither submits nor polls.
#[derive(Debug)]
pub struct Pass {
    executable: Executable,
    config: Config,
    settings: PassSettings,
    forward: Forward,
    input: TensorId,
    layout: TokenLayout,
    reader: TextureCopy,
    /// The next dispatch to be recorded.
    next: usize,
    pace: Pace,
}

impl Pass {
    /// Prepares a model: compiles the kernels that are not compiled yet, and allocates everything that the pass needs
    /// in addition to the weights. This takes time and may be done on any thread.
    ///
    /// # Errors
    /// If the input, the batch, the mask or the request does not fit the model, or the pass does not fit the device.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, settings: &PassSettings) -> Result<Self> {
        block_on(Self::new_async(gpu, settings))
    }

    /// [`Pass::new`] as a future.
    ///
    /// # Errors
    /// If the input, the batch, the mask or the request does not fit the model, or the pass does not fit the device.
    pub async fn new_async(gpu: &Gpu, settings: &PassSettings) -> Result<Self> {
        let (config, context) = (gpu.config(), gpu.context());
        let known = context.speed().filter(|_| !settings.measured);
        let pace = Pace::new(known);
        let affordable = settings.frame.filter(|_| known.is_some()).map(|frame| pace.work_in(frame).max(1));
        let max_work = affordable.into_iter().chain(context.limits().max_work).min();
        let mut g = Recorder::new(Limits { max_work, ..*context.limits() });
        let Entrance { input, image, tables } = Entrance::record(&mut g, config, &settings.input, settings.batch)?;
        let [images, _, height, width] = settings.input.image_shape(settings.batch);
        let grid = config.grid(height, width)?;
        if settings.masked {
            config.check_mask(images * grid.patches(), images, grid)?;
        }
        let forward = record_on(&mut g, config, image, settings.masked, &settings.request)?;
        let limits = *g.limits();
        let graph = g.finish();
        let planned = plan(&graph, &limits)?;
        let executable = Executable::new_async(context, graph, planned, gpu.weights()).await?;
        for (id, table) in &tables {
            executable.write(*id, 0, table)?;
        }
        executable.write(forward.table, 0, rope::table(config, grid).data())?;
        let prefix = config.prefix_tokens();
        Ok(Self {
            layout: TokenLayout { images, tokens: prefix + grid.patches(), channels: config.embed_dim, prefix, grid },
            reader: TextureCopy::reader(context).await?,
            config: config.clone(),
            settings: settings.clone(),
            next: executable.graph().steps().len(),
            executable,
            forward,
            input,
            pace,
        })
    }

    /// Records the copy of a slice to index `at` of the batch, counted from 0, and restarts a pass that is in progress.
    /// A slice that the host does not replace stays.
    ///
    /// # Errors
    /// If the pass takes images, the batch has no such slice, or the source has the wrong size or format or lacks a
    /// usage.
    pub fn encode_slice(&mut self, encoder: &mut wgpu::CommandEncoder, at: usize, source: SliceSource<'_>) -> Result<()> {
        let PassInput::Slices(slices) = self.settings.input else {
            return Err(Error::option("slice", "this pass takes images; write them with Pass::write, or prepare it with a SliceInput"));
        };
        if at >= self.settings.batch {
            return Err(Error::option("slice", format!("there is no slice {at} in a batch of {}, counted from 0", self.settings.batch)));
        }
        let target = Target { buffer: self.input(), offset: self.offset(at) };
        source.encode(encoder, &target, [slices.slice.0, slices.slice.1], &self.reader)?;
        self.restart();
        Ok(())
    }

    /// Writes the whole batch from the host's memory, slices [B, H, W] or images [B, channels, H, W], and restarts a
    /// pass that is in progress. The device has the values from the host's next submission on, so one submission sees
    /// one batch.
    ///
    /// # Errors
    /// If the number of values differs from the batch's, or if the device is out of memory or lost.
    pub fn write(&mut self, values: &[f32]) -> Result<()> {
        let (batch, len) = (self.settings.batch, self.settings.input.len());
        if values.len() != batch * len {
            let problem = format!("{} values; expected {batch} x {len}, as many as the batch has", values.len());
            return Err(Error::option("input", problem));
        }
        let stride = self.settings.input.stride(self.executable.context().limits().alignment);
        for (at, values) in values.chunks_exact(len).enumerate() {
            self.executable.write(self.input, at * stride, values)?;
        }
        self.restart();
        Ok(())
    }

    /// Returns the buffer of the slices or images, f32, for a host whose shaders write them (usages `STORAGE` and
    /// `COPY_DST`). Such a host then calls [`Pass::restart`]. Slice or image `at` of the batch begins at byte
    /// [`Pass::offset`].
    pub fn input(&self) -> &wgpu::Buffer {
        self.buffer(self.input)
    }

    /// Returns the byte of [`Pass::input`] at which slice or image `at` of the batch begins. The byte of a slice is a
    /// multiple of the device's alignment for bindings.
    pub fn offset(&self, at: usize) -> u64 {
        product(&[4, at, self.settings.input.stride(self.executable.context().limits().alignment)])
    }

    /// Records the copy of a mask [B, P] of f32 from byte `offset` of a host's buffer, and restarts a pass that is in
    /// progress. The model sees its `mask_token` in place of each patch whose value is not 0. The mask stays until the
    /// host replaces it; initially no patch is masked.
    ///
    /// # Errors
    /// If the pass was prepared without [`PassSettings::masked`], the mask exceeds the buffer, or the buffer cannot be
    /// copied from.
    pub fn encode_mask(&mut self, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer, offset: u64) -> Result<()> {
        let target = Target { buffer: self.mask().ok_or_else(unmasked)?, offset: 0 };
        let (images, patches) = (self.layout.images, self.layout.grid.patches());
        copy(encoder, (buffer, offset), &target, 4 * (images * patches) as u64, &format!("a mask of {images} x {patches} f32"))?;
        self.restart();
        Ok(())
    }

    /// Writes a mask [B, P] from the host's memory, and restarts a pass that is in progress. The model sees its
    /// `mask_token` in place of each patch whose value is true. The mask stays until the host replaces it. The device
    /// has the mask from the host's next submission on.
    ///
    /// # Errors
    /// If the pass was prepared without [`PassSettings::masked`], the mask has the wrong size, or the device is out of
    /// memory or lost.
    pub fn write_mask(&mut self, mask: &[bool]) -> Result<()> {
        let id = self.forward.mask.ok_or_else(unmasked)?;
        self.config.check_mask(mask.len(), self.layout.images, self.layout.grid)?;
        let mask: Vec<f32> = mask.iter().map(|&masked| f32::from(u8::from(masked))).collect();
        self.executable.write(id, 0, &mask)?;
        self.restart();
        Ok(())
    }

    /// Returns the buffer of the mask [B, P], f32, for a host whose shaders write it (usages `STORAGE` and `COPY_DST`).
    /// Such a host then calls [`Pass::restart`]. Returns `None` if the pass was prepared without
    /// [`PassSettings::masked`].
    pub fn mask(&self) -> Option<&wgpu::Buffer> {
        self.forward.mask.map(|id| self.buffer(id))
    }

    /// Restarts the pass with the current slices, images and mask.
    pub fn restart(&mut self) {
        self.next = 0;
    }

    /// Records the whole pass, from the input to the tokens.
    pub fn encode(&mut self, encoder: &mut wgpu::CommandEncoder) {
        self.encode_steps(encoder, 0..self.steps());
    }

    /// Records as many more dispatches as are planned to fit `budget` together, but at least one. Records nothing if
    /// all are recorded. A pass that is recorded over several submissions gives the same bits as one [`Pass::encode`].
    ///
    /// The plan uses the speed that was measured when the weights were loaded. If no speed could be measured (in a
    /// browser), or if [`PassSettings::measured`] is set, the pass measures its own speed: the time of the previous
    /// piece, from its recording until the device's callback. A host that calls this in every frame checks
    /// [`Pass::is_busy`] first, so that work does not pile up on a device that is slower than planned.
    pub fn encode_some(&mut self, encoder: &mut wgpu::CommandEncoder, budget: Duration) -> PassProgress {
        let piece = self.piece(self.pace.work_in(budget));
        if !piece.is_empty() {
            self.encode_steps(encoder, piece);
        }
        self.progress()
    }

    /// Returns whether the device is still computing the last recorded piece. The pass learns that a piece is finished
    /// only after the host has submitted it and polled the device.
    pub fn is_busy(&self) -> bool {
        self.pace.is_busy()
    }

    /// Returns how many dispatches are recorded. The progress is finished if no pass is in progress.
    pub fn progress(&self) -> PassProgress {
        PassProgress { done: self.next, of: self.steps() }
    }

    /// Returns the planned time of the dispatches from `from` to `to`. Returns `None` if the device's speed is unknown
    /// and no piece of this pass has been timed yet.
    pub fn planned_time(&self, from: PassProgress, to: PassProgress) -> Option<Duration> {
        let work = self.work(from.done..to.done);
        self.pace.speed().map(|speed| Duration::from_secs_f64(work as f64 / speed))
    }

    /// Returns the layout of [`Pass::tokens`], [`Pass::layer`] and [`Pass::prenorm`].
    pub fn layout(&self) -> TokenLayout {
        self.layout
    }

    /// Returns the positions of the patches on every slice or image of the batch.
    pub fn mesh(&self) -> Mesh {
        Mesh::new(self.layout.grid, self.config.patch_size, self.image().1, self.settings.input.size())
    }

    /// Returns the images that the model sees, [B, channels, H, W] of f32, and their height and width.
    pub fn image(&self) -> (&wgpu::Buffer, (usize, usize)) {
        let [_, _, height, width] = self.settings.input.image_shape(self.layout.images);
        (self.buffer(self.forward.image), (height, width))
    }

    /// Returns every token after the last block and the final norm, in the layout of [`Pass::layout`]; usages `STORAGE`
    /// and `COPY_SRC`.
    pub fn tokens(&self) -> &wgpu::Buffer {
        self.buffer(self.forward.x_norm)
    }

    /// Returns the tokens as a [`TokenMap`], the input of [`Similarity`](super::Similarity) and
    /// [`Components`](super::Components).
    pub fn map(&self) -> TokenMap {
        let TokenLayout { images, tokens, channels, prefix, .. } = self.layout;
        TokenMap { buffer: self.tokens().clone(), images, tokens, channels, prefix, context: self.executable.context().clone() }
    }

    /// Returns every token after block `n` and the final norm, if [`crate::vit::features::Request::layers`] contains
    /// the block.
    pub fn layer(&self, n: usize) -> Option<&wgpu::Buffer> {
        self.forward.layers.iter().find(|(layer, _)| *layer == n).map(|(_, id)| self.buffer(*id))
    }

    /// Returns every token after the last block, if [`crate::vit::features::Request::prenorm`] is set.
    pub fn prenorm(&self) -> Option<&wgpu::Buffer> {
        self.forward.x_prenorm.map(|id| self.buffer(id))
    }

    /// Records a copy of all requested features to the host's memory. Returns a future of the features, which checks
    /// that they are finite.
    pub fn read(&self, encoder: &mut wgpu::CommandEncoder) -> Reading {
        Reading::encode(&self.executable, &self.forward, self.layout.grid, encoder)
    }

    /// Returns the bytes that the pass takes on the device. Passes of one model share its weights.
    pub fn bytes(&self) -> Footprint {
        self.executable.plan().bytes()
    }

    fn buffer(&self, id: TensorId) -> &wgpu::Buffer {
        self.executable.buffer(id).expect("inputs and outputs that are used have buffers")
    }

    fn steps(&self) -> usize {
        self.executable.graph().steps().len()
    }

    /// Returns the declared cost of some dispatches.
    fn work(&self, steps: Range<usize>) -> u64 {
        self.executable.graph().steps()[steps].iter().fold(Cost::default(), |sum, step| sum + step.cost).work()
    }

    /// Returns the next dispatches whose total work is at most `most`, but at least one if any is left.
    fn piece(&self, most: u64) -> Range<usize> {
        let mut work: u64 = 0;
        let fitting = self.executable.graph().steps()[self.next..].iter().take_while(|step| {
            work = work.saturating_add(step.cost.work());
            work <= most
        });
        self.next..(self.next + fitting.count().max(1)).min(self.steps())
    }

    fn encode_steps(&mut self, encoder: &mut wgpu::CommandEncoder, steps: Range<usize>) {
        self.executable.encode_steps(encoder, steps.clone());
        self.pace.begin(encoder, self.work(steps.clone()));
        self.next = steps.end;
    }
}

fn unmasked() -> Error {
    Error::option("mask", "this pass takes no mask; prepare it with PassSettings::masked")
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context as Task, Poll, Waker};

    use super::super::{MapTexture, Similarity, SliceInput};
    use super::*;
    use crate::ct::Size;
    use crate::gpu::Context;
    use crate::gpu::faults::{each_object_fails, one_block, paced};

    /// Makes a host's device. It has no error handler, so wgpu panics at any error that our code does not catch.
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

    /// Computes tokens from a texture, draws a map of them, and reads the tokens back.
    fn tokens(gpu: &Gpu, context: &Context) -> Result<Vec<f32>> {
        let slice = texture(context, wgpu::TextureFormat::R32Float, wgpu::TextureUsages::TEXTURE_BINDING);
        let shown = texture(context, wgpu::TextureFormat::Rgba16Float, wgpu::TextureUsages::STORAGE_BINDING);
        let mut pass =
            Pass::new(gpu, &PassSettings::new(SliceInput { size: Size::Exact { height: 16, width: 32 }, ..SliceInput::new(24, 40) }))?;
        let similarity = Similarity::new(&pass.map())?;
        let picture = MapTexture::new(similarity.map(), 0, &pass.mesh(), (-1.0, 1.0))?;
        let mut encoder = encoder(context);
        pass.encode_slice(&mut encoder, 0, SliceSource::Texture(&slice))?;
        pass.encode(&mut encoder);
        similarity.encode(&mut encoder, 0)?;
        picture.encode(&mut encoder, &shown)?;
        let values = pass.read(&mut encoder);
        // The host's own submission is valid, whatever failed before.
        context.queue().submit([encoder.finish()]);
        context.device().poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes");
        Ok(pollster::block_on(values)?.x_norm.data().to_vec())
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

    /// Loading measures no speed, as in a browser.
    #[test]
    fn a_pass_measures_a_device_of_unknown_speed() {
        let Some(own) = paced() else { return };
        let (context, (config, weights)) = (lent(&own), one_block());
        let gpu = Gpu::new(&context, &config, &weights).expect("room");
        let settings = PassSettings { measured: true, ..PassSettings::new(SliceInput::new(96, 112)) };
        let mut pass = Pass::new(&gpu, &settings).expect("room");
        let submit = |encoder: wgpu::CommandEncoder| {
            context.queue().submit([encoder.finish()]);
            context.device().poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes");
        };
        let read = |pass: &Pass, mut encoder: wgpu::CommandEncoder| {
            let features = pass.read(&mut encoder);
            submit(encoder);
            pollster::block_on(features).expect("features").x_norm
        };
        let slice: Vec<f32> = (0..96 * 112).map(|i| (i * i % 2311) as f32 - 1100.0).collect();
        pass.write(&slice).expect("a slice");
        let mut whole = encoder(&context);
        assert_eq!(pass.planned_time(pass.progress(), pass.progress()), None);
        pass.encode(&mut whole);
        let want = read(&pass, whole);

        let mut pass = Pass::new(&gpu, &settings).expect("room");
        pass.write(&slice).expect("a slice");
        assert_eq!(pass.planned_time(pass.progress(), pass.progress()), None);
        let (mut pieces, budget) = (0, Duration::ZERO);
        while !pass.progress().is_finished() {
            let before = pass.progress();
            // The first piece is a guess. After it, a budget of zero allows one dispatch at a time.
            let mut encoder = encoder(&context);
            let after = pass.encode_some(&mut encoder, budget);
            assert!(pieces == 0 || after.done == before.done + 1, "{after:?} after {before:?}");
            assert!(pass.is_busy());
            submit(encoder);
            assert!(!pass.is_busy());
            assert!(pass.planned_time(before, after).expect("the piece shows the speed") > Duration::ZERO);
            pieces += 1;
            if pieces == 1 {
                pass.restart();
            }
        }
        assert_eq!(pieces, 1 + pass.steps(), "the first piece was recorded again");
        assert_eq!(read(&pass, encoder(&context)), want, "other bits in pieces");
    }

    #[test]
    fn a_host_whose_device_goes_gets_an_error() {
        let Some(own) = paced() else { return };
        let (context, (config, weights)) = (lent(&own), one_block());
        let gpu = Gpu::new(&context, &config, &weights).expect("room");
        let mut pass = Pass::new(&gpu, &PassSettings::new(SliceInput::new(24, 40))).expect("room");
        let mut begun = encoder(&context);
        pass.encode(&mut begun);
        let values = pass.read(&mut begun);
        context.device().destroy();
        // The host's handler receives the errors of the host's own calls on a lost device. Our calls return errors or
        // do nothing.
        let mut another = encoder(&context);
        pass.encode(&mut another);
        let late = pass.read(&mut another);
        for (encoder, values) in [(begun, values), (another, late)] {
            let scope = context.device().push_error_scope(wgpu::ErrorFilter::Validation);
            context.queue().submit([encoder.finish()]);
            let _ = pollster::block_on(scope.pop());
            let _ = context.device().poll(wgpu::PollType::Poll);
            let mut values = std::pin::pin!(values);
            let Poll::Ready(Err(problem)) = values.as_mut().poll(&mut Task::from_waker(Waker::noop())) else {
                panic!("a host would wait for ever")
            };
            let text = problem.to_string();
            assert!(text.starts_with("gpu: reading back") && text.contains("open"), "{text}");
        }
        assert!(tokens(&gpu, &context).is_err());
        assert!(Gpu::new(&context, &config, &weights).is_err());
    }
}
