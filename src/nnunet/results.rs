//! An nnU-Net results folder, `TRAINER__PLANS__CONFIGURATION`: what it holds is understood here, headers first; weights
//! are read when asked for.

use std::path::{Path, PathBuf};

use super::dataset::Dataset;
use super::plans::Configuration;
use crate::archive::identity;
use crate::checkpoint::{Checkpoint, Entry, Training};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::vit::decoder::{Decoder, Shape};
use crate::vit::features::Request;
use crate::vit::model::Model;

/// The blocks whose output the multiscale trainers decode.
const MULTISCALE: [usize; 4] = [2, 5, 8, 11];

/// Which folds of a results folder are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Folds {
    /// Every `fold_K` that holds the checkpoint; `fold_all` if there is no other.
    #[default]
    Found,
    /// `fold_all`: the network that was trained on all cases.
    All,
    /// Those of these numbers.
    These(Vec<u32>),
}

/// A network as one fold's checkpoint has it.
pub struct Network {
    /// The encoder, its weights not yet read.
    pub model: Model,
    /// The decoder's sizes.
    pub decoder: Shape,
    /// How it was trained.
    pub training: Training,
}

/// An open results folder, whose files fit each other.
pub struct Results {
    folder: PathBuf,
    /// How scans are prepared.
    pub configuration: Configuration,
    /// The labels.
    pub dataset: Dataset,
    /// The folds' names and networks, in order. The first says how prediction is done.
    pub folds: Vec<(String, Network)>,
    /// The name of the checkpoint in every fold.
    checkpoint: PathBuf,
}

impl Network {
    /// The network in the checkpoint at `path`.
    ///
    /// # Errors
    /// If it is no checkpoint of a Primus trainer, or does not hold all of its network.
    pub fn open(path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let training = checkpoint.training()?;
        let model = Model::from_checkpoint(checkpoint)?;
        let (config, fail) = (model.config(), |problem: String| Err(Error::checkpoint(path.display(), problem)));
        let layers = if training.trainer.contains("multiscale") { MULTISCALE.to_vec() } else { vec![config.depth - 1] };
        if let Some(block) = layers.iter().find(|layer| **layer >= config.depth) {
            return fail(format!("{} decodes block {block}, and this network has {}", training.trainer, config.depth));
        }
        if !config.patch_size.is_power_of_two() {
            return fail(format!("its patches are of side {}; the decoder makes powers of two", config.patch_size));
        }
        let decoder = Shape::infer(model.checkpoint(), &layers, config.embed_dim, config.patch_size)?;
        Ok(Self { model, decoder, training })
    }

    /// The blocks whose output the decoder takes from the encoder. The last block is left out, because its output is
    /// always there.
    pub fn request(&self) -> Request {
        let last = self.model.config().depth - 1;
        Request { layers: self.decoder.layers.iter().copied().filter(|layer| *layer != last).collect(), ..Request::default() }
    }

    /// The decoder's weights, as f32.
    ///
    /// # Errors
    /// If a tensor cannot be read, or holds NaN or infinity.
    pub fn decoder_weights(&self) -> Result<Decoder<Tensor>> {
        Decoder::load(self.model.checkpoint(), &self.decoder)
    }

    /// Number of parameters, the decoder's among them.
    pub fn parameters(&self) -> usize {
        self.model.parameters() + self.model.checkpoint().decoder().iter().map(Entry::len).sum::<usize>()
    }
}

impl Results {
    /// Opens `folder` for the folds asked for, each by its file called `checkpoint` (`checkpoint_final.pth`).
    ///
    /// # Errors
    /// If something is missing, damaged or not served, or the folds' networks do not belong together.
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

    /// Whether networks, labels and tiles fit each other.
    fn check(&self) -> Result<()> {
        let (_, first) = &self.folds[0];
        for (name, network) in &self.folds {
            let fail = |problem: String| Err(Error::checkpoint(self.path(name).display(), problem));
            let (classes, labels) = (network.decoder.classes, self.dataset.labels.len());
            if classes != labels {
                return fail(format!("tells {classes} classes apart, but dataset.json names {labels} labels; they do not belong together"));
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

    /// Where the results lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The axes of an image (0 rows, 1 columns) along which prediction is to mirror it.
    pub fn mirror_axes(&self) -> &[usize] {
        &self.folds[0].1.training.mirror_axes
    }

    /// Every file that decides the labels: plans, dataset and checkpoints. No output may take the place of one.
    pub fn files(&self) -> Vec<PathBuf> {
        let files = ["plans.json", "dataset.json"].map(|name| self.folder.join(name)).into_iter();
        files.chain(self.folds.iter().map(|(name, _)| self.path(name))).collect()
    }

    /// The identity of everything that decides the labels: the SHA-256 of the hashes and names of [`Results::files`]
    /// ([`crate::archive::identity`]).
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn sha256(&self) -> Result<String> {
        identity(&self.folder, &self.files()).map_err(|problem| Error::checkpoint(self.folder.display(), problem))
    }
}

impl Folds {
    /// The folders of these folds, each of which holds `checkpoint`.
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

/// The folds in `folder` that hold `checkpoint`, by number, `fold_all` last.
fn found(folder: &Path, checkpoint: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().to_string();
    let mut folds: Vec<_> =
        entries.map(name).filter(|name| name.starts_with("fold_") && folder.join(name).join(checkpoint).is_file()).collect();
    folds.sort_by_key(|name| (name["fold_".len()..].parse::<u32>().unwrap_or(u32::MAX), name.clone()));
    folds
}
