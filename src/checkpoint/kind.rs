//! Detects a file's kind from its first bytes. The file's name does not matter.

use std::io::{Read, Seek};

use crate::error::Problem;

/// Number of bytes that are inspected. A tar archive has its magic number at byte 257.
const HEAD: u64 = 512;

/// The kinds of files that may hold a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    Zip,
    Pickle,
    /// JSON, which may be the index of a sharded model.
    Json,
}

impl Kind {
    /// Detects what `reader` holds, and rewinds it to its start.
    pub fn of(reader: &mut (impl Read + Seek)) -> Result<Self, Problem> {
        let mut head = Vec::new();
        reader.rewind()?;
        reader.by_ref().take(HEAD).read_to_end(&mut head)?;
        reader.rewind()?;
        Ok(Self::of_head(&head)?)
    }

    fn of_head(head: &[u8]) -> Result<Self, String> {
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
            return Ok(Self::Json);
        }
        Err(format!("is neither a PyTorch nor a safetensors file; {ADVICE}"))
    }
}
