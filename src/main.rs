//! The `meddino` command: a CT scan and a checkpoint in, features out.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::run()
}
