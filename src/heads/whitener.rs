//! The inverse of a positive definite matrix as two products with its inverted Cholesky factor.

use crate::cpu::double;

/// Rows of the factor that are computed at a time.
const BAND: usize = 32;

/// Pivots below this share of the largest diagonal entry are raised to it, so that a matrix that rounding errors have
/// made singular still has a factor.
const LEAST: f64 = 1e-13;

/// `L^-1` of a matrix `A = L L^T`, [stride, stride] row-major, zeros above the diagonal.
pub(super) struct Whitener {
    inverse: Vec<f64>,
    stride: usize,
}

impl Whitener {
    /// Factorises `a` [stride, stride], symmetric, with positive entries on the diagonal, in bands of rows.
    pub fn new(a: &[f64], stride: usize) -> Self {
        let least = LEAST * (0..stride).map(|i| a[i * stride + i]).fold(0.0, f64::max);
        let factor = factor(a, stride, least);
        Self { inverse: inverted(&factor, stride), stride }
    }

    /// Multiplies each of the rows `v` [K, stride] by the inverse of A: `L^-T (L^-1 v)`.
    pub fn solve(&self, v: &mut [f64]) {
        let (stride, k) = (self.stride, v.len() / self.stride);
        // [stride, K]: the rows of the inverse are the left operand.
        let mut inner = vec![0.0; stride * k];
        double::dots(&self.inverse, v, stride, &mut inner);
        v.fill(0.0);
        double::add_outer(&inner, &self.inverse, stride, v);
    }
}

/// Returns L.
fn factor(a: &[f64], stride: usize, least: f64) -> Vec<f64> {
    let mut l = vec![0.0; stride * stride];
    let mut products = Vec::new();
    for band in (0..stride).step_by(BAND) {
        let columns = BAND.min(stride - band);
        // What the columns before the band contribute to the band's columns, in all rows from the band on.
        let below = stride - band;
        products.clear();
        products.resize(below * columns, 0.0);
        double::dots(&l[band * stride..], &l[band * stride..][..columns * stride], stride, &mut products);
        for j in 0..columns {
            for i in j..below {
                let (row, column) = (band + i, band + j);
                let inner: f64 = (band..column).map(|p| l[row * stride + p] * l[column * stride + p]).sum();
                let left = a[row * stride + column] - products[i * columns + j] - inner;
                l[row * stride + column] = if row == column { left.max(least).sqrt() } else { left / l[column * stride + column] };
            }
        }
    }
    l
}

/// Returns the inverse of `l`.
fn inverted(l: &[f64], stride: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; stride * stride];
    for band in (0..stride).step_by(BAND) {
        let rows = BAND.min(stride - band);
        let (before, rest) = inverse.split_at_mut(band * stride);
        let here = &mut rest[..rows * stride];
        // -L of the band's rows, transposed: [band, rows].
        let minus: Vec<f64> = (0..band * rows).map(|i| -l[(band + i % rows) * stride + i / rows]).collect();
        double::add_outer(&minus, before, stride, here);
        for i in 0..rows {
            let (done, row) = here.split_at_mut(i * stride);
            let row = &mut row[..stride];
            row[band + i] += 1.0;
            for (p, earlier) in done.chunks_exact(stride).enumerate() {
                let scale = l[(band + i) * stride + band + p];
                row.iter_mut().zip(earlier).for_each(|(v, e)| *v -= scale * e);
            }
            let pivot = l[(band + i) * stride + band + i];
            row.iter_mut().for_each(|v| *v /= pivot);
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solution_times_the_matrix_is_the_right_side() {
        for stride in [16, 32, 48, 144] {
            let x: Vec<f64> = (0..2 * stride * stride).map(|i| ((i * i) as f64 * 0.37).sin()).collect();
            let mut a = vec![0.0; stride * stride];
            double::add_outer(&x, &x, stride, &mut a);
            (0..stride).for_each(|i| a[i * stride + i] += 0.5);
            let want: Vec<f64> = (0..3 * stride).map(|i| (i as f64 * 0.71).cos()).collect();
            let mut v = want.clone();
            Whitener::new(&a, stride).solve(&mut v);
            for (i, want) in want.iter().enumerate() {
                let got: f64 = (0..stride).map(|j| a[i % stride * stride + j] * v[i / stride * stride + j]).sum();
                assert!((got - want).abs() < 1e-9, "{stride} at {i}: {got} for {want}");
            }
        }
    }
}
