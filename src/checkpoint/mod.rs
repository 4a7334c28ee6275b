//! A checkpoint file as named tensors: containers, layouts, seeded weights. It knows names and shapes, not what the model does with them.
//!
//! A file is opened in three steps, each a file here: [`Container`] tells how the bytes lie (raw names, shapes, types), [`Layout`] what
//! the names mean, and a recipe per parameter how its values are made of the raw tensors. Opening reads headers alone;
//! [`Checkpoint::load`] reads one parameter at a time.
//!
//! A checkpoint comes from a path ([`Checkpoint::open`]), from bytes or any reader that can seek ([`Checkpoint::from_bytes`],
//! [`Checkpoint::from_reader`]), or from shards that arrive one after the other ([`Shards`]). PyTorch files need the feature `files`, also
//! from memory, because their reader brings a zip library and reads tensors from files alone; a browser takes safetensors, which
//! `meddino convert` makes of any checkpoint.
//!
//! Nothing in a file is run, and no size that a file claims is believed before it is held against the file's length.

mod archives;
mod container;
mod convention;
mod detect;
#[cfg(feature = "files")]
mod files;
mod hints;
mod index;
mod kind;
mod layout;
mod names;
#[cfg(feature = "files")]
mod pth;
mod reader;
mod recipe;
mod refuse;
mod seeded;
mod shards;
#[cfg(feature = "files")]
mod training;
mod wrapping;
#[cfg(feature = "files")]
mod write;

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek};
#[cfg(feature = "files")]
use std::path::{Path, PathBuf};

use crate::archive::Stored;
#[cfg(feature = "files")]
use crate::archive::{identity, sha256};
use crate::error::{Error, Problem, Result};
use crate::tensor::Tensor;

pub use crate::archive::Dtype;
pub use container::Container;
#[cfg(feature = "files")]
pub use files::files_of;
pub use hints::{CONFIG_KEY, Hints};
pub use layout::Layout;
pub use names::Ignored;
pub use recipe::Entry;
pub use shards::Shards;
#[cfg(feature = "files")]
pub use training::Training;
#[cfg(feature = "files")]
pub use write::write_safetensors;

use reader::Reader;
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
    /// Every file that was read; none if the bytes came from elsewhere.
    #[cfg(feature = "files")]
    files: Vec<PathBuf>,
    /// The text of a `config.json` that did not come from a file.
    #[cfg(feature = "files")]
    config: Option<String>,
}

/// What a checkpoint holds of a segmentation decoder: its parameters, and their names in the file.
#[derive(Default)]
struct Decoder {
    entries: Vec<Entry>,
    recipes: BTreeMap<String, Recipe>,
}

/// Where values come from.
enum Origin {
    Stored { reader: Box<Reader>, recipes: BTreeMap<String, Recipe> },
    Seed(u64),
}

impl Checkpoint {
    /// Opens the file at `path` and finds out what it holds: a checkpoint, or the index of a sharded one (`model.safetensors.index.json`), whose
    /// shards stand in the same folder. Of the tensors, only `rope_embed.periods` (16 values) is read.
    ///
    /// # Errors
    /// If the file or a shard cannot be read, is damaged, is of no known layout, or is of a kind that is known and not supported
    /// (SwiGLU, an untied cls norm, FlexiCT, ConvNeXt, learned position embeddings, chunked blocks, other nnU-Net
    /// trainers, folders); if it holds several models of which none goes first.
    #[cfg(feature = "files")]
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let source_name = path.display().to_string();
        let opened = || {
            let (reader, mut files) = files::open(path)?;
            let opened = Self::read(reader, &source_name, || files::config_json(path))?;
            let config = Some(files::config_beside(path)).filter(|config| opened.layout == Layout::HuggingFace && config.is_file());
            files.extend(config);
            Ok(Self { files, ..opened })
        };
        opened().map_err(|problem: Problem| Error::checkpoint(&source_name, problem))
    }

    /// The checkpoint that `reader` holds from its start to its end; messages call it `source_name`. It stays open, and tensors are read from it when
    /// they are asked for.
    ///
    /// A model of Hugging Face's layout has a `config.json` beside its weights: hand both to [`Shards`].
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; a PyTorch file in a build without the feature `files`.
    pub fn from_reader(source_name: impl Into<String>, reader: impl Read + Seek + Send + 'static) -> Result<Self> {
        let source_name = source_name.into();
        let opened = Reader::new(reader).and_then(|reader| Self::read(reader, &source_name, || Ok(None)));
        opened.map_err(|problem| Error::checkpoint(source_name, problem))
    }

    /// The checkpoint in `bytes`, as [`Checkpoint::from_reader`].
    ///
    /// # Errors
    /// As [`Checkpoint::from_reader`].
    pub fn from_bytes(source_name: impl Into<String>, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<Self> {
        Self::from_reader(source_name, Cursor::new(bytes))
    }

    /// What `reader` holds; `config` gives the text of its `config.json`, if there is one.
    fn read(reader: Reader, source_name: &str, config: impl FnOnce() -> Result<Option<String>, String>) -> Result<Self, String> {
        let detect::Contents { layout, convention, names, decoder, mut ignored, mut warnings } = detect::detect(&reader)?;
        let (hints, unsaid) = hints::gather(&layout, &reader.metadata(), config)?;
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
            origin: Origin::Stored { reader: Box::new(reader), recipes },
            #[cfg(feature = "files")]
            files: Vec::new(),
            #[cfg(feature = "files")]
            config: None,
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
        let Origin::Stored { reader, .. } = &self.origin else { return };
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
            #[cfg(feature = "files")]
            files: Vec::new(),
            #[cfg(feature = "files")]
            config: None,
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
    #[cfg(feature = "files")]
    pub fn training(&self) -> Result<Training> {
        let training = match (&self.layout, &self.origin) {
            (Layout::NnUnet { trainer }, Origin::Stored { reader, .. }) => Training::of(reader, trainer.as_deref()),
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
            Origin::Stored { reader, recipes } => {
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

    /// The name of the shard from which the parameter `name` is made; none if the checkpoint is not sharded, or there is no such parameter.
    pub fn shard_of(&self, name: &str) -> Option<&str> {
        let Origin::Stored { reader, recipes } = &self.origin else { return None };
        reader.shard_of(recipes.get(name)?.sources().first()?)
    }

    /// Every file that was read: the checkpoint or the index of its shards and each of these, and the `config.json` beside it, where its layout has
    /// one; none for seeded weights and for bytes that came from elsewhere. No output may take the place of one.
    #[cfg(feature = "files")]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What the weights and all that is said about them are known by, in lower-case hexadecimal: the SHA-256 of the file, as `sha256sum` has it; where
    /// shards or a `config.json` beside it were read, too, that of the hashes and names of all ([`crate::archive::identity`]). Of bytes that came from
    /// elsewhere the SHA-256, or that of the hashes and names of all pieces, the text of `config.json` among them. None for seeded weights.
    ///
    /// # Errors
    /// If the bytes cannot be read.
    #[cfg(feature = "files")]
    pub fn sha256(&self) -> Result<Option<String>> {
        let Origin::Stored { reader, .. } = &self.origin else { return Ok(None) };
        let identity = match &self.files[..] {
            [] => reader.hashes().map_err(|e| e.to_string()).map(|mut pieces| {
                pieces.extend(self.config.iter().map(|text| ("config.json".into(), sha256(text.as_bytes()))));
                files::identity_of(&pieces)
            }),
            [file] => identity(file, &self.files),
            [first, ..] => identity(first.parent().unwrap_or(first), &self.files),
        };
        identity.map(Some).map_err(|problem| Error::checkpoint(&self.source_name, format!("cannot be read to its end: {problem}")))
    }
}

impl Decoder {
    fn of(names: &names::Names) -> Self {
        let entry = |(name, (_, stored)): (&String, &(&String, &Stored))| Entry {
            name: name.clone(),
            shape: stored.shape.clone(),
            dtype: stored.dtype,
        };
        let recipe = |(name, (raw, _)): (&String, &(&String, &Stored))| (name.clone(), Recipe::Whole((*raw).clone()));
        Self { entries: names.iter().map(entry).collect(), recipes: names.iter().map(recipe).collect() }
    }
}
