//! Confidence intervals by bootstrap over patients: rows of one patient are drawn together.

use super::draw::Draw;
use crate::parallel;

/// A percentile interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower end; NaN if no draw has the figure.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Number of draws that have the figure. A draw without any positive, say, has no AUROC.
    pub draws: usize,
}

/// The settings of a bootstrap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// Number of draws.
    pub draws: usize,
    /// The share of draws between the ends.
    pub level: f64,
    /// The seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// Returns 2000 draws, and intervals of 95 %.
    fn default() -> Self {
        Self { draws: 2000, level: 0.95, seed: 0 }
    }
}

impl Bootstrap {
    /// Returns an interval for each figure that `figures` computes from rows, which may be drawn several times. `groups`
    /// holds each row's patient. NaN stands for a figure that the rows do not have.
    pub fn intervals(&self, groups: &[usize], figures: impl Fn(&[usize]) -> Vec<f64> + Sync + Send) -> Vec<Interval> {
        let members = members(groups);
        let drawn = parallel::map(self.draws, |index| {
            let mut draw = Draw::new(self.seed, index as u64);
            let rows: Vec<usize> = (0..members.len()).flat_map(|_| members[draw.below(members.len())].iter().copied()).collect();
            figures(&rows)
        });
        let count = drawn.first().map_or(0, Vec::len);
        (0..count).map(|figure| self.interval(drawn.iter().map(|figures| figures[figure]).filter(|v| !v.is_nan()).collect())).collect()
    }

    fn interval(&self, mut values: Vec<f64>) -> Interval {
        values.sort_unstable_by(f64::total_cmp);
        let tail = 0.5 * (1.0 - self.level);
        Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail), draws: values.len() }
    }
}

/// Returns the rows of each group, in the order of the groups' numbers; groups without rows are left out.
fn members(groups: &[usize]) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); groups.iter().max().map_or(0, |last| last + 1)];
    groups.iter().enumerate().for_each(|(row, &group)| members[group].push(row));
    members.retain(|rows| !rows.is_empty());
    members
}

/// Returns the quantile of sorted `values`, interpolated as `numpy.quantile` does; NaN without values.
fn quantile(values: &[f64], share: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let (below, above) = (values[at as usize], values[(at as usize + 1).min(last)]);
    below + (above - below) * at.fract()
}
