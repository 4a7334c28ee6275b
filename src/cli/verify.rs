//! `meddino verify`: the backends against each other, and against PyTorch.

use std::path::Path;

use meddino::backbone::{Backbone, Choice, Precision, Tuning};
use meddino::gpu::{Context, TileCache};
use meddino::jobs::{Input, View, one_case, open_model};
use meddino::verify::{Golden, Report, Row, Tolerance, compare};
use meddino::vit::config::RopePrecision;
use meddino::vit::features::Request;
use meddino::{Error, Result, Tensor};

use super::flags::Verify;
use super::terminal::Terminal;
use super::terminal::say::{result, warn};

/// Every comparison that can be made, as a table; an error if any is off.
///
/// The backends are compared under f32 RoPE, which is the sharper test, and under the model's own if that is another. PyTorch's outputs are compared with
/// under the model's own.
pub fn run(args: &Verify, terminal: &Terminal) -> Result<()> {
    let golden = args.golden.as_deref().map(Golden::open).transpose()?;
    let rope = args.rope.precision().or_else(|| golden.as_ref().and_then(Golden::rope));
    let mut model = open_model(&args.checkpoint, rope, terminal)?;
    let own = model.config().rope;
    let image = image(args, golden.as_ref(), terminal)?;
    model.config().check_image(image.shape())?;
    let request = golden.as_ref().map_or(Request { prenorm: true, layers: Vec::new(), taps: true }, Golden::request);
    request.check(model.config())?;
    terminal.note(format_args!("{} on an image of {:?}", args.checkpoint.display(), image.shape()));

    let tuning = args.kernels.tuning();
    let gpu = if tuning.precision == Precision::Bf16 { None } else { gpu(args)? };
    let mut first_off = None;
    let mut show = |title: String, rope: RopePrecision, precision: Precision, rows: Vec<Row>| {
        let report = Report { title: format!("{title}, {} RoPE", rope.name()), rows, tolerance: Tolerance::of(precision, rope) };
        if first_off.is_none() {
            first_off = report.first_off().map(|row| format!("{}, first at {}", report.title, row.tap));
        }
        result(report)
    };
    for rope in if own == RopePrecision::F32 { vec![own] } else { vec![RopePrecision::F32, own] } {
        model.set_rope(rope);
        let golden = golden.as_ref().filter(|_| rope == own);
        let on = |backbone: Backbone| {
            let precision = backbone.tuning().precision;
            backbone.features(&image, None, &request).map(|features| (backbone.device(), precision, features))
        };
        let cpu = on(Backbone::new(&model, Choice::Cpu)?)?;
        let other = match &gpu {
            Some(context) => Some(on(Backbone::on(&model, context)?)?),
            None if tuning == Tuning::default() => None,
            None => Some(on(Backbone::tuned(&model, Choice::Cpu, tuning)?)?),
        };
        if let Some((device, precision, got)) = &other {
            show(format!("{device} against {}", cpu.0), rope, *precision, compare(got, &cpu.2))?;
        }
        if let Some(golden) = golden {
            for (device, precision, got) in [Some(cpu), other].iter().flatten() {
                show(format!("{device} against PyTorch"), rope, *precision, golden.compare(got, model.config())?)?;
            }
        }
    }
    first_off.map_or(Ok(()), |problem| Err(Error::mismatch(problem)))
}

/// The GPU to verify. None will do only where the CPU can be compared with a golden, and only if no particular one was asked for.
fn gpu(args: &Verify) -> Result<Option<Context>> {
    let tuning = args.kernels.tuning();
    match Context::new_tuned(&args.device.clone().unwrap_or_default(), tuning.elem()?, tuning.tier) {
        Ok(context) => {
            // What is verified is what other commands run.
            let context = context.with_best_tiles(TileCache::from_env().as_ref());
            context.warnings().iter().for_each(warn);
            Ok(Some(context))
        }
        Err(error) if args.golden.is_some() && args.device.is_none() && tuning == Tuning::default() => {
            warn(format_args!("{error}; comparing the CPU alone"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The input that was named, else the golden's image, else the phantom.
fn image(args: &Verify, golden: Option<&Golden>, terminal: &Terminal) -> Result<Tensor> {
    if let (None, Some(golden)) = (&args.input, golden)
        && let Some(image) = golden.image()?
    {
        return Ok(image);
    }
    let case = one_case(args.input.as_deref().unwrap_or(Path::new("phantom")), None, terminal)?;
    Input::open(&case, View::demo(args.size), terminal)?.batch(0..1)
}
