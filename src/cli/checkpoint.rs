//! `meddino inspect` and `meddino convert`.

use super::args::{Convert, Inspect};
use super::features::refuse_overwriting;
use super::runner::model_of;
use super::say::{Done, Say, result, warn};

/// What a checkpoint holds, on stdout.
pub fn inspect(args: &Inspect) -> Done {
    let summary = model_of(&args.checkpoint)?.summary();
    if args.json { result(format_args!("{:#}", summary.to_json())) } else { result(summary) }
}

/// A checkpoint under canonical names.
pub fn convert(args: &Convert, say: Say) -> Done {
    refuse_overwriting(&args.output, [&args.checkpoint])?;
    let model = model_of(&args.checkpoint)?;
    model.warnings().iter().for_each(warn);
    model.write_safetensors(&args.output, args.dtype.into())?;
    say.note(format_args!("{} parameters, {}", model.parameters(), model.checkpoint().layout()));
    result(args.output.display())
}
