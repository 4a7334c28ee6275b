//! `meddino pca`: draws the patches' principal components as colours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meddino::archive::folder_of;
use meddino::jobs::{Observer, Scene, TensorSpool, TokenSource, name_text};
use meddino::maps::{Basis, BasisFile, Moments, limits};
use meddino::picture::{Canvas, Panel};
use meddino::{Error, Result, Tensor};

use super::drawing::{Paint, Target, check_outputs, paths};
use super::subject;
use crate::cli::flags::{Fit, Pca};
use crate::cli::terminal::Terminal;
use crate::cli::terminal::interrupt::Watch;
use crate::cli::terminal::say::{warn, written};

/// Metadata that must be equal for two scans to share a basis, besides the width of a token.
const SHARED: [&str; 3] = ["checkpoint_sha256", "rope", "preprocessing"];

/// One slice's whitened scores, and the values at the ends of its colour range.
#[derive(Clone)]
pub struct Projection {
    /// [P, 3]
    scores: Tensor,
    limits: (f32, f32),
}

/// Runs the command.
pub fn run(args: &Pca, terminal: &Terminal) -> Result<()> {
    for path in draw(args, terminal)? {
        written(&path)?;
    }
    Ok(())
}

fn draw(args: &Pca, terminal: &Terminal) -> Result<Vec<PathBuf>> {
    let (mut scene, tokens) = subject::open(&args.subject, args.picture.slices.as_ref(), terminal)?;
    let slices = scene.slices.clone();
    let output = args.picture.output(&scene, "pca")?;
    let one_basis = args.fit == Fit::Volume || slices.len() == 1;
    if args.save_basis.is_some() && !one_basis {
        let problem = format!("each of the {} slices has its own basis; add --fit volume, or choose one slice", slices.len());
        return Err(Error::option("--save-basis", problem));
    }
    let mut targets = subject::targets(&scene, &tokens, args.picture.overwrite)?;
    targets.reads("the basis", &args.basis);
    check_outputs(paths(&output, &slices).iter().chain(&args.save_basis), &mut targets)?;
    let basis_file = args.basis.as_deref().map(|path| open_basis(path, tokens.width())).transpose()?;

    let source = tokens.load(terminal)?;
    let provenance = source.provenance(scene.scan.as_mut(), &slices)?;
    let _watch = Watch::new();
    let scored = match basis_file {
        Some(file) => {
            warn_of_differences(&file, &provenance, args.basis.as_deref().unwrap_or(Path::new("")));
            each_slice(&source, &mut scene, terminal, |tokens| Ok(Projection { scores: file.basis.scores(tokens), limits: file.limits }))?
        }
        None if one_basis => {
            let (basis, scored) = shared(&source, &mut scene, folder_of(&output), terminal)?;
            if let Some(path) = &args.save_basis {
                BasisFile { basis, limits: scored[0].limits, metadata: provenance.clone() }.save(path)?;
            }
            scored
        }
        None => each_slice(&source, &mut scene, terminal, scores_alone)?,
    };
    let drawing = args.picture.drawing(&scene, args.layout);
    let title = format!("Principal components of MedDINOv3 features: {}", name_text(&scene.name));
    let target = Target { output: &output, title, provenance: &provenance };
    let mut scored = scored.into_iter();
    drawing.write(&slices, &target, |i| {
        let scores = scored.next().expect("scores of each slice, in order");
        Ok((subject::shades(&mut scene, slices[i], drawing.gray)?, scores.paint(), None))
    })
}

impl Projection {
    /// Returns a function that paints these scores.
    pub fn paint(self) -> Box<Paint<'static>> {
        Box::new(move |panel: &Panel, canvas: &mut Canvas, alpha| panel.components(canvas, alpha, &self.scores, self.limits))
    }
}

/// Projects one slice's `tokens` [P, C] onto their own principal components.
pub fn scores_alone(tokens: &Tensor) -> Result<Projection> {
    let mut moments = Moments::new(tokens.cols());
    moments.add(tokens);
    let basis = complete(moments.basis()?);
    let scores = basis.scores(tokens);
    Ok(Projection { limits: limits(&scores), scores })
}

/// Returns the scores of every slice, which `of` computes from the slice's tokens.
fn each_slice(
    source: &TokenSource,
    scene: &mut Scene,
    observer: &dyn Observer,
    mut of: impl FnMut(&Tensor) -> Result<Projection> + Send,
) -> Result<Vec<Projection>> {
    let mut scored = Vec::new();
    source.each(scene.scan.as_mut(), &scene.slices, observer, |tokens| {
        scored.push(of(&tokens)?);
        Ok(())
    })?;
    Ok(scored)
}

/// Returns the components of all slices' tokens together, and every slice's scores in them. Until the components are
/// known, the tokens are kept on disk in `folder`.
fn shared(source: &TokenSource, scene: &mut Scene, folder: &Path, observer: &dyn Observer) -> Result<(Basis, Vec<Projection>)> {
    let width = source.width();
    let mut moments = Moments::new(width);
    let mut spool = TensorSpool::new(folder, &[scene.mesh.grid.patches(), width])?;
    source.each(scene.scan.as_mut(), &scene.slices, observer, |tokens| {
        moments.add(&tokens);
        spool.push(&tokens)
    })?;
    let basis = complete(moments.basis()?);
    let mut scores = Vec::new();
    spool.each(|tokens| scores.push(basis.scores(tokens)))?;
    let wider = |(lo, hi): (f32, f32), map: &Tensor| {
        let (least, greatest) = limits(map);
        (lo.min(least), hi.max(greatest))
    };
    let limits = scores.iter().fold((f32::INFINITY, f32::NEG_INFINITY), wider);
    Ok((basis, scores.into_iter().map(|scores| Projection { scores, limits }).collect()))
}

/// Returns the basis, and warns if it has fewer than three components.
fn complete(basis: Basis) -> Basis {
    if basis.rank() < 3 {
        warn(format_args!("the features vary in only {} directions, so the other colours are constant", basis.rank()));
    }
    basis
}

/// Opens the basis in a file, which must have the model's token width.
fn open_basis(path: &Path, width: usize) -> Result<BasisFile> {
    let file = BasisFile::open(path)?;
    if file.basis.width() == width {
        return Ok(file);
    }
    let problem = format!(
        "holds components for tokens of width {}, but this model's tokens have width {width}; use a basis of the same model",
        file.basis.width()
    );
    Err(Error::input(path.display(), problem))
}

/// Warns of differences between the features that a basis was fitted to and the features that it is used on.
fn warn_of_differences(file: &BasisFile, provenance: &BTreeMap<String, String>, path: &Path) {
    // Seeded weights have no hash, so their names are compared.
    let by_name = !provenance.contains_key("checkpoint_sha256") || !file.metadata.contains_key("checkpoint_sha256");
    let keys = SHARED.iter().copied().chain(by_name.then_some("checkpoint"));
    for key in keys {
        let (before, now) = (file.metadata.get(key), provenance.get(key));
        if before != now {
            let text = |value: Option<&String>| value.map_or("none", String::as_str).to_string();
            warn(format_args!(
                "{}: its {key} is {}, but here it is {}; the colours may be meaningless",
                path.display(),
                text(before),
                text(now)
            ));
        }
    }
}
