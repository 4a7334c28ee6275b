//! One safetensors shard of a sharded model.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::finite::finite;
use super::hints::{self, CONFIG_KEY, Hints};
use super::kind::Kind;
use super::layout::Layout;
use super::names::printable;
use crate::archive::{Archive, TensorHeader};
use crate::error::Problem;
use crate::tensor::Tensor;

/// Opens the shard that `reader` holds from its start to its end.
pub(super) fn open(mut reader: impl Read + Seek + Send + 'static) -> Result<Archive, Problem> {
    match Kind::of(&mut reader)? {
        Kind::Safetensors => Archive::from_reader(reader),
        _ => Err("is no safetensors file; save the model with safetensors shards (Python: safe_serialization=True)".into()),
    }
}

/// A shard that this crate wrote: its tensors have the parameters' names, and its metadata states the configuration.
/// Its values can therefore be used before the other shards are there.
pub(crate) struct OwnShard {
    archive: Archive,
    hints: Hints,
}

impl OwnShard {
    /// Opens the shard that `reader` holds from its start to its end.
    ///
    /// # Errors
    /// If the shard cannot be read, is not a complete safetensors file, or states no configuration.
    pub fn open(reader: impl Read + Seek + Send + 'static) -> Result<Self, Problem> {
        let archive = open(reader)?;
        if !archive.metadata().contains_key(CONFIG_KEY) {
            return Err(format!(
                "its metadata has no {CONFIG_KEY}, which each shard needs to be loaded alone; convert the model with meddino, or collect its \
                 shards with checkpoint::Shards"
            )
            .into());
        }
        let (hints, _) = hints::gather(&Layout::Meddino, archive.metadata(), || Ok(None))?;
        Ok(Self { archive, hints })
    }

    /// Returns what the metadata states about the model.
    pub fn hints(&self) -> &Hints {
        &self.hints
    }

    /// Returns shape and type of every tensor, by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorHeader> {
        self.archive.tensors()
    }

    /// Reads the tensor `name` as f32.
    ///
    /// # Errors
    /// If the shard has no such tensor, its elements are no floating-point numbers, or a value is NaN or infinite.
    pub fn load(&self, name: &str) -> Result<Tensor, Problem> {
        let loaded = self.archive.read(name).and_then(|tensor| Ok(finite(tensor)?));
        loaded.map_err(|problem| {
            let text = format!("tensor {} {problem}", printable(name));
            problem.reworded(text)
        })
    }
}
