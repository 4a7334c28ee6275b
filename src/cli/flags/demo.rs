//! The flags of `demo`.

use std::path::PathBuf;

/// Try it without data or weights: a synthetic thorax slice through an untrained model, to features and pictures
#[derive(clap::Args)]
pub struct Demo {
    /// Where its files go; made if it does not exist
    #[arg(short, long, value_name = "DIR", default_value = "meddino-demo")]
    pub output: PathBuf,
    /// Also replace files that meddino did not write, that were changed since, or that it made of another scan.
    /// Inputs are never replaced
    #[arg(long)]
    pub overwrite: bool,
}
