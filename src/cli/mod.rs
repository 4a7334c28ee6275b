//! The command line: flags become a job, the job's end becomes an exit code. The only place that prints.
//!
//! Results go to stdout or into files, everything said to people to stderr. Exit codes: 0 done, 1 an error (one line on stderr says which),
//! 2 a mistake in the flags, 3 some of several cases failed and the others are done, 130 interrupted by Ctrl-C.

mod allocator;
mod args;
mod bench;
mod cases;
mod checkpoint;
mod demo;
mod devices;
mod engine;
mod features;
mod flag_names;
mod guard;
mod input;
mod interrupt;
mod limits;
mod manifest;
mod many;
mod memory;
mod names;
mod overlay;
mod pca;
mod peak;
mod picture;
mod picture_args;
mod pipeline;
mod profile;
mod progress;
mod runner;
mod say;
mod scene;
mod search;
mod segment;
mod segment_args;
mod shard;
mod similarity;
mod slices;
mod spool;
mod text;
mod throughput;
mod tokens;
mod tune;
mod verify;
mod weights;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command};
use say::{Done, Failure, Say};

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    flag_names::learn(&Args::command());
    let args = Args::parse();
    let computes = !matches!(args.command, Command::Inspect(_) | Command::Devices | Command::Download);
    match limits::begin(computes).map_err(Failure::from).and_then(|()| command(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Error(error)) => {
            say::error(flag_names::error_with_flags(error));
            ExitCode::FAILURE
        }
        Err(Failure::Cases(list)) => {
            say::error(list);
            ExitCode::from(3)
        }
        Err(Failure::Interrupted) => {
            say::error("interrupted");
            ExitCode::from(interrupt::EXIT_CODE)
        }
    }
}

/// Does what the flags say.
fn command(args: &Args) -> Done {
    let say = Say { quiet: args.quiet };
    match &args.command {
        Command::Features(args) => features::run(args, say),
        Command::Pca(args) => pca::run(args, say),
        Command::Similarity(args) => similarity::run(args, say),
        Command::Segment(args) => segment::run(args, say),
        Command::Inspect(args) => checkpoint::inspect(args),
        Command::Convert(args) => checkpoint::convert(args, say),
        Command::Verify(args) => verify::run(args, say),
        Command::Devices => devices::run(),
        Command::Download => weights::download(say),
        Command::Demo(args) => demo::run(args, say),
        Command::Bench(args) => bench::run(args, say),
        Command::Tune(args) => tune::run(args, say),
    }
}
