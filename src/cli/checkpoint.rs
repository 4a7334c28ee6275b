//! `meddino inspect` and `meddino convert`.

use super::args::{Convert, Inspect};
use super::guard::guard;
use super::interrupt;
use super::runner::model_of;
use super::say::{Done, Say, result, warn, written};

/// What a checkpoint holds, on stdout.
pub fn inspect(args: &Inspect) -> Done {
    let summary = model_of(&args.checkpoint)?.summary();
    if args.json { result(format_args!("{:#}", summary.to_json())) } else { result(summary) }
}

/// A checkpoint under canonical names.
pub fn convert(args: &Convert, say: Say) -> Done {
    guard(args.overwrite, None, Some(&args.checkpoint))?.converts(&args.output)?;
    let model = model_of(&args.checkpoint)?;
    model.warnings().iter().for_each(warn);
    let _watch = interrupt::Watch::new();
    model.write_safetensors_while(&args.output, args.dtype.into(), interrupt::check)?;
    say.note(format_args!("{} parameters, {}", model.parameters(), model.checkpoint().layout()));
    written(&args.output)
}
