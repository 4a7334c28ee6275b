//! Heads on patch tokens: fitted to label maps, and judged voxel by voxel.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::candidates::{Candidates, Measure};
use super::patches::{PatchFile, PatchRows, labels_of};
use crate::error::{Error, Result};
use crate::fitted::{About, DenseHead, Head, HeadFile, patch_kind};
use crate::heads::metrics::Confusion;
use crate::heads::{Bootstrap, Interval, Lattice, Linear, Rows, Standard, Targets, split};
use crate::jobs::memory;
use crate::jobs::observer::{Observer, check};

/// Shares of the body from which on a patch counts as one of the body, and up to which as one around it.
const CLEAR: f64 = 0.99;

/// The settings of a fit to label maps.
#[derive(Clone, Debug)]
pub struct PatchRecipe {
    /// The heads to choose from.
    pub candidates: Candidates,
    /// Whether every label counts alike, however many patches it has.
    pub balanced: bool,
    /// Whether to standardise channels.
    pub standardise: bool,
    /// Number of folds of cases for the choice.
    pub folds: usize,
    /// Whether the head tells label 0 from all others, 1, and is fitted to patches alone that are of one of both.
    pub foreground: bool,
}

/// Fits a head to the patch tokens of `files`, with the share of each label in a patch as its target, and writes it to
/// `output`. Several candidates are judged by their loss on the cases of each fold, of which they are fitted to the others.
/// Returns the file, and each candidate's loss; with one candidate there is no choice and no loss.
///
/// # Errors
/// If a label map does not fit its features, fewer than two labels occur, neighbours are among the candidates, or the file
/// cannot be written. [`Error::Cancelled`] if `observer` cancels.
pub fn fit_patches(
    recipe: &PatchRecipe,
    files: &[PatchFile],
    output: &Path,
    observer: &dyn Observer,
) -> Result<(HeadFile, Vec<(String, f64)>)> {
    let PatchRecipe { candidates, balanced, standardise, folds, foreground } = recipe;
    let (balanced, standardise, folds) = (*balanced, *standardise, *folds);
    let mut classes = labels_of(files)?;
    let rows = PatchRows::new(files.iter().collect());
    let (count, width, known) = (rows.count(), rows.width(), classes.len());
    let what = format!("the fit of {count} patches of {width} channels to {known} labels");
    memory::tell(&what, candidates.bytes(count, width, known.max(2)), "give fewer files", observer)?;
    let mut shares = files.iter().map(|file| file.shares(&classes)).collect::<Result<Vec<_>>>()?;
    if *foreground {
        shares.iter_mut().for_each(|shares| *shares = clear_shares(shares, &classes));
        classes = vec![0, 1];
    }
    let fits = |candidates: &Candidates, chosen: &[usize]| -> Result<Vec<Linear>> {
        check(observer)?;
        let rows = PatchRows::new(chosen.iter().map(|file| &files[*file]).collect());
        let targets = Targets::of_shares(chosen.iter().flat_map(|file| &shares[*file]).copied().collect(), classes.len())?;
        let targets = if balanced { targets.balanced() } else { targets };
        let standard = if standardise { Standard::of(&rows)? } else { Standard::none(rows.width()) };
        candidates.linear(&rows, &targets, &standard)
    };
    let all: Vec<usize> = (0..files.len()).collect();
    let mut losses = vec![0.0; if candidates.count() > 1 { candidates.count() } else { 0 }];
    if !losses.is_empty() {
        // Every case has a class of its own choice here, so folds differ by at most one case.
        let of_file = split::folds(&vec![0; files.len()], &all, folds.min(files.len()))?;
        for fold in 0..folds.min(files.len()) {
            let (inside, outside): (Vec<usize>, Vec<usize>) = all.iter().partition(|file| of_file[**file] == fold);
            let rows = PatchRows::new(inside.iter().map(|file| &files[*file]).collect());
            let held: Vec<f64> = inside.iter().flat_map(|file| &shares[*file]).copied().collect();
            for (loss, linear) in losses.iter_mut().zip(fits(candidates, &outside)?) {
                *loss += cross_entropy(&linear.probabilities(&rows)?, &held) / folds.min(files.len()) as f64;
            }
        }
    }
    let best = Measure::Loss.best(&losses).unwrap_or(0);
    let linear = fits(&candidates.only(best), &all)?.remove(0);
    let mut protocol = candidates.describe(best);
    let chosen_by = if losses.is_empty() { "nobody: there was one candidate".into() } else { format!("{folds} folds of cases") };
    protocol.extend([
        ("chosen_by".into(), chosen_by),
        ("standardised".into(), standardise.to_string()),
        ("balanced".into(), balanced.to_string()),
        ("targets".into(), if *foreground { "patches of the body or around it" } else { "share of each label in a patch" }.into()),
    ]);
    let about = About {
        classes: classes.iter().map(ToString::to_string).collect(),
        features: patch_kind(files[0].features.metadata(), files[0].features.layers()),
        protocol,
        split: BTreeMap::from([("train".into(), PatchRows::new(files.iter().collect()).count().to_string())]),
        patients: files.iter().map(|file| file.case.clone()).collect(),
        figures: None,
    };
    let file = HeadFile { head: Head::Linear(linear), about };
    file.save(output)?;
    Ok((file, losses.into_iter().enumerate().map(|(i, loss)| (candidates.name(i), loss)).collect()))
}

/// Returns the weights of label 0 and of all other labels, [N, 2], from shares [N, K] of `classes`. A patch that is not
/// clearly of one of both has none.
fn clear_shares(shares: &[f64], classes: &[u16]) -> Vec<f64> {
    let pair = |row: &[f64]| {
        let outside: f64 = row.iter().zip(classes).filter(|(_, class)| **class == 0).map(|(share, _)| share).sum();
        let inside = row.iter().sum::<f64>() - outside;
        [outside, inside].map(|share| if share > CLEAR { 1.0 } else { 0.0 })
    };
    shares.chunks_exact(classes.len()).flat_map(pair).collect()
}

/// Returns the mean of minus the logarithm of the probabilities, weighted by `shares`.
fn cross_entropy(probabilities: &[f64], shares: &[f64]) -> f64 {
    let sum: f64 = probabilities.iter().zip(shares).map(|(p, share)| -share * p.max(1e-15).ln()).sum();
    sum / shares.iter().sum::<f64>()
}

/// Dice scores of label maps, case by case.
#[derive(Clone, Debug)]
pub struct DiceReport {
    labels: Vec<u16>,
    cases: Vec<String>,
    /// [case][class]; NaN where a label neither is nor is found.
    dice: Vec<Vec<f64>>,
    /// The mean over cases and its interval.
    means: Vec<(f64, Interval)>,
    bootstrap: Bootstrap,
}

/// Judges the head in `file` on `files`: the Dice score of each label in each case, over the voxels of the stored slices,
/// and its mean over cases with an interval by bootstrap over cases.
///
/// # Errors
/// If the head was fitted to one of the cases or to other features, or a label map does not fit its features.
pub fn evaluate_patches(file: &HeadFile, name: &Path, files: &[PatchFile], bootstrap: Bootstrap) -> Result<DiceReport> {
    let head = DenseHead::new(file, name.display())?;
    let mut dice = Vec::new();
    for case in files {
        if file.about.patients.contains(&case.case) {
            let problem = format!("the head was fitted to case {}, so figures would be too good; leave it out", case.case);
            return Err(Error::option("features", problem));
        }
        head.check(&case.case, case.features.metadata(), case.features.layers())?;
        let k = head.labels().len();
        let mut confusion = Confusion::new(k);
        let grid = case.features.grid();
        let lattice = Lattice::new((grid.rows, grid.cols), case.features.patch_size(), 1, case.features.image());
        case.each_slice(|position, labels, shape| {
            let scores = head.scores(&case.features.patches(position)?)?;
            for (label, found) in labels.iter().zip(lattice.decide(&scores, k, shape)) {
                let truth = head.labels().iter().position(|known| known == label).ok_or_else(|| case.unknown(*label, head.labels()))?;
                confusion.add(truth, found, 1);
            }
            Ok(())
        })?;
        dice.push((0..k).map(|class| confusion.f1(class)).collect::<Vec<f64>>());
    }
    let mean = |cases: &[usize]| -> Vec<f64> {
        let of_class = |class: usize| {
            let found: Vec<f64> = cases.iter().map(|case| dice[*case][class]).filter(|v| !v.is_nan()).collect();
            found.iter().sum::<f64>() / found.len() as f64
        };
        (0..head.labels().len()).map(of_class).collect()
    };
    let all: Vec<usize> = (0..files.len()).collect();
    let means = mean(&all).into_iter().zip(bootstrap.intervals(&all, mean)).collect();
    let cases = files.iter().map(|file| file.case.clone()).collect();
    Ok(DiceReport { labels: head.labels().to_vec(), cases, dice, means, bootstrap })
}

impl DiceReport {
    /// Returns the mean Dice score of each label over the cases that have it, and its interval.
    pub fn means(&self) -> impl Iterator<Item = (u16, f64, Interval)> {
        self.labels.iter().zip(&self.means).map(|(label, (mean, interval))| (*label, *mean, *interval))
    }

    /// Returns the report as JSON. A figure that there is not is null.
    pub fn to_json(&self) -> Value {
        let mean = |(label, value, Interval { low, high, draws }): (u16, f64, Interval)| json!({"label": label, "dice": value, "low": low, "high": high, "draws": draws});
        let case = |(case, dice): (&String, &Vec<f64>)| json!({"case": case, "dice": dice});
        json!({
            "bootstrap": {"draws": self.bootstrap.draws, "level": self.bootstrap.level, "seed": self.bootstrap.seed},
            "labels": self.means().map(mean).collect::<Vec<_>>(),
            "cases": self.cases.iter().zip(&self.dice).map(case).collect::<Vec<_>>(),
        })
    }

    /// Returns the report as a table for people.
    pub fn table(&self) -> String {
        let percent = self.bootstrap.level * 100.0;
        let mut text =
            format!("{} cases; intervals of {percent} % by {} draws of cases\n  label    Dice", self.cases.len(), self.bootstrap.draws);
        for (label, mean, Interval { low, high, .. }) in self.means() {
            write!(text, "\n  {label:>5}  {mean:>6.4}  [{low:.4}, {high:.4}]").expect("a String takes every text");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_that_are_partly_of_the_body_teach_nothing() {
        let shares = [0.995, 0.0, 0.005, 0.0, 0.4, 0.6, 0.5, 0.5, 0.0, 1.0, 0.0, 0.0];
        assert_eq!(clear_shares(&shares, &[0, 2, 7]), [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(clear_shares(&[1.0, 0.0], &[3, 5]), [0.0, 1.0], "no label 0");
    }
}
