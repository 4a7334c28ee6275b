//! `meddino demo`: every step from a scan to features and pictures, without scans or weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use meddino::Result;
use meddino::ct::{Size, Volume};
use meddino::jobs::{Case, ModelChoice, Recipe, View, make_folder, targets, write_features};
use meddino::maps::{Mesh, cosine, limits};
use meddino::output::Targets;
use meddino::picture::Gray;
use meddino::vit::config::Config;
use meddino::vit::features::Features;

use super::flags::{Demo, Layout};
use super::pictures::{Drawing, Target, heat, scores_alone, token};
use super::terminal::Terminal;
use super::terminal::say::result;

/// Column and row of a pixel in the phantom's left ventricle.
const POINT: (usize, usize) = (312, 246);

/// Runs the demo and prints a summary on stdout.
pub fn run(args: &Demo, terminal: &Terminal) -> Result<()> {
    let started = Instant::now();
    let folder = &args.output;
    make_folder(folder)?;
    let output = folder.join("phantom.features.safetensors");
    let model = ModelChoice { checkpoint: Some("seeded:0".into()), ..ModelChoice::default() };
    let recipe = Recipe { batch: Some(1), ..Recipe::new(model, View::demo(Size::Square(224))) };
    let case = Case::new("phantom");
    let mut targets = targets(args.overwrite, Some(&case.input), recipe.model.checkpoint.as_deref())?;
    let (job, report) = write_features(&recipe, &case, &output, &mut targets, terminal)?;
    let ([_, _, height, width], seconds) = (report.images, report.took.as_secs_f64());
    let device = job.engine().backbone().device();
    let pictures = draw(&report.last, folder, args.overwrite)?;
    let (cls, patches) = (report.last.cls(), report.last.patches());
    let first: Vec<String> = cls.data()[..4].iter().map(|v| format!("{v:.4}")).collect();
    result("scan      phantom: a synthetic thorax slice, 512 x 512, in HU")?;
    result("model     seeded:0: ViT-B/16 of MedDINOv3's shape with random weights; its features mean nothing")?;
    result(format_args!("image     {} x {}, normalised, {} patches", height, width, patches.shape()[1]))?;
    result(format_args!("features  cls {:?} = [{}, ...], patches {:?}", cls.shape(), first.join(", "), patches.shape()))?;
    result(format_args!("backend   {device}"))?;
    result(format_args!("time      {seconds:.2} s for the image, {:.2} s in all", started.elapsed().as_secs_f64()))?;
    result(format_args!("written   {}", output.display()))?;
    let [components, similarity] = &pictures;
    result(format_args!("          {}: the patches' principal components as colours", components.display()))?;
    result(format_args!("          {}: each patch's similarity to the patch marked in the heart", similarity.display()))
}

/// Draws the principal components of the phantom's features and their similarity to [`POINT`]; returns both paths.
fn draw(features: &Features, folder: &Path, overwrite: bool) -> Result<[PathBuf; 2]> {
    let pictures = ["phantom.pca.png", "phantom.similarity.png"].map(|name| folder.join(name));
    let mut targets = Targets::new(overwrite);
    pictures.iter().try_for_each(|picture| targets.writes(picture))?;
    let [components, similarity] = &pictures;
    let slice = Volume::phantom().read_slice(0)?;
    let shades = Gray::SOFT_TISSUE.shades(&slice);
    let tokens = features.patches();
    let tokens = tokens.clone().reshaped(&tokens.shape()[1..]); // [P, C] of the only image
    let mesh = Mesh::new(features.grid, Config::vit_base().patch_size, (224, 224), (slice.shape()[0], slice.shape()[1]));
    let mut drawing = Drawing { mesh, pixel: (1.0, 1.0), layout: Layout::Beside, smooth: false, gray: Gray::SOFT_TISSUE, bar: None };
    let provenance = BTreeMap::from([("input".into(), "phantom".into()), ("checkpoint".into(), "seeded:0".into())]);
    let target = |output, title: &str| Target { output, title: title.into(), provenance: &provenance };

    let scores = scores_alone(&tokens)?;
    drawing.write(&[0], &target(components, "Principal components"), |_| Ok((Some(shades.clone()), scores.clone().paint(), None)))?;

    let map = cosine(&tokens, &token(&tokens, mesh.patch_of_pixel(POINT.0, POINT.1)?));
    let range = limits(&map);
    drawing.bar = Some(range);
    drawing.write(&[0], &target(similarity, "Cosine similarity"), |_| Ok((Some(shades.clone()), heat(map.clone(), range), Some(POINT))))?;
    Ok(pictures)
}
