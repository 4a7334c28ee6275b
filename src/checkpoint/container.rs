//! The format in which a checkpoint's tensors are stored.

use std::fmt;

/// The format in which a checkpoint's tensors are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A JSON header followed by the tensors' bytes.
    Safetensors,
    /// Several safetensors files, and their number.
    Shards(usize),
    /// `torch.save` since PyTorch 1.6: a zip archive with a pickle in it.
    Zip,
    /// `torch.save` before PyTorch 1.6: a sequence of pickles followed by the tensors' bytes.
    Legacy,
    /// No file; the tensors are computed from a seed.
    Seeded,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Safetensors => f.write_str("safetensors"),
            Self::Shards(n) => write!(f, "safetensors ({n} shards)"),
            Self::Zip => f.write_str("PyTorch (zip)"),
            Self::Legacy => f.write_str("PyTorch (legacy pickle)"),
            Self::Seeded => f.write_str("none (seeded)"),
        }
    }
}
