//! The `meddino` command: reads CT scans and a checkpoint, and writes features, labels and pictures.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::run()
}
