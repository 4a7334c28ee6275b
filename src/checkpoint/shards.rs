//! A checkpoint that is assembled from shards, which may be in memory or behind any other reader.

use std::io::{Cursor, Read, Seek};

use super::Checkpoint;
use super::archives::Archives;
use super::index::Index;
use super::names::printable;
use super::reader::Reader;
use super::shard;
use crate::error::{Error, Problem, Result};

/// The safetensors shards of one model, added one by one in any order. [`Shards::finish`] turns them into a
/// [`Checkpoint`].
///
/// Adding a shard reads its header. The shard's tensors are read on demand, so its reader is kept until then. A program
/// that has no memory for all shards uses [`ShardLoader`](crate::gpu::ShardLoader), which uploads each at once.
///
/// ```
/// use meddino::checkpoint::Shards;
/// # fn fetch(name: &str) -> Vec<u8> { Vec::new() }
/// # fn example(index: &[u8], config: &str) -> meddino::Result<()> {
/// let mut shards = Shards::with_index("dinov3", index)?; // the bytes of model.safetensors.index.json
/// shards.set_config(config); // the text of config.json
/// for name in shards.missing() {
///     shards.add_bytes(&name, fetch(&name))?;
/// }
/// let checkpoint = shards.finish()?;
/// # Ok(())
/// # }
/// ```
pub struct Shards {
    source_name: String,
    index: Option<Index>,
    config: Option<String>,
    archives: Archives,
}

impl Shards {
    /// Creates an empty set of shards for a model that messages call `source_name`. Without an index, a missing shard
    /// is noticed only when the model is built.
    pub fn new(source_name: impl Into<String>) -> Self {
        Self { source_name: source_name.into(), index: None, config: None, archives: Archives::default() }
    }

    /// Creates an empty set of the shards that the JSON of an index (`model.safetensors.index.json`) lists.
    ///
    /// # Errors
    /// If `index` is not the JSON of such an index.
    pub fn with_index(source_name: impl Into<String>, index: &[u8]) -> Result<Self> {
        let mut shards = Self::new(source_name);
        shards.index = Some(Index::parse(index).map_err(|problem| shards.error(problem))?);
        Ok(shards)
    }

    /// Sets the text of the model's `config.json`. A Hugging Face model has this file, which states the number of heads
    /// and the epsilon.
    pub fn set_config(&mut self, json: impl Into<String>) {
        self.config = Some(json.into());
    }

    /// Returns the names of the shards that the index lists and that are not added yet; empty without an index.
    pub fn missing(&self) -> Vec<String> {
        let listed = self.index.iter().flat_map(Index::shards);
        listed.filter(|shard| !self.archives.has(shard)).map(String::from).collect()
    }

    /// Adds the shard called `shard`, which `reader` holds from its start to its end.
    ///
    /// # Errors
    /// If the shard cannot be read, is not a complete safetensors file, was added already, or holds a tensor that
    /// another shard holds, too. Each error names the shard.
    pub fn add(&mut self, shard: &str, reader: impl Read + Seek + Send + 'static) -> Result<()> {
        let opened = shard::open(reader);
        let archive = opened.map_err(|problem| self.error(problem.within(format_args!("shard {}", printable(shard)))))?;
        self.archives.add(shard, archive).map_err(|problem| self.error(problem))
    }

    /// Adds a shard from bytes in memory, as [`Shards::add`] does.
    ///
    /// # Errors
    /// As [`Shards::add`].
    pub fn add_bytes(&mut self, shard: &str, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<()> {
        self.add(shard, Cursor::new(bytes))
    }

    /// Opens the checkpoint in the shards.
    ///
    /// # Errors
    /// As [`Checkpoint::from_reader`], or if a shard or a tensor that the index lists is missing; that error names the
    /// shard.
    pub fn finish(self) -> Result<Checkpoint> {
        let Self { source_name, index, config, archives } = self;
        let checked = index.map_or(Ok(()), |index| index.check(&archives).map_err(Problem::from));
        let opened = checked.and_then(|()| Checkpoint::read(Reader::Safetensors(archives), &source_name, || Ok(config.clone())));
        let opened = opened.map_err(|problem| Error::checkpoint(source_name, problem))?;
        #[cfg(feature = "files")]
        let opened = Checkpoint { config, ..opened };
        Ok(opened)
    }

    fn error(&self, problem: impl Into<Problem>) -> Error {
        Error::checkpoint(&self.source_name, problem)
    }
}
