//! The weights of a model: from a file of the page, or untrained. Shards have a [loader](crate::loader) of their own.

use std::io;
use std::path::Path;
use std::sync::Arc;

use meddino::Error;
use meddino::archive::{InputFile, LentFile, LentFolder, open_plain};
use meddino::checkpoint::Checkpoint;
use meddino::vit::model::Model;
use meddino::vit::source::ModelSource;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::Blob;

use crate::blob::BlobFile;
use crate::error::{Result, thrown};

/// A model whose weights are not read yet.
#[wasm_bindgen]
pub struct Weights {
    pub(crate) model: Model,
}

#[wasm_bindgen]
impl Weights {
    /// Untrained weights, to try things out: `seeded:0`, `seeded:0:tiny` or `seeded:0:micro`.
    pub fn seeded(name: &str) -> Result<Weights> {
        match ModelSource::parse(name).map_err(thrown)? {
            ModelSource::Seeded { seed, size } => Ok(Self { model: Model::seeded(seed, size) }),
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
        Ok(Self { model: opened.map_err(thrown)? })
    }
}

/// Returns a reader of the blob, which stays readable after its folder is gone.
pub(crate) fn reader(blob: Blob) -> io::Result<InputFile> {
    let file: Arc<dyn LentFile> = Arc::new(BlobFile::new(blob));
    let folder = LentFolder::new([("weights".into(), file)]);
    folder.and_then(|folder| open_plain(&folder.path().join(Path::new("weights"))))
}
