//! The model, backend and images of a benchmark.

use std::path::PathBuf;

use meddino::Result;
use meddino::backbone::Tuning;
use meddino::ct::Size;
use meddino::graph::Tier;
use meddino::jobs::{Case, Engine, Input, Observer, View, name_text};
use serde_json::{Value, json};

use crate::cli::flags::Bench;
use crate::cli::terminal::say::result;

/// The model, backend and images that a benchmark measures.
pub struct Subject {
    pub device: String,
    /// The number of threads; none on a GPU.
    pub threads: Option<usize>,
    tuning: Tuning,
    checkpoint: PathBuf,
    size: usize,
    /// Number of images in a batch.
    pub batch: usize,
}

impl Subject {
    /// Loads the model that the flags choose onto its backend, and opens the built-in slice.
    pub fn open(args: &Bench, observer: &dyn Observer) -> Result<(Self, Engine, Input)> {
        let mut choice = args.model.choice()?;
        let checkpoint = choice.checkpoint.get_or_insert_with(|| "seeded:0".into()).clone();
        let model = choice.open(observer)?;
        model.model().config().grid(args.size, args.size)?;
        let input = Input::open(&Case::new("phantom"), View::demo(Size::Square(args.size)), observer)?;
        let engine = model.load(observer)?;
        let backbone = engine.backbone();
        let (device, threads, tuning) = (backbone.device(), backbone.threads(), backbone.tuning());
        Ok((Self { device, threads, tuning, checkpoint, size: args.size, batch: args.batch as usize }, engine, input))
    }

    pub fn to_json(&self) -> Value {
        json!({
            "device": self.device,
            "threads": self.threads,
            "tier": self.tuning.tier.map(Tier::name),
            "precision": self.tuning.precision.to_string(),
            "checkpoint": name_text(&self.checkpoint),
            "size": self.size,
            "batch": self.batch,
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    /// Prints the first lines of a table; `what` names the number of runs or slices.
    pub fn table(&self, what: &str) -> Result<()> {
        let Self { size, batch, .. } = self;
        result(format_args!("device    {}", self.device))?;
        result(format_args!("model     {}, {batch} x {size} x {size}, {what}", self.checkpoint.display()))?;
        let tier = self.tuning.tier.map_or(String::new(), |tier| format!(", {tier} kernels"));
        result(format_args!("precision {}{tier}", self.tuning.precision))
    }
}
