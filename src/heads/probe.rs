//! The linear probe: a linear classifier trained by mini-batches, with many learning rates at once.

use std::f64::consts::PI;

use super::design::{Block, Design};
use super::draw::Draw;
use super::extent::{Extent, F64};
use super::linear::{Linear, Link};
use super::rows::{self, Chosen, Rows};
use super::standard::Standard;
use super::targets::Targets;
use crate::cpu::double;
use crate::error::{Error, Result};
use crate::parallel;

/// How weights follow gradients, as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimiser {
    /// `torch.optim.SGD`: the momentum's share of the earlier steps.
    Sgd {
        /// From 0 up, below 1.
        momentum: f64,
    },
    /// `torch.optim.AdamW`, with betas 0.9 and 0.999 and eps 1e-8: the weights' decay in each step, times the rate.
    AdamW {
        /// From 0 up.
        decay: f64,
    },
}

/// The settings of a linear probe. The classifier starts from zeros. Its rate rises evenly during the warm-up, and then
/// falls to 0 along a cosine.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearProbe {
    /// The optimiser.
    pub optimiser: Optimiser,
    /// The learning rates; each has a classifier of its own.
    pub rates: Vec<f64>,
    /// Vectors of a batch.
    pub batch: usize,
    /// Number of batches.
    pub steps: usize,
    /// The steps of the warm-up.
    pub warmup: usize,
    /// The seed of the order of vectors: one shuffle after another, cut into batches.
    pub seed: u64,
}

/// DINOv2's and DINOv3's learning rates for batches of 256.
const RATES: [f64; 13] = [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1];

impl Default for LinearProbe {
    /// Returns DINOv3's probe: SGD with momentum 0.9, batches of 128, 12,500 steps, 13 rates scaled by batch / 256.
    fn default() -> Self {
        let batch = 128;
        let rates = Self::scaled_rates(batch);
        Self { optimiser: Optimiser::Sgd { momentum: 0.9 }, rates, batch, steps: 12_500, warmup: 0, seed: 0 }
    }
}

impl LinearProbe {
    /// Returns the probe of DINOv3's linear segmentation: AdamW with rate 1e-3 and decay 1e-3.
    pub fn segmentation() -> Self {
        Self { optimiser: Optimiser::AdamW { decay: 1e-3 }, rates: vec![1e-3], ..Self::default() }
    }

    /// Returns DINOv3's 13 rates for batches of `batch` vectors.
    pub fn scaled_rates(batch: usize) -> Vec<f64> {
        RATES.map(|rate| rate * batch as f64 / 256.0).to_vec()
    }

    /// Returns the most bytes that [`LinearProbe::fit`] takes beside the vectors, with its results and their predictions.
    pub fn bytes(&self, extent: &Extent) -> u64 {
        // Parameters, their gradient, the optimiser's two means, and the result with its standardisation.
        let state = 7 * F64 * extent.stride() * extent.classes as u64;
        let batch = F64 * self.batch as u64 * (2 * extent.stride() + extent.classes as u64);
        let order = 2 * F64 * extent.rows as u64;
        extent.by_rows() + state * extent.candidates as u64 + batch + order + Design::bytes(extent.width, extent.threads, 0)
    }

    /// Trains a classifier of `targets` from `rows` for each rate, in the order of the rates.
    ///
    /// # Errors
    /// If there are no rows, a value is not finite, rows and targets are not equally many, a setting is out of its range,
    /// or the rows cannot be read.
    pub fn fit(&self, rows: &dyn Rows, targets: &Targets, standard: &Standard) -> Result<Vec<Linear>> {
        self.check()?;
        rows::check(rows)?;
        if rows.count() != targets.count() {
            let problem = format!("expected a target for each of {} vectors, found {}", rows.count(), targets.count());
            return Err(Error::option("labels", problem));
        }
        let stride = Design::new(rows, standard).stride;
        let new = |rate: &f64| State::new(*rate, targets.classes() * stride);
        let mut states: Vec<State> = self.rates.iter().map(new).collect();
        let mut order = Order { count: rows.count(), draw: Draw::new(self.seed, 0), left: Vec::new() };
        for step in 0..self.steps {
            let batch = order.next(self.batch);
            let chosen = Chosen::new(rows, &batch);
            let design = Design::new(&chosen, standard);
            let mut block = design.buffer();
            design.read(0, batch.len(), &mut block)?;
            let share = self.share(step);
            parallel::for_each_chunk(&mut states, 1, |_, state| {
                let state = &mut state[0];
                state.sum(&batch, targets, &block, stride);
                state.step(self.optimiser, state.rate * share, step);
            });
        }
        let linear = |state: State| Linear::of_parameters(Link::Softmax, targets.classes(), standard, &state.parameters, stride);
        Ok(states.into_iter().map(linear).collect())
    }

    fn check(&self) -> Result<()> {
        let above = |name: &str, value: f64| {
            let is_fine = value > 0.0 && value.is_finite();
            if is_fine { Ok(()) } else { Err(Error::option(name, format!("expected a number above 0, found {value}"))) }
        };
        above("rates", self.rates.len() as f64)?;
        self.rates.iter().try_for_each(|rate| above("rates", *rate))?;
        above("batch", self.batch as f64)?;
        above("steps", self.steps as f64)?;
        match self.optimiser {
            Optimiser::Sgd { momentum } if !(0.0..1.0).contains(&momentum) => {
                Err(Error::option("momentum", format!("expected a number from 0 up, below 1, found {momentum}")))
            }
            Optimiser::AdamW { decay } if !(decay >= 0.0 && decay.is_finite()) => {
                Err(Error::option("decay", format!("expected a number from 0 up, found {decay}")))
            }
            _ => Ok(()),
        }
    }

    /// Returns what the rates are multiplied by in step `step`.
    fn share(&self, step: usize) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / self.warmup as f64;
        }
        let done = (step - self.warmup) as f64 / (self.steps - self.warmup) as f64;
        0.5 * (1.0 + (PI * done).cos())
    }
}

/// Batches of one shuffle after another.
struct Order {
    count: usize,
    draw: Draw,
    /// The rest of the present shuffle.
    left: Vec<usize>,
}

impl Order {
    fn next(&mut self, batch: usize) -> Vec<usize> {
        while self.left.len() < batch {
            self.left.extend(self.draw.order(self.count));
        }
        self.left.drain(..batch).collect()
    }
}

/// The classifier of one rate.
struct State {
    rate: f64,
    /// [K, stride]
    parameters: Vec<f64>,
    gradient: Vec<f64>,
    /// The optimiser's mean of gradients.
    first: Vec<f64>,
    /// AdamW's mean of squares.
    second: Vec<f64>,
    z: Vec<f64>,
}

impl State {
    fn new(rate: f64, size: usize) -> Self {
        let zeros = || vec![0.0; size];
        Self { rate, parameters: zeros(), gradient: zeros(), first: zeros(), second: zeros(), z: Vec::new() }
    }

    /// Computes the gradient of the mean loss of a batch.
    fn sum(&mut self, batch: &[usize], targets: &Targets, block: &Block, stride: usize) {
        let classes = targets.classes();
        self.z.clear();
        self.z.resize(block.padded() * classes, 0.0);
        double::dots(&block.values, &self.parameters, stride, &mut self.z);
        let total: f64 = batch.iter().map(|&row| targets.row(row).iter().sum::<f64>()).sum();
        for (row, z) in self.z.chunks_exact_mut(classes).enumerate() {
            let Some(&row) = batch.get(row) else {
                z.fill(0.0);
                continue;
            };
            let target = targets.row(row);
            let weight: f64 = target.iter().sum();
            let p = Link::Softmax.probabilities(z);
            z.iter_mut().zip(p).zip(target).for_each(|((z, p), target)| *z = (weight * p - target) / total.max(f64::MIN_POSITIVE));
        }
        self.gradient.fill(0.0);
        double::add_outer(&self.z, &block.values, stride, &mut self.gradient);
    }

    fn step(&mut self, optimiser: Optimiser, rate: f64, step: usize) {
        let Self { parameters, gradient, first, second, .. } = self;
        let values = parameters.iter_mut().zip(gradient.iter()).zip(first.iter_mut().zip(second));
        match optimiser {
            Optimiser::Sgd { momentum } => values.for_each(|((w, g), (v, _))| {
                *v = momentum * *v + g;
                *w -= rate * *v;
            }),
            Optimiser::AdamW { decay } => {
                let [beta, beta_2] = [0.9_f64, 0.999];
                let [bias, bias_2] = [beta, beta_2].map(|beta| 1.0 - beta.powi(step as i32 + 1));
                values.for_each(|((w, g), (m, v))| {
                    *w *= 1.0 - rate * decay;
                    *m = beta * *m + (1.0 - beta) * g;
                    *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                    *w -= rate * (*m / bias) / ((*v / bias_2).sqrt() + 1e-8);
                });
            }
        }
    }
}
