//! The head of the body, around which labels become background.

use std::path::{Path, PathBuf};

use meddino::Result;
use meddino::fitted::{BodyHead, DenseHead, HeadFile};
use meddino::output::Provenance;
use meddino::vit::layers::Layers;

/// A head that tells the body from what is around it, and its file.
#[derive(Debug)]
pub struct Body {
    /// The file.
    pub path: PathBuf,
    /// The head.
    pub head: BodyHead,
}

impl Body {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// If it holds no head on patch tokens, or one without label 0.
    pub fn open(path: PathBuf) -> Result<Self> {
        let head = DenseHead::new(&HeadFile::open(&path)?, path.display())?;
        Ok(Self { head: BodyHead::new(head, path.display())?, path })
    }

    /// Checks that the head may be applied to the tokens of the scan at `scan`, which are as `provenance` says.
    ///
    /// # Errors
    /// If it was fitted to tokens of another model, other images or other blocks.
    pub fn check(&self, scan: &Path, provenance: &Provenance) -> Result<()> {
        let what = format!("{}, for the head of the body in {}", scan.display(), self.path.display());
        self.head.head().check(&what, &provenance.metadata(), &Layers::LAST)
    }
}
