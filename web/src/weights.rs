//! The weights of a model: from a file of the page, from shards, or untrained. Shards that go to the GPU one by one have a
//! [loader](crate::loader).

use std::io;

use meddino::Error;
use meddino::archive::{InputFile, open_plain};
use meddino::checkpoint::{Checkpoint, Shards};
use meddino::vit::model::Model;
use meddino::vit::source::ModelSource;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::Blob;

use crate::blob::lend;
use crate::error::{Result, thrown};
use crate::identity::Pieces;
use crate::options;

/// A model whose weights are not read yet.
#[wasm_bindgen]
pub struct Weights {
    pub(crate) model: Model,
    /// What identifies the checkpoint, if it is known already.
    pub(crate) sha256: Option<String>,
}

impl Weights {
    /// Sets the precision of the position embedding that JavaScript asks for.
    pub(crate) fn with_rope(mut self, rope: Option<String>) -> Result<Self> {
        if let Some(rope) = rope {
            self.model.set_rope(options::rope(&rope)?);
        }
        Ok(self)
    }
}

#[wasm_bindgen]
impl Weights {
    /// Untrained weights, to try things out: `seeded:0`, `seeded:0:tiny` or `seeded:0:micro`.
    pub fn seeded(name: &str) -> Result<Weights> {
        match ModelSource::parse(name).map_err(thrown)? {
            ModelSource::Seeded { seed, size } => Ok(Self { model: Model::seeded(seed, size), sha256: None }),
            ModelSource::File(_) => {
                let problem = format!("'{name}' is no seeded model; expected seeded:N, seeded:N:tiny or seeded:N:micro");
                Err(thrown(Error::option("checkpoint", problem)))
            }
        }
    }

    /// Opens a safetensors file, or a PyTorch file as `torch.save` writes it by default. Its tensors are read one by one
    /// when the model is loaded.
    pub fn file(name: &str, blob: Blob) -> Result<Weights> {
        let reader = reader(blob).map_err(|e| thrown(Error::checkpoint(name, e)))?;
        let opened = Checkpoint::from_reader(name, reader).and_then(Model::from_checkpoint);
        Ok(Self { model: opened.map_err(thrown)?, sha256: None })
    }
}

/// The shards of a model, which are added in any order and stay where they are until the model is loaded.
#[wasm_bindgen]
pub struct ShardFiles {
    shards: Shards,
    pieces: Pieces,
}

#[wasm_bindgen]
impl ShardFiles {
    /// Takes the index of shards (`model.safetensors.index.json`) of the model called `name`.
    pub fn open(name: &str, index: &[u8]) -> Result<ShardFiles> {
        Ok(Self { shards: Shards::with_index(name, index).map_err(thrown)?, pieces: Pieces::of_index(name, index) })
    }

    /// Adds the shard called `shard`, which has this SHA-256. After an error the shard may be added again.
    pub fn add(&mut self, shard: String, sha256: String, blob: Blob) -> Result<()> {
        let reader = reader(blob).map_err(|e| thrown(Error::checkpoint(&shard, e)))?;
        self.shards.add(&shard, reader).map_err(thrown)?;
        self.pieces.add(shard, sha256);
        Ok(())
    }

    /// Returns the weights that the shards hold.
    pub fn finish(self) -> Result<Weights> {
        let opened = self.shards.finish().and_then(Model::from_checkpoint);
        Ok(Weights { model: opened.map_err(thrown)?, sha256: Some(self.pieces.identity()) })
    }
}

/// Returns a reader of the blob, which stays readable after its folder is gone.
pub(crate) fn reader(blob: Blob) -> io::Result<InputFile> {
    let (_folder, path) = lend(blob)?;
    open_plain(&path)
}
