//! A checkpoint file before anybody asks what its names mean: raw names with shapes and types, read one tensor at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use pytorch_reader::PickleValue;

use super::pth::PthFile;
use crate::archive::{Archive, Stored, open_plain};

/// How a file keeps its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A JSON header followed by the tensors' bytes.
    Safetensors,
    /// `torch.save` since PyTorch 1.6: a zip archive with a pickle in it.
    Zip,
    /// `torch.save` before PyTorch 1.6: a sequence of pickles followed by the tensors' bytes.
    Legacy,
    /// No file: the tensors are computed from a seed.
    Seeded,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::Zip => "PyTorch (zip)",
            Self::Legacy => "PyTorch (legacy pickle)",
            Self::Seeded => "none (seeded)",
        })
    }
}

/// An open file of either kind.
pub(super) enum Reader {
    Safetensors(Archive),
    Pth(PthFile),
}

impl Reader {
    /// Opens `path` by what its first bytes say, whatever its name is.
    pub fn open(path: &Path) -> Result<Self, String> {
        let meta = std::fs::metadata(path).map_err(|e| e.to_string())?;
        if meta.is_dir() {
            return Err("is a directory; give the file in it (model.safetensors, checkpoint_final.pth, ...)".into());
        }
        let mut head = Vec::new();
        open_plain(path).and_then(|f| f.take(HEAD as u64).read_to_end(&mut head)).map_err(|e| e.to_string())?;
        match Kind::of(&head)? {
            Kind::Safetensors => Ok(Self::Safetensors(Archive::open(path)?)),
            Kind::Zip => Ok(Self::Pth(PthFile::open_zip(path)?)),
            Kind::Pickle => Ok(Self::Pth(PthFile::open_pickle(path, meta.len())?)),
        }
    }

    pub fn container(&self) -> Container {
        match self {
            Self::Safetensors(_) => Container::Safetensors,
            Self::Pth(file) => file.container(),
        }
    }

    /// Every tensor of the file, nested names joined by dots.
    pub fn tensors(&self) -> &BTreeMap<String, Stored> {
        match self {
            Self::Safetensors(file) => file.tensors(),
            Self::Pth(file) => file.tensors(),
        }
    }

    /// The text metadata of a safetensors file; empty for others.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        match self {
            Self::Safetensors(file) => file.metadata().clone(),
            Self::Pth(_) => BTreeMap::new(),
        }
    }

    /// The string under a top-level key of a pickled dictionary, if that is what stands there.
    pub fn top_level_string(&self, key: &str) -> Result<Option<String>, String> {
        match self.top_level(key)? {
            Some(PickleValue::String(text)) => Ok(Some(text)),
            _ => Ok(None),
        }
    }

    /// What stands under a top-level key of a pickled dictionary.
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
            Self::Safetensors(file) => file.read(name)?.into_data(),
            Self::Pth(file) => raw.dtype.decode(&file.read(name)?)?,
        };
        let want: usize = raw.shape.iter().product();
        if values.len() != want {
            return Err(format!("holds {} values where its shape {:?} has {want}", values.len(), raw.shape));
        }
        Ok(values)
    }
}

/// How many bytes decide: a tar archive names itself at byte 257.
const HEAD: usize = 512;

/// What a file is, by its first bytes.
enum Kind {
    Safetensors,
    Zip,
    Pickle,
}

impl Kind {
    fn of(head: &[u8]) -> Result<Self, String> {
        const ADVICE: &str = "expected a .pth as torch.save writes it, or a .safetensors";
        if head.is_empty() {
            return Err(format!("is empty; {ADVICE}"));
        }
        if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            return Ok(Self::Zip);
        }
        if head.get(257..262) == Some(b"ustar") {
            return Err(format!("is a tar archive; {ADVICE} (unpack it, or save an old .pth anew with a current PyTorch)"));
        }
        if head.starts_with(b"version https://git-lfs") {
            return Err("is a Git LFS pointer, not the checkpoint itself; fetch it with `git lfs pull`".into());
        }
        if head.get(8) == Some(&b'{') && !head.starts_with(b"{") {
            return Ok(Self::Safetensors);
        }
        if head.first() == Some(&0x80) {
            return Ok(Self::Pickle);
        }
        if head.starts_with(b"{") {
            return Err(format!("is JSON, not a checkpoint; {ADVICE} (of a sharded model, merge the shards into one file first)"));
        }
        Err(format!("is neither a PyTorch nor a safetensors file; {ADVICE}"))
    }
}
