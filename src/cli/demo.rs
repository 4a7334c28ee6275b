//! `meddino demo`: the whole way from a scan to features, on a machine with neither scans nor weights.

use std::fs;
use std::time::Instant;

use meddino::Error;
use meddino::backbone::{Choice, Tuning};
use meddino::ct::Size;
use meddino::output::Output;

use super::args::Demo;
use super::features::Job;
use super::input::View;
use super::say::{Done, Say, result};

/// The demo, and a few lines on stdout that say what it did.
pub fn run(args: &Demo, say: Say) -> Done {
    let started = Instant::now();
    let folder = &args.output;
    fs::create_dir_all(folder).map_err(|e| Error::output(folder.display(), format!("the folder cannot be made: {e}")))?;
    let job = Job {
        input: "phantom".into(),
        checkpoint: Some("seeded:0".into()),
        output: folder.join("phantom.features.safetensors"),
        view: View::demo(Size::Square(224)),
        outputs: vec![Output::Cls, Output::Storage, Output::Patch],
        backend: Choice::Auto,
        tuning: Tuning::default(),
        rope: None,
        batch: 1,
        profile: false,
    };
    let report = job.run(say)?;
    let (cls, patches) = (report.last.cls(), report.last.patches());
    let first: Vec<String> = cls.data()[..4].iter().map(|v| format!("{v:.4}")).collect();
    result("scan      phantom: a synthetic thorax slice, 512 x 512, in HU")?;
    result("model     seeded:0: ViT-B/16 of MedDINOv3's shape with made-up weights; its features mean nothing")?;
    result(format_args!("image     {} x {}, normalised, {} patches", report.images[2], report.images[3], patches.shape()[1]))?;
    result(format_args!("features  cls {:?} = [{}, ...], patches {:?}", cls.shape(), first.join(", "), patches.shape()))?;
    result(format_args!("backend   {}", report.device))?;
    result(format_args!("time      {:.2} s for the image, {:.2} s in all", report.took.as_secs_f64(), started.elapsed().as_secs_f64()))?;
    result(format_args!("written   {}", job.output.display()))
}
