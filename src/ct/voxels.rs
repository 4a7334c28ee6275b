//! The voxels of a volume that a file stores one slice after another.

use super::bytes::Bytes;
use super::scalar::Scalar;
use super::source::SliceReader;
use crate::error::Problem;

/// The open file of a volume, and how its voxels are stored.
#[derive(Debug)]
pub(super) struct Voxels {
    pub bytes: Bytes,
    /// [S, H, W]
    pub shape: [usize; 3],
    pub scalar: Scalar,
    pub is_big_endian: bool,
    /// A value is `stored * slope + intercept`.
    pub slope: f64,
    pub intercept: f64,
    /// The offset of the first voxel in `bytes`.
    pub offset: u64,
}

impl Voxels {
    /// Returns little-endian bytes that begin with the first voxel of a volume of `shape` [S, H, W]. The caller sets
    /// what differs, and then calls [`Voxels::checked`].
    pub fn new(bytes: Bytes, shape: [usize; 3]) -> Self {
        Self { bytes, shape, scalar: Scalar::U8, is_big_endian: false, slope: 1.0, intercept: 0.0, offset: 0 }
    }

    /// Checks that the file can hold the voxels, and warns if bytes follow them.
    ///
    /// # Errors
    /// If the file is too short.
    pub fn checked(mut self, warnings: &mut Vec<String>) -> Result<Self, String> {
        let voxels = self.shape.iter().try_fold(1_u64, |product, &side| product.checked_mul(side as u64));
        let len = voxels.and_then(|voxels| voxels.checked_mul(self.scalar.size() as u64));
        let len = len.ok_or_else(|| format!("broken header: a volume of {:?} voxels is longer than any file", self.shape))?;
        let trailing = self.bytes.promise(self.offset, len)?;
        if trailing > 0 {
            warnings.push(format!("{trailing} bytes follow the last voxel that its header describes; they are not read"));
        }
        Ok(self)
    }
}

impl SliceReader for Voxels {
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, Problem> {
        let [_, height, width] = self.shape;
        let len = height * width * self.scalar.size();
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| format!("no memory for {len} bytes"))?;
        bytes.resize(len, 0);
        self.bytes.read_at(self.offset + index as u64 * len as u64, &mut bytes)?;
        Ok(self.scalar.decode(&bytes, self.is_big_endian, self.slope, self.intercept))
    }
}
