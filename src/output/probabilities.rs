//! Writes the probability of every class at every voxel, as nnU-Net saves it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::archive::{ArchiveWriter, Dtype, TensorHeader};
use crate::ct::{Scratch, Turn};
use crate::error::Result;
use crate::tensor::TensorView;

/// An `.npz` file that holds `probabilities` [K, S, H, W] in f32. Slices are written one by one into an unfinished file
/// next to the target. The file gets its name when it is complete.
#[derive(Debug)]
pub struct ProbabilityFile {
    path: PathBuf,
    file: ArchiveWriter,
    metadata: BTreeMap<String, String>,
    /// The shape [K, S, H, W], in the scan's axis order.
    shape: [usize; 4],
    written: usize,
    /// The slices so far, by class, and the turn of their axes, if slices do not come in the scan's order.
    turned: Option<(Vec<Scratch>, Turn)>,
}

impl ProbabilityFile {
    /// Starts the file at `path` for `classes` classes of a scan of `shape` [S, H, W]. Its slices come after `turn`, as
    /// for [`super::LabelFile::create`].
    ///
    /// # Errors
    /// If the file cannot be written there.
    pub fn create(path: &Path, classes: usize, shape: [usize; 3], turn: Turn, metadata: BTreeMap<String, String>) -> Result<Self> {
        let [s, h, w] = shape;
        let stored = TensorHeader { shape: vec![classes, s, h, w], dtype: Dtype::F32 };
        let file = ArchiveWriter::create(path, &[("probabilities".into(), stored)], &metadata)?;
        let scratches = || (0..classes).map(|_| Scratch::new(turn.of_axes(shape))).collect::<Result<Vec<_>>>();
        let turned = if turn == Turn::NONE { None } else { Some((scratches()?, turn)) };
        Ok(Self { path: path.to_path_buf(), file, metadata, shape: [classes, s, h, w], written: 0, turned })
    }

    /// Writes the next slice, [K, H, W].
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn push<'a>(&mut self, probabilities: impl Into<TensorView<'a>>) -> Result<()> {
        let probabilities = probabilities.into();
        let planes = probabilities.data().chunks_exact(probabilities.data().len() / self.shape[0]);
        if let Some((scratches, _)) = &mut self.turned {
            return scratches.iter_mut().zip(planes).try_for_each(|(scratch, plane)| scratch.push(plane));
        }
        let slice = self.written;
        self.written += 1;
        planes.enumerate().try_for_each(|(class, plane)| self.write(class, slice, plane))
    }

    fn write(&mut self, class: usize, slice: usize, plane: &[f32]) -> Result<()> {
        self.file.write(0, (class * self.shape[1] + slice) * plane.len(), plane)
    }

    /// Completes the file and renames it to its target.
    ///
    /// # Errors
    /// If the disk is full or fails.
    pub fn finish(mut self) -> Result<()> {
        if let Some((scratches, turn)) = self.turned.take() {
            for (class, scratch) in scratches.into_iter().enumerate() {
                let mut volume = scratch.into_volume("probabilities").turned(turn.back())?;
                for slice in 0..volume.slices() {
                    self.write(class, slice, volume.read_slice(slice)?.data())?;
                }
            }
        }
        super::npz::write(&self.path, &mut self.file, &self.metadata)
    }
}
