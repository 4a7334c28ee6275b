//! `meddino verify`: the backends against each other, and against PyTorch.

use meddino::backbone::{Backbone, Choice};
use meddino::verify::{Golden, Report, Row, compare, tolerance};
use meddino::vit::features::{Features, Request};
use meddino::{Error, Result, Tensor};

use super::args::Verify;
use super::features::open_model;
use super::input::Input;
use super::say::{Done, Say, result, warn};

/// Every comparison that can be made, as a table; an error if any is off.
pub fn run(args: &Verify, say: Say) -> Done {
    let golden = args.golden.as_deref().map(Golden::open).transpose()?;
    let rope = args.rope.precision().or_else(|| golden.as_ref().and_then(Golden::rope));
    let model = open_model(&args.checkpoint, rope)?;
    let config = model.config().clone();
    let image = image(args, golden.as_ref())?;
    config.check_image(image.shape())?;
    let request = golden.as_ref().map_or(Request { prenorm: true, layers: Vec::new(), taps: true }, Golden::request);
    request.check(&config)?;

    let gpu = match Backbone::new(&model, Choice::Gpu(args.device.clone().unwrap_or_default())) {
        Ok(gpu) => Some(gpu),
        // The CPU against PyTorch is worth having where there is no GPU, unless one was asked for.
        Err(error) if golden.is_some() && args.device.is_none() => {
            warn(format_args!("{error}; comparing the CPU alone"));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let cpu = Backbone::new(&model, Choice::Cpu)?;
    say.note(format_args!("{} on an image of {:?}, {} RoPE", args.checkpoint, image.shape(), config.rope.name()));
    let on = |backbone: &Backbone| backbone.features(&image, None, &request).map(|features| (backbone.device(), features));
    let runs: Vec<(String, Features)> = [Some(&cpu), gpu.as_ref()].into_iter().flatten().map(on).collect::<Result<_>>()?;

    let report = |title: String, rows: Vec<Row>| Report { title, rows, tolerance: tolerance(config.rope) };
    let mut reports = Vec::new();
    if let [(cpu, want), (gpu, got)] = &runs[..] {
        reports.push(report(format!("{gpu} against {cpu}"), compare(got, want)));
    }
    if let Some(golden) = &golden {
        for (device, got) in &runs {
            reports.push(report(format!("{device} against PyTorch"), golden.compare(got, &config)?));
        }
    }
    for report in &reports {
        result(report)?;
    }
    match reports.iter().find_map(|report| report.first_off().map(|row| (report, row))) {
        None => Ok(()),
        Some((report, row)) => Err(Error::mismatch(format_args!("{}, first at {}", report.title, row.tap)).into()),
    }
}

/// The input that was named, else the golden's image, else the phantom.
fn image(args: &Verify, golden: Option<&Golden>) -> Result<Tensor> {
    if let (None, Some(golden)) = (&args.input, golden)
        && let Some(image) = golden.image()?
    {
        return Ok(image);
    }
    Input::open(args.input.as_deref().unwrap_or("phantom"))?.batch(0..1, args.size)
}
