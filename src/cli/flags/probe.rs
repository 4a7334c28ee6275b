//! The flags of `probe`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use meddino::heads::{Bootstrap, LinearProbe, Link, Logistic, Neighbours, Optimiser, Pooling, dinov3_cs};
use meddino::jobs::{Candidates, Making, Measure, Part, ProbeRecipe, Vector};

use meddino::{Error, Result};

use super::look::{ScanView, Series};
use super::memory::Memory;
use super::model::Model;

/// Fit classifiers to features, apply them, and judge them
///
/// Features come from files that `meddino features` wrote, or are computed from scans; labels come from a .csv file.
/// Hyper-parameters are chosen on validation alone, and no patient is in two parts. Heads are computed on the CPU.
#[derive(clap::Args)]
pub struct Probe {
    #[command(subcommand)]
    pub command: ProbeCommand,
}

#[derive(Subcommand)]
pub enum ProbeCommand {
    Fit(Box<ProbeFit>),
    Predict(ProbePredict),
    Evaluate(ProbeEvaluate),
}

/// Fit a head to labelled features, and judge it on the test part
///
/// The table of labels has the columns case (the name of the feature file) and label, and as you like slice, patient and
/// split (train, val, test). With a column slice, each slice is a row, else each case. A row with an empty label is left
/// out. Rows without split are divided by --split, patient by patient. Prints the report on stdout.
#[derive(clap::Args)]
pub struct ProbeFit {
    /// Feature files of `meddino features`, or folders of them; or scans, whose features are computed first
    ///
    /// Scans are files or folders as `meddino features` takes them. A folder that holds a .safetensors file is one of
    /// features.
    #[arg(required = true, value_name = "FEATURES|SCANS")]
    pub features: Vec<PathBuf>,
    #[command(flatten)]
    pub scans: Scans,
    #[command(flatten, next_help_heading = "Features of scans")]
    pub view: ScanView,
    #[command(flatten)]
    pub labelled: Labelled,
    /// File for the head
    #[arg(short, long, value_name = "HEAD.safetensors")]
    pub output: PathBuf,
    /// Kind of head
    ///
    /// logistic: logistic regression (softmax). one-against-rest: logistic regression of each class against the others.
    /// linear: DINOv3's linear probe by mini-batches, SGD with momentum. adamw: the same with AdamW. knn: DINO's nearest
    /// neighbours.
    #[arg(long, default_value = "logistic")]
    pub head: HeadKind,
    /// Vector of an image: cls, mean (of the patch tokens), or cls+mean
    #[arg(long, default_value = "cls")]
    pub vector: Vector,
    /// How the vectors of a case's slices become one, if rows are cases: mean or max
    #[arg(long, default_value = "mean")]
    pub pool: Pooling,
    /// Values of C to choose from [default: 45 from 1e-6 to 1e5, as in DINOv3]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub c: Vec<f64>,
    /// Learning rates to choose from [default: DINOv3's 13, times batch / 256]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub rates: Vec<f64>,
    /// Numbers of neighbours to choose from
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_value = "10,20,100,200")]
    pub k: Vec<usize>,
    /// Temperature of the neighbours' votes
    #[arg(long, default_value_t = Neighbours::TEMPERATURE)]
    pub temperature: f64,
    /// Logistic regression ends when no entry of the gradient is larger
    #[arg(long, default_value_t = 1e-4)]
    pub tolerance: f64,
    /// The most iterations of logistic regression
    #[arg(long, default_value_t = 1000)]
    pub iterations: usize,
    /// Batches of the linear probe
    #[arg(long, default_value_t = 12_500)]
    pub steps: usize,
    /// Vectors in a batch of the linear probe
    #[arg(long, default_value_t = 128)]
    pub batch: usize,
    /// Decay of the weights with --head adamw
    #[arg(long, default_value_t = 1e-2)]
    pub decay: f64,
    /// Steps in which the linear probe's rate rises
    #[arg(long, default_value_t = 0)]
    pub warmup: usize,
    /// What hyper-parameters are chosen by: loss, accuracy, balanced-accuracy or auroc
    #[arg(long, default_value = "loss")]
    pub measure: Measure,
    /// Do not standardise channels (minus the mean, divided by the deviation)
    #[arg(long)]
    pub raw: bool,
    /// Let every class count alike, however many rows it has
    #[arg(long)]
    pub balanced: bool,
    /// With --masks, the blocks whose patch tokens, after the final norm, are joined into one vector, such as 2,5,8,11
    /// [default: the last block]
    ///
    /// Feature files must hold them: `meddino features --layers 2,5,8,11`.
    #[arg(long, value_delimiter = ',', value_name = "LIST", requires = "masks", conflicts_with = "labels")]
    pub layers: Vec<usize>,
    /// With --masks, fit a head of the body for `segment --foreground`: label 0 is what is around it, every other label the
    /// body
    ///
    /// As in DINOv3's notebook, only patches count of which more than 99 % are of one of both.
    #[arg(long, requires = "masks", conflicts_with = "labels")]
    pub foreground: bool,
    /// Shares of train, validation and test, if the labels have no column split
    #[arg(long, value_delimiter = ',', num_args = 1, value_name = "TRAIN,VAL,TEST", default_value = "0.7,0.1,0.2")]
    pub split: Vec<f64>,
    /// Number of folds of patients for the choice, if no row is for validation
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub folds: usize,
    /// Also write the cases' vectors for other programs: cvpr26, one CASE.h5 with `y_hat` [D] for each case, and cases.csv
    /// with the columns case, split and target
    ///
    /// That is the format of the CVPR 2026 challenge on foundation models for CT diagnosis.
    #[arg(long, requires = "export_dir", conflicts_with = "masks")]
    pub export: Option<Export>,
    /// Folder for --export
    #[arg(long, value_name = "DIR", requires = "export")]
    pub export_dir: Option<PathBuf>,
    #[command(flatten)]
    pub report: Report,
}

/// The format of exported vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Export {
    Cvpr26,
}

/// Apply a head to features: probabilities of each class, as CSV
///
/// The features must be made as those that the head was fitted to: by the same model, preprocessing and vector.
#[derive(clap::Args)]
pub struct ProbePredict {
    /// The head, as `meddino probe fit` wrote it
    #[arg(value_name = "HEAD.safetensors")]
    pub head: PathBuf,
    /// Feature files of `meddino features`, or folders of them; or scans, whose features are computed first
    ///
    /// Scans are files or folders as `meddino features` takes them. A folder that holds a .safetensors file is one of
    /// features.
    #[arg(required = true, value_name = "FEATURES|SCANS")]
    pub features: Vec<PathBuf>,
    #[command(flatten)]
    pub scans: Scans,
    /// File for the table [default: stdout]
    #[arg(short, long, value_name = "OUT.csv")]
    pub output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    pub overwrite: bool,
}

/// Judge a head on labelled features that it was not fitted to
///
/// Prints the report on stdout. A patient that the head was fitted to or chosen by is an error.
#[derive(clap::Args)]
pub struct ProbeEvaluate {
    /// The head, as `meddino probe fit` wrote it
    #[arg(value_name = "HEAD.safetensors")]
    pub head: PathBuf,
    /// Feature files of `meddino features`, or folders of them; or scans, whose features are computed first
    ///
    /// Scans are files or folders as `meddino features` takes them. A folder that holds a .safetensors file is one of
    /// features.
    #[arg(required = true, value_name = "FEATURES|SCANS")]
    pub features: Vec<PathBuf>,
    #[command(flatten)]
    pub scans: Scans,
    #[command(flatten)]
    pub labelled: Labelled,
    /// Take only the rows whose split is this: train, val or test
    #[arg(long)]
    pub part: Option<Part>,
    #[command(flatten)]
    pub report: Report,
}

/// How features of scans are computed.
#[derive(clap::Args)]
#[command(next_help_heading = "Features of scans")]
pub struct Scans {
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub series: Series,
    /// Folder that keeps the features computed from scans, so that the next run need not compute them again [default:
    /// none is kept]
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    #[command(flatten)]
    pub memory: Memory,
}

/// The labels.
#[derive(clap::Args)]
pub struct Labelled {
    /// The table of labels: a .csv file with the columns case and label
    #[arg(short, long, value_name = "LABELS.csv", required_unless_present = "masks", conflicts_with = "masks")]
    pub labels: Option<PathBuf>,
    /// Name of the column that holds the classes
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub target: String,
    /// Folder of label maps, for a head on patch tokens: CASE.nii.gz, or another format, on the grid of the case's scan
    ///
    /// Each patch is a row, and its target the share of each label in it. The case may end in _0000 where the label map does
    /// not. Candidates are chosen by folds of cases; without --c there is one, C 1. All features given are fitted to;
    /// `evaluate` judges other cases voxel by voxel, and `segment --head` labels scans.
    #[arg(long, value_name = "DIR")]
    pub masks: Option<PathBuf>,
}

/// The report.
#[derive(clap::Args)]
pub struct Report {
    /// Also write the report to a file, as JSON
    #[arg(long, value_name = "FILE.json")]
    pub json: Option<PathBuf>,
    /// Also draw ROC curves, confusion and calibration into this folder: roc.png, confusion.png, calibration.png
    #[arg(long, value_name = "DIR", conflicts_with = "masks")]
    pub pictures: Option<PathBuf>,
    /// Draws of patients for confidence intervals
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub draws: usize,
    /// Seed of the split, of the order of batches and of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Replace any existing output
    #[arg(long)]
    pub overwrite: bool,
}

impl Report {
    /// Returns the bootstrap that the flags describe.
    pub fn bootstrap(&self) -> Bootstrap {
        Bootstrap { draws: self.draws, seed: self.seed, ..Bootstrap::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HeadKind {
    Logistic,
    OneAgainstRest,
    Linear,
    Adamw,
    Knn,
}

impl ProbeFit {
    /// Returns the recipe that the flags describe.
    pub fn recipe(&self) -> Result<ProbeRecipe> {
        let shares: [f64; 3] = self.split[..]
            .try_into()
            .map_err(|_| Error::option("--split", format!("expected three shares, TRAIN,VAL,TEST, found {}", self.split.len())))?;
        Ok(ProbeRecipe {
            vector: self.vector,
            pooling: self.pool,
            candidates: self.candidates(),
            measure: self.measure,
            standardise: !self.raw,
            balanced: self.balanced,
            shares,
            folds: self.folds,
            seed: self.report.seed,
            bootstrap: self.report.bootstrap(),
        })
    }

    fn candidates(&self) -> Candidates {
        let logistic = |link| {
            let default = || if self.labelled.masks.is_some() { vec![1.0] } else { dinov3_cs() };
            let mut cs = if self.c.is_empty() { default() } else { self.c.clone() };
            cs.sort_by(f64::total_cmp);
            Candidates::Logistic {
                settings: Logistic { link, tolerance: self.tolerance, iterations: self.iterations, ..Logistic::default() },
                cs,
            }
        };
        let probe = |optimiser| {
            let scaled = || LinearProbe::scaled_rates(self.batch);
            let rates = if self.rates.is_empty() { scaled() } else { self.rates.clone() };
            let (batch, steps, warmup, seed) = (self.batch, self.steps, self.warmup, self.report.seed);
            Candidates::Probe(LinearProbe { optimiser, rates, batch, steps, warmup, seed })
        };
        match self.head {
            HeadKind::Logistic => logistic(Link::Softmax),
            HeadKind::OneAgainstRest => logistic(Link::OneAgainstRest),
            HeadKind::Linear => probe(Optimiser::Sgd { momentum: 0.9 }),
            HeadKind::Adamw => probe(Optimiser::AdamW { decay: self.decay }),
            HeadKind::Knn => Candidates::Neighbours { ks: self.k.clone(), temperature: self.temperature },
        }
    }

    /// Returns how vectors are made; with `of_slices`, each slice is a row.
    pub fn making(&self, of_slices: bool) -> Making {
        Making { vector: self.vector, pooling: (!of_slices).then_some(self.pool) }
    }
}
