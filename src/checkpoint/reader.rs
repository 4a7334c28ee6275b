//! Reads a checkpoint's raw tensors one at a time, with their raw names, shapes and types. This file does not interpret
//! the names.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

#[cfg(feature = "files")]
use pytorch_reader::PickleValue;

use super::archives::Archives;
use super::container::Container;
use super::kind::Kind;
#[cfg(all(feature = "files", not(target_arch = "wasm32")))]
use super::pth::PthFile;
#[cfg(all(feature = "files", target_arch = "wasm32"))]
use super::state_dict::StateDict as PthFile;
use crate::archive::{Archive, TensorHeader};
use crate::error::Problem;

/// An open checkpoint of any container.
pub(super) enum Reader {
    Safetensors(Archives),
    #[cfg(feature = "files")]
    Pth(PthFile),
}

impl Reader {
    /// Opens the file at `path`, which is of this `kind`.
    #[cfg(feature = "files")]
    pub fn open(path: &std::path::Path, kind: Kind) -> Result<Self, Problem> {
        match kind {
            Kind::Safetensors => Ok(Self::Safetensors(Archives::one(Archive::open(path)?))),
            Kind::Zip | Kind::Pickle => Ok(Self::Pth(PthFile::open(path, kind)?)),
            Kind::Json => Err("is the index of a sharded model inside another one".into()),
        }
    }

    /// Opens the checkpoint that `reader` holds.
    pub fn new(mut reader: impl Read + Seek + Send + 'static) -> Result<Self, Problem> {
        match Kind::of(&mut reader)? {
            Kind::Safetensors => Ok(Self::Safetensors(Archives::one(Archive::from_reader(reader)?))),
            Kind::Json => Err("is JSON, not a checkpoint; hand an index of shards to checkpoint::Shards::with_index".into()),
            #[cfg(feature = "files")]
            kind => Ok(Self::Pth(PthFile::from_reader(reader, kind)?)),
            #[cfg(not(feature = "files"))]
            Kind::Zip | Kind::Pickle => Err("is a PyTorch file, which a build without the cargo feature files cannot read; \
                write it as safetensors first (meddino convert FILE -o model.safetensors)"
                .into()),
        }
    }

    pub fn container(&self) -> Container {
        match self {
            Self::Safetensors(archives) => archives.container(),
            #[cfg(feature = "files")]
            Self::Pth(file) => file.container(),
        }
    }

    /// Returns every tensor of the checkpoint. Nested names are joined by dots.
    pub fn tensors(&self) -> &BTreeMap<String, TensorHeader> {
        match self {
            Self::Safetensors(archives) => archives.tensors(),
            #[cfg(feature = "files")]
            Self::Pth(file) => file.tensors(),
        }
    }

    /// Returns the shard that holds tensor `name`, if the checkpoint is sharded.
    pub fn shard_of(&self, name: &str) -> Option<&str> {
        match self {
            Self::Safetensors(archives) => archives.shard_of(name),
            #[cfg(feature = "files")]
            Self::Pth(_) => None,
        }
    }

    /// Returns the text metadata of safetensors; empty for other containers.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        match self {
            Self::Safetensors(archives) => archives.metadata(),
            #[cfg(feature = "files")]
            Self::Pth(_) => BTreeMap::new(),
        }
    }

    /// Returns the value under a top-level key of a pickled dictionary, if it is a string.
    #[cfg(feature = "files")]
    pub fn top_level_string(&self, key: &str) -> Result<Option<String>, Problem> {
        match self.top_level(key)? {
            Some(PickleValue::String(text)) => Ok(Some(text)),
            _ => Ok(None),
        }
    }

    /// Returns `None`, because safetensors hold no pickled dictionary.
    #[cfg(not(feature = "files"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a pickle may fail")]
    pub fn top_level_string(&self, _key: &str) -> Result<Option<String>, Problem> {
        Ok(None)
    }

    /// Returns the value under a top-level key of a pickled dictionary, if there is one.
    #[cfg(feature = "files")]
    pub fn top_level(&self, key: &str) -> Result<Option<PickleValue>, Problem> {
        match self {
            Self::Safetensors(_) => Ok(None),
            Self::Pth(file) => file.top_level(key),
        }
    }

    /// Reads the values of tensor `name`, row-major. Only the bytes of this tensor are read.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, Problem> {
        let raw = self.tensors().get(name).ok_or_else(|| "is not in the file".to_string())?;
        let values = match self {
            Self::Safetensors(archives) => archives.read(name)?.into_data(),
            #[cfg(feature = "files")]
            Self::Pth(file) => raw.dtype.decode(&file.read(name)?)?,
        };
        let want: usize = raw.shape.iter().product();
        if values.len() != want {
            return Err(format!("holds {} values where its shape {:?} has {want}", values.len(), raw.shape).into());
        }
        Ok(values)
    }

    /// Returns the name and the SHA-256 of each file. The name of a single file is empty.
    #[cfg(feature = "files")]
    pub fn hashes(&self) -> std::io::Result<Vec<(String, String)>> {
        match self {
            Self::Safetensors(archives) => archives.hashes(),
            Self::Pth(file) => Ok(vec![(String::new(), file.sha256()?)]),
        }
    }
}
