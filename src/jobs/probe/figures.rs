//! How good predictions are: a report with confidence intervals, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::heads::metrics::{Bin, Confusion, auroc, average_precision, brier, calibration, calibration_error, decisions, roc};
use crate::heads::{Bootstrap, Interval};

/// Bins of the calibration curve.
const BINS: usize = 10;

/// The names of figures of all classes together.
const OVERALL: [&str; 8] =
    ["accuracy", "balanced accuracy", "macro F1", "macro AUROC", "macro AP", "Brier score", "log loss", "calibration error"];
/// The names of figures of one class.
const OF_CLASS: [&str; 5] = ["sensitivity", "specificity", "F1", "AUROC", "AP"];

/// A figure and its confidence interval.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// The value; NaN if the rows do not have it.
    pub value: f64,
    /// The interval, by bootstrap over patients.
    pub interval: Interval,
}

/// The report on some predictions.
#[derive(Clone, Debug)]
pub struct Figures {
    classes: Vec<String>,
    rows: usize,
    patients: usize,
    bootstrap: Bootstrap,
    overall: Vec<Figure>,
    /// `[K][figure]`
    of_classes: Vec<Vec<Figure>>,
    /// (truth, prediction)
    pub confusion: Confusion,
    /// The ROC curve of each class against the others; none if it has no members or all.
    pub curves: Vec<Option<Vec<(f64, f64)>>>,
    /// Calibration of the predicted class's probability.
    pub calibration: Vec<Bin>,
}

/// Predictions and truth.
struct Judged<'a> {
    probabilities: &'a [f64],
    labels: &'a [usize],
    guesses: Vec<usize>,
    classes: usize,
}

impl Judged<'_> {
    fn confusion(&self, rows: &[usize]) -> Confusion {
        Confusion::of(self.classes, rows.iter().map(|&row| (self.labels[row], self.guesses[row])))
    }

    fn scores(&self, rows: &[usize], class: usize) -> (Vec<f64>, Vec<bool>) {
        rows.iter().map(|&row| (self.probabilities[row * self.classes + class], self.labels[row] == class)).unzip()
    }

    fn certainty(&self, rows: &[usize]) -> Vec<Bin> {
        let of = |&row: &usize| (self.probabilities[row * self.classes + self.guesses[row]], self.guesses[row] == self.labels[row]);
        let (p, truth): (Vec<_>, Vec<_>) = rows.iter().map(of).unzip();
        calibration(&p, &truth, BINS)
    }

    /// All figures: those of [`OVERALL`], then those of [`OF_CLASS`] for each class.
    fn figures(&self, rows: &[usize]) -> Vec<f64> {
        let confusion = self.confusion(rows);
        let of_class = |class: usize| {
            let (scores, truth) = self.scores(rows, class);
            let (roc, ap) = (auroc(&scores, &truth), average_precision(&scores, &truth));
            [confusion.sensitivity(class), confusion.specificity(class), confusion.f1(class), roc, ap]
        };
        let classes: Vec<[f64; OF_CLASS.len()]> = (0..self.classes).map(of_class).collect();
        // Two classes have one curve: that of the second.
        let curves = if self.classes == 2 { &classes[1..] } else { &classes[..] };
        let mean = |figure: usize| {
            let found: Vec<f64> = curves.iter().map(|class| class[figure]).filter(|v| !v.is_nan()).collect();
            found.iter().sum::<f64>() / found.len() as f64
        };
        let p: Vec<f64> = rows.iter().flat_map(|row| &self.probabilities[row * self.classes..][..self.classes]).copied().collect();
        let labels: Vec<usize> = rows.iter().map(|&row| self.labels[row]).collect();
        let overall = [
            confusion.accuracy(),
            confusion.balanced_accuracy(),
            confusion.macro_f1(),
            mean(3),
            mean(4),
            brier(&p, &labels, self.classes),
            log_loss(&p, &labels, self.classes),
            calibration_error(&self.certainty(rows)),
        ];
        overall.into_iter().chain(classes.into_iter().flatten()).collect()
    }
}

/// Returns the mean of minus the logarithm of the true class's probability, which counts as at least 1e-15.
pub(super) fn log_loss(probabilities: &[f64], labels: &[usize], classes: usize) -> f64 {
    let row = |(p, label): (&[f64], &usize)| -p[*label].max(1e-15).ln();
    probabilities.chunks_exact(classes).zip(labels).map(row).sum::<f64>() / labels.len() as f64
}

impl Figures {
    /// Judges `probabilities` [N, K] by the true classes `labels` `[N]`. `patients` `[N]` numbers each row's patient.
    ///
    /// # Panics
    /// If there are no rows.
    pub fn of(probabilities: &[f64], labels: &[usize], patients: &[usize], classes: &[String], bootstrap: Bootstrap) -> Self {
        assert!(!labels.is_empty(), "figures are of some rows");
        let judged = Judged { probabilities, labels, guesses: decisions(probabilities, classes.len()), classes: classes.len() };
        let all: Vec<usize> = (0..labels.len()).collect();
        let intervals = bootstrap.intervals(patients, |rows| judged.figures(rows));
        let figure = |(value, interval)| Figure { value, interval };
        let figures: Vec<Figure> = judged.figures(&all).into_iter().zip(intervals).map(figure).collect();
        let curve = |class: usize| {
            let (scores, truth) = judged.scores(&all, class);
            roc(&scores, &truth)
        };
        let mut known = patients.to_vec();
        known.sort_unstable();
        known.dedup();
        Self {
            classes: classes.to_vec(),
            rows: labels.len(),
            patients: known.len(),
            bootstrap,
            overall: figures[..OVERALL.len()].to_vec(),
            of_classes: figures[OVERALL.len()..].chunks_exact(OF_CLASS.len()).map(<[Figure]>::to_vec).collect(),
            confusion: judged.confusion(&all),
            curves: (0..classes.len()).map(curve).collect(),
            calibration: judged.certainty(&all),
        }
    }

    /// Returns the names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Returns the figure `name` of all classes together, such as `accuracy`.
    pub fn overall(&self, name: &str) -> Option<Figure> {
        OVERALL.iter().position(|known| *known == name).map(|at| self.overall[at])
    }

    /// Returns the report as JSON. A figure that the rows do not have is null.
    pub fn to_json(&self) -> Value {
        let figure = |(name, figure): (&&str, &Figure)| {
            let Figure { value, interval: Interval { low, high, draws } } = *figure;
            ((*name).to_owned(), json!({"value": value, "low": low, "high": high, "draws": draws}))
        };
        let object = |names: &[&str], figures: &[Figure]| Value::Object(names.iter().zip(figures).map(figure).collect());
        let counts = |truth: usize| (0..self.classes.len()).map(|guess| self.confusion.count(truth, guess)).collect::<Vec<_>>();
        json!({
            "rows": self.rows,
            "patients": self.patients,
            "bootstrap": {"draws": self.bootstrap.draws, "level": self.bootstrap.level, "seed": self.bootstrap.seed},
            "classes": self.classes,
            "overall": object(&OVERALL, &self.overall),
            "by_class": self.of_classes.iter().map(|figures| object(&OF_CLASS, figures)).collect::<Vec<_>>(),
            "confusion": (0..self.classes.len()).map(counts).collect::<Vec<_>>(),
        })
    }

    /// Returns the report as a table for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let percent = self.bootstrap.level * 100.0;
        let Self { rows, patients, .. } = self;
        writeln!(text, "{rows} rows of {patients} patients; intervals of {percent} % by {} draws of patients", self.bootstrap.draws)
            .expect(TEXT);
        for (name, Figure { value, interval: Interval { low, high, .. } }) in OVERALL.iter().zip(&self.overall) {
            writeln!(text, "  {name:<18} {value:>7.4}  [{low:.4}, {high:.4}]").expect(TEXT);
        }
        let width = self.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("class".len());
        write!(text, "\n  {:width$}", "class").expect(TEXT);
        OF_CLASS.iter().for_each(|name| write!(text, "  {name:>11}").expect(TEXT));
        for (name, figures) in self.classes.iter().zip(&self.of_classes) {
            write!(text, "\n  {name:width$}").expect(TEXT);
            figures.iter().for_each(|figure| write!(text, "  {:>11.4}", figure.value).expect(TEXT));
        }
        write!(text, "\n\n  {:width$}  predicted {}", "truth", self.classes.join(", ")).expect(TEXT);
        for (truth, name) in self.classes.iter().enumerate() {
            write!(text, "\n  {name:width$}").expect(TEXT);
            (0..self.classes.len()).for_each(|guess| write!(text, "  {:>7}", self.confusion.count(truth, guess)).expect(TEXT));
        }
        text
    }
}

const TEXT: &str = "a String takes every text";
