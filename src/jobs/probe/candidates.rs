//! Heads to choose from, and what the choice is by.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::figures::log_loss;
use crate::error::{Error, Result};
use crate::heads::metrics::{Confusion, auroc, decisions};
use crate::heads::{Extent, Linear, LinearProbe, Link, Logistic, Neighbours, Rows, Standard, Targets};

/// Heads of one kind, one for each value of a hyper-parameter.
#[derive(Clone, Debug)]
pub enum Candidates {
    /// Logistic regression with each C.
    Logistic {
        /// The settings; their C is replaced.
        settings: Logistic,
        /// Values of C, ascending.
        cs: Vec<f64>,
    },
    /// The linear probe with each of its rates.
    Probe(LinearProbe),
    /// Neighbours with each k.
    Neighbours {
        /// Numbers of neighbours.
        ks: Vec<usize>,
        /// The temperature.
        temperature: f64,
    },
}

impl Candidates {
    /// Returns the number of candidates.
    pub fn count(&self) -> usize {
        match self {
            Self::Logistic { cs, .. } => cs.len(),
            Self::Probe(probe) => probe.rates.len(),
            Self::Neighbours { ks, .. } => ks.len(),
        }
    }

    /// Returns the most bytes that the fits of `rows` vectors of `width` channels to `classes` classes take beside the
    /// vectors.
    pub(super) fn bytes(&self, rows: usize, width: usize, classes: usize) -> u64 {
        let extent = Extent { rows, width, classes, candidates: self.count(), threads: rayon::current_num_threads() };
        match self {
            Self::Logistic { settings, .. } => settings.bytes(&extent),
            Self::Probe(probe) => probe.bytes(&extent),
            Self::Neighbours { .. } => Neighbours::bytes(&extent),
        }
    }

    /// Returns the name of candidate `index`, such as `C 0.1`.
    pub fn name(&self, index: usize) -> String {
        match self {
            Self::Logistic { cs, .. } => format!("C {:.4e}", cs[index]),
            Self::Probe(probe) => format!("rate {:.4e}", probe.rates[index]),
            Self::Neighbours { ks, .. } => format!("k {}", ks[index]),
        }
    }

    /// Returns candidate `index` alone.
    pub(super) fn only(&self, index: usize) -> Self {
        match self {
            Self::Logistic { settings, cs } => Self::Logistic { settings: *settings, cs: vec![cs[index]] },
            Self::Probe(probe) => Self::Probe(LinearProbe { rates: vec![probe.rates[index]], ..probe.clone() }),
            Self::Neighbours { ks, temperature } => Self::Neighbours { ks: vec![ks[index]], temperature: *temperature },
        }
    }

    /// Fits the linear classifiers of all candidates.
    ///
    /// # Errors
    /// If the candidates are neighbours, which are no linear classifiers, or a fit fails.
    pub(super) fn linear(&self, rows: &dyn Rows, targets: &Targets, standard: &Standard) -> Result<Vec<Linear>> {
        match self {
            Self::Logistic { settings, cs } => {
                Ok(settings.path(rows, targets, standard, cs)?.into_iter().map(|fitted| fitted.linear).collect())
            }
            Self::Probe(probe) => probe.fit(rows, targets, standard),
            Self::Neighbours { .. } => Err(Error::option("head", "expected a linear head, found neighbours")),
        }
    }

    /// Returns what made the head of candidate `index`, as (name, text).
    pub(super) fn describe(&self, index: usize) -> BTreeMap<String, String> {
        let pairs: Vec<(&str, String)> = match self {
            Self::Logistic { settings: Logistic { link, tolerance, iterations, .. }, cs } => vec![
                ("head", if *link == Link::Softmax { "logistic regression" } else { "logistic regression, one against rest" }.into()),
                ("c", cs[index].to_string()),
                ("candidates", format!("{cs:?}")),
                ("tolerance", tolerance.to_string()),
                ("iterations", iterations.to_string()),
            ],
            Self::Probe(probe) => vec![
                ("head", "linear probe".into()),
                ("rate", probe.rates[index].to_string()),
                ("candidates", format!("{:?}", probe.rates)),
                ("optimiser", format!("{:?}", probe.optimiser)),
                ("batch", probe.batch.to_string()),
                ("steps", probe.steps.to_string()),
                ("warmup", probe.warmup.to_string()),
            ],
            Self::Neighbours { ks, temperature } => vec![
                ("head", "nearest neighbours".into()),
                ("k", ks[index].to_string()),
                ("candidates", format!("{ks:?}")),
                ("temperature", temperature.to_string()),
            ],
        };
        pairs.into_iter().map(|(name, text)| (name.into(), text)).collect()
    }
}

/// What candidates are judged by on validation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// The mean of minus the logarithm of the true class's probability.
    #[default]
    Loss,
    /// The share of right predictions.
    Accuracy,
    /// The mean sensitivity.
    BalancedAccuracy,
    /// The mean area under the ROC curve.
    Auroc,
}

impl Measure {
    /// Returns the measure of `probabilities` [N, K]; NaN if the rows do not have it.
    pub(super) fn of(self, probabilities: &[f64], labels: &[usize], classes: usize) -> f64 {
        let confusion = || Confusion::of(classes, labels.iter().copied().zip(decisions(probabilities, classes)));
        match self {
            Self::Loss => log_loss(probabilities, labels, classes),
            Self::Accuracy => confusion().accuracy(),
            Self::BalancedAccuracy => confusion().balanced_accuracy(),
            Self::Auroc => {
                let of_class = |class: usize| {
                    let scores: Vec<f64> = probabilities.iter().skip(class).step_by(classes).copied().collect();
                    auroc(&scores, &labels.iter().map(|label| *label == class).collect::<Vec<_>>())
                };
                let found: Vec<f64> = (0..classes).map(of_class).filter(|v| !v.is_nan()).collect();
                found.iter().sum::<f64>() / found.len() as f64
            }
        }
    }

    /// Returns the index of the best of `measures`; of equals, the first. NaN is worst. None if all are.
    pub(super) fn best(self, measures: &[f64]) -> Option<usize> {
        let is_better = |new: f64, old: f64| if self == Self::Loss { new < old } else { new > old };
        (0..measures.len())
            .filter(|i| !measures[*i].is_nan())
            .reduce(|best, i| if is_better(measures[i], measures[best]) { i } else { best })
    }
}

impl FromStr for Measure {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Loss, Self::Accuracy, Self::BalancedAccuracy, Self::Auroc]
            .into_iter()
            .find(|measure| measure.to_string() == text)
            .ok_or_else(|| Error::option("measure", format!("expected loss, accuracy, balanced-accuracy or auroc, found {text}")))
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loss => "loss",
            Self::Accuracy => "accuracy",
            Self::BalancedAccuracy => "balanced-accuracy",
            Self::Auroc => "auroc",
        })
    }
}
