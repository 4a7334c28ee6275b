//! Tensors of one shape, kept on disk for a second look: features of a volume do not fit into memory together.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A nameless file of tensors, gone when this is dropped.
#[derive(Debug)]
pub struct TensorSpool {
    file: File,
    shape: Vec<usize>,
    kept: usize,
    place: String,
}

impl TensorSpool {
    /// Starts a file in `folder` for tensors of `shape`.
    ///
    /// # Errors
    /// If no file can be made there.
    pub fn new(folder: &Path, shape: &[usize]) -> Result<Self> {
        let place = format!("a temporary file in {}", folder.display());
        let file = tempfile::tempfile_in(folder).map_err(|e| Error::output(&place, e))?;
        Ok(Self { file, shape: shape.to_vec(), kept: 0, place })
    }

    /// Keeps one more tensor.
    ///
    /// # Errors
    /// If the disk is full or fails.
    ///
    /// # Panics
    /// If the tensor has another shape.
    pub fn push(&mut self, tensor: &Tensor) -> Result<()> {
        assert_eq!(tensor.shape(), self.shape);
        self.file.write_all(bytemuck::cast_slice(tensor.data())).map_err(|e| Error::output(&self.place, e))?;
        self.kept += 1;
        Ok(())
    }

    /// Gives each tensor to `look`, in the order in which they came.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn each(mut self, mut look: impl FnMut(&Tensor)) -> Result<()> {
        let fail = |e| Error::output(&self.place, e);
        self.file.seek(SeekFrom::Start(0)).map_err(fail)?;
        let mut tensor = Tensor::zeros(self.shape);
        for _ in 0..self.kept {
            self.file.read_exact(bytemuck::cast_slice_mut(tensor.data_mut())).map_err(fail)?;
            look(&tensor);
        }
        Ok(())
    }
}
