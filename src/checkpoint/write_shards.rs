//! Writes a checkpoint as safetensors shards, for programs that fetch it piece by piece.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, json};

use super::{Checkpoint, Entry};
use crate::archive::{ArchiveWriter, Dtype, NewFile, TensorHeader, sha256_of_file};
use crate::error::{Error, Problem, Result};

/// The most bytes of values in a shard. A tensor that is larger has a shard of its own.
const SHARD: usize = 16 << 20;

/// The name of the index, which Hugging Face's libraries look for too.
pub const INDEX: &str = "model.safetensors.index.json";

/// Writes every parameter of `checkpoint` as `dtype` (f32, f16 or bf16) into shards in `folder`, and an index of them:
/// the shard of each tensor (`weight_map`), and each shard's size in bytes and SHA-256 (`metadata.shards`). Each shard
/// has `metadata` in its header. Returns the path of the index, which is written last.
///
/// Only one tensor is in memory at a time. `check` is called before each tensor, and its error stops the write.
///
/// # Errors
/// If `folder` holds a file already or cannot be made, and as
/// [`write_safetensors`](super::write_safetensors).
pub fn write_shards(
    checkpoint: &Checkpoint,
    folder: &Path,
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
    mut check: impl FnMut() -> Result<()>,
) -> Result<PathBuf> {
    let fail = |problem: Problem| Error::output(folder.display(), problem);
    fs::create_dir_all(folder).map_err(|e| fail(e.into()))?;
    if fs::read_dir(folder).map_err(|e| fail(e.into()))?.next().is_some() {
        return Err(fail("the folder of `shards` holds files already; expected an empty or a new one".into()));
    }
    let shards = divided(checkpoint.entries(), dtype.size().unwrap_or(4));
    let (mut weight_map, mut listed) = (Map::new(), Map::new());
    for (index, entries) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
        let path = folder.join(&name);
        let stored = |entry: &&Entry| (entry.name.clone(), TensorHeader { shape: entry.shape.clone(), dtype });
        let mut file = ArchiveWriter::create(&path, &entries.iter().map(stored).collect::<Vec<_>>(), metadata)?;
        for (at, entry) in entries.iter().enumerate() {
            check()?;
            file.write(at, 0, checkpoint.load(&entry.name)?.data())?;
            weight_map.insert(entry.name.clone(), name.clone().into());
        }
        file.finish()?;
        let size = fs::metadata(&path).map_err(|e| fail(e.into()))?.len();
        let sha256 = sha256_of_file(&path).map_err(|e| fail(e.into()))?;
        listed.insert(name, json!({ "size": size, "sha256": sha256 }));
    }
    let index = json!({ "metadata": { "shards": listed }, "weight_map": weight_map });
    let path = folder.join(INDEX);
    let mut file = NewFile::create(&path)?;
    file.write_at(0, format!("{index:#}\n").as_bytes())?;
    file.commit()?;
    Ok(path)
}

/// Divides the entries, in their order, into shards of at most [`SHARD`] bytes.
fn divided(entries: &[Entry], item: usize) -> Vec<Vec<&Entry>> {
    let (mut shards, mut bytes) = (vec![Vec::new()], 0);
    for entry in entries {
        let more = entry.len() * item;
        if bytes + more > SHARD && bytes > 0 {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        shards.last_mut().expect("one shard at least").push(entry);
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Dtype;
    use crate::checkpoint::Shards;
    use crate::vit::config::ModelSize;
    use crate::vit::model::Model;

    #[test]
    fn shards_hold_the_model_and_a_folder_with_files_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = Model::seeded(3, ModelSize::Tiny);
        let write = || write_shards(model.checkpoint(), folder.path(), Dtype::F32, &BTreeMap::new(), || Ok(()));
        let index = std::fs::read(write().expect("written")).expect("read");
        let mut shards = Shards::with_index("shards", &index).expect("an index");
        for name in shards.missing() {
            let bytes = std::fs::read(folder.path().join(&name)).expect("a shard");
            let stated = serde_json::from_slice::<serde_json::Value>(&index).expect("JSON")["metadata"]["shards"][&name].clone();
            assert_eq!(stated, json!({ "size": bytes.len(), "sha256": crate::archive::sha256(&bytes) }));
            shards.add_bytes(&name, bytes).expect("added");
        }
        let read = shards.finish().expect("whole");
        for entry in model.checkpoint().entries() {
            assert_eq!(read.load(&entry.name).expect("there").data(), model.checkpoint().load(&entry.name).expect("there").data());
        }
        let refused = write().expect_err("refused").to_string();
        assert!(refused.contains("holds files already"), "{refused}");
        assert_eq!(std::fs::read(folder.path().join(INDEX)).expect("read"), index);
    }

    #[test]
    fn a_shard_ends_before_it_is_too_large() {
        let entry = |megabytes: usize| Entry { name: megabytes.to_string(), shape: vec![megabytes << 18], dtype: Dtype::F32 };
        let entries = [3, 9, 8, 40, 1].map(entry);
        let sizes: Vec<Vec<usize>> = divided(&entries, 4).iter().map(|shard| shard.iter().map(|e| e.len() >> 18).collect()).collect();
        assert_eq!(sizes, [vec![3, 9], vec![8], vec![40], vec![1]]);
    }
}
