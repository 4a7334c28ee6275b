//! A checkpoint file as named tensors: containers, layouts, seeded weights. It knows names and shapes, not what the model does with them.
//!
//! A file is opened in three steps, each a file here: [`Container`] tells how the bytes lie (raw names, shapes, types), [`Layout`] what
//! the names mean, and a recipe per parameter how its values are made of the raw tensors. Opening reads headers alone;
//! [`Checkpoint::load`] reads one parameter at a time.
//!
//! Nothing in a file is run, and no size that a file claims is believed before it is held against the file's length.

mod container;
mod convention;
mod hints;
mod layout;
mod pth;
mod recipe;
mod refuse;
mod seeded;
mod training;
mod wrapping;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::archive::{Stored, identity};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

pub use crate::archive::Dtype;
pub use container::Container;
pub use hints::{CONFIG_KEY, Hints, config_beside};
pub use layout::{Ignored, Layout};
pub use recipe::Entry;
pub use training::Training;
pub use write::write_safetensors;

use container::Reader;
use recipe::Recipe;

/// An open checkpoint: parameters under the names of [`vit::weights`](crate::vit::weights), read when asked for.
pub struct Checkpoint {
    source_name: String,
    layout: Layout,
    container: Container,
    entries: Vec<Entry>,
    origin: Origin,
    ignored: Vec<Ignored>,
    hints: Hints,
    warnings: Vec<String>,
    periods: Option<Vec<f32>>,
    decoder: Decoder,
}

/// What a checkpoint holds of a segmentation decoder: its parameters, and their names in the file.
#[derive(Default)]
struct Decoder {
    entries: Vec<Entry>,
    recipes: BTreeMap<String, Recipe>,
}

/// Where values come from.
enum Origin {
    File { path: PathBuf, reader: Box<Reader>, recipes: BTreeMap<String, Recipe> },
    Seed(u64),
}

impl Checkpoint {
    /// Opens the file at `path` and finds out what it holds. Of the tensors, only `rope_embed.periods` (16 values) is read.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, is of no known layout, or is of a kind that is known and not supported
    /// (SwiGLU, an untied cls norm, FlexiCT, ConvNeXt, learned position embeddings, chunked blocks, other nnU-Net
    /// trainers, sharded files and folders); if it holds several models of which none goes first.
    pub fn open(path: &Path) -> Result<Self> {
        let source_name = path.display().to_string();
        Self::read(path, &source_name).map_err(|problem| Error::checkpoint(source_name, problem))
    }

    fn read(path: &Path, source_name: &str) -> Result<Self, String> {
        refuse::shards(path)?;
        let reader = Reader::open(path)?;
        let layout::Contents { layout, convention, names, decoder, mut ignored, mut warnings } = layout::detect(&reader)?;
        let (hints, unsaid) = hints::gather(&layout, path, &reader.metadata())?;
        warnings.extend(unsaid);
        let convention::Assembled { recipes, periods } = convention.assemble(&names, &mut ignored)?;
        let entries = recipes.iter().map(|(name, recipe)| recipe.entry(name, reader.tensors())).collect::<Result<_, _>>()?;
        let mut opened = Self {
            source_name: source_name.into(),
            layout,
            container: reader.container(),
            entries,
            ignored,
            hints,
            warnings,
            periods: None,
            decoder: Decoder::of(&decoder),
            origin: Origin::File { path: path.into(), reader: Box::new(reader), recipes },
        };
        if let Some(raw) = periods {
            opened.read_periods(&raw);
        }
        Ok(opened.logged())
    }

    /// The checkpoint, once the log has its warnings.
    fn logged(self) -> Self {
        self.warnings.iter().for_each(|warning| log::warn!("{}: {warning}", self.source_name));
        self
    }

    /// Keeps the stored periods for comparison; they are recomputed in any case, so trouble with them is but a warning.
    fn read_periods(&mut self, raw: &str) {
        let Origin::File { reader, .. } = &self.origin else { return };
        let short = reader.tensors().get(raw).is_some_and(|t| t.shape.len() == 1 && t.shape[0] <= 1024);
        match if short { reader.read(raw) } else { Err("is no short list".into()) } {
            Ok(values) => self.periods = Some(values),
            Err(problem) => self.warnings.push(format!("{raw} {problem}; the periods are computed anew")),
        }
    }

    /// A checkpoint without a file: every parameter of `table` (name and shape) computed from `seed`.
    pub fn seeded(seed: u64, table: Vec<(String, Vec<usize>)>) -> Self {
        let mut entries: Vec<_> = table.into_iter().map(|(name, shape)| Entry { name, shape, dtype: Dtype::F32 }).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            source_name: format!("seeded:{seed}"),
            layout: Layout::Seeded,
            container: Container::Seeded,
            entries,
            origin: Origin::Seed(seed),
            ignored: Vec::new(),
            hints: Hints::default(),
            warnings: vec!["seeded weights are untrained: the features mean nothing".into()],
            periods: None,
            decoder: Decoder::default(),
        }
        .logged()
    }

    /// The same checkpoint under another name in messages and reports.
    #[must_use]
    pub fn named(mut self, source_name: impl Into<String>) -> Self {
        self.source_name = source_name.into();
        self
    }

    /// The file as it was named, or `seeded:N`.
    pub fn source_name(&self) -> &str {
        &self.source_name
    }

    /// What the file's names were found to mean.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How the file keeps its tensors.
    pub fn container(&self) -> Container {
        self.container
    }

    /// Every parameter, sorted by name, as [`load`](Self::load) will give it.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The parameter called `name`, if there is one.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// What the file holds beside the parameters, and why it is left out.
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    /// What metadata in the file, or `config.json` beside it, says about the model.
    pub fn hints(&self) -> &Hints {
        &self.hints
    }

    /// What a user should know and may not expect.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// `rope_embed.periods` [D/4] as stored, for comparison: the model computes its own.
    pub fn periods(&self) -> Option<&[f32]> {
        self.periods.as_deref()
    }

    /// Every parameter of the segmentation decoder (`up_projection.*`) that an nnU-Net checkpoint holds beside the backbone, sorted by name.
    pub fn decoder(&self) -> &[Entry] {
        &self.decoder.entries
    }

    /// What an nnU-Net checkpoint says of how it was trained, and of how it is to be used.
    ///
    /// # Errors
    /// If the file is none, or a value in it is not what nnU-Net writes.
    pub fn training(&self) -> Result<Training> {
        let training = match (&self.layout, &self.origin) {
            (Layout::NnUnet { trainer }, Origin::File { reader, .. }) => Training::of(reader, trainer.as_deref()),
            _ => Err(format!("is no nnU-Net checkpoint ({})", self.layout)),
        };
        training.map_err(|problem| Error::checkpoint(&self.source_name, problem))
    }

    /// Reads the parameter `name`, of the backbone or the decoder, as f32. Nothing is cached: each call reads the file again.
    ///
    /// # Errors
    /// If there is no such parameter, its bytes cannot be read or are damaged, or a value is NaN or infinite.
    pub fn load(&self, name: &str) -> Result<Tensor> {
        let fail = |problem: String| Error::checkpoint(&self.source_name, format!("tensor {name} {problem}"));
        let decoder = |entry: &&Entry| entry.name == name;
        let entry = self.entry(name).or_else(|| self.decoder.entries.iter().find(decoder));
        let entry = entry.ok_or_else(|| fail("is not in it".into()))?;
        let tensor = match &self.origin {
            Origin::Seed(seed) => seeded::tensor(*seed, name, &entry.shape),
            Origin::File { reader, recipes, .. } => {
                let recipe = recipes.get(name).unwrap_or_else(|| &self.decoder.recipes[name]);
                Tensor::new(entry.shape.clone(), recipe.read(reader).map_err(fail)?)
            }
        };
        match tensor.data().iter().position(|v| !v.is_finite()) {
            None => Ok(tensor),
            Some(i) => {
                let v = tensor.data()[i];
                Err(fail(format!("holds {v} at index {i}; every weight must be finite: the file is damaged or its training diverged")))
            }
        }
    }

    /// Every file that was read: the checkpoint and, where its layout has one, the `config.json` beside it; none for seeded weights. No output may take the
    /// place of one.
    pub fn files(&self) -> Vec<PathBuf> {
        let Origin::File { path, .. } = &self.origin else { return Vec::new() };
        let config = matches!(self.layout, Layout::HuggingFace).then(|| hints::config_beside(path)).filter(|config| config.is_file());
        [path.clone()].into_iter().chain(config).collect()
    }

    /// What the weights and all that is said about them are known by, in lower-case hexadecimal: the SHA-256 of the file, as `sha256sum` has it; where a
    /// `config.json` beside it was read, too, that of the hashes and names of both ([`crate::archive::identity`]). None for seeded weights.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn sha256(&self) -> Result<Option<String>> {
        let Origin::File { path, .. } = &self.origin else { return Ok(None) };
        let files = self.files();
        let root = if files.len() == 1 { path } else { path.parent().unwrap_or(path) };
        let fail = |problem| Error::checkpoint(&self.source_name, format!("cannot be read to its end: {problem}"));
        identity(root, &files).map(Some).map_err(fail)
    }
}

impl Decoder {
    fn of(names: &layout::Names) -> Self {
        let entry = |(name, (_, stored)): (&String, &(&String, &Stored))| Entry {
            name: name.clone(),
            shape: stored.shape.clone(),
            dtype: stored.dtype,
        };
        let recipe = |(name, (raw, _)): (&String, &(&String, &Stored))| (name.clone(), Recipe::Whole((*raw).clone()));
        Self { entries: names.iter().map(entry).collect(), recipes: names.iter().map(recipe).collect() }
    }
}
