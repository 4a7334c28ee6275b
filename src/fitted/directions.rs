//! Heads on patch tokens in the form in which a GPU computes their scores.

use super::dense::DenseHead;
use crate::heads::{Linear, Standard};
use crate::tensor::Tensor;
use crate::vit::config::Config;
use crate::vit::features::Projection;
use crate::vit::layers::Layers;

/// One or several heads as directions: a device multiplies each token minus the mean by each direction, and the rest is
/// done here. The mean is subtracted before the product, because in f32 the small difference of two large products
/// would lose digits.
#[derive(Clone, Debug)]
pub struct Directions {
    /// A direction for each logit of the first head, then of the next one, over the tokens of all blocks that a head is
    /// for. It is 0 along the channels of other heads' blocks.
    pub projection: Projection,
    /// What is added to the product of each direction.
    biases: Vec<f64>,
}

impl Directions {
    /// Folds the scales and means of `heads` into directions and biases, in f64. The mean of a block's tokens is that of the
    /// first head that is for the block. None if the heads are for tokens that a model of this `config` does not have, or
    /// f32 cannot hold a value.
    pub fn of(heads: &[&DenseHead], config: &Config) -> Option<Self> {
        let c = config.embed_dim;
        if heads.iter().any(|head| head.linear.width() != head.layers().count() * c) {
            return None;
        }
        let layers = Layers::union(heads.iter().map(|head| head.layers()), config.depth);
        let width = layers.count() * c;
        let places: Vec<Vec<usize>> = heads.iter().map(|head| places(head.layers(), &layers, config)).collect();
        let mut mean = vec![0.0; width];
        // The first head comes last and stays.
        for (head, places) in heads.iter().zip(&places).rev() {
            places.iter().zip(&head.linear.standard.mean).for_each(|(place, own)| mean[*place] = *own as f32);
        }
        let folded = heads.iter().zip(&places).flat_map(|(head, places)| folded(&head.linear, places, &mean));
        let (directions, biases): (Vec<Vec<f32>>, Vec<f64>) = folded.unzip();
        let directions = Tensor::new([biases.len(), width], directions.concat());
        let projection = Projection { layers, mean: Tensor::new([width], mean), directions };
        let is_finite = projection.mean.is_finite() && projection.directions.is_finite();
        (is_finite && projection.check(config).is_ok()).then_some(Self { projection, biases })
    }

    /// Returns the scores [N, K] of `head` from the products of all directions with N tokens. The head's own directions
    /// begin at number `first`.
    ///
    /// # Panics
    /// If there is not a product for each direction.
    pub fn scores(&self, head: &DenseHead, first: usize, products: &[f32]) -> Vec<f32> {
        let (all, own) = (self.biases.len(), first..first + head.logits());
        assert!(products.len().is_multiple_of(all), "a product for each of {all} directions");
        let row = |products: &[f32]| {
            let logit = |i: usize| f64::from(products[i]) + self.biases[i];
            own.clone().map(logit).collect::<Vec<f64>>()
        };
        head.with_pairs(products.chunks_exact(all).flat_map(row))
    }
}

/// Returns the place of each channel of tokens of `own` blocks among the channels of tokens of `all`.
fn places(own: &Layers, all: &Layers, config: &Config) -> Vec<usize> {
    let (c, all) = (config.embed_dim, all.of_model(config.depth));
    let first = |block: usize| c * all.partition_point(|other| *other < block);
    own.of_model(config.depth).into_iter().flat_map(|block| first(block)..first(block) + c).collect()
}

/// Returns the direction of each logit along all channels, of which the head's own are at `places`, and what is added to its
/// product with a token minus `mean`.
fn folded(linear: &Linear, places: &[usize], mean: &[f32]) -> Vec<(Vec<f32>, f64)> {
    let Standard { mean: own, scale } = &linear.standard;
    let fold = |(weight, bias): (&[f64], &f64)| {
        let (mut direction, mut moved) = (vec![0.0; mean.len()], 0.0);
        for (i, place) in places.iter().enumerate() {
            let along = weight[i] * scale[i];
            direction[*place] = along as f32;
            moved += along * (f64::from(mean[*place]) - own[i]);
        }
        (direction, bias + moved)
    };
    linear.weight.chunks_exact(places.len()).zip(&linear.bias).map(fold).collect()
}
