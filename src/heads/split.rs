//! Divides rows into parts by patient, so that no patient is in two parts.

use std::collections::BTreeMap;

use super::draw::Draw;
use crate::error::{Error, Result};

/// Divides groups (patients) among parts in the ratio `shares`, class by class, so that every part has about the same mix.
/// `labels` and `groups` hold the class and the group of each row. A group's class is its most frequent one. Returns the
/// part of each row.
///
/// # Errors
/// If a share is negative, or all are 0.
pub fn divided(labels: &[usize], groups: &[usize], shares: &[f64], seed: u64) -> Result<Vec<usize>> {
    let total: f64 = shares.iter().sum();
    if shares.iter().any(|share| *share < 0.0) || !(total > 0.0 && total.is_finite()) {
        return Err(Error::option("split", format!("expected shares from 0 up with a sum above 0, found {shares:?}")));
    }
    let mut of_class: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (group, counts) in counts(labels, groups) {
        let largest = counts.values().copied().max().unwrap_or(0);
        let class = counts.iter().find(|(_, count)| **count == largest).map_or(0, |(class, _)| *class);
        of_class.entry(class).or_default().push(group);
    }
    let (mut draw, mut part_of) = (Draw::new(seed, 0), BTreeMap::new());
    // What each part still lacks of its share; carried from class to class, so that small classes even out.
    let mut lacks = vec![0.0; shares.len()];
    for groups in of_class.into_values() {
        lacks.iter_mut().zip(shares).for_each(|(lacks, share)| *lacks += share / total * groups.len() as f64);
        for index in draw.order(groups.len()) {
            let part = (0..shares.len()).fold(0, |best, part| if lacks[part] > lacks[best] { part } else { best });
            lacks[part] -= 1.0;
            part_of.insert(groups[index], part);
        }
    }
    Ok(groups.iter().map(|group| part_of[group]).collect())
}

/// Divides groups among `folds` folds with about the same mix of classes: scikit-learn's `StratifiedGroupKFold` without
/// shuffling. Groups whose counts of classes differ most come first; each goes to the fold that it evens out best. Returns
/// the fold of each row.
///
/// # Errors
/// If there are fewer than two folds, or fewer groups than folds.
pub fn folds(labels: &[usize], groups: &[usize], folds: usize) -> Result<Vec<usize>> {
    let classes = labels.iter().max().map_or(0, |last| last + 1);
    let counts: Vec<(usize, Vec<f64>)> = counts(labels, groups)
        .into_iter()
        .map(|(group, counts)| (group, (0..classes).map(|class| counts.get(&class).copied().unwrap_or(0) as f64).collect()))
        .collect();
    if folds < 2 || counts.len() < folds {
        let problem = format!("expected from 2 folds up to the number of patients, {}, found {folds}", counts.len());
        return Err(Error::option("folds", problem));
    }
    let mut totals = vec![0.0; classes];
    counts.iter().for_each(|(_, counts)| totals.iter_mut().zip(counts).for_each(|(total, n)| *total += n));
    let mut order: Vec<usize> = (0..counts.len()).collect();
    let spread: Vec<f64> = counts.iter().map(|(_, counts)| deviation(counts)).collect();
    order.sort_by(|&a, &b| spread[b].total_cmp(&spread[a]));
    let (mut filled, mut fold_of) = (vec![vec![0.0; classes]; folds], BTreeMap::new());
    for index in order {
        let (group, added) = &counts[index];
        let fold = evenest(&mut filled, added, &totals);
        filled[fold].iter_mut().zip(added).for_each(|(n, added)| *n += added);
        fold_of.insert(*group, fold);
    }
    Ok(groups.iter().map(|group| fold_of[group]).collect())
}

/// Returns the fold that is best given `added`: the classes' shares then differ least among folds and, of equals, the fold
/// has the fewest rows.
fn evenest(filled: &mut [Vec<f64>], added: &[f64], totals: &[f64]) -> usize {
    let (mut best, mut least, mut fewest) = (0, f64::INFINITY, f64::INFINITY);
    for fold in 0..filled.len() {
        filled[fold].iter_mut().zip(added).for_each(|(n, added)| *n += added);
        let of_class = |class: usize| deviation(&filled.iter().map(|counts| counts[class] / totals[class]).collect::<Vec<_>>());
        let occurring: Vec<usize> = (0..totals.len()).filter(|class| totals[*class] > 0.0).collect();
        let uneven = occurring.iter().map(|class| of_class(*class)).sum::<f64>() / occurring.len() as f64;
        let rows: f64 = filled[fold].iter().sum();
        filled[fold].iter_mut().zip(added).for_each(|(n, added)| *n -= added);
        // `numpy.isclose`
        let is_close = (uneven - least).abs() <= 1e-8 + 1e-5 * least.abs() && least.is_finite();
        if uneven < least || (is_close && rows < fewest) {
            (best, least, fewest) = (fold, uneven, rows);
        }
    }
    best
}

/// Returns each group's counts of classes, by group.
fn counts(labels: &[usize], groups: &[usize]) -> BTreeMap<usize, BTreeMap<usize, usize>> {
    let mut counts: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
    labels.iter().zip(groups).for_each(|(label, group)| *counts.entry(*group).or_default().entry(*label).or_default() += 1);
    counts
}

/// Returns the standard deviation, divided by N.
fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

/// Returns a group whose rows are in two parts, with both parts.
pub fn leak(groups: &[usize], parts: &[usize]) -> Option<(usize, [usize; 2])> {
    let mut part_of = BTreeMap::new();
    groups.iter().zip(parts).find_map(|(group, part)| {
        let before = *part_of.entry(group).or_insert(*part);
        (before != *part).then_some((*group, [before, *part]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_their_shares_of_each_class_and_no_patient_twice() {
        // 40 patients with 1 to 4 rows, a quarter of them of class 1.
        let groups: Vec<usize> = (0..40).flat_map(|group| vec![group; group % 4 + 1]).collect();
        let labels: Vec<usize> = groups.iter().map(|group| usize::from(group / 4 % 4 == 0)).collect();
        let parts = divided(&labels, &groups, &[0.6, 0.2, 0.2], 7).expect("divided");
        assert_eq!(leak(&groups, &parts), None);
        for (class, want) in [(0, [18, 6, 6]), (1, [7, 2, 3])] {
            let in_part = |part: usize| {
                (0..40)
                    .filter(|g| usize::from(g / 4 % 4 == 0) == class && parts[groups.iter().position(|v| v == g).unwrap()] == part)
                    .count()
            };
            let got = [0, 1, 2].map(in_part);
            assert!(got.iter().zip(want).all(|(got, want): (&usize, usize)| got.abs_diff(want) <= 1), "{class}: {got:?}");
        }
        assert_ne!(parts, divided(&labels, &groups, &[0.6, 0.2, 0.2], 8).expect("divided"), "another seed");
        assert!(divided(&labels, &groups, &[0.0, -1.0], 0).is_err() && divided(&labels, &groups, &[0.0], 0).is_err());
    }

    #[test]
    fn a_leak_is_found() {
        assert_eq!(leak(&[0, 1, 1, 2], &[0, 1, 1, 0]), None);
        assert_eq!(leak(&[0, 1, 1, 2], &[0, 1, 2, 0]), Some((1, [1, 2])));
    }
}
