//! The command line: turns flags into a job, and the job's result into an exit code. Only this module prints. The
//! `meddino` command and the Python package run it; it is not part of the library's API.
//!
//! Results go to stdout or to files; notes, warnings, progress and errors go to stderr. Exit codes:
//! - 0: success
//! - 1: an error, which one line on stderr describes
//! - 2: wrong flags
//! - 3: some of several cases failed, and the others are done
//! - 130: interrupted by Ctrl-C

mod checkpoint;
mod demo;
mod devices;
mod download;
mod features;
mod flags;
mod label_name;
mod manual;
mod measure;
mod pictures;
mod probe;
mod probe_scans;
mod segment;
mod segment_head;
mod terminal;
mod verify;

use std::ffi::OsString;

use clap::{CommandFactory, Parser};
use meddino::Error;

use flags::{Args, Command};
pub use terminal::allocator::Allocator;
use terminal::flag_names::error_text;
use terminal::say::Failure;
use terminal::{Terminal, interrupt, limits, say};

/// Parses `arguments`, of which the first is the program's name, runs the command and returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    terminal::flag_names::learn(&Args::command());
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(answer) => {
            // A closed stream is no reason to fail.
            let _ = answer.print();
            return answer.exit_code() as u8;
        }
    };
    let computes =
        !matches!(args.command, Command::Inspect(_) | Command::Devices | Command::Download | Command::Completions(_) | Command::Man(_));
    match limits::begin(computes).map_err(Failure::from).and_then(|()| command(&args, &Terminal::new(args.quiet))) {
        Ok(()) => 0,
        Err(Failure::Error(Error::Cancelled)) => {
            say::error("interrupted");
            interrupt::EXIT_CODE
        }
        Err(Failure::Error(error)) => {
            say::error(error_text(&error));
            1
        }
        Err(Failure::Cases(list)) => {
            say::error(list);
            3
        }
    }
}

/// Runs the command that the flags name.
fn command(args: &Args, terminal: &Terminal) -> Result<(), Failure> {
    match &args.command {
        Command::Features(args) => features::run(args, terminal)?,
        Command::Segment(args) => segment::run(args, terminal)?,
        Command::Pca(args) => pictures::pca(args, terminal)?,
        Command::Similarity(args) => pictures::similarity(args, terminal)?,
        Command::Probe(args) => probe::run(args, terminal)?,
        Command::Inspect(args) => checkpoint::inspect(args)?,
        Command::Convert(args) => checkpoint::convert(args, terminal)?,
        Command::Verify(args) => verify::run(args, terminal)?,
        Command::Devices => devices::run()?,
        Command::Download => download::run(terminal)?,
        Command::Demo(args) => demo::run(args, terminal)?,
        Command::Bench(args) => measure::bench(args, terminal)?,
        Command::Tune(args) => measure::tune(args, terminal)?,
        Command::Completions(args) => manual::completions(args)?,
        Command::Man(args) => manual::man(args)?,
    }
    Ok(())
}
