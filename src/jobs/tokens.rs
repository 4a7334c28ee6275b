//! Patch tokens, slice by slice, computed or read from a file of features.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::engine::{Engine, OpenModel};
use super::input::Input;
use super::memory;
use super::observer::{Observer, UnderWay, check};
use super::reads;
use super::slices::Slices;
use super::text::name_text;
use crate::error::Result;
use crate::output::{StoredFeatures, Targets};
use crate::tensor::Tensor;
use crate::vit::features::Request;

/// The metadata keys about positions of patches.
const POSITION_KEYS: [&str; 3] = ["patch_affine", "slice_positions", "patch_steps"];

/// The source of patch tokens, before any weights are loaded.
pub enum Tokens {
    /// An open model, whose weights are not loaded yet.
    Waiting(Box<OpenModel>),
    /// A file of features.
    Stored {
        /// The open file.
        features: Box<StoredFeatures>,
        /// The file's path.
        path: PathBuf,
    },
}

/// The source of patch tokens.
pub enum TokenSource {
    /// A loaded model.
    Computed(Box<Engine>),
    /// A file of features.
    Stored {
        /// The open file.
        features: Box<StoredFeatures>,
        /// The file's path.
        path: PathBuf,
    },
}

impl Tokens {
    /// Returns the width of a token, C.
    pub fn width(&self) -> usize {
        match self {
            Self::Waiting(model) => model.model().config().embed_dim,
            Self::Stored { features, .. } => features.width(),
        }
    }

    /// Returns targets that protect the files of the tokens and of `scan`. With `overwrite`, other files that this
    /// program did not write may be replaced.
    ///
    /// # Errors
    /// If the scan's folder cannot be read.
    pub fn targets(&self, scan: Option<&Path>, overwrite: bool) -> Result<Targets> {
        match self {
            Self::Waiting(model) => reads::targets(overwrite, scan, Some(model.checkpoint())),
            Self::Stored { path, .. } => {
                let mut targets = reads::targets(overwrite, scan, None)?;
                targets.reads("the features", [path]);
                Ok(targets)
            }
        }
    }

    /// Checks that there are tokens of `slice`, which the scan has.
    ///
    /// # Errors
    /// If the file of features does not hold the slice.
    pub fn check(&self, slice: usize) -> Result<()> {
        match self {
            Self::Stored { features, .. } => Slices::List(vec![slice as i64]).among(features.slices(), slice + 1).map(drop),
            Self::Waiting(_) => Ok(()),
        }
    }

    /// Loads the weights if a model computes the tokens.
    ///
    /// # Errors
    /// As [`OpenModel::load`].
    pub fn load(self, observer: &dyn Observer) -> Result<TokenSource> {
        Ok(match self {
            Self::Waiting(model) => TokenSource::Computed(Box::new(model.load(observer)?)),
            Self::Stored { features, path } => TokenSource::Stored { features, path },
        })
    }
}

impl TokenSource {
    /// Returns the width of a token, C.
    pub fn width(&self) -> usize {
        match self {
            Self::Computed(engine) => engine.model().config().embed_dim,
            Self::Stored { features, .. } => features.width(),
        }
    }

    /// Passes the patch tokens [P, C] of each of `slices` of `input` to `take`, in order. Tokens in a file need no
    /// input.
    ///
    /// # Errors
    /// If tokens cannot be read or computed, [`crate::Error::Cancelled`] if `observer` cancels, and the errors of
    /// `take`.
    ///
    /// # Panics
    /// If tokens are computed and there is no input, or the file does not hold the slices.
    pub fn each(
        &self,
        input: Option<&mut Input>,
        slices: &[usize],
        observer: &dyn Observer,
        mut take: impl FnMut(Tensor) -> Result<()> + Send,
    ) -> Result<()> {
        let _under_way = UnderWay::new(observer);
        let mut done = 0;
        let mut counted = |tokens: Tensor| {
            take(tokens)?;
            done += 1;
            observer.progress(done, slices.len());
            Ok(())
        };
        observer.progress(0, slices.len());
        match self {
            Self::Stored { features, .. } => slices.iter().try_for_each(|slice| {
                check(observer)?;
                let position = features.slices().iter().position(|stored| stored == slice).expect("chosen among those in the file");
                counted(features.patches(position)?)
            }),
            Self::Computed(engine) => {
                let input = input.expect("computed tokens need a scan");
                let (request, [_, channels, height, width]) = (Request::default(), input.shape());
                let batch = memory::batch(engine.model(), engine.backbone(), [channels, height, width], slices.len(), &request, None)?;
                engine.stream(input, slices, batch, &request, observer, |features, _| {
                    let patches = features.patches();
                    let &[_, p, c] = patches.shape() else { unreachable!("[B, P, C]") };
                    patches.data().chunks_exact(p * c).try_for_each(|tokens| counted(Tensor::new([p, c], tokens.to_vec())))
                })
            }
        }
    }

    /// Returns the provenance of the tokens of `slices`, without the positions of patches, for the metadata of pictures
    /// and other outputs.
    ///
    /// # Errors
    /// If the input cannot be read.
    ///
    /// # Panics
    /// If tokens are computed and there is no input.
    pub fn provenance(&self, input: Option<&mut Input>, slices: &[usize]) -> Result<BTreeMap<String, String>> {
        let mut metadata = match self {
            Self::Computed(engine) => engine.provenance(input.expect("computed tokens need a scan"), slices)?.metadata(),
            Self::Stored { features, path } => {
                let mut metadata = features.metadata().clone();
                metadata.extend([("features".into(), name_text(path)), ("slices".into(), json!(slices).to_string())]);
                metadata
            }
        };
        metadata.retain(|name, _| !POSITION_KEYS.contains(&name.as_str()));
        Ok(metadata)
    }
}
