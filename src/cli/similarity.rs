//! `meddino similarity`: which patches are like the one at a point.

use std::path::PathBuf;

use meddino::maps::{cosine, limits};
use meddino::picture::{Canvas, Panel};
use meddino::{Error, Result, Tensor};

use super::interrupt;
use super::picture::{Paint, Target, check_outputs, paths};
use super::picture_args::{Limits, Point, Similarity};
use super::say::{Done, Failure, Say, written};
use super::scene::Scene;
use super::slices::Slices;
use super::text::text;

/// The command.
pub fn run(args: &Similarity, say: Say) -> Done {
    for path in draw(args, say)? {
        written(&path)?;
    }
    Ok(())
}

fn draw(args: &Similarity, say: Say) -> Result<Vec<PathBuf>, Failure> {
    let Point { x, y, slice } = args.point;
    // A point names its slice, and then that one is shown if nothing else is said.
    let named = slice.map(|slice| Slices::List(vec![slice as i64]));
    let (mut scene, tokens) = Scene::open(&args.subject, args.picture.slices.as_ref().or(named.as_ref()), say)?;
    let slices = scene.slices.clone();
    let home = home(slice, &slices, scene.count)?;
    let patch = scene.mesh.patch_of_pixel(x, y)?;
    tokens.check(home)?;
    let output = args.picture.output(&scene, "similarity")?;
    check_outputs(&paths(&output, &slices), &mut tokens.guard(&scene, args.picture.overwrite)?)?;

    let source = tokens.load()?;
    let _watch = interrupt::Watch::new();
    let mut query = Vec::new();
    let mut at_home = None;
    source.each(&mut scene, &[home], say, |tokens| {
        query = token(&tokens, patch);
        at_home = Some(cosine(&tokens, &query));
        Ok(())
    })?;
    let others: Vec<usize> = slices.iter().copied().filter(|&slice| slice != home).collect();
    let mut elsewhere = Vec::new();
    source.each(&mut scene, &others, say, |tokens| {
        elsewhere.push(cosine(&tokens, &query));
        Ok(())
    })?;
    let mut elsewhere = elsewhere.into_iter();
    let maps: Vec<Tensor> = slices.iter().filter_map(|&slice| if slice == home { at_home.clone() } else { elsewhere.next() }).collect();

    let shown = maps.iter().flat_map(Tensor::data).copied().collect::<Vec<_>>();
    let range = args.range.map_or_else(|| limits(&Tensor::new([shown.len()], shown)), |Limits(lo, hi)| (lo, hi));
    let mut drawing = args.picture.drawing(&scene, args.layout);
    drawing.bar = Some(range);
    let title = format!("Cosine similarity of MedDINOv3 features to pixel {x},{y} of slice {home}: {}", text(&scene.name));
    let target = Target { output: &output, title, provenance: &source.provenance(&scene)? };
    let mut maps = maps.into_iter();
    drawing.write(&slices, &target, |i| {
        let map = maps.next().expect("a map of each slice, in order");
        Ok((scene.shades(slices[i], drawing.gray)?, paint(map, range), (slices[i] == home).then_some((x, y))))
    })
}

/// The token of `patch` among `tokens` [P, C]: [C].
pub fn token(tokens: &Tensor, patch: usize) -> Vec<f32> {
    tokens.data()[patch * tokens.cols()..][..tokens.cols()].to_vec()
}

/// The way a map of cosines [P] is drawn.
pub fn paint(map: Tensor, range: (f32, f32)) -> Box<Paint<'static>> {
    Box::new(move |panel: &Panel, canvas: &mut Canvas, alpha| panel.heat(canvas, alpha, &map, range))
}

/// The slice that the point is on: the one named, or the only one shown.
fn home(named: Option<usize>, shown: &[usize], count: usize) -> Result<usize> {
    match (named, shown) {
        (Some(slice), _) if slice < count => Ok(slice),
        (Some(slice), _) => Err(Error::option("point", format!("there is no slice {slice}: this input has {count}, 0 to {}", count - 1))),
        (None, &[only]) => Ok(only),
        (None, _) => Err(Error::option("point", "several slices are shown; say which one it is on, as X,Y,SLICE")),
    }
}
