//! Logistic regression with an L2 penalty, in f64.
//!
//! The objective is scikit-learn's, divided by the sum of weights S of all rows:
//! `loss / S + |w|^2 / (2 C S)`. The loss of a row is the cross-entropy of its target; the intercept has no penalty.
//! L-BFGS has a preconditioner ([`Curvature`]).

use std::cell::RefCell;

use super::curvature::Curvature;
use super::design::{Block, Design};
use super::extent::{Extent, F64};
use super::lbfgs::{MEMORY, Minimum, Stop, minimise};
use super::linear::{Linear, Link};
use super::rows::{self, Rows};
use super::standard::Standard;
use super::targets::Targets;
use crate::cpu::double;
use crate::error::{Error, Result};

/// The preconditioner is made again once the mean of `p (1 - p)` has changed by this factor.
const CHANGED: f64 = 3.0;

/// The settings of a fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logistic {
    /// The inverse strength of the penalty, as in scikit-learn.
    pub c: f64,
    /// The link: softmax (multinomial), or each class against the others.
    pub link: Link,
    /// The fit ends when no entry of the objective's gradient is larger.
    pub tolerance: f64,
    /// The most iterations of L-BFGS.
    pub iterations: usize,
}

impl Default for Logistic {
    /// Returns the settings of scikit-learn with DINOv3's 1000 iterations: C 1, softmax, tolerance 1e-4.
    fn default() -> Self {
        Self { c: 1.0, link: Link::Softmax, tolerance: 1e-4, iterations: 1000 }
    }
}

/// A fit and how it ended.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The classifier.
    pub linear: Linear,
    /// The objective; with [`Link::OneAgainstRest`], the sum over the classes.
    pub objective: f64,
    /// Iterations of L-BFGS, of all classes together with [`Link::OneAgainstRest`].
    pub iterations: usize,
    /// Whether the gradient is within the tolerance.
    pub converged: bool,
}

/// DINOv3's values of C: `10^linspace(-6, 5, 45)`.
pub fn dinov3_cs() -> Vec<f64> {
    (0..45).map(|i| 10_f64.powf(-6.0 + 11.0 * f64::from(i) / 44.0)).collect()
}

impl Logistic {
    /// Returns the most bytes that [`Logistic::path`] takes beside the vectors, with its results and their predictions.
    pub fn bytes(&self, extent: &Extent) -> u64 {
        // The Gram matrix, the preconditioner in use, and the Hessian, the factor and the inverse of the next one; or the
        // Gram matrix and what its parts sum.
        const SQUARES: u64 = 5;
        // The pairs that L-BFGS keeps, and what a step takes.
        const VECTORS: u64 = 2 * MEMORY as u64 + 10;
        let (stride, logits) = (extent.stride(), extent.logits(self.link));
        let vector = F64 * stride * logits;
        let results = F64 * stride * extent.classes as u64 * extent.candidates as u64;
        let means = 2 * F64 * stride * (extent.rows as u64).div_ceil(4096);
        extent.by_rows()
            + SQUARES * F64 * stride * stride
            + VECTORS * vector
            // The results of one class against the others are joined, so that they are there twice.
            + 2 * results
            + means
            + Design::bytes(extent.width, extent.threads, vector)
    }

    /// Fits a classifier of `targets` from `rows`.
    ///
    /// # Errors
    /// As [`Logistic::path`].
    pub fn fit(&self, rows: &dyn Rows, targets: &Targets, standard: &Standard) -> Result<Fitted> {
        let mut fits = self.path(rows, targets, standard, &[self.c])?;
        Ok(fits.remove(0))
    }

    /// Fits a classifier for each of `cs`, which replace the setting's C. Each fit starts where the one before it ended,
    /// so ascending values take the least time. The order of the results is that of `cs`.
    ///
    /// # Errors
    /// If there are no rows, a value is not finite, rows and targets are not equally many, a setting is not above 0, or the
    /// rows cannot be read.
    pub fn path(&self, rows: &dyn Rows, targets: &Targets, standard: &Standard, cs: &[f64]) -> Result<Vec<Fitted>> {
        rows::check(rows)?;
        if rows.count() != targets.count() {
            let problem = format!("expected a target for each of {} vectors, found {}", rows.count(), targets.count());
            return Err(Error::option("labels", problem));
        }
        for (name, value) in cs.iter().map(|c| ("c", *c)).chain([("tolerance", self.tolerance)]) {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::option(name, format!("expected a number above 0, found {value}")));
            }
        }
        let design = Design::new(rows, standard);
        let rows = Curvature::of(&design)?;
        let of_class = |targets: &Targets, link| Problem { design: &design, rows: &rows, targets, standard, link }.path(self, cs);
        if self.link == Link::Softmax {
            return of_class(targets, Link::Softmax);
        }
        let classes =
            (0..targets.classes()).map(|class| of_class(&targets.against_rest(class), Link::Softmax)).collect::<Result<Vec<_>>>()?;
        Ok((0..cs.len()).map(|i| joined(classes.iter().map(|fits| &fits[i]), standard)).collect())
    }
}

/// Joins the fits of each class against the others.
fn joined<'a>(fits: impl Iterator<Item = &'a Fitted>, standard: &Standard) -> Fitted {
    let linear = Linear { link: Link::OneAgainstRest, classes: 0, standard: standard.clone(), weight: Vec::new(), bias: Vec::new() };
    fits.fold(Fitted { linear, objective: 0.0, iterations: 0, converged: true }, |mut all, fit| {
        all.linear.classes += 1;
        all.linear.weight.extend_from_slice(&fit.linear.weight);
        all.linear.bias.extend_from_slice(&fit.linear.bias);
        all.objective += fit.objective;
        all.iterations += fit.iterations;
        all.converged &= fit.converged;
        all
    })
}

/// One multinomial or binary problem.
struct Problem<'a> {
    design: &'a Design<'a>,
    rows: &'a Curvature,
    targets: &'a Targets,
    standard: &'a Standard,
    link: Link,
}

/// What a pass over the rows sums up.
struct Sums {
    loss: f64,
    /// Sum of `p (1 - p)` over rows and logits.
    curvature: f64,
    /// [logits, stride]
    gradient: Vec<f64>,
    /// Logits of a block, then residuals.
    z: Vec<f64>,
}

impl Problem<'_> {
    fn logits(&self) -> usize {
        if self.targets.classes() == 2 { 1 } else { self.targets.classes() }
    }

    fn path(&self, settings: &Logistic, cs: &[f64]) -> Result<Vec<Fitted>> {
        let stride = self.design.stride;
        let mut at = vec![0.0; self.logits() * stride];
        let mut curvature = self.mean_curvature(&self.pass(&at)?);
        cs.iter()
            .map(|c| {
                let penalty = 1.0 / (c * self.total());
                let stop = Stop { gradient: settings.tolerance, iterations: settings.iterations };
                let found = self.minimum(std::mem::take(&mut at), penalty, stop, &mut curvature)?;
                at.clone_from(&found.at);
                let linear = Linear::of_parameters(self.link, self.targets.classes(), self.standard, &found.at, stride);
                Ok(Fitted { linear, objective: found.value, iterations: found.iterations, converged: found.converged })
            })
            .collect()
    }

    /// Minimises the objective from `at` on, where the mean of `p (1 - p)` is `curvature`.
    fn minimum(&self, at: Vec<f64>, penalty: f64, stop: Stop, curvature: &mut f64) -> Result<Minimum> {
        let (width, stride, total) = (self.design.width(), self.design.stride, self.total());
        let mut made_for = *curvature;
        let inverse = RefCell::new(self.rows.inverse(made_for, penalty));
        minimise(
            at,
            stop,
            |parameters| {
                let sums = self.pass(parameters)?;
                *curvature = self.mean_curvature(&sums);
                if *curvature > CHANGED * made_for || made_for > CHANGED * *curvature {
                    made_for = *curvature;
                    inverse.replace(self.rows.inverse(made_for, penalty));
                }
                let Sums { loss, mut gradient, .. } = sums;
                let mut square = 0.0;
                for (gradient, parameters) in gradient.chunks_exact_mut(stride).zip(parameters.chunks_exact(stride)) {
                    gradient.iter_mut().for_each(|g| *g /= total);
                    for (g, w) in gradient[..width].iter_mut().zip(parameters) {
                        *g += penalty * w;
                        square += w * w;
                    }
                }
                Ok((loss / total + 0.5 * penalty * square, gradient))
            },
            |v| inverse.borrow().solve(v),
        )
    }

    /// Returns the sum of all weights.
    fn total(&self) -> f64 {
        self.targets.totals().iter().sum()
    }

    /// Returns the mean of `p (1 - p)`, not quite 0.
    fn mean_curvature(&self, sums: &Sums) -> f64 {
        (sums.curvature / (self.total() * self.logits() as f64)).max(1e-12)
    }

    /// Sums loss, curvature and gradient over all rows.
    fn pass(&self, parameters: &[f64]) -> Result<Sums> {
        let (stride, logits) = (self.design.stride, self.logits());
        let new = || Sums { loss: 0.0, curvature: 0.0, gradient: vec![0.0; logits * stride], z: Vec::new() };
        let parts = self.design.fold(new, |sums, first, block: &Block| {
            sums.z.clear();
            sums.z.resize(block.padded() * logits, 0.0);
            double::dots(&block.values, parameters, stride, &mut sums.z);
            for (row, z) in sums.z.chunks_exact_mut(logits).enumerate() {
                if row < block.rows {
                    let (loss, curvature) = residual(self.targets.row(first + row), z);
                    sums.loss += loss;
                    sums.curvature += curvature;
                } else {
                    z.fill(0.0);
                }
            }
            double::add_outer(&sums.z, &block.values, stride, &mut sums.gradient);
        })?;
        Ok(parts.into_iter().fold(new(), |mut all, part| {
            all.loss += part.loss;
            all.curvature += part.curvature;
            all.gradient.iter_mut().zip(part.gradient).for_each(|(all, g)| *all += g);
            all
        }))
    }
}

/// Replaces the logits `z` of a row with target `target` by the loss's gradient. Returns the loss, and the sum of
/// `p (1 - p)` over the logits, both times the row's weight.
fn residual(target: &[f64], z: &mut [f64]) -> (f64, f64) {
    let weight: f64 = target.iter().sum();
    if let [logit] = z {
        let power = (-logit.abs()).exp();
        let p = if *logit >= 0.0 { 1.0 / (1.0 + power) } else { power / (1.0 + power) };
        let loss = weight * (logit.max(0.0) + power.ln_1p()) - target[1] * *logit;
        *logit = weight * p - target[1];
        return (loss, weight * p * (1.0 - p));
    }
    let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut sum, mut hit) = (0.0, 0.0);
    for (z, target) in z.iter_mut().zip(target) {
        hit += target * (*z - largest);
        *z = (*z - largest).exp();
        sum += *z;
    }
    let mut curvature = 0.0;
    for (z, target) in z.iter_mut().zip(target) {
        let p = *z / sum;
        curvature += p * (1.0 - p);
        *z = weight * p - target;
    }
    (weight * sum.ln() - hit, weight * curvature)
}
