//! `meddino similarity`: draws how similar each patch is to the patch at a point.

use std::path::PathBuf;

use meddino::jobs::{Slices, name_text};
use meddino::maps::{cosine, limits};
use meddino::picture::{Canvas, Panel};
use meddino::{Error, Result, Tensor};

use super::drawing::{Paint, Target, check_outputs, paths};
use super::subject;
use crate::cli::flags::{Limits, Point, Similarity};
use crate::cli::terminal::Terminal;
use crate::cli::terminal::interrupt::Watch;
use crate::cli::terminal::say::written;

/// Runs the command.
pub fn run(args: &Similarity, terminal: &Terminal) -> Result<()> {
    for path in draw(args, terminal)? {
        written(&path)?;
    }
    Ok(())
}

fn draw(args: &Similarity, terminal: &Terminal) -> Result<Vec<PathBuf>> {
    let Point { x, y, slice } = args.point;
    // Without --slices, the slice in --point is the slice to draw.
    let named = slice.map(|slice| Slices::List(vec![slice as i64]));
    let (mut scene, tokens) = subject::open(&args.subject, args.picture.slices.as_ref().or(named.as_ref()), terminal)?;
    let slices = scene.slices.clone();
    let home = home_slice(slice, &slices, scene.count)?;
    let patch = scene.mesh.patch_of_pixel(x, y)?;
    tokens.check(home)?;
    let output = args.picture.output(&scene, "similarity")?;
    check_outputs(&paths(&output, &slices), &mut subject::targets(&scene, &tokens, args.picture.overwrite)?)?;

    let source = tokens.load(terminal)?;
    let _watch = Watch::new();
    let mut query = Vec::new();
    let mut at_home = None;
    source.each(scene.scan.as_mut(), &[home], terminal, |tokens| {
        query = token(&tokens, patch);
        at_home = Some(cosine(&tokens, &query));
        Ok(())
    })?;
    let others: Vec<usize> = slices.iter().copied().filter(|&slice| slice != home).collect();
    let mut elsewhere = Vec::new();
    source.each(scene.scan.as_mut(), &others, terminal, |tokens| {
        elsewhere.push(cosine(&tokens, &query));
        Ok(())
    })?;
    let mut elsewhere = elsewhere.into_iter();
    let maps: Vec<Tensor> = slices.iter().filter_map(|&slice| if slice == home { at_home.clone() } else { elsewhere.next() }).collect();

    let shown = maps.iter().flat_map(Tensor::data).copied().collect::<Vec<_>>();
    let range = args.range.map_or_else(|| limits(&Tensor::new([shown.len()], shown)), |Limits(lo, hi)| (lo, hi));
    let mut drawing = args.picture.drawing(&scene, args.layout);
    drawing.bar = Some(range);
    let title = format!("Cosine similarity of MedDINOv3 features to pixel {x},{y} of slice {home}: {}", name_text(&scene.name));
    let target = Target { output: &output, title, provenance: &source.provenance(scene.scan.as_mut(), &slices)? };
    let mut maps = maps.into_iter();
    drawing.write(&slices, &target, |i| {
        let map = maps.next().expect("a map of each slice, in order");
        Ok((subject::shades(&mut scene, slices[i], drawing.gray)?, heat(map, range), (slices[i] == home).then_some((x, y))))
    })
}

/// Returns the token [C] of `patch` in `tokens` [P, C].
pub fn token(tokens: &Tensor, patch: usize) -> Vec<f32> {
    tokens.data()[patch * tokens.cols()..][..tokens.cols()].to_vec()
}

/// Returns a function that paints a map of cosines [P].
pub fn heat(map: Tensor, range: (f32, f32)) -> Box<Paint<'static>> {
    Box::new(move |panel: &Panel, canvas: &mut Canvas, alpha| panel.heat(canvas, alpha, &map, range))
}

/// Returns the slice that the point is on: the named slice, else the only slice drawn.
fn home_slice(named: Option<usize>, shown: &[usize], count: usize) -> Result<usize> {
    match (named, shown) {
        (Some(slice), _) if slice < count => Ok(slice),
        (Some(slice), _) => {
            Err(Error::option("point", format!("there is no slice {slice}; this input has {count} slices, 0 to {}", count - 1)))
        }
        (None, &[only]) => Ok(only),
        (None, _) => Err(Error::option("point", "several slices are drawn; name the slice of the point, as X,Y,SLICE")),
    }
}
