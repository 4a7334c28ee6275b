//! An nnU-Net results folder, `TRAINER__PLANS__CONFIGURATION`. Opening a folder parses and checks plans, data set and
//! checkpoint headers. Weights are read on request.

use std::path::{Path, PathBuf};

use super::dataset::Dataset;
use super::plans::Configuration;
use crate::archive::identity;
use crate::checkpoint::{Checkpoint, Entry, Training, known_trainer};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::vit::decoder::{Decoder, Shape};
use crate::vit::features::Request;
use crate::vit::model::Model;

/// The encoder blocks whose output the multiscale trainers feed to the decoder.
const MULTISCALE: [usize; 4] = [2, 5, 8, 11];
/// The blocks of the networks of these trainers.
const DEPTH: usize = 12;

/// The requested folds of a results folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Folds {
    /// Every `fold_K` that holds the checkpoint; `fold_all` if there are none.
    #[default]
    Found,
    /// `fold_all`: the network that was trained on all cases.
    All,
    /// The folds with these numbers.
    These(Vec<u32>),
}

/// A network from the checkpoint of one fold.
pub struct Network {
    /// The encoder, whose weights have not been read yet.
    pub model: Model,
    /// The decoder's shape.
    pub decoder: Shape,
    /// The training settings.
    pub training: Training,
}

/// An open results folder, whose files have been checked against each other.
pub struct Results {
    folder: PathBuf,
    /// The preprocessing of scans.
    pub configuration: Configuration,
    /// The labels.
    pub dataset: Dataset,
    /// The folds' names and networks, in order. The first fold decides how prediction is done.
    pub folds: Vec<(String, Network)>,
    /// The file name of the checkpoint in every fold.
    checkpoint: PathBuf,
}

impl Network {
    /// Opens the network in the checkpoint at `path`.
    ///
    /// # Errors
    /// If the file is not a checkpoint of a Primus trainer, or lacks a part of its network.
    pub fn open(path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let training = checkpoint.training()?;
        let model = Model::from_checkpoint(checkpoint)?;
        let (config, fail) = (model.config(), |problem: String| Err(Error::checkpoint(path.display(), problem)));
        // A known name decides. Else the decoder's first layer shows how many blocks it takes.
        let is_multiscale = known_trainer(&training.trainer)
            .map_or_else(|| Shape::inputs(model.checkpoint()) == MULTISCALE.len() * config.embed_dim, |name| name.contains("multiscale"));
        let layers = if is_multiscale { MULTISCALE.to_vec() } else { vec![config.depth - 1] };
        if is_multiscale && config.depth != DEPTH && known_trainer(&training.trainer).is_none() {
            return fail(format!(
                "was trained by {}, which is no known trainer, and has {} blocks; only with {DEPTH} is it known which of them its decoder takes",
                training.trainer, config.depth
            ));
        }
        if let Some(block) = layers.iter().find(|layer| **layer >= config.depth) {
            return fail(format!("{} decodes block {block}, and this network has {}", training.trainer, config.depth));
        }
        if !config.patch_size.is_power_of_two() {
            return fail(format!("its patches are of side {}; the decoder makes powers of two", config.patch_size));
        }
        let decoder = Shape::infer(model.checkpoint(), &layers, config.embed_dim, config.patch_size)?;
        Ok(Self { model, decoder, training })
    }

    /// Returns the encoder blocks whose output the decoder needs. The last block is left out, because its output is
    /// always returned.
    pub fn request(&self) -> Request {
        let last = self.model.config().depth - 1;
        Request { layers: self.decoder.layers.iter().copied().filter(|layer| *layer != last).collect(), ..Request::default() }
    }

    /// Reads the decoder's weights, as f32.
    ///
    /// # Errors
    /// If a tensor cannot be read, or holds NaN or infinity.
    pub fn decoder_weights(&self) -> Result<Decoder<Tensor>> {
        Decoder::load(self.model.checkpoint(), &self.decoder)
    }

    /// Returns the number of parameters, those of the decoder included.
    pub fn parameters(&self) -> usize {
        self.model.parameters() + self.model.checkpoint().decoder().iter().map(Entry::len).sum::<usize>()
    }
}

impl Results {
    /// Opens `folder` with the requested folds. `checkpoint` is the file name of each fold's checkpoint
    /// (`checkpoint_final.pth`).
    ///
    /// # Errors
    /// If something is missing, damaged or not supported, or the folds' networks do not match each other.
    pub fn open(folder: impl AsRef<Path>, folds: &Folds, checkpoint: impl AsRef<Path>) -> Result<Self> {
        let (folder, checkpoint) = (folder.as_ref(), checkpoint.as_ref());
        if !folder.is_dir() {
            return Err(Error::checkpoint(folder.display(), "expected an nnU-Net results folder, TRAINER__PLANS__CONFIGURATION"));
        }
        let dataset = Dataset::open(&folder.join("dataset.json"))?;
        let names = folds.names(folder, checkpoint)?;
        let open = |name: String| {
            let path = folder.join(&name).join(checkpoint);
            Network::open(&path).map(|network| (name, network))
        };
        let folds: Vec<_> = names.into_iter().map(open).collect::<Result<_>>()?;
        let configuration = Configuration::open(&folder.join("plans.json"), &folds[0].1.training.configuration)?;
        let results = Self { folder: folder.to_path_buf(), configuration, dataset, folds, checkpoint: checkpoint.into() };
        results.check()?;
        Ok(results)
    }

    /// Checks that networks, labels and tiles match each other.
    fn check(&self) -> Result<()> {
        let (_, first) = &self.folds[0];
        for (name, network) in &self.folds {
            let fail = |problem: String| Err(Error::checkpoint(self.path(name).display(), problem));
            let (classes, outputs) = (network.decoder.classes, self.dataset.outputs());
            if classes != outputs {
                let kind = if self.dataset.regions.is_empty() { "labels" } else { "regions" };
                return fail(format!(
                    "tells {classes} classes apart, but dataset.json names {outputs} {kind}; they do not belong together"
                ));
            }
            let same = network.training.trainer == first.training.trainer && network.training.configuration == first.training.configuration;
            if !same || network.decoder != first.decoder || network.model.config() != first.model.config() {
                return fail(format!("is of another network than {}; folds of one training belong together", self.folds[0].0));
            }
        }
        let ([height, width], patch) = (self.configuration.tile, first.model.config().patch_size);
        if height % patch != 0 || width % patch != 0 {
            let problem = format!("says patch_size [{height}, {width}]; expected multiples of {patch}, the side of a patch");
            return Err(Error::checkpoint(self.folder.join("plans.json").display(), problem));
        }
        Ok(())
    }

    fn path(&self, fold: &str) -> PathBuf {
        self.folder.join(fold).join(&self.checkpoint)
    }

    /// Returns the path of the results folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the axes of an image (0 rows, 1 columns) along which prediction mirrors it.
    pub fn mirror_axes(&self) -> &[usize] {
        &self.folds[0].1.training.mirror_axes
    }

    /// Returns every file that affects the labels: plans, data set and checkpoints. No output may overwrite one of
    /// them.
    pub fn files(&self) -> Vec<PathBuf> {
        let files = ["plans.json", "dataset.json"].map(|name| self.folder.join(name)).into_iter();
        files.chain(self.folds.iter().map(|(name, _)| self.path(name))).collect()
    }

    /// Returns the identity of everything that affects the labels: the SHA-256 of the hashes and names of
    /// [`Results::files`] ([`crate::archive::identity`]).
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn sha256(&self) -> Result<String> {
        identity(&self.folder, &self.files()).map_err(|problem| Error::checkpoint(self.folder.display(), problem))
    }
}

impl Folds {
    /// Returns the names of these folds' folders, each of which holds `checkpoint`.
    fn names(&self, folder: &Path, checkpoint: &Path) -> Result<Vec<String>> {
        let fail = |problem: String| Err(Error::checkpoint(folder.display(), problem));
        let found = found(folder, checkpoint);
        let shown = if found.is_empty() { format!("none with {}", checkpoint.display()) } else { found.join(", ") };
        let wanted: Vec<String> = match self {
            Self::Found => {
                let numbered = found.iter().filter(|name| *name != "fold_all").cloned().collect::<Vec<_>>();
                if numbered.is_empty() { found.clone() } else { numbered }
            }
            Self::All => vec!["fold_all".into()],
            Self::These(numbers) => numbers.iter().map(|number| format!("fold_{number}")).collect(),
        };
        match wanted.iter().find(|name| !found.contains(name)) {
            Some(missing) => fail(format!("there is no {missing}/{}; its folds: {shown}", checkpoint.display())),
            None if wanted.is_empty() => fail(format!("there is no fold to take; its folds: {shown}")),
            None => Ok(wanted),
        }
    }
}

/// Returns the folds in `folder` that hold `checkpoint`, by number, with `fold_all` last.
fn found(folder: &Path, checkpoint: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().to_string();
    let mut folds: Vec<_> =
        entries.map(name).filter(|name| name.starts_with("fold_") && folder.join(name).join(checkpoint).is_file()).collect();
    folds.sort_by_key(|name| (name["fold_".len()..].parse::<u32>().unwrap_or(u32::MAX), name.clone()));
    folds
}
