//! Heads on patch tokens in the form in which a GPU computes their scores.

use super::dense::DenseHead;
use crate::heads::Standard;
use crate::tensor::Tensor;

/// One or several heads as directions: a device multiplies each token minus `mean` by each direction, and the rest is
/// done here. The mean is subtracted before the product, because in f32 the small difference of two large products
/// would lose digits.
#[derive(Clone, Debug)]
pub struct Directions {
    /// `[C]`
    pub mean: Tensor,
    /// [L, C]: a direction for each logit of the first head, then of the next one.
    pub directions: Tensor,
    /// What is added to the product of each direction: `[L]`.
    biases: Vec<f64>,
}

impl Directions {
    /// Folds the scales and means of `heads`, of which there is at least one, into directions and biases, in f64. The
    /// mean is that of the first head. None if the heads are for tokens of several widths, or f32 cannot hold a value.
    ///
    /// # Panics
    /// If there is no head.
    pub fn of(heads: &[&DenseHead]) -> Option<Self> {
        let mean: Vec<f32> = heads[0].linear.standard.mean.iter().map(|v| *v as f32).collect();
        let width = mean.len();
        let (mut directions, mut biases) = (Vec::new(), Vec::new());
        for linear in heads.iter().map(|head| &head.linear).filter(|linear| linear.width() == width) {
            let Standard { mean: own, scale } = &linear.standard;
            for (weight, bias) in linear.weight.chunks_exact(width).zip(&linear.bias) {
                let direction = || weight.iter().zip(scale).map(|(weight, scale)| weight * scale);
                let moved: f64 = direction().zip(&mean).zip(own).map(|((d, mean), own)| d * (f64::from(*mean) - own)).sum();
                directions.extend(direction().map(|d| d as f32));
                biases.push(bias + moved);
            }
        }
        let is_complete = biases.len() == heads.iter().map(|head| head.logits()).sum::<usize>();
        let is_finite = mean.iter().chain(&directions).all(|v| v.is_finite());
        let directions = Tensor::new([biases.len(), width], directions);
        (is_complete && is_finite).then(|| Self { mean: Tensor::new([width], mean), directions, biases })
    }

    /// Returns the scores [N, K] of `head` from the products [N, L] of all directions. The head's own directions begin at
    /// number `first`.
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
