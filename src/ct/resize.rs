//! Antialiased bilinear resize, matching PyTorch's `F.interpolate(mode="bilinear", antialias=True,
//! align_corners=False)`.
//!
//! The filter is a separable triangle, applied to rows first and columns after. Enlarging is plain bilinear
//! interpolation. When shrinking, the triangle is as wide as two output pixels, so that every input pixel contributes.
//! Weights are f32, normalised to a sum of one over the pixels inside the image.

use crate::parallel;
use crate::tensor::{Tensor, TensorView};

/// Resizes every plane of `x` [.., H, W] to [.., `height`, `width`]. If `x` has this size already, returns a copy.
///
/// # Panics
/// If `x` has fewer than two axes or a side is 0.
#[must_use]
pub fn resize<'a>(x: impl Into<TensorView<'a>>, height: usize, width: usize) -> Tensor {
    let x = x.into();
    let &[ref outer @ .., h, w] = x.shape() else { panic!("an image has two axes, not {:?}", x.shape()) };
    assert!(![h, w, height, width].contains(&0), "no image has a side of 0");
    if (h, w) == (height, width) {
        return x.to_tensor();
    }
    let (across, down) = (filter(w, width), filter(h, height));
    let mut wide = vec![0.0; x.rows() * width]; // [.., H, width]
    parallel::for_each_chunk(&mut wide, width, |row, to| {
        let from = &x.data()[row * w..][..w];
        for (value, taps) in to.iter_mut().zip(&across) {
            *value = taps.of(from).map(|(v, weight)| v * weight).sum();
        }
    });
    let mut y = Tensor::zeros([outer, &[height, width]].concat());
    for (to, from) in y.data_mut().chunks_exact_mut(height * width).zip(wide.chunks_exact(h * width)) {
        parallel::for_each_chunk(to, width, |y, row| {
            let taps = &down[y];
            for (i, &weight) in taps.weights.iter().enumerate() {
                let source = &from[(taps.first + i) * width..][..width];
                row.iter_mut().zip(source).for_each(|(sum, v)| *sum += v * weight);
            }
        });
    }
    y
}

/// As [`resize`], but returns `x` without a copy if it has the requested size already.
///
/// # Panics
/// As [`resize`].
#[must_use]
pub fn resized(x: Tensor, height: usize, width: usize) -> Tensor {
    if x.shape().ends_with(&[height, width]) && !x.data().is_empty() { x } else { resize(&x, height, width) }
}

/// Returns the filter of [`resize`] along one axis, for other implementations such as a shader. For each of `outputs`
/// lines, the result is the index of the first of the `inputs` lines that contribute, and the weights of that line and
/// of the following ones.
///
/// # Panics
/// If there are no inputs or no outputs.
pub fn taps(inputs: usize, outputs: usize) -> Vec<(usize, Vec<f32>)> {
    assert!(inputs * outputs > 0, "no image has a side of 0");
    if inputs == outputs {
        return (0..outputs).map(|i| (i, vec![1.0])).collect();
    }
    filter(inputs, outputs).into_iter().map(|taps| (taps.first, taps.weights)).collect()
}

/// The input samples that contribute to one output sample, and their weights.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Taps {
    fn of<'a>(&'a self, line: &'a [f32]) -> impl Iterator<Item = (f32, f32)> + 'a {
        line[self.first..].iter().copied().zip(self.weights.iter().copied())
    }
}

/// Returns the taps of each of `outputs` positions over `inputs` samples. Positions are f32 where PyTorch's are, so
/// that both select the same taps at the edge of the triangle.
fn filter(inputs: usize, outputs: usize) -> Vec<Taps> {
    let scale = inputs as f32 / outputs as f32;
    let support = scale.max(1.0);
    let narrow = 1.0 / support;
    let taps = |i: usize| {
        let center = (f64::from(scale) * (i as f64 + 0.5)) as f32;
        // The cast turns a negative number into 0.
        let first = (f64::from(center - support) + 0.5) as usize;
        let end = ((f64::from(center + support) + 0.5) as usize).min(inputs);
        let distance = |j: usize| ((f64::from(j as f32 - center) + 0.5) * f64::from(narrow)) as f32;
        let weights: Vec<f32> = (first..end).map(|j| (1.0 - distance(j).abs()).max(0.0)).collect();
        let total: f32 = weights.iter().sum();
        Taps { first, weights: weights.iter().map(|w| w / total).collect() }
    };
    (0..outputs).map(taps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_a_triangle() {
        let half = filter(4, 2);
        assert_eq!(half[0].first, 0);
        // The triangle of support 2 around 1.0, sampled at 0.5, 1.5, 2.5, is 3/4, 3/4, 1/4, divided by their sum.
        assert_eq!(half[0].weights, [3.0 / 7.0, 3.0 / 7.0, 1.0 / 7.0]);
        let double = filter(2, 4);
        assert_eq!(double[1].weights, [0.75, 0.25]);
    }

    #[test]
    fn a_constant_stays_constant_at_any_size() {
        for (from, to) in [((1, 1), (32, 5)), ((7, 512), (224, 3)), ((513, 2), (1, 1))] {
            let x = Tensor::new([from.0, from.1], vec![-3.25; from.0 * from.1]);
            let y = resize(&x, to.0, to.1);
            assert_eq!(y.shape(), [to.0, to.1]);
            assert!(y.data().iter().all(|v| (v + 3.25).abs() < 1e-5), "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn planes_do_not_mix() {
        let x = Tensor::new([2, 2, 2], vec![1.0, 1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 5.0]);
        let y = resize(&x, 3, 4);
        assert_eq!(y.shape(), [2, 3, 4]);
        assert_eq!(y.data()[..12], [1.0; 12]);
        assert_eq!(y.data()[12..], [5.0; 12]);
    }
}
