//! The mean and scatter matrix of tokens, accumulated image by image, and the principal components computed from them.

use nalgebra::{DMatrix, DVector, SymmetricEigen};

use super::Basis;
use super::basis::COMPONENTS;
use crate::error::{Error, Result};
use crate::tensor::TensorView;

/// A component whose variance is below this fraction of the first component's is rounding noise, and counts as missing.
const NOISE: f64 = 1e-12;

/// Tokens whose variance is below this fraction of their mean square are all equal. Any difference between f32 values
/// gives a larger fraction.
const EQUAL: f64 = 1e-20;

/// The most iterations of the decomposition for each eigenvalue. About 2 are usual.
const ITERATIONS: usize = 200;

/// The count, mean and scatter matrix of the tokens added so far, in f64. Principal components are computed from these,
/// so the tokens need not be kept.
///
/// ```
/// use meddino::Tensor;
/// use meddino::maps::Moments;
///
/// let mut moments = Moments::new(2);
/// moments.add(&Tensor::new([2, 2], vec![1.0, 0.0, 3.0, 0.1])); // [P, C] of one image
/// moments.add(&Tensor::new([2, 2], vec![5.0, -0.1, 7.0, 0.0])); // and of another
/// let basis = moments.basis()?;
/// let scores = basis.scores(&Tensor::new([1, 2], vec![4.0, 0.0])); // [1, 3]: the mean
/// assert!(scores.data().iter().all(|s| s.abs() < 1e-6));
/// # Ok::<(), meddino::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Moments {
    count: usize,
    /// `[C]`
    mean: DVector<f64>,
    /// Sum of the outer products of deviations from the mean: [C, C].
    scatter: DMatrix<f64>,
    /// Sum of the squares of all values.
    square: f64,
}

impl Moments {
    /// Creates empty moments for tokens of width `width`.
    pub fn new(width: usize) -> Self {
        Self { count: 0, mean: DVector::zeros(width), scatter: DMatrix::zeros(width, width), square: 0.0 }
    }

    /// Adds `tokens` [.., C]. The order of the images affects only the last bits of the result: T. F. Chan, G. H. Golub
    /// and R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    ///
    /// # Panics
    /// If the tokens are not C wide.
    pub fn add<'a>(&mut self, tokens: impl Into<TensorView<'a>>) {
        let tokens = tokens.into();
        assert_eq!(tokens.cols(), self.mean.len(), "tokens are {} wide", self.mean.len());
        if tokens.rows() == 0 {
            return;
        }
        // [C, n]: a row-major token becomes a column of the column-major matrix.
        let mut new = DMatrix::from_iterator(tokens.cols(), tokens.rows(), tokens.data().iter().map(|&v| f64::from(v)));
        self.square += new.norm_squared();
        let mean = new.column_mean();
        new.column_iter_mut().for_each(|mut token| token -= &mean);
        self.scatter.gemm(1.0, &new, &new.transpose(), 1.0);
        let (before, added) = (self.count as f64, tokens.rows() as f64);
        let step = mean - &self.mean;
        self.scatter.ger(before * added / (before + added), &step, &step, 1.0);
        self.mean.axpy(added / (before + added), &step, 1.0);
        self.count += tokens.rows();
    }

    /// Returns the three directions of largest variance. Variances are divided by the count less one, as in
    /// scikit-learn's PCA. The entry of largest magnitude of each direction is positive, so that signs are reproducible
    /// (scikit-learn's `svd_flip` of the components).
    ///
    /// If the tokens vary along fewer than three directions, the remaining directions are zero.
    ///
    /// # Errors
    /// If there are fewer than two tokens, all tokens are equal, or a token holds NaN or infinity. No direction exists
    /// in these cases.
    pub fn basis(&self) -> Result<Basis> {
        let fail = |problem: String| Error::option("principal components", problem);
        if self.count < 2 {
            return Err(fail(format!("{} patch has none; give a larger image (`size`) or more slices", self.count)));
        }
        if !self.square.is_finite() {
            return Err(fail("the features hold NaN or infinity; the weights or the input are damaged".into()));
        }
        let covariance = &self.scatter / (self.count - 1) as f64;
        let found = SymmetricEigen::try_new(covariance, f64::EPSILON, ITERATIONS * self.mean.len());
        let SymmetricEigen { eigenvectors, eigenvalues } = found.ok_or_else(|| fail("the decomposition does not converge".into()))?;
        let mut order: Vec<usize> = (0..eigenvalues.len()).collect();
        order.sort_by(|&i, &j| eigenvalues[j].total_cmp(&eigenvalues[i]));
        let first = eigenvalues[order[0]];
        if first <= EQUAL * self.square / self.count as f64 {
            return Err(fail(format!("all {} patches have the same features, so there is nothing to tell apart", self.count)));
        }
        let kept = order.iter().take(COMPONENTS).filter(|&&i| eigenvalues[i] > NOISE * first);
        let components = kept.map(|&i| (upright(eigenvectors.column(i).iter().copied().collect()), eigenvalues[i]));
        Ok(Basis::new(self.mean.iter().copied(), components.collect()))
    }
}

/// Returns `direction` or its opposite, so that the entry of largest magnitude (the first of equals) is positive.
fn upright(mut direction: Vec<f64>) -> Vec<f64> {
    let greatest = direction.iter().copied().reduce(|a, b| if b.abs() > a.abs() { b } else { a });
    if greatest.is_some_and(|v| v < 0.0) {
        direction.iter_mut().for_each(|v| *v = -*v);
    }
    direction
}
