//! A basis stored in a file, so that pictures of several scans share their colours.

use std::collections::BTreeMap;
use std::path::Path;

use super::Basis;
use super::basis::COMPONENTS;
use crate::archive::{Archive, ArchiveWriter, Dtype, TensorHeader};
use crate::error::{Error, Problem, Result};
use crate::tensor::Tensor;

/// The largest token width that a file may declare. The largest DINOv3 has 4096 channels.
const MAX_WIDTH: usize = 1 << 16;

/// A [`Basis`] as stored in a file, with the score limits of its colour range and its origin.
///
/// The file is safetensors of f32: `mean` `[C]`, `components` [3, C], `variance` `[3]`, `limits` `[2]`.
#[derive(Clone, Debug, PartialEq)]
pub struct BasisFile {
    /// The directions.
    pub basis: Basis,
    /// The smallest and the largest score of the tokens that the basis was fitted to.
    pub limits: (f32, f32),
    /// Facts about the features that the basis was fitted to: the model, its precision, the preprocessing.
    pub metadata: BTreeMap<String, String>,
}

impl BasisFile {
    /// Writes the basis to `path`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let limits = Tensor::new([2], vec![self.limits.0, self.limits.1]);
        let Basis { mean, components, variance } = &self.basis;
        let tensors = [("mean", mean), ("components", components), ("variance", variance), ("limits", &limits)];
        let stored =
            |(name, tensor): &(&str, &Tensor)| (name.to_string(), TensorHeader { shape: tensor.shape().to_vec(), dtype: Dtype::F32 });
        let mut file = ArchiveWriter::create(path, &tensors.iter().map(stored).collect::<Vec<_>>(), &self.metadata)?;
        for (index, (_, tensor)) in tensors.iter().enumerate() {
            file.write(index, 0, tensor.data())?;
        }
        file.finish()
    }

    /// Reads a file written by [`BasisFile::save`].
    ///
    /// # Errors
    /// If the file cannot be read or does not hold a basis.
    pub fn open(path: &Path) -> Result<Self> {
        Self::checked(path).map_err(|problem| Error::input(path.display(), problem))
    }

    fn checked(path: &Path) -> Result<Self, Problem> {
        let archive = Archive::open(path)?;
        let width = match archive.tensors().get("components").map(|stored| &stored.shape[..]) {
            Some(&[COMPONENTS, width]) if (1..=MAX_WIDTH).contains(&width) => width,
            Some(shape) => return Err(format!("components: expected [{COMPONENTS}, C], C from 1 to {MAX_WIDTH}, found {shape:?}").into()),
            None => return Err("holds no components; expected a file that `meddino pca` wrote (`save_basis`)".into()),
        };
        let read = |name: &str, shape: &[usize]| -> Result<Tensor, Problem> {
            let stored = archive.tensors().get(name).ok_or_else(|| format!("holds no {name}"))?;
            if stored.shape != shape {
                return Err(format!("{name}: expected {shape:?}, found {:?}", stored.shape).into());
            }
            let tensor = archive.read(name).map_err(|problem| problem.within(name))?;
            if tensor.data().iter().all(|v| v.is_finite()) { Ok(tensor) } else { Err(format!("{name} holds NaN or infinity").into()) }
        };
        let basis = Basis {
            mean: read("mean", &[width])?,
            components: read("components", &[COMPONENTS, width])?,
            variance: read("variance", &[3])?,
        };
        if basis.variance.data().iter().any(|v| *v < 0.0) {
            return Err("a variance is below 0".into());
        }
        let &[lo, hi] = read("limits", &[2])?.data() else { unreachable!("[2]") };
        if lo > hi {
            return Err(format!("limits: {lo} is above {hi}").into());
        }
        Ok(Self { basis, limits: (lo, hi), metadata: archive.metadata().clone() })
    }
}
