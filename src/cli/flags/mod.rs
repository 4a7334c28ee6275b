//! The flags and their `--help` texts. Each file holds one command, or one group of flags that commands share.

mod checkpoint;
mod cohort;
mod demo;
mod features;
mod look;
mod manual;
mod measure;
mod memory;
mod model;
mod pictures;
mod probe;
mod segment;
mod verify;

use clap::{Parser, Subcommand};

pub use checkpoint::{Convert, Inspect};
pub use demo::Demo;
pub use features::Features;
pub use manual::{Completions, Man};
pub use measure::{Bench, Tune};
pub use pictures::{Fit, Layout, Limits, Pca, Picture, Point, Similarity, Subject};
pub use probe::{Labelled, Probe, ProbeCommand, ProbeEvaluate, ProbeFit, ProbePredict, Report, Scans};
pub use segment::Segment;
pub use verify::Verify;

/// MedDINOv3 features from CT scans, on any GPU or none.
///
/// Research software, not a medical device.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
    /// Print only warnings and errors on stderr, without notes and progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Subcommand)]
pub enum Command {
    Features(Box<Features>),
    Pca(Box<Pca>),
    Similarity(Box<Similarity>),
    Segment(Box<Segment>),
    Probe(Probe),
    Inspect(Inspect),
    Convert(Convert),
    Verify(Verify),
    /// List this machine's GPUs and the backend that `--backend auto` chooses
    Devices,
    /// Download the released checkpoint to the cache, check its SHA-256 and print its path
    ///
    /// Commands without -c download the checkpoint when they first need it; run this before a machine goes offline. The
    /// checkpoint comes from the Hugging Face hub and is stored in the cache that Python's huggingface_hub uses:
    /// HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub. An interrupted download is resumed. HF_ENDPOINT
    /// sets another hub, and HF_TOKEN its access token. HF_HUB_OFFLINE=1 uses only the cache.
    Download,
    Demo(Demo),
    Bench(Bench),
    Tune(Tune),
    Completions(Completions),
    Man(Man),
}
