//! How good predictions are. All definitions are scikit-learn's.

/// Counts of (true class, predicted class).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

impl Confusion {
    /// Counts nothing yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Counts pairs of a true and a predicted class.
    ///
    /// # Panics
    /// If a class is not below the number of classes.
    pub fn of(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut confusion = Self::new(classes);
        pairs.into_iter().for_each(|(truth, predicted)| confusion.add(truth, predicted, 1));
        confusion
    }

    /// Counts `n` more of a pair.
    ///
    /// # Panics
    /// If a class is not below the number of classes.
    pub fn add(&mut self, truth: usize, predicted: usize, n: u64) {
        assert!(truth < self.classes && predicted < self.classes, "classes below {}", self.classes);
        self.counts[truth * self.classes + predicted] += n;
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the count of a true and a predicted class.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        self.counts[truth * self.classes + predicted]
    }

    fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// (true positives, false positives, false negatives, true negatives) of a class.
    fn of_class(&self, class: usize) -> [f64; 4] {
        let hits = self.count(class, class);
        let predicted: u64 = (0..self.classes).map(|truth| self.count(truth, class)).sum();
        let truth: u64 = (0..self.classes).map(|predicted| self.count(class, predicted)).sum();
        [hits, predicted - hits, truth - hits, self.total() + hits - predicted - truth].map(|n| n as f64)
    }

    /// Returns the share of right predictions; NaN without any.
    pub fn accuracy(&self) -> f64 {
        (0..self.classes).map(|class| self.count(class, class)).sum::<u64>() as f64 / self.total() as f64
    }

    /// Returns the mean sensitivity of the classes that occur; NaN without any.
    pub fn balanced_accuracy(&self) -> f64 {
        let found: Vec<f64> = (0..self.classes).map(|class| self.sensitivity(class)).filter(|v| !v.is_nan()).collect();
        found.iter().sum::<f64>() / found.len() as f64
    }

    /// Returns the share of a class's members that are found (recall); NaN if the class does not occur.
    pub fn sensitivity(&self, class: usize) -> f64 {
        let [hits, _, missed, _] = self.of_class(class);
        hits / (hits + missed)
    }

    /// Returns the share of the others that are not taken for the class; NaN if there are no others.
    pub fn specificity(&self, class: usize) -> f64 {
        let [_, wrong, _, right] = self.of_class(class);
        right / (right + wrong)
    }

    /// Returns the F1 score of a class, which is also its Dice score: `2 tp / (2 tp + fp + fn)`; NaN if the class neither
    /// occurs nor is predicted.
    pub fn f1(&self, class: usize) -> f64 {
        let [hits, wrong, missed, _] = self.of_class(class);
        2.0 * hits / (2.0 * hits + wrong + missed)
    }

    /// Returns the mean F1 score of the classes that occur or are predicted.
    pub fn macro_f1(&self) -> f64 {
        let found: Vec<f64> = (0..self.classes).map(|class| self.f1(class)).filter(|v| !v.is_nan()).collect();
        found.iter().sum::<f64>() / found.len() as f64
    }
}

/// A threshold's counts: how many positives and how many negatives have at least this score.
struct Step {
    positives: f64,
    negatives: f64,
}

/// Returns the counts from the highest score to the lowest; equal scores are one step.
fn steps(scores: &[f64], truth: &[bool]) -> Vec<Step> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let (mut steps, mut positives, mut negatives) = (Vec::new(), 0.0, 0.0);
    for (i, &at) in order.iter().enumerate() {
        let counted = if truth[at] { &mut positives } else { &mut negatives };
        *counted += 1.0;
        if order.get(i + 1).is_none_or(|&next| scores[next] < scores[at]) {
            steps.push(Step { positives, negatives });
        }
    }
    steps
}

/// Returns the points (false positive rate, true positive rate) of the ROC curve from (0, 0) to (1, 1); none if all are
/// positive or all negative.
pub fn roc(scores: &[f64], truth: &[bool]) -> Option<Vec<(f64, f64)>> {
    let steps = steps(scores, truth);
    let Step { positives, negatives } = *steps.last()?;
    let point = |step: &Step| (step.negatives / negatives, step.positives / positives);
    (positives > 0.0 && negatives > 0.0).then(|| [(0.0, 0.0)].into_iter().chain(steps.iter().map(point)).collect())
}

/// Returns the area under the ROC curve: the chance that a positive has a higher score than a negative, ties counted
/// half. NaN if all are positive or all negative.
pub fn auroc(scores: &[f64], truth: &[bool]) -> f64 {
    let area = |curve: Vec<(f64, f64)>| curve.windows(2).map(|w| (w[1].0 - w[0].0) * 0.5 * (w[0].1 + w[1].1)).sum();
    roc(scores, truth).map_or(f64::NAN, area)
}

/// Returns the average precision: the sum over thresholds of the gain in recall times the precision. NaN without a
/// positive.
pub fn average_precision(scores: &[f64], truth: &[bool]) -> f64 {
    let steps = steps(scores, truth);
    let positives = steps.last().map_or(0.0, |step| step.positives);
    let mut before = 0.0;
    let gain = |step: &Step| {
        let gain = (step.positives - before) / positives * step.positives / (step.positives + step.negatives);
        before = step.positives;
        gain
    };
    if positives > 0.0 { steps.iter().map(gain).sum() } else { f64::NAN }
}

/// Returns the Brier score of probabilities [N, K]: the mean over rows of the squared distance from the true class. Of two
/// classes it is half of that, the squared error of one of them.
pub fn brier(probabilities: &[f64], labels: &[usize], classes: usize) -> f64 {
    let row = |(p, &label): (&[f64], &usize)| {
        p.iter().enumerate().map(|(class, p)| (p - if class == label { 1.0 } else { 0.0 }).powi(2)).sum::<f64>()
    };
    let sum: f64 = probabilities.chunks_exact(classes).zip(labels).map(row).sum();
    sum / labels.len() as f64 / if classes == 2 { 2.0 } else { 1.0 }
}

/// One bin of a calibration curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Number of predictions.
    pub count: usize,
    /// The mean probability that was predicted.
    pub predicted: f64,
    /// The share that was true.
    pub observed: f64,
}

/// Returns the bins of equal width from 0 to 1 that hold predictions, of probabilities `p` of what `truth` says. A
/// probability on the border of two bins belongs to the lower one.
pub fn calibration(p: &[f64], truth: &[bool], bins: usize) -> Vec<Bin> {
    let mut sums = vec![(0_usize, 0.0, 0.0); bins];
    for (p, truth) in p.iter().zip(truth) {
        let width = 1.0 / bins as f64;
        let bin = &mut sums[(1..bins).filter(|border| *border as f64 * width < *p).count()];
        *bin = (bin.0 + 1, bin.1 + p, bin.2 + if *truth { 1.0 } else { 0.0 });
    }
    let mean = |(count, p, truth): (usize, f64, f64)| Bin { count, predicted: p / count as f64, observed: truth / count as f64 };
    sums.into_iter().filter(|(count, ..)| *count > 0).map(mean).collect()
}

/// Returns the expected calibration error: the mean distance of predicted and observed over `bins`, by their counts.
pub fn calibration_error(bins: &[Bin]) -> f64 {
    let total: usize = bins.iter().map(|bin| bin.count).sum();
    bins.iter().map(|bin| bin.count as f64 * (bin.predicted - bin.observed).abs()).sum::<f64>() / total as f64
}

/// Returns the index of the largest of each row's K values; of equal values, the first.
pub fn decisions(probabilities: &[f64], classes: usize) -> Vec<usize> {
    let largest = |row: &[f64]| (1..classes).fold(0, |best, class| if row[class] > row[best] { class } else { best });
    probabilities.chunks_exact(classes).map(largest).collect()
}
