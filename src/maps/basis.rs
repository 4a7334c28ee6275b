//! The first three principal components of tokens, and the scores of tokens along them.

use crate::tensor::{Tensor, TensorView};

/// The number of components: one for each colour channel of a picture.
pub(super) const COMPONENTS: usize = 3;

/// A mean and three orthogonal directions, with the variance along each. They map a token to three whitened scores.
///
/// Values are f32, so that a stored basis gives the same scores as the fitted one.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    /// `[C]`
    pub(super) mean: Tensor,
    /// [3, C]; zeros where a direction is missing.
    pub(super) components: Tensor,
    /// `[3]`, descending; 0 where a direction is missing.
    pub(super) variance: Tensor,
}

impl Basis {
    /// Creates a basis from a `mean` `[C]` and up to three (direction `[C]`, variance).
    #[cfg(feature = "pictures")]
    pub(super) fn new(mean: impl Iterator<Item = f64>, directions: Vec<(Vec<f64>, f64)>) -> Self {
        let mean: Vec<f32> = mean.map(|v| v as f32).collect();
        let (width, mut variance, mut components) = (mean.len(), vec![0.0; COMPONENTS], vec![0.0; COMPONENTS * mean.len()]);
        for (k, (direction, along)) in directions.into_iter().enumerate() {
            variance[k] = along as f32;
            components[k * width..][..width].iter_mut().zip(direction).for_each(|(to, v)| *to = v as f32);
        }
        Self {
            mean: Tensor::new([width], mean),
            components: Tensor::new([COMPONENTS, width], components),
            variance: Tensor::new([COMPONENTS], variance),
        }
    }

    /// Returns the width of a token, C.
    pub fn width(&self) -> usize {
        self.mean.cols()
    }

    /// Returns the mean token: `[C]`.
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// Returns the directions, of length 1: [3, C]; zeros where fewer than three were found.
    pub fn components(&self) -> &Tensor {
        &self.components
    }

    /// Returns the variance along each direction: `[3]`, descending.
    pub fn variance(&self) -> &Tensor {
        &self.variance
    }

    /// Returns the number of directions: 3, or fewer if the tokens vary in fewer.
    pub fn rank(&self) -> usize {
        self.variance.data().iter().filter(|v| **v > 0.0).count()
    }

    /// Returns the directions divided by the standard deviation along each: [3, C]; zeros where a direction is missing.
    /// The product of this matrix and a token's deviation from the mean is the token's [`Basis::scores`].
    #[must_use]
    pub fn whitened(&self) -> Tensor {
        let over = |(direction, &variance): (&[f32], &f32)| {
            let deviation = f64::from(variance).sqrt();
            direction.iter().map(|&d| if variance > 0.0 { (f64::from(d) / deviation) as f32 } else { 0.0 }).collect::<Vec<_>>()
        };
        let width = self.width();
        let rows = self.components.data().chunks_exact(width).zip(self.variance.data());
        Tensor::new([COMPONENTS, width], rows.flat_map(over).collect())
    }

    /// Returns the whitened scores of `tokens` [.., C]: [.., 3]. A score is the token's deviation from the mean along a
    /// direction, divided by the standard deviation along it; 0 for a missing direction. The result matches
    /// scikit-learn's `PCA(n_components=3, whiten=True).transform`. Sums are in f64.
    ///
    /// # Panics
    /// If the tokens are not C wide.
    #[must_use]
    pub fn scores<'a>(&self, tokens: impl Into<TensorView<'a>>) -> Tensor {
        let tokens = tokens.into();
        let width = self.width();
        assert_eq!(tokens.cols(), width, "tokens are {width} wide");
        let mut scores = Vec::with_capacity(tokens.rows() * COMPONENTS);
        for token in tokens.data().chunks_exact(width) {
            for (direction, &variance) in self.components.data().chunks_exact(width).zip(self.variance.data()) {
                let terms = token.iter().zip(self.mean.data()).zip(direction);
                let along: f64 = terms.map(|((&t, &m), &d)| (f64::from(t) - f64::from(m)) * f64::from(d)).sum();
                scores.push(if variance > 0.0 { (along / f64::from(variance).sqrt()) as f32 } else { 0.0 });
            }
        }
        let outer = &tokens.shape()[..tokens.shape().len() - 1];
        Tensor::new([outer, &[COMPONENTS]].concat(), scores)
    }
}
