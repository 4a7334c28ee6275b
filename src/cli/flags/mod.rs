//! The flags, as they are typed and as `--help` explains them: a file a command or a group.

mod checkpoint;
mod cohort;
mod demo;
mod features;
mod look;
mod measure;
mod model;
mod pictures;
mod segment;
mod verify;

use clap::{Parser, Subcommand};

pub use checkpoint::{Convert, Inspect};
pub use demo::Demo;
pub use features::Features;
pub use measure::{Bench, Tune};
pub use pictures::{Fit, Layout, Limits, Pca, Picture, Point, Similarity, Subject};
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
    /// No notes and no progress on stderr; warnings and errors remain
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Subcommand)]
pub enum Command {
    Features(Box<Features>),
    Pca(Box<Pca>),
    Similarity(Box<Similarity>),
    Segment(Box<Segment>),
    Inspect(Inspect),
    Convert(Convert),
    Verify(Verify),
    /// List the GPUs of this machine, and which backend `--backend auto` takes
    Devices,
    /// Put the released checkpoint into the cache, check its SHA-256 and print its path
    ///
    /// This is what a command without -c does by itself, for machines that will have no network later. It comes from the Hugging Face hub, into
    /// the cache that Python's huggingface_hub keeps, in HF_HUB_CACHE or HF_HOME/hub or ~/.cache/huggingface/hub; a download that was cut
    /// is resumed. HF_ENDPOINT names another hub, HF_TOKEN a token for it; with HF_HUB_OFFLINE=1 only the cache is looked at.
    Download,
    Demo(Demo),
    Bench(Bench),
    Tune(Tune),
}
