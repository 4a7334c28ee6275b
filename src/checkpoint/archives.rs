//! Safetensors files that together hold one checkpoint: a single one, or the shards of a model.

use std::collections::BTreeMap;

use super::container::Container;
use super::names::printable;
use crate::archive::{Archive, Stored};
use crate::tensor::Tensor;

/// Open files and the union of their tensors.
#[derive(Default)]
pub(super) struct Archives {
    /// Each file with its name; a single file needs none.
    files: Vec<(String, Archive)>,
    tensors: BTreeMap<String, Stored>,
    /// Tensor -> index of the file that holds it.
    places: BTreeMap<String, usize>,
}

impl Archives {
    /// A checkpoint in one file.
    pub fn one(archive: Archive) -> Self {
        let tensors = archive.tensors().clone();
        let places = tensors.keys().map(|name| (name.clone(), 0)).collect();
        Self { files: vec![(String::new(), archive)], tensors, places }
    }

    /// Adds the shard called `shard`.
    ///
    /// # Errors
    /// If the shard, or a tensor in it, is there already; both shards are named.
    pub fn add(&mut self, shard: &str, archive: Archive) -> Result<(), String> {
        if self.has(shard) {
            return Err(format!("shard {}: it was added already; add each shard once", printable(shard)));
        }
        for name in archive.tensors().keys() {
            if let Some(&other) = self.places.get(name) {
                let (name, first, second) = (printable(name), printable(&self.files[other].0), printable(shard));
                return Err(format!("{name} stands twice, in the shards {first} and {second}; keep the shards of one model together"));
            }
        }
        for (name, stored) in archive.tensors() {
            self.tensors.insert(name.clone(), stored.clone());
            self.places.insert(name.clone(), self.files.len());
        }
        self.files.push((shard.into(), archive));
        Ok(())
    }

    /// Whether the shard is there.
    pub fn has(&self, shard: &str) -> bool {
        self.files.iter().any(|(name, _)| name == shard)
    }

    pub fn container(&self) -> Container {
        match &self.files[..] {
            [(name, _)] if name.is_empty() => Container::Safetensors,
            files => Container::Shards(files.len()),
        }
    }

    /// Every tensor of every file.
    pub fn tensors(&self) -> &BTreeMap<String, Stored> {
        &self.tensors
    }

    /// The shard that holds tensor `name`; none if there is none, or the checkpoint is one file.
    pub fn shard_of(&self, name: &str) -> Option<&str> {
        let (shard, _) = &self.files[*self.places.get(name)?];
        Some(shard.as_str()).filter(|shard| !shard.is_empty())
    }

    /// The text metadata of all files; of a key that several have, the first file's.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let entries = self.files.iter().rev().flat_map(|(_, archive)| archive.metadata());
        entries.map(|(key, text)| (key.clone(), text.clone())).collect()
    }

    /// The values of tensor `name`.
    pub fn read(&self, name: &str) -> Result<Tensor, String> {
        let (shard, archive) = &self.files[*self.places.get(name).ok_or("is not in the file")?];
        archive.read(name).map_err(|problem| if shard.is_empty() { problem } else { format!("(in {}) {problem}", printable(shard)) })
    }

    /// Each file's name and the SHA-256 of its bytes.
    #[cfg(feature = "files")]
    pub fn hashes(&self) -> std::io::Result<Vec<(String, String)>> {
        self.files.iter().map(|(name, archive)| Ok((name.clone(), archive.sha256()?))).collect()
    }
}
