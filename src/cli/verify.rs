//! `meddino verify`: compares the backends with each other and with PyTorch.

use std::path::Path;

use meddino::backbone::{Backbone, Choice, Precision, Tuning};
use meddino::gpu::{Context, TileCache};
use meddino::jobs::{Input, View, one_case, open_model};
use meddino::verify::{Golden, Report, TapDistance, Tolerance, compare};
use meddino::vit::config::RopePrecision;
use meddino::vit::features::Request;
use meddino::{Error, Result, Tensor};

use super::flags::Verify;
use super::terminal::Terminal;
use super::terminal::say::{result, warn};

/// Prints a table for every possible comparison, and fails if a difference exceeds the tolerance.
///
/// Compares the backends under f32 RoPE, because f32 is the stricter test, and also under the model's own RoPE if that
/// is not f32. Compares with PyTorch's outputs under the model's own RoPE.
pub fn run(args: &Verify, terminal: &Terminal) -> Result<()> {
    let golden = args.golden.as_deref().map(Golden::open).transpose()?;
    let rope = args.rope.precision().or_else(|| golden.as_ref().and_then(Golden::rope));
    let mut model = open_model(&args.checkpoint, rope, terminal)?;
    let model_rope = model.config().rope;
    let image = image(args, golden.as_ref(), terminal)?;
    model.config().check_image(image.shape())?;
    let request = golden.as_ref().map_or(Request { prenorm: true, layers: Vec::new(), taps: true }, Golden::request);
    request.check(model.config())?;
    terminal.note(format_args!("{} on an image of {:?}", args.checkpoint.display(), image.shape()));

    let tuning = args.kernels.tuning();
    let gpu = if tuning.precision == Precision::Bf16 { None } else { gpu(args)? };
    let mut first_failure = None;
    let mut show = |title: String, rope: RopePrecision, precision: Precision, rows: Vec<TapDistance>| {
        let report = Report { title: format!("{title}, {} RoPE", rope.name()), rows, tolerance: Tolerance::of(precision, rope) };
        if first_failure.is_none() {
            first_failure = report.first_off().map(|row| format!("{}, first at {}", report.title, row.tap));
        }
        result(report)
    };
    for rope in if model_rope == RopePrecision::F32 { vec![model_rope] } else { vec![RopePrecision::F32, model_rope] } {
        model.set_rope(rope);
        let golden = golden.as_ref().filter(|_| rope == model_rope);
        let run = |backbone: Backbone| {
            let precision = backbone.tuning().precision;
            backbone.features(&image, None, &request).map(|features| (backbone.device(), precision, features))
        };
        let cpu = run(Backbone::new(&model, Choice::Cpu)?)?;
        let second = match &gpu {
            Some(context) => Some(run(Backbone::on(&model, context)?)?),
            None if tuning == Tuning::default() => None,
            None => Some(run(Backbone::tuned(&model, Choice::Cpu, tuning)?)?),
        };
        if let Some((device, precision, got)) = &second {
            show(format!("{device} against {}", cpu.0), rope, *precision, compare(got, &cpu.2))?;
        }
        if let Some(golden) = golden {
            for (device, precision, got) in [Some(cpu), second].iter().flatten() {
                show(format!("{device} against PyTorch"), rope, *precision, golden.compare(got, model.config())?)?;
            }
        }
    }
    first_failure.map_or(Ok(()), |problem| Err(Error::mismatch(problem)))
}

/// Returns the GPU to verify. Returns none only if there is a golden file to compare the CPU with and the flags ask for
/// no particular GPU.
fn gpu(args: &Verify) -> Result<Option<Context>> {
    let tuning = args.kernels.tuning();
    match Context::new_tuned(&args.device.clone().unwrap_or_default(), tuning.elem()?, tuning.tier) {
        Ok(context) => {
            // Other commands run the tuned tiles, so these are the tiles to verify.
            let context = context.with_best_tiles(TileCache::from_env().as_ref());
            context.warnings().iter().for_each(warn);
            Ok(Some(context))
        }
        Err(error) if args.golden.is_some() && args.device.is_none() && tuning == Tuning::default() => {
            warn(format_args!("{error}; comparing only the CPU"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Returns the named input, else the golden file's image, else the phantom.
fn image(args: &Verify, golden: Option<&Golden>, terminal: &Terminal) -> Result<Tensor> {
    if let (None, Some(golden)) = (&args.input, golden)
        && let Some(image) = golden.image()?
    {
        return Ok(image);
    }
    let case = one_case(args.input.as_deref().unwrap_or(Path::new("phantom")), None, terminal)?;
    Input::open(&case, View::demo(args.size), terminal)?.batch(0..1)
}
