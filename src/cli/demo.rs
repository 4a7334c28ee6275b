//! `meddino demo`: the whole way from a scan to features, on a machine with neither scans nor weights.

use std::fs;
use std::time::Instant;

use meddino::Error;
use meddino::archive::Dtype;
use meddino::backbone::{Choice, Tuning};
use meddino::ct::Size;
use meddino::output::{Format, Output};

use super::args::Demo;
use super::cases::Case;
use super::engine::Recipe;
use super::features::one;
use super::input::View;
use super::say::{Done, Say, result};
use super::slices::Slices;

/// The demo, and a few lines on stdout that say what it did.
pub fn run(args: &Demo, say: Say) -> Done {
    let started = Instant::now();
    let folder = &args.output;
    fs::create_dir_all(folder).map_err(|e| Error::output(folder.display(), format!("the folder cannot be made: {e}")))?;
    let output = folder.join("phantom.features.safetensors");
    let recipe = Recipe {
        checkpoint: Some("seeded:0".into()),
        view: View::demo(Size::Square(224)),
        slices: Slices::All,
        outputs: vec![Output::Cls, Output::Storage, Output::Patch],
        format: Format::Safetensors,
        dtype: Dtype::F32,
        backend: Choice::Auto,
        tuning: Tuning::default(),
        rope: None,
        batch: Some(1),
        max_memory: None,
        profile: false,
    };
    let (report, device) = one(&recipe, &Case { input: "phantom".into() }, &output, say)?;
    let (cls, patches) = (report.last.cls(), report.last.patches());
    let first: Vec<String> = cls.data()[..4].iter().map(|v| format!("{v:.4}")).collect();
    result("scan      phantom: a synthetic thorax slice, 512 x 512, in HU")?;
    result("model     seeded:0: ViT-B/16 of MedDINOv3's shape with made-up weights; its features mean nothing")?;
    result(format_args!("image     {} x {}, normalised, {} patches", report.images[2], report.images[3], patches.shape()[1]))?;
    result(format_args!("features  cls {:?} = [{}, ...], patches {:?}", cls.shape(), first.join(", "), patches.shape()))?;
    result(format_args!("backend   {device}"))?;
    result(format_args!("time      {:.2} s for the image, {:.2} s in all", report.took.as_secs_f64(), started.elapsed().as_secs_f64()))?;
    result(format_args!("written   {}", output.display()))
}
