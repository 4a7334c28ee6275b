//! Patch tokens, slice by slice: computed, or from a file of features.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meddino::backbone::{Choice, Tuning};
use meddino::output::{StoredFeatures, Targets};
use meddino::vit::features::Request;
use meddino::vit::model::Model;
use meddino::{Result, Tensor};
use serde_json::json;

use super::guard::guard;
use super::progress::Progress;
use super::runner::Runner;
use super::say::{Failure, Say};
use super::scene::Scene;
use super::slices::Slices;
use super::text::text;
use super::{interrupt, memory};

/// What the metadata of features say of their patches' places.
const OF_PATCHES: [&str; 3] = ["patch_affine", "slice_positions", "patch_steps"];

/// Where patch tokens come from, before weights are loaded.
pub enum Tokens {
    Waiting { checkpoint: PathBuf, model: Box<Model>, choice: Choice, tuning: Tuning },
    Stored { features: Box<StoredFeatures>, path: PathBuf },
}

/// Where patch tokens come from.
pub enum Source {
    Computed(Box<Runner>),
    Stored { features: Box<StoredFeatures>, path: PathBuf },
}

impl Tokens {
    /// Width of a token, C.
    pub fn width(&self) -> usize {
        match self {
            Self::Waiting { model, .. } => model.config().embed_dim,
            Self::Stored { features, .. } => features.width(),
        }
    }

    /// Targets that are none of the files behind them, nor of `scene`.
    pub fn guard(&self, scene: &Scene, overwrite: bool) -> Result<Targets> {
        let scan = scene.scan.as_ref().map(|(case, _)| case.input.as_path());
        match self {
            Self::Waiting { checkpoint, .. } => guard(overwrite, scan, Some(checkpoint)),
            Self::Stored { path, .. } => {
                let mut targets = guard(overwrite, scan, None)?;
                targets.reads("the features", [path]);
                Ok(targets)
            }
        }
    }

    /// Whether there are tokens of `slice`, which exists.
    pub fn check(&self, slice: usize) -> Result<()> {
        match self {
            Self::Stored { features, .. } => Slices::List(vec![slice as i64]).among(features.slices(), slice + 1).map(drop),
            Self::Waiting { .. } => Ok(()),
        }
    }

    /// Loads the weights, where there are any to load.
    pub fn load(self) -> Result<Source> {
        Ok(match self {
            Self::Waiting { checkpoint, model, choice, tuning } => {
                Source::Computed(Box::new(Runner::load(checkpoint, *model, choice, tuning)?))
            }
            Self::Stored { features, path } => Source::Stored { features, path },
        })
    }
}

impl Source {
    /// Width of a token, C.
    pub fn width(&self) -> usize {
        match self {
            Self::Computed(runner) => runner.model.config().embed_dim,
            Self::Stored { features, .. } => features.width(),
        }
    }

    /// Hands the patch tokens [P, C] of each of `slices` to `take`, in order. Ctrl-C ends it.
    pub fn each(
        &self,
        scene: &mut Scene,
        slices: &[usize],
        say: Say,
        mut take: impl FnMut(Tensor) -> Result<()> + Send,
    ) -> Result<(), Failure> {
        let mut progress = Progress::new(0, slices.len(), say);
        match self {
            Self::Stored { features, .. } => slices.iter().try_for_each(|slice| {
                interrupt::check()?;
                let position = features.slices().iter().position(|stored| stored == slice).expect("chosen among those in the file");
                take(features.patches(position)?)?;
                progress.step(1);
                Ok(())
            }),
            Self::Computed(runner) => {
                let (_, input) = scene.scan.as_mut().expect("tokens are computed of a scan");
                let (request, [_, channels, height, width]) = (Request::default(), input.shape());
                let batch = memory::batch(&runner.model, &runner.backbone, [channels, height, width], slices.len(), &request, None)?;
                runner.stream(input, slices, batch, &request, |features, _| {
                    let patches = features.patches();
                    let &[images, p, c] = patches.shape() else { unreachable!("[B, P, C]") };
                    patches.data().chunks_exact(p * c).try_for_each(|tokens| take(Tensor::new([p, c], tokens.to_vec())))?;
                    progress.step(images);
                    Ok(())
                })
            }
        }
    }

    /// Where the features of the slices that are looked at come from, for the files made of them, which hold no patches to be placed.
    pub fn provenance(&self, scene: &Scene) -> Result<BTreeMap<String, String>> {
        let mut metadata = match self {
            Self::Computed(runner) => {
                let (case, input) = scene.scan.as_ref().expect("tokens are computed of a scan");
                runner.provenance(case, input, &scene.slices)?.metadata()
            }
            Self::Stored { features, path } => {
                let mut metadata = features.metadata().clone();
                metadata.extend([("features".into(), text(path)), ("slices".into(), json!(scene.slices).to_string())]);
                metadata
            }
        };
        metadata.retain(|name, _| !OF_PATCHES.contains(&name.as_str()));
        Ok(metadata)
    }
}
