//! What identifies a checkpoint, as the command computes it.

use meddino::Error;
use meddino::archive::{identity_of, sha256, sha256_of_file};
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::Blob;

use crate::blob::lend;
use crate::error::{Result, thrown};

/// The name and the SHA-256 of an index and of each of its shards.
pub struct Pieces(Vec<(String, String)>);

impl Pieces {
    /// Takes the index of shards at the URL or path `name`.
    pub fn of_index(name: &str, index: &[u8]) -> Self {
        let file = name.rsplit('/').next().unwrap_or(name).to_owned();
        Self([(file, sha256(index))].into())
    }

    /// Adds the shard called `shard`, which has this SHA-256.
    pub fn add(&mut self, shard: String, sha256: String) {
        self.0.push((shard, sha256));
    }

    /// Returns the SHA-256 of all of them. The command reads the index first and then the shards by their names.
    pub fn identity(mut self) -> String {
        self.0[1..].sort();
        identity_of(&self.0)
    }
}

/// Returns the SHA-256 of a file of the page, which is read piece by piece.
#[wasm_bindgen(js_name = sha256Of)]
pub fn sha256_of(name: &str, blob: Blob) -> Result<String> {
    let hashed = lend(blob).and_then(|(_folder, path)| sha256_of_file(&path));
    hashed.map_err(|e| thrown(Error::input(name, e)))
}
