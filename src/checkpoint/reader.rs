//! A checkpoint before anybody asks what its names mean: raw names with shapes and types, read one tensor at a time.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

#[cfg(feature = "files")]
use pytorch_reader::PickleValue;

use super::archives::Archives;
use super::container::Container;
use super::kind::Kind;
#[cfg(feature = "files")]
use super::pth::PthFile;
use crate::archive::{Archive, Stored};

/// An open checkpoint of any container.
pub(super) enum Reader {
    Safetensors(Archives),
    #[cfg(feature = "files")]
    Pth(PthFile),
}

impl Reader {
    /// Opens the file at `path`, which is of this `kind`.
    #[cfg(feature = "files")]
    pub fn open(path: &std::path::Path, kind: Kind) -> Result<Self, String> {
        match kind {
            Kind::Safetensors => Ok(Self::Safetensors(Archives::one(Archive::open(path)?))),
            Kind::Zip | Kind::Pickle => Ok(Self::Pth(PthFile::open(path, kind)?)),
            Kind::Json => Err("is the index of a sharded model inside another one".into()),
        }
    }

    /// Opens what `reader` holds.
    pub fn new(mut reader: impl Read + Seek + Send + 'static) -> Result<Self, String> {
        match Kind::of(&mut reader)? {
            Kind::Safetensors => Ok(Self::Safetensors(Archives::one(Archive::from_reader(reader)?))),
            Kind::Json => Err("is JSON, not a checkpoint; hand an index of shards to checkpoint::Shards::with_index".into()),
            #[cfg(feature = "files")]
            kind => Ok(Self::Pth(PthFile::copy(&mut reader, kind)?)),
            #[cfg(not(feature = "files"))]
            Kind::Zip | Kind::Pickle => Err("is a PyTorch file, which a build without the feature `files` cannot read; \
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

    /// Every tensor of the checkpoint, nested names joined by dots.
    pub fn tensors(&self) -> &BTreeMap<String, Stored> {
        match self {
            Self::Safetensors(archives) => archives.tensors(),
            #[cfg(feature = "files")]
            Self::Pth(file) => file.tensors(),
        }
    }

    /// The shard that holds tensor `name`, if the checkpoint stands in several.
    pub fn shard_of(&self, name: &str) -> Option<&str> {
        match self {
            Self::Safetensors(archives) => archives.shard_of(name),
            #[cfg(feature = "files")]
            Self::Pth(_) => None,
        }
    }

    /// The text metadata of safetensors; empty for others.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        match self {
            Self::Safetensors(archives) => archives.metadata(),
            #[cfg(feature = "files")]
            Self::Pth(_) => BTreeMap::new(),
        }
    }

    /// The string under a top-level key of a pickled dictionary, if that is what stands there.
    #[cfg(feature = "files")]
    pub fn top_level_string(&self, key: &str) -> Result<Option<String>, String> {
        match self.top_level(key)? {
            Some(PickleValue::String(text)) => Ok(Some(text)),
            _ => Ok(None),
        }
    }

    /// As with the feature `files`; safetensors hold no pickled dictionary.
    #[cfg(not(feature = "files"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a pickle may fail")]
    pub fn top_level_string(&self, _key: &str) -> Result<Option<String>, String> {
        Ok(None)
    }

    /// What stands under a top-level key of a pickled dictionary.
    #[cfg(feature = "files")]
    pub fn top_level(&self, key: &str) -> Result<Option<PickleValue>, String> {
        match self {
            Self::Safetensors(_) => Ok(None),
            Self::Pth(file) => file.top_level(key),
        }
    }

    /// The values of tensor `name`, row-major. Only its own bytes are read.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, String> {
        let raw = self.tensors().get(name).ok_or_else(|| "is not in the file".to_string())?;
        let values = match self {
            Self::Safetensors(archives) => archives.read(name)?.into_data(),
            #[cfg(feature = "files")]
            Self::Pth(file) => raw.dtype.decode(&file.read(name)?)?,
        };
        let want: usize = raw.shape.iter().product();
        if values.len() != want {
            return Err(format!("holds {} values where its shape {:?} has {want}", values.len(), raw.shape));
        }
        Ok(values)
    }

    /// What the bytes are known by: the SHA-256 of the one file, or that of all shards' hashes and names.
    #[cfg(feature = "files")]
    pub fn hashes(&self) -> std::io::Result<Vec<(String, String)>> {
        match self {
            Self::Safetensors(archives) => archives.hashes(),
            Self::Pth(file) => Ok(vec![(String::new(), file.sha256()?)]),
        }
    }
}
