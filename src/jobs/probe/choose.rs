//! The choice of hyper-parameters on validation.

use super::candidates::Candidates;
use super::recipe::ProbeRecipe;
use crate::error::Result;
use crate::fitted::Head;
use crate::heads::{Chosen, Linear, Neighbours, Standard, Targets};
use crate::tensor::Tensor;

/// All rows, and how heads are fitted to some of them.
pub(super) struct Data<'a> {
    pub values: &'a Tensor,
    /// The class of each row.
    pub labels: &'a [usize],
    pub classes: usize,
    pub recipe: &'a ProbeRecipe,
}

/// Heads of all candidates, fitted to the same rows.
enum Fits {
    Linear(Vec<Linear>),
    Neighbours(Neighbours),
}

impl<'a> Data<'a> {
    /// Returns the vectors of `rows`.
    pub fn chosen(&self, rows: &'a [usize]) -> Chosen<'a> {
        Chosen::new(self.values, rows)
    }

    fn labels(&self, rows: &[usize]) -> Vec<usize> {
        rows.iter().map(|row| self.labels[*row]).collect()
    }

    /// Returns each candidate's measure: fitted to the first rows of a round and judged on the second ones; the mean over
    /// all rounds.
    pub fn measures(&self, rounds: &[(Vec<usize>, Vec<usize>)], check: &dyn Fn() -> Result<()>) -> Result<Vec<f64>> {
        let mut sums = vec![0.0; self.recipe.candidates.count()];
        for (train, validation) in rounds {
            check()?;
            let fits = self.fits(train, &self.recipe.candidates)?;
            let labels = self.labels(validation);
            let chosen = Chosen::new(self.values, validation);
            let measure = |p: &[f64]| self.recipe.measure.of(p, &labels, self.classes) / rounds.len() as f64;
            match (&fits, &self.recipe.candidates) {
                (Fits::Linear(fits), _) => {
                    for (sum, linear) in sums.iter_mut().zip(fits) {
                        *sum += measure(&linear.probabilities(&chosen)?);
                    }
                }
                (Fits::Neighbours(bank), Candidates::Neighbours { ks, .. }) => {
                    sums.iter_mut().zip(bank.probabilities(&chosen, ks)?).for_each(|(sum, p)| *sum += measure(&p));
                }
                (Fits::Neighbours(_), _) => unreachable!("neighbours have their candidates"),
            }
        }
        Ok(sums)
    }

    /// Fits the head of candidate `index` to `rows`.
    pub fn fit(&self, rows: &[usize], index: usize) -> Result<Head> {
        let one = self.recipe.candidates.only(index);
        Ok(match (self.fits(rows, &one)?, one) {
            (Fits::Linear(mut fits), _) => Head::Linear(fits.remove(0)),
            (Fits::Neighbours(bank), Candidates::Neighbours { ks, .. }) => Head::Neighbours { bank, k: ks[0] },
            (Fits::Neighbours(_), _) => unreachable!("neighbours have their candidates"),
        })
    }

    fn fits(&self, rows: &[usize], candidates: &Candidates) -> Result<Fits> {
        let (chosen, labels) = (Chosen::new(self.values, rows), self.labels(rows));
        if let Candidates::Neighbours { temperature, .. } = candidates {
            return Ok(Fits::Neighbours(Neighbours::new(&chosen, &labels, self.classes, *temperature)?));
        }
        let targets = Targets::of_labels(&labels, self.classes)?;
        let targets = if self.recipe.balanced { targets.balanced() } else { targets };
        let standard = if self.recipe.standardise { Standard::of(&chosen)? } else { Standard::none(self.values.cols()) };
        Ok(Fits::Linear(candidates.linear(&chosen, &targets, &standard)?))
    }
}
