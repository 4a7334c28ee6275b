//! `meddino verify`: the backends against each other, and against PyTorch.

use meddino::backbone::{Backbone, Choice};
use meddino::gpu::Context;
use meddino::verify::{Golden, Report, Row, compare, tolerance};
use meddino::vit::config::RopePrecision;
use meddino::vit::features::Request;
use meddino::{Error, Result, Tensor};

use super::args::Verify;
use super::input::{Input, View};
use super::runner::open_model;
use super::say::{Done, Say, result, warn};

/// Every comparison that can be made, as a table; an error if any is off.
///
/// The backends are compared under f32 RoPE, which is the sharper test, and under the model's own if that is another. PyTorch's outputs are compared with
/// under the model's own.
pub fn run(args: &Verify, say: Say) -> Done {
    let golden = args.golden.as_deref().map(Golden::open).transpose()?;
    let rope = args.rope.precision().or_else(|| golden.as_ref().and_then(Golden::rope));
    let mut model = open_model(&args.checkpoint, rope)?;
    let own = model.config().rope;
    let image = image(args, golden.as_ref())?;
    model.config().check_image(image.shape())?;
    let request = golden.as_ref().map_or(Request { prenorm: true, layers: Vec::new(), taps: true }, Golden::request);
    request.check(model.config())?;
    say.note(format_args!("{} on an image of {:?}", args.checkpoint, image.shape()));

    let gpu = gpu(args)?;
    let mut first_off = None;
    let mut show = |title: String, rope: RopePrecision, rows: Vec<Row>| {
        let report = Report { title: format!("{title}, {} RoPE", rope.name()), rows, tolerance: tolerance(rope) };
        if first_off.is_none() {
            first_off = report.first_off().map(|row| format!("{}, first at {}", report.title, row.tap));
        }
        result(report)
    };
    for rope in if own == RopePrecision::F32 { vec![own] } else { vec![RopePrecision::F32, own] } {
        model.set_rope(rope);
        let golden = golden.as_ref().filter(|_| rope == own);
        let on = |backbone: Backbone| backbone.features(&image, None, &request).map(|features| (backbone.device(), features));
        let cpu = on(Backbone::new(&model, Choice::Cpu)?)?;
        let gpu = gpu.as_ref().map(|context| on(Backbone::on(&model, context)?)).transpose()?;
        if let Some((device, got)) = &gpu {
            show(format!("{device} against {}", cpu.0), rope, compare(got, &cpu.1))?;
        }
        if let Some(golden) = golden {
            for (device, got) in [Some(cpu), gpu].iter().flatten() {
                show(format!("{device} against PyTorch"), rope, golden.compare(got, model.config())?)?;
            }
        }
    }
    first_off.map_or(Ok(()), |problem| Err(Error::mismatch(problem).into()))
}

/// The GPU to verify. None will do only where the CPU can be compared with a golden, and only if no particular one was asked for.
fn gpu(args: &Verify) -> Result<Option<Context>> {
    match Context::new(&args.device.clone().unwrap_or_default()) {
        Ok(context) => Ok(Some(context)),
        Err(error) if args.golden.is_some() && args.device.is_none() => {
            warn(format_args!("{error}; comparing the CPU alone"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The input that was named, else the golden's image, else the phantom.
fn image(args: &Verify, golden: Option<&Golden>) -> Result<Tensor> {
    if let (None, Some(golden)) = (&args.input, golden)
        && let Some(image) = golden.image()?
    {
        return Ok(image);
    }
    Input::open(args.input.as_deref().unwrap_or("phantom"), View::demo(args.size))?.batch(0..1)
}
