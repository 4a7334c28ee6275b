//! The preconditioner of logistic regression: the inverse of `a G + P`, with G the mean outer product of the rows [N,
//! D + 1], a the present mean of `p (1 - p)`, and P the penalty of each channel. That is the Hessian if all rows and
//! classes had the same curvature, so that channels that depend on each other, or have scales of their own, cost no
//! iterations.
//!
//! Fewer rows than channels span few directions: then the inverse is that of a matrix [N, N], by Woodbury's identity
//! `(P + X^T X a / N)^-1 = P^-1 - P^-1 X^T (N / a + X P^-1 X^T)^-1 X P^-1`. A few marks in a window are fitted in
//! milliseconds so.

use super::design::Design;
use super::whitener::Whitener;
use crate::cpu::double;
use crate::error::Result;

/// Rows for each channel that G is made from.
const SAMPLE: usize = 8;
/// The most rows that G is made from.
const MOST: usize = 16 << 10;
/// Where the rows' curvature is larger than the penalty by this factor, Woodbury's difference loses too many digits.
const DIGITS: f64 = 1e9;

/// What the preconditioner is made from.
pub(super) enum Curvature {
    /// G, [stride, stride], from (some of) the rows.
    Gram { gram: Vec<f64>, width: usize },
    /// All rows, which are fewer than channels.
    Few(FewRows),
}

/// The inverse of a positive definite matrix [stride, stride].
pub(super) enum Inverse<'a> {
    Dense(Whitener),
    Few { rows: &'a FewRows, scale: Vec<f64>, inner: Whitener },
}

/// Rows [N, stride], and zeros up to a multiple of four rows.
pub(super) struct FewRows {
    values: Vec<f64>,
    count: usize,
    width: usize,
    stride: usize,
    /// Products of the rows' channels with each other, [padded, side].
    products: Vec<f64>,
    /// N, and zeros.
    side: usize,
}

impl Curvature {
    /// Reads the rows of `design`.
    ///
    /// # Errors
    /// If the rows cannot be read.
    pub fn of(design: &Design) -> Result<Self> {
        let width = design.width();
        if 2 * design.count() <= width {
            return Ok(Self::Few(FewRows::of(design)?));
        }
        Ok(Self::Gram { gram: design.gram((SAMPLE * width).clamp(4096, MOST))?, width })
    }

    /// Returns the inverse where the mean of `p (1 - p)` is `curvature`.
    pub fn inverse(&self, curvature: f64, penalty: f64) -> Inverse<'_> {
        match self {
            Self::Gram { gram, width } => Inverse::Dense(dense(gram, *width, curvature, penalty)),
            Self::Few(rows) if rows.is_exact(curvature, penalty) => rows.inverse(curvature, penalty),
            Self::Few(rows) => Inverse::Dense(dense(&rows.gram(), rows.width, curvature, penalty)),
        }
    }
}

/// Returns the inverse of `curvature gram + penalty`; the intercept has no penalty.
fn dense(gram: &[f64], width: usize, curvature: f64, penalty: f64) -> Whitener {
    let stride = gram.len().isqrt();
    let mut hessian: Vec<f64> = gram.iter().map(|v| v * curvature).collect();
    for i in 0..stride {
        hessian[i * stride + i] += match i {
            _ if i < width => penalty,
            _ if i == width => 0.0,
            _ => 1.0,
        };
    }
    Whitener::new(&hessian, stride)
}

impl FewRows {
    fn of(design: &Design) -> Result<Self> {
        let (count, width, stride) = (design.count(), design.width(), design.stride);
        let mut block = design.buffer();
        design.read(0, count, &mut block)?;
        let values = block.values;
        let side = count.next_multiple_of(double::LANES);
        let padded = values.len() / stride;
        let mut square = vec![0.0; padded * padded];
        double::dots(&values, &values, stride, &mut square);
        let mut products = vec![0.0; padded * side];
        for (row, to) in square.chunks_exact(padded).zip(products.chunks_exact_mut(side)).take(count) {
            // The products have the intercepts' 1 too.
            to[..count].iter_mut().zip(row).for_each(|(to, v)| *to = v - 1.0);
        }
        Ok(Self { values, count, width, stride, products, side })
    }

    fn gram(&self) -> Vec<f64> {
        let mut gram = vec![0.0; self.stride * self.stride];
        double::add_outer(&self.values, &self.values, self.stride, &mut gram);
        gram.iter_mut().for_each(|v| *v /= self.count as f64);
        gram
    }

    fn is_exact(&self, curvature: f64, penalty: f64) -> bool {
        let largest = (0..self.count).map(|i| self.products[i * self.side + i]).fold(0.0, f64::max);
        curvature * largest <= DIGITS * penalty
    }

    fn inverse(&self, curvature: f64, penalty: f64) -> Inverse<'_> {
        let Self { count, width, stride, side, .. } = *self;
        // The intercept has no penalty, which has no inverse. Its curvature is counted twice instead.
        let scale: Vec<f64> = (0..stride)
            .map(|i| match i {
                _ if i < width => 1.0 / penalty,
                _ if i == width => 1.0 / curvature,
                _ => 1.0,
            })
            .collect();
        let mut inner = vec![0.0; side * side];
        for i in 0..side {
            let row = &mut inner[i * side..][..side];
            if i < count {
                let products = &self.products[i * side..][..count];
                row.iter_mut().zip(products).for_each(|(to, v)| *to = v / penalty + 1.0 / curvature);
                row[i] += count as f64 / curvature;
            } else {
                row[i] = 1.0;
            }
        }
        Inverse::Few { rows: self, scale, inner: Whitener::new(&inner, side) }
    }
}

impl Inverse<'_> {
    /// Multiplies each of the vectors `v` [K, stride] by the inverse.
    pub fn solve(&self, v: &mut [f64]) {
        let (rows, scale, inner) = match self {
            Self::Dense(whitener) => return whitener.solve(v),
            Self::Few { rows, scale, inner } => (rows, scale, inner),
        };
        let FewRows { values, stride, side, .. } = rows;
        let (k, padded) = (v.len() / stride, values.len() / stride);
        let scaled = |v: &mut [f64]| v.chunks_exact_mut(*stride).for_each(|v| v.iter_mut().zip(scale).for_each(|(v, s)| *v *= s));
        scaled(v);
        // [padded, K], and its transpose [K, side], whose side is not shorter.
        let mut products = vec![0.0; padded * k];
        double::dots(values, v, *stride, &mut products);
        let mut across = vec![0.0; k * side];
        (0..padded * k).for_each(|i| across[i % k * side + i / k] = products[i]);
        inner.solve(&mut across);
        (0..padded * k).for_each(|i| products[i] = across[i % k * side + i / k]);
        let mut back = vec![0.0; k * stride];
        double::add_outer(&products, values, *stride, &mut back);
        scaled(&mut back);
        v.iter_mut().zip(back).for_each(|(v, back)| *v -= back);
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use crate::heads::Standard;
    use crate::tensor::Tensor;

    #[test]
    fn a_solution_times_the_matrix_is_the_right_side_for_few_rows_too() {
        for (n, d) in [(1, 5), (2, 40), (7, 33), (19, 70), (20, 40)] {
            let x = Tensor::new([n, d], (0..n * d).map(|i| ((i * i) as f32 * 0.37).sin()).collect());
            let standard = Standard::none(d);
            let design = Design::new(&x, &standard);
            let curvature = Curvature::of(&design).expect("read");
            let Curvature::Few(rows) = &curvature else { panic!("{n} x {d}: the rows are few") };
            let (a, penalty, stride) = (0.2, 0.05, design.stride);
            let want: Vec<f64> = (0..3 * stride).map(|i| (i as f64 * 0.71).cos()).collect();
            let mut v = want.clone();
            curvature.inverse(a, penalty).solve(&mut v);
            let gram = rows.gram();
            for (i, want) in want.iter().enumerate() {
                let (vector, channel) = (&v[i / stride * stride..][..stride], i % stride);
                let products: f64 = (0..stride).map(|j| gram[channel * stride + j] * vector[j]).sum();
                let diagonal = match channel.cmp(&d) {
                    Ordering::Less => penalty,
                    Ordering::Equal => a,
                    Ordering::Greater => 1.0,
                };
                let got = a * products + diagonal * vector[channel];
                assert!((got - want).abs() < 1e-9, "{n} x {d} at {i}: {got} for {want}");
            }
            // A penalty that is next to nothing is solved without the difference.
            assert!(
                matches!(curvature.inverse(a, 1e-12), Inverse::Dense(_)) && matches!(curvature.inverse(a, penalty), Inverse::Few { .. })
            );
        }
        let standard = Standard::none(3);
        let x = Tensor::zeros([2, 3]);
        assert!(matches!(Curvature::of(&Design::new(&x, &standard)).expect("read"), Curvature::Gram { .. }));
    }
}
