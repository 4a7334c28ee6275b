//! Reads checkpoints as named tensors: containers, layouts and seeded weights. This module knows names and shapes, not
//! what the model does with them.
//!
//! A file is opened in three steps, each with a file of its own here. [`Container`] is the storage format, which gives
//! raw names, shapes and types. [`Layout`] says what the names mean. A composition for each parameter says how its values
//! are assembled from the raw tensors. Opening a checkpoint reads only headers; [`Checkpoint::load`] reads one
//! parameter at a time.
//!
//! A checkpoint comes from a path ([`Checkpoint::open`]), from bytes or any reader that can seek
//! ([`Checkpoint::from_bytes`], [`Checkpoint::from_reader`]), or from shards that arrive one by one ([`Shards`]).
//! PyTorch files need the feature `files` even if they are in memory, because their reader depends on a zip library and
//! reads tensors only from files. A browser, which has no files, reads those that `torch.save` has written by default since
//! PyTorch 1.6, with a reader of its own.
//!
//! No code in a file is executed. Every size that a file claims is checked against the file's length before it is used.

mod archives;
#[cfg(feature = "files")]
mod claims;
mod composition;
mod container;
mod convention;
mod detect;
#[cfg(feature = "files")]
mod files;
mod finite;
mod hints;
mod index;
mod kind;
mod layout;
mod names;
#[cfg(all(feature = "files", any(test, target_arch = "wasm32")))]
mod pickle;
#[cfg(all(feature = "files", not(target_arch = "wasm32")))]
mod pth;
mod reader;
mod refuse;
mod seeded;
mod shard;
mod shards;
#[cfg(all(feature = "files", any(test, target_arch = "wasm32")))]
mod state_dict;
#[cfg(feature = "files")]
mod training;
mod wrapping;
#[cfg(feature = "files")]
mod write;
#[cfg(feature = "files")]
mod write_shards;

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek};
#[cfg(feature = "files")]
use std::path::{Path, PathBuf};

use crate::archive::TensorHeader;
#[cfg(feature = "files")]
use crate::archive::{identity, identity_of, sha256};
use crate::error::{Error, Problem, Result};
use crate::tensor::Tensor;

pub use crate::archive::Dtype;
pub use composition::Entry;
pub use container::Container;
#[cfg(feature = "files")]
pub use files::files_of;
pub use hints::{CONFIG_KEY, Hints};
pub(crate) use index::Index;
pub use layout::Layout;
pub use names::Ignored;
pub(crate) use names::printable;
pub use refuse::known_trainer;
pub(crate) use shard::OwnShard;
pub use shards::Shards;
#[cfg(feature = "files")]
pub use training::Training;
#[cfg(feature = "files")]
pub use write::write_safetensors;
#[cfg(feature = "files")]
pub use write_shards::write_shards;

use composition::Composition;
use reader::Reader;

/// An open checkpoint. Its parameters have the names of [`vit::weights`](crate::vit::weights) and are read on demand.
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
    /// Every file that was read; empty if the bytes did not come from files.
    #[cfg(feature = "files")]
    files: Vec<PathBuf>,
    /// The text of a `config.json` that did not come from a file.
    #[cfg(feature = "files")]
    config: Option<String>,
}

/// The parameters of the segmentation decoder in a checkpoint, and their names in the file.
#[derive(Default)]
struct Decoder {
    entries: Vec<Entry>,
    compositions: BTreeMap<String, Composition>,
}

/// The source of a checkpoint's values.
enum Origin {
    TensorHeader { reader: Box<Reader>, compositions: BTreeMap<String, Composition> },
    Seed(u64),
}

impl Checkpoint {
    /// Opens the file at `path` and detects what it holds. The file is a checkpoint, or the index of a sharded one
    /// (`model.safetensors.index.json`) with its shards in the same folder. The only tensor that is read is
    /// `rope_embed.periods` (16 values).
    ///
    /// # Errors
    /// If the file or a shard cannot be read, is damaged, has no known layout, or is of a known but unsupported kind
    /// (SwiGLU, an untied cls norm, FlexiCT, ConvNeXt, learned position embeddings, chunked blocks, other nnU-Net
    /// trainers, folders); or if it holds several models and none takes precedence.
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

    /// Opens the checkpoint that `reader` holds from its start to its end. Messages call it `source_name`. The reader
    /// stays open, and tensors are read from it on demand.
    ///
    /// A model in Hugging Face's layout has a `config.json` beside its weights: pass both to [`Shards`].
    ///
    /// # Errors
    /// As [`Checkpoint::open`], or if `reader` holds a PyTorch file and the build lacks the feature `files`.
    pub fn from_reader(source_name: impl Into<String>, reader: impl Read + Seek + Send + 'static) -> Result<Self> {
        let source_name = source_name.into();
        let opened = Reader::new(reader).and_then(|reader| Self::read(reader, &source_name, || Ok(None)));
        opened.map_err(|problem| Error::checkpoint(source_name, problem))
    }

    /// Opens the checkpoint in `bytes`, as [`Checkpoint::from_reader`] does.
    ///
    /// # Errors
    /// As [`Checkpoint::from_reader`].
    pub fn from_bytes(source_name: impl Into<String>, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<Self> {
        Self::from_reader(source_name, Cursor::new(bytes))
    }

    /// Opens the checkpoint that `reader` holds. `config` returns the text of its `config.json`, if there is one.
    fn read(reader: Reader, source_name: &str, config: impl FnOnce() -> Result<Option<String>, Problem>) -> Result<Self, Problem> {
        let detect::Contents { layout, convention, names, decoder, mut ignored, mut warnings } = detect::detect(&reader)?;
        let (hints, unsaid) = hints::gather(&layout, &reader.metadata(), config)?;
        warnings.extend(unsaid);
        let convention::Assembled { compositions, periods } = convention.assemble(&names, &mut ignored)?;
        let entries = compositions.iter().map(|(name, composition)| composition.entry(name, reader.tensors())).collect::<Result<_, _>>()?;
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
            origin: Origin::TensorHeader { reader: Box::new(reader), compositions },
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

    /// Logs the warnings, and returns the checkpoint.
    fn logged(self) -> Self {
        self.warnings.iter().for_each(|warning| log::warn!("{}: {warning}", self.source_name));
        self
    }

    /// Reads the stored periods for comparison. A failure is only a warning, because the model recomputes the periods.
    fn read_periods(&mut self, raw: &str) {
        let Origin::TensorHeader { reader, .. } = &self.origin else { return };
        let short = reader.tensors().get(raw).is_some_and(|t| t.shape.len() == 1 && t.shape[0] <= 1024);
        match if short { reader.read(raw) } else { Err("is no short list".into()) } {
            Ok(values) => self.periods = Some(values),
            Err(problem) => self.warnings.push(format!("{raw} {problem}; the periods are computed anew")),
        }
    }

    /// Creates a checkpoint without a file: every parameter of `table` (name and shape) is computed from `seed`.
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

    /// Renames the checkpoint in messages and reports.
    #[must_use]
    pub fn named(mut self, source_name: impl Into<String>) -> Self {
        self.source_name = source_name.into();
        self
    }

    /// Returns the file's name as the caller gave it, or `seeded:N`.
    pub fn source_name(&self) -> &str {
        &self.source_name
    }

    /// Returns the layout that was detected from the file's names.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the format in which the tensors are stored.
    pub fn container(&self) -> Container {
        self.container
    }

    /// Returns every parameter, sorted by name. [`load`](Self::load) returns tensors of these names and shapes.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the parameter called `name`, if there is one.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// Returns the tensors that the file holds beside the parameters, and why each is left out.
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    /// Returns what metadata in the file, or the `config.json` beside it, states about the model.
    pub fn hints(&self) -> &Hints {
        &self.hints
    }

    /// Returns facts about the file that may surprise a user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns `rope_embed.periods` [D/4] as stored, for comparison. The model computes its own periods.
    pub fn periods(&self) -> Option<&[f32]> {
        self.periods.as_deref()
    }

    /// Returns every parameter of the segmentation decoder (`up_projection.*`) that an nnU-Net checkpoint holds beside
    /// the backbone, sorted by name.
    pub fn decoder(&self) -> &[Entry] {
        &self.decoder.entries
    }

    /// Reads how an nnU-Net checkpoint was trained, and how it is to be used.
    ///
    /// # Errors
    /// If the file is not an nnU-Net checkpoint, or a value in it is not what nnU-Net writes.
    #[cfg(feature = "files")]
    pub fn training(&self) -> Result<Training> {
        let training = match (&self.layout, &self.origin) {
            (Layout::NnUnet { trainer }, Origin::TensorHeader { reader, .. }) => Training::of(reader, trainer.as_deref()),
            _ => Err(format!("is no nnU-Net checkpoint ({})", self.layout).into()),
        };
        training.map_err(|problem| Error::checkpoint(&self.source_name, problem))
    }

    /// Reads the parameter `name`, of the backbone or the decoder, as f32. Nothing is cached: each call reads the file
    /// again.
    ///
    /// # Errors
    /// If there is no such parameter, its bytes cannot be read or are damaged, or a value is NaN or infinite.
    pub fn load(&self, name: &str) -> Result<Tensor> {
        let fail = |problem: Problem| {
            let text = format!("tensor {name} {problem}");
            Error::checkpoint(&self.source_name, problem.reworded(text))
        };
        let decoder = |entry: &&Entry| entry.name == name;
        let entry = self.entry(name).or_else(|| self.decoder.entries.iter().find(decoder));
        let entry = entry.ok_or_else(|| fail("is not in it".into()))?;
        let tensor = match &self.origin {
            Origin::Seed(seed) => seeded::tensor(*seed, name, &entry.shape),
            Origin::TensorHeader { reader, compositions } => {
                let composition = compositions.get(name).unwrap_or_else(|| &self.decoder.compositions[name]);
                Tensor::new(entry.shape.clone(), composition.read(reader).map_err(fail)?)
            }
        };
        finite::finite(tensor).map_err(|problem| fail(problem.into()))
    }

    /// Returns the name of the shard that holds the first raw tensor of the parameter `name`, or `None` if the
    /// checkpoint is not sharded or has no such parameter.
    pub fn shard_of(&self, name: &str) -> Option<&str> {
        let Origin::TensorHeader { reader, compositions } = &self.origin else { return None };
        reader.shard_of(compositions.get(name)?.sources().first()?)
    }

    /// Returns every file that was read: the checkpoint, or the index and each of its shards, and the `config.json`
    /// beside it if the layout has one. The list is empty for seeded weights and for bytes that did not come from
    /// files. No output may overwrite one of these files.
    #[cfg(feature = "files")]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Returns the identity of the weights and of everything that is stated about them, in lower-case hexadecimal, or
    /// `None` for seeded weights.
    ///
    /// For a single file it is the file's SHA-256, as `sha256sum` prints it. If shards or a `config.json` beside the
    /// file were read, too, it is the SHA-256 of the hashes and names of all files ([`crate::archive::identity`]). For
    /// bytes that did not come from files it is their SHA-256, or the SHA-256 of the hashes and names of all pieces,
    /// including the text of `config.json`.
    ///
    /// # Errors
    /// If the bytes cannot be read.
    #[cfg(feature = "files")]
    pub fn sha256(&self) -> Result<Option<String>> {
        let Origin::TensorHeader { reader, .. } = &self.origin else { return Ok(None) };
        let identity = match &self.files[..] {
            [] => reader.hashes().map_err(Problem::from).map(|mut pieces| {
                pieces.extend(self.config.iter().map(|text| ("config.json".into(), sha256(text.as_bytes()))));
                identity_of(&pieces)
            }),
            [file] => identity(file, &self.files),
            [first, ..] => identity(first.parent().unwrap_or(first), &self.files),
        };
        identity.map(Some).map_err(|problem| Error::checkpoint(&self.source_name, problem.within("cannot be read to its end")))
    }
}

impl Decoder {
    fn of(names: &names::Names) -> Self {
        let entry = |(name, (_, stored)): (&String, &(&String, &TensorHeader))| Entry {
            name: name.clone(),
            shape: stored.shape.clone(),
            dtype: stored.dtype,
        };
        let composition = |(name, (raw, _)): (&String, &(&String, &TensorHeader))| (name.clone(), Composition::Whole((*raw).clone()));
        Self { entries: names.iter().map(entry).collect(), compositions: names.iter().map(composition).collect() }
    }
}
