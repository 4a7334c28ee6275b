//! Cosine similarity of tokens.

use crate::tensor::{Tensor, TensorView};

/// The lower bound of a token's length, as in PyTorch's `cosine_similarity`. It makes the similarity of a zero token 0.
const EPS: f64 = 1e-8;

/// Returns the cosine of the angle between `query` `[C]` and each token of `tokens` [.., C]: `[..]`, from -1 to 1. Sums
/// are in f64.
///
/// # Panics
/// If `query` and the tokens differ in width.
#[must_use]
pub fn cosine<'a>(tokens: impl Into<TensorView<'a>>, query: &[f32]) -> Tensor {
    let tokens = tokens.into();
    let width = tokens.cols();
    assert_eq!(query.len(), width, "a query is as wide as a token");
    let length = |x: &[f32]| dot(x, x).sqrt().max(EPS);
    let query_length = length(query);
    let cosines =
        tokens.data().chunks_exact(width).map(|token| (dot(token, query) / (length(token) * query_length)).clamp(-1.0, 1.0) as f32);
    Tensor::new(&tokens.shape()[..tokens.shape().len() - 1], cosines.collect())
}

fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}
