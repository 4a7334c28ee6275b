//! The safetensors files of one checkpoint: a single file, or the shards of a sharded model.

use std::collections::BTreeMap;

use super::container::Container;
use super::names::printable;
use crate::archive::{Archive, TensorHeader};
use crate::error::Problem;
use crate::tensor::Tensor;

/// Open files and the union of their tensors.
#[derive(Default)]
pub(super) struct Archives {
    /// Each file with its name, which is empty for a single file.
    files: Vec<(String, Archive)>,
    tensors: BTreeMap<String, TensorHeader>,
    /// Maps a tensor's name to the index in `files` of the file that holds it.
    places: BTreeMap<String, usize>,
}

impl Archives {
    /// Wraps a checkpoint that is a single file.
    pub fn one(archive: Archive) -> Self {
        let tensors = archive.tensors().clone();
        let places = tensors.keys().map(|name| (name.clone(), 0)).collect();
        Self { files: vec![(String::new(), archive)], tensors, places }
    }

    /// Adds the shard called `shard`.
    ///
    /// # Errors
    /// If the shard was added already, or another shard holds one of its tensors; the error then names both shards.
    pub fn add(&mut self, shard: &str, archive: Archive) -> Result<(), String> {
        if self.has(shard) {
            return Err(format!("shard {}: it was added already; add each shard once", printable(shard)));
        }
        for name in archive.tensors().keys() {
            if let Some(&other) = self.places.get(name) {
                let (name, first, second) = (printable(name), printable(&self.files[other].0), printable(shard));
                return Err(format!("{name} occurs twice, in the shards {first} and {second}; keep the shards of one model together"));
            }
        }
        for (name, stored) in archive.tensors() {
            self.tensors.insert(name.clone(), stored.clone());
            self.places.insert(name.clone(), self.files.len());
        }
        self.files.push((shard.into(), archive));
        Ok(())
    }

    /// Returns whether the shard was added.
    pub fn has(&self, shard: &str) -> bool {
        self.files.iter().any(|(name, _)| name == shard)
    }

    pub fn container(&self) -> Container {
        match &self.files[..] {
            [(name, _)] if name.is_empty() => Container::Safetensors,
            files => Container::Shards(files.len()),
        }
    }

    /// Returns the tensors of all files.
    pub fn tensors(&self) -> &BTreeMap<String, TensorHeader> {
        &self.tensors
    }

    /// Returns the shard that holds tensor `name`, or `None` if no file holds it or the checkpoint is a single file.
    pub fn shard_of(&self, name: &str) -> Option<&str> {
        let (shard, _) = &self.files[*self.places.get(name)?];
        Some(shard.as_str()).filter(|shard| !shard.is_empty())
    }

    /// Returns the text metadata of all files. If several files have the same key, the first file's value is taken.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let entries = self.files.iter().rev().flat_map(|(_, archive)| archive.metadata());
        entries.map(|(key, text)| (key.clone(), text.clone())).collect()
    }

    /// Reads the values of tensor `name`.
    pub fn read(&self, name: &str) -> Result<Tensor, Problem> {
        let (shard, archive) = &self.files[*self.places.get(name).ok_or("is not in the file")?];
        archive.read(name).map_err(|problem| {
            let text = if shard.is_empty() { problem.to_string() } else { format!("(in {}) {problem}", printable(shard)) };
            problem.reworded(text)
        })
    }

    /// Returns each file's name and the SHA-256 of its bytes.
    #[cfg(feature = "files")]
    pub fn hashes(&self) -> std::io::Result<Vec<(String, String)>> {
        self.files.iter().map(|(name, archive)| Ok((name.clone(), archive.sha256()?))).collect()
    }
}
