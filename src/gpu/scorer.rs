//! A fine-tuned network on a GPU: images in, a score for every class at every pixel out.

use super::context::Context;
use super::executable::Executable;
use super::passes::Passes;
use super::weights::GpuWeights;
use crate::error::Result;
use crate::graph::{Bytes, plan};
use crate::tensor::Tensor;
use crate::vit::config::Config;
use crate::vit::decoder::{Decoder, Shape};
use crate::vit::forward::{Input, stored};
use crate::vit::rope;
use crate::vit::scores::{Scores, record};
use crate::vit::weights::Weights;

/// A network's weights on a device, and the passes prepared for the image sizes seen lately.
#[derive(Debug)]
pub struct Scorer {
    context: Context,
    config: Config,
    shape: Shape,
    weights: GpuWeights,
    passes: Passes<Input, Pass>,
}

#[derive(Debug)]
struct Pass {
    scores: Scores,
    executable: Executable,
}

impl Scorer {
    /// Uploads a network's weights: the model's, and those of a decoder of this shape as [`Decoder::load`] gives them.
    ///
    /// # Errors
    /// If the device is out of memory or lost, or a weight is larger than its largest buffer.
    #[expect(unsafe_code, reason = "our own kernels, tested with the checks on and off, need no run-time checks")]
    pub fn new(context: &Context, config: &Config, weights: &Weights<Tensor>, shape: &Shape, decoder: &Decoder<Tensor>) -> Result<Self> {
        // SAFETY: this context runs what `vit::scores` records and nothing else.
        let context = unsafe { context.without_shader_checks() }.paced(config)?;
        let (specs, decoder_specs) = (Weights::specs(config), Decoder::linear_specs(shape));
        let leaves = specs.leaves().into_iter().chain(decoder_specs.leaves()).zip(weights.leaves().into_iter().chain(decoder.leaves()));
        let elem = context.limits().elem;
        let weights = GpuWeights::upload_as(&context, leaves.map(|(spec, tensor)| (spec.name.as_str(), tensor, stored(spec, elem))))?;
        Ok(Self { context, config: config.clone(), shape: shape.clone(), weights, passes: Passes::default() })
    }

    /// The device.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The scores [B, K, H, W] of a batch of normalised images [B, in_chans, H, W], or [B, 1, H, W] whose one channel stands for all, of which whole patches
    /// count; blocks until they are on the host.
    ///
    /// # Errors
    /// If the images do not fit the model, or the device refuses the work, is out of memory or lost.
    pub fn scores(&self, images: &Tensor) -> Result<Tensor> {
        let pass = self.passes.wanted(self.input(images.shape())?, |input| self.prepare(*input))?;
        pass.executable.write(pass.scores.image, 0, images.data())?;
        pass.executable.run()?;
        Ok(pass.executable.read_all(&[pass.scores.maps])?.remove(0))
    }

    /// What a pass over images of this shape needs on the device, before anything is allocated.
    ///
    /// # Errors
    /// If the images do not fit the model, or the pass does not fit the device.
    pub fn bytes(&self, image_shape: &[usize]) -> Result<Bytes> {
        let (graph, _) = record(&self.config, &self.shape, *self.context.limits(), self.input(image_shape)?)?;
        plan(&graph, self.context.limits()).map(|plan| plan.bytes())
    }

    fn input(&self, image_shape: &[usize]) -> Result<Input> {
        let (batch, _) = self.config.check_image(image_shape)?;
        Ok(Input { batch, channels: image_shape[1], height: image_shape[2], width: image_shape[3], masked: false })
    }

    fn prepare(&self, input: Input) -> Result<Pass> {
        let (graph, scores) = record(&self.config, &self.shape, *self.context.limits(), input)?;
        let planned = plan(&graph, self.context.limits())?;
        let executable = Executable::new(&self.context, graph, planned, &self.weights)?;
        let grid = self.config.grid(input.height, input.width)?;
        executable.write(scores.table, 0, rope::table(&self.config, grid).data())?;
        Ok(Pass { scores, executable })
    }
}
