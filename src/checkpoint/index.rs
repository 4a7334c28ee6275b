//! The index of a sharded model, `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::archives::Archives;
use super::names::printable;

/// A parsed index.
#[derive(Debug, Deserialize)]
pub(crate) struct Index {
    /// Tensor -> file name of its shard.
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Parses the JSON of an index. A shard's name must not lead out of the index's folder.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        const EXPECTED: &str = "expected the index of a sharded model ({\"weight_map\": {TENSOR: SHARD}}), a .pth or a .safetensors";
        let index: Self = serde_json::from_slice(json).map_err(|e| format!("is JSON, but no checkpoint ({e}); {EXPECTED}"))?;
        if index.weight_map.is_empty() {
            return Err(format!("lists no tensor in its weight_map; {EXPECTED}"));
        }
        match index.shards().iter().find(|shard| !is_plain(shard)) {
            None => Ok(index),
            Some(shard) => Err(format!("names the shard {}; expected the name of a file in the same folder", printable(shard))),
        }
    }

    /// Returns the names of all shards, sorted.
    pub fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }

    /// Returns the names of the tensors that the index lists for `shard`.
    pub fn tensors_of(&self, shard: &str) -> impl Iterator<Item = &str> {
        self.weight_map.iter().filter(move |(_, at)| *at == shard).map(|(name, _)| name.as_str())
    }

    /// Returns the shard that the index lists for a tensor.
    pub fn shard_of(&self, tensor: &str) -> Option<&str> {
        self.weight_map.get(tensor).map(String::as_str)
    }

    /// Checks the added shards against the index.
    ///
    /// # Errors
    /// If a shard is missing, or a tensor is not in the shard that the index names.
    pub(super) fn check(&self, archives: &Archives) -> Result<(), String> {
        if let Some(shard) = self.shards().iter().find(|shard| !archives.has(shard)) {
            return Err(format!("shard {}: it is missing, and the index lists it; add every shard", printable(shard)));
        }
        for (name, shard) in &self.weight_map {
            match archives.shard_of(name) {
                Some(found) if found == shard => {}
                Some(found) => {
                    let (name, shard, found) = (printable(name), printable(shard), printable(found));
                    return Err(format!(
                        "shard {shard}: {name} should be in it, as the index says, and is in {found}; download both again"
                    ));
                }
                None => {
                    let (name, shard) = (printable(name), printable(shard));
                    return Err(format!("shard {shard}: {name} is missing from it, and the index lists it; download the shard again"));
                }
            }
        }
        Ok(())
    }
}

/// Returns whether `name` denotes a file in the same folder on every operating system.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}
