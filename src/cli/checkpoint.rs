//! `meddino inspect` and `meddino convert`.

use meddino::Result;
use meddino::jobs::{model_of, targets};

use super::flags::{Convert, Inspect};
use super::terminal::say::{result, warn, written};
use super::terminal::{Terminal, interrupt};

/// Prints a summary of a checkpoint on stdout.
pub fn inspect(args: &Inspect) -> Result<()> {
    let summary = model_of(&args.checkpoint)?.summary();
    if args.json { result(format_args!("{:#}", summary.to_json())) } else { result(summary) }
}

/// Writes a checkpoint as .safetensors with MedDINOv3's tensor names, as one file or in shards.
pub fn convert(args: &Convert, terminal: &Terminal) -> Result<()> {
    if let Some(output) = &args.output {
        targets(args.overwrite, None, Some(&args.checkpoint))?.converts(output)?;
    }
    let model = model_of(&args.checkpoint)?;
    model.warnings().iter().for_each(warn);
    let _watch = interrupt::Watch::new();
    let path = match (&args.shards, &args.output) {
        (Some(folder), _) => model.write_shards_while(folder, args.dtype.into(), interrupt::check)?,
        (None, Some(output)) => model.write_safetensors_while(output, args.dtype.into(), interrupt::check).map(|()| output.clone())?,
        (None, None) => unreachable!("one of them is required"),
    };
    terminal.note(format_args!("{} parameters, {}", model.parameters(), model.checkpoint().layout()));
    written(&path)
}
