//! The flags of `demo`.

use std::path::PathBuf;

/// Try meddino without data or weights: features and pictures of a synthetic slice by an untrained model
#[derive(clap::Args)]
pub struct Demo {
    /// Folder for the demo's files; created if missing
    #[arg(short, long, value_name = "DIR", default_value = "meddino-demo")]
    pub output: PathBuf,
    /// Replace any existing output
    ///
    /// Without this flag, meddino replaces a file only if meddino wrote the file from the same input and nobody has
    /// changed the file since. Inputs are never replaced.
    #[arg(long)]
    pub overwrite: bool,
}
