//! The decoder that nnU-Net's Primus trainers put on the model: from patch tokens to a score for every class at every pixel.
//!
//! Stage after stage a transposed convolution (kernel 2, stride 2) doubles the map's side, LayerNorm over channels and GELU follow; a 1 x 1 convolution
//! ends it. As no kernel reaches over its stride, a token's pixels depend on that token alone. So the decoder is a chain of linear layers over rows: a row of
//! length `Cin` times `[4 Cout, Cin]` is four rows of length `Cout`, the pixels above left, above right, below left and below right of it; four stages make
//! the 256 pixels of a patch, in Z-order. No map is shuffled between the stages, and tokens can be decoded a few at a time.

use super::weights::{Linear, Norm, Spec};
use crate::checkpoint::{Checkpoint, Entry};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// LayerNorm's epsilon in the decoder (`LayerNormNd` of nnU-Net's `dynamic_network_architectures`).
pub const DECODER_EPS: f32 = 1e-6;

/// Pixels that a stage makes of one: 2 x 2.
pub const FAN: usize = 4;

/// The sizes of a decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The blocks whose patch tokens go in, through the final norm, one after another along the channels.
    pub layers: Vec<usize>,
    /// Channels that go in, then those after each stage.
    pub channels: Vec<usize>,
    /// Scores a pixel, K.
    pub classes: usize,
}

/// All parameters of a decoder: leaves `T`, linear layers `L`.
#[derive(Clone, Debug)]
pub struct Decoder<T, L = Linear<T>> {
    /// `up_projection.decode.I`
    pub stages: Vec<Stage<T, L>>,
    /// The last, a 1 x 1 convolution: [K, C, 1, 1]
    pub classify: L,
}

/// A transposed convolution, and the LayerNorm over channels that follows it.
#[derive(Clone, Debug)]
pub struct Stage<T, L = Linear<T>> {
    /// `.0`: [Cin, Cout, 2, 2] in the checkpoint, [4 Cout, Cin] once it is a linear layer.
    pub up: L,
    /// `.1`: `[Cout]`
    pub norm: Norm<T>,
}

impl Shape {
    /// The decoder in `checkpoint`, over `layers` of a model `embed_dim` wide whose patches are of side `2^stages`.
    ///
    /// # Errors
    /// If a tensor is missing, unexpected or misshapen.
    pub fn infer(checkpoint: &Checkpoint, layers: &[usize], embed_dim: usize, patch_size: usize) -> Result<Self> {
        let stages = patch_size.ilog2() as usize;
        let find = |name: &str| checkpoint.decoder().iter().find(|entry| entry.name == name);
        let out = |i: usize| find(&name(i, ".0.weight")).and_then(|entry| entry.shape.get(1)).copied().unwrap_or(0);
        let channels = std::iter::once(layers.len() * embed_dim).chain((0..stages).map(out)).collect();
        let classes = find(&name(stages, ".weight")).and_then(|entry| entry.shape.first()).copied().unwrap_or(0);
        let shape = Self { layers: layers.to_vec(), channels, classes };
        shape.hold_against(checkpoint.decoder()).map_err(|problem| Error::checkpoint(checkpoint.source_name(), problem))?;
        Ok(shape)
    }

    fn hold_against(&self, found: &[Entry]) -> Result<(), String> {
        let specs = Decoder::specs(self);
        let specs = specs.leaves();
        let mut wrong: Vec<String> = Vec::new();
        for spec in &specs {
            match found.iter().find(|entry| entry.name == spec.name) {
                None => wrong.push(format!("{} is missing", spec.name)),
                Some(entry) if entry.shape != spec.shape || entry.is_empty() => {
                    wrong.push(format!("{} {:?} instead of {:?}", spec.name, entry.shape, spec.shape));
                }
                Some(_) => {}
            }
        }
        wrong.extend(found.iter().filter(|e| specs.iter().all(|s| s.name != e.name)).map(|e| format!("{} is unexpected", e.name)));
        if wrong.is_empty() {
            return Ok(());
        }
        let layers = self.layers.len();
        Err(format!("does not hold the decoder of a Primus trainer over {layers} of the model's layers: {}", wrong.join(", ")))
    }

    /// Floating-point operations of a decoder's matrix products for one patch, a multiplication and an addition counting two.
    pub fn flops_per_patch(&self) -> u64 {
        let stage = |(i, pair): (usize, &[usize])| FAN.pow(i as u32 + 1) * pair[0] * pair[1];
        let stages: usize = self.channels.windows(2).enumerate().map(stage).sum();
        let last = self.channels.last().expect("at least what goes in");
        2 * (stages + FAN.pow(self.channels.len() as u32 - 1) * last * self.classes) as u64
    }
}

/// The checkpoint's name of part `rest` of stage `i`.
fn name(i: usize, rest: &str) -> String {
    format!("up_projection.decode.{i}{rest}")
}

impl Decoder<Spec> {
    /// The names and shapes of every parameter that a decoder of this `shape` has.
    pub fn specs(shape: &Shape) -> Self {
        let spec = |name: String, shape: &[usize]| Spec { name, shape: shape.to_vec() };
        let linear = |at: String, weight: &[usize], out: usize| Linear {
            weight: spec(format!("{at}.weight"), weight),
            bias: Some(spec(format!("{at}.bias"), &[out])),
        };
        let stage = |(i, pair): (usize, &[usize])| Stage {
            up: linear(name(i, ".0"), &[pair[0], pair[1], 2, 2], pair[1]),
            norm: Norm { weight: spec(name(i, ".1.weight"), &pair[1..]), bias: spec(name(i, ".1.bias"), &pair[1..]) },
        };
        let stages: Vec<_> = shape.channels.windows(2).enumerate().map(stage).collect();
        let last = *shape.channels.last().expect("at least what goes in");
        let classify = linear(name(stages.len(), ""), &[shape.classes, last, 1, 1], shape.classes);
        Self { stages, classify }
    }
}

impl Decoder<Spec> {
    /// The same parameters as [`Decoder::load`] gives them: every convolution as a linear layer.
    pub fn linear_specs(shape: &Shape) -> Self {
        let mut specs = Self::specs(shape);
        for (stage, pair) in specs.stages.iter_mut().zip(shape.channels.windows(2)) {
            stage.up.weight.shape = vec![FAN * pair[1], pair[0]];
            stage.up.bias.iter_mut().for_each(|bias| bias.shape = vec![FAN * pair[1]]);
        }
        specs.classify.weight.shape.truncate(2);
        specs
    }
}

impl<T> Decoder<T> {
    /// The same tree with `f` applied to each leaf, in the checkpoint's order; the first error ends it.
    ///
    /// # Errors
    /// Whatever `f` returns.
    pub fn try_map<'a, U, E>(&'a self, f: &mut impl FnMut(&'a T) -> Result<U, E>) -> Result<Decoder<U>, E> {
        let stage = |stage: &'a Stage<T>| Ok(Stage { up: stage.up.try_map(f)?, norm: stage.norm.try_map(f)? });
        let stages = self.stages.iter().map(stage).collect::<Result<_, E>>()?;
        Ok(Decoder { stages, classify: self.classify.try_map(f)? })
    }

    /// The same tree with `f` applied to each leaf, in the checkpoint's order.
    pub fn map<'a, U>(&'a self, f: &mut impl FnMut(&'a T) -> U) -> Decoder<U> {
        let Ok(mapped) = self.try_map(&mut |t: &'a T| Ok::<U, std::convert::Infallible>(f(t)));
        mapped
    }

    /// The leaves, in the checkpoint's order.
    pub fn leaves(&self) -> Vec<&T> {
        let mut leaves = Vec::new();
        let Ok(_) = self.try_map(&mut |leaf| {
            leaves.push(leaf);
            Ok::<(), std::convert::Infallible>(())
        });
        leaves
    }
}

impl Decoder<Tensor> {
    /// The decoder of `shape` in `checkpoint`, every convolution as a linear layer.
    ///
    /// # Errors
    /// If a tensor cannot be read, or holds NaN or infinity.
    pub fn load(checkpoint: &Checkpoint, shape: &Shape) -> Result<Self> {
        Ok(Decoder::specs(shape).try_map(&mut |spec: &Spec| checkpoint.load(&spec.name))?.into_linear())
    }

    /// Each transposed convolution [Cin, Cout, 2, 2] as a linear layer [4 Cout, Cin], row `(2 dy + dx) Cout + c` for channel `c` of the pixel `dy` down and
    /// `dx` to the right; the 1 x 1 convolution as [K, C].
    fn into_linear(self) -> Self {
        let stages = self.stages.into_iter().map(|stage| Stage { up: up_linear(&stage.up), norm: stage.norm }).collect();
        let [classes, channels, ..] = *self.classify.weight.shape() else { panic!("a 1 x 1 convolution is [K, C, 1, 1]") };
        let classify = Linear { weight: self.classify.weight.reshaped([classes, channels]), bias: self.classify.bias };
        Self { stages, classify }
    }

    /// The same tree with each linear layer made into another form by `f`.
    pub fn map_linears<L>(self, f: impl Fn(Linear<Tensor>) -> L) -> Decoder<Tensor, L> {
        let stages = self.stages.into_iter().map(|stage| Stage { up: f(stage.up), norm: stage.norm }).collect();
        Decoder { stages, classify: f(self.classify) }
    }
}

fn up_linear(up: &Linear<Tensor>) -> Linear<Tensor> {
    let [inner, out, 2, 2] = *up.weight.shape() else { panic!("a transposed convolution is [Cin, Cout, 2, 2]") };
    let weight = up.weight.data();
    let mut rows = Vec::with_capacity(weight.len());
    for pixel in 0..FAN {
        for c in 0..out {
            rows.extend((0..inner).map(|k| weight[(k * out + c) * FAN + pixel]));
        }
    }
    let bias = up.bias.as_ref().map(|bias| Tensor::new([FAN * out], bias.data().repeat(FAN)));
    Linear { weight: Tensor::new([FAN * out, inner], rows), bias }
}
