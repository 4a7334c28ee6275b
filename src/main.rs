//! The `meddino` command: reads CT scans and a checkpoint, and writes features, labels and pictures.

use std::process::ExitCode;

use meddino::cli::{self, Allocator};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    cli::run(std::env::args_os()).into()
}
