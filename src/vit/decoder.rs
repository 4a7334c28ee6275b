//! The decoder that nnU-Net's Primus trainers add to the model. It turns patch tokens into a score for every class at
//! every pixel.
//!
//! In each stage, a transposed convolution (kernel 2, stride 2) doubles the map's side, and LayerNorm over channels and
//! GELU follow. A 1 x 1 convolution comes last. No kernel is larger than its stride, so a token's pixels depend on that
//! token alone, and the decoder is a chain of linear layers over rows. A row of length `Cin` times `[4 Cout, Cin]`
//! gives four rows of length `Cout`: the pixels at the upper left, upper right, lower left and lower right. Four stages
//! give the 256 pixels of a patch, in Z-order. No map is shuffled between the stages, and tokens can be decoded a few
//! at a time.

use super::weights::{Linear, Norm, Spec};
use crate::checkpoint::{Checkpoint, Entry};
use crate::count::product;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// LayerNorm's epsilon in the decoder (`LayerNormNd` of nnU-Net's `dynamic_network_architectures`).
pub const DECODER_EPS: f32 = 1e-6;

/// Number of pixels that a stage makes from one pixel: 2 x 2.
pub const FAN: usize = 4;

/// The sizes of a decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The blocks whose patch tokens are the decoder's input, after the final norm and concatenated along the channels.
    pub layers: Vec<usize>,
    /// Number of input channels, then the number of channels after each stage.
    pub channels: Vec<usize>,
    /// Scores per pixel, K.
    pub classes: usize,
}

/// All parameters of a decoder. `T` is the type of the leaves, `L` the type of the linear layers.
#[derive(Clone, Debug)]
pub struct Decoder<T, L = Linear<T>> {
    /// `up_projection.decode.I`
    pub stages: Vec<Stage<T, L>>,
    /// The last layer, a 1 x 1 convolution: [K, C, 1, 1]
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
    /// Returns the number of channels that the decoder in `checkpoint` takes, or 0 if it has no first layer.
    pub fn inputs(checkpoint: &Checkpoint) -> usize {
        let first = checkpoint.decoder().iter().find(|entry| entry.name == name(0, ".0.weight"));
        first.and_then(|entry| entry.shape.first()).copied().unwrap_or(0)
    }

    /// Infers the shape of the decoder in `checkpoint`, over `layers` of a model `embed_dim` wide whose patches have
    /// side `2^stages`.
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

    /// Returns the floating-point operations of the decoder's matrix products for one patch. A multiplication and an
    /// addition count as two.
    pub fn flops_per_patch(&self) -> u64 {
        let stage = |(i, pair): (usize, &[usize])| product(&[FAN.pow(i as u32 + 1), pair[0], pair[1]]);
        let stages: u64 = self.channels.windows(2).enumerate().map(stage).sum();
        let last = self.channels.last().expect("at least what goes in");
        2 * (stages + product(&[FAN.pow(self.channels.len() as u32 - 1), *last, self.classes]))
    }
}

/// Returns the checkpoint's name of part `rest` of stage `i`.
fn name(i: usize, rest: &str) -> String {
    format!("up_projection.decode.{i}{rest}")
}

impl Decoder<Spec> {
    /// Returns the names and shapes of all parameters of a decoder of this `shape`.
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
    /// Returns the parameters in the form that [`Decoder::load`] returns: every convolution as a linear layer.
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
    /// Applies `f` to each leaf, in the checkpoint's order, and returns the tree of results. Stops at the first error.
    ///
    /// # Errors
    /// The first error that `f` returns.
    pub fn try_map<'a, U, E>(&'a self, f: &mut impl FnMut(&'a T) -> Result<U, E>) -> Result<Decoder<U>, E> {
        let stage = |stage: &'a Stage<T>| Ok(Stage { up: stage.up.try_map(f)?, norm: stage.norm.try_map(f)? });
        let stages = self.stages.iter().map(stage).collect::<Result<_, E>>()?;
        Ok(Decoder { stages, classify: self.classify.try_map(f)? })
    }

    /// Applies `f` to each leaf, in the checkpoint's order, and returns the tree of results.
    pub fn map<'a, U>(&'a self, f: &mut impl FnMut(&'a T) -> U) -> Decoder<U> {
        let Ok(mapped) = self.try_map(&mut |t: &'a T| Ok::<U, std::convert::Infallible>(f(t)));
        mapped
    }

    /// Returns the leaves, in the checkpoint's order.
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
    /// Loads the decoder of `shape` from `checkpoint`, with every convolution as a linear layer.
    ///
    /// # Errors
    /// If a tensor cannot be read, or holds NaN or infinity.
    pub fn load(checkpoint: &Checkpoint, shape: &Shape) -> Result<Self> {
        Ok(Decoder::specs(shape).try_map(&mut |spec: &Spec| checkpoint.load(&spec.name))?.into_linear())
    }

    /// Turns each transposed convolution [Cin, Cout, 2, 2] into a linear layer [4 Cout, Cin], and the 1 x 1 convolution
    /// into [K, C]. Row `(2 dy + dx) Cout + c` of a linear layer gives channel `c` of the pixel `dy` down and `dx` to
    /// the right.
    fn into_linear(self) -> Self {
        let stages = self.stages.into_iter().map(|stage| Stage { up: up_linear(&stage.up), norm: stage.norm }).collect();
        let [classes, channels, ..] = *self.classify.weight.shape() else { panic!("a 1 x 1 convolution is [K, C, 1, 1]") };
        let classify = Linear { weight: self.classify.weight.reshaped([classes, channels]), bias: self.classify.bias };
        Self { stages, classify }
    }

    /// Converts each linear layer with `f`, and keeps the rest of the tree.
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
