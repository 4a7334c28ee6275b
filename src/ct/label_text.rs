//! The text headers of label maps in NRRD and MetaImage. The formats are described by Teem (nrrd/format) and by ITK's
//! MetaIO.

use super::geometry::Geometry;
use super::grid::{Grid, lps};

impl Geometry {
    /// Returns the header of a `.nrrd` label map, up to the voxels, which are compressed with gzip. The labels are
    /// unsigned little-endian integers of `bytes` bytes (1 or 2). `comment` is a line of text.
    ///
    /// Directions and origin are the scan's to the last bit, in LPS. Where the `pixdim` of a NIfTI scan contradicts its
    /// sform, directions are the sform's and distances those of `pixdim`, as SimpleITK reads the scan.
    pub fn nrrd_labels(&self, bytes: usize, comment: &str) -> String {
        let vector = |v: [f64; 3]| format!("({})", list(v, ","));
        let steps = self.steps().map(vector).join(" ");
        let name = if bytes == 1 { "unsigned char" } else { "unsigned short\nendian: little" };
        format!(
            "NRRD0004\n# {comment}\ntype: {name}\ndimension: 3\nspace: left-posterior-superior\nsizes: {}\nspace directions: {steps}\n\
             kinds: domain domain domain\nencoding: gzip\nspace origin: {}\n\n",
            self.sizes(),
            vector(lps(self.affine().column(3)))
        )
    }

    /// Returns the header of a `.mha` label map, up to the voxels, which are compressed with zlib. Labels and `comment`
    /// are as for [`Geometry::nrrd_labels`], and `compressed` is the text of the number of compressed bytes.
    ///
    /// Spacing, directions and origin are the scan's to the last bit if it is MetaImage.
    pub fn metaimage_labels(&self, bytes: usize, comment: &str, compressed: &str) -> String {
        let grid = self.grid();
        let matrix = grid.directions.map(|direction| list(direction, " ")).join(" ");
        let name = if bytes == 1 { "MET_UCHAR" } else { "MET_USHORT" };
        format!(
            "ObjectType = Image\nComment = {comment}\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\n\
             CompressedDataSize = {compressed}\nTransformMatrix = {matrix}\nOffset = {}\nCenterOfRotation = 0 0 0\nElementSpacing = {}\n\
             DimSize = {}\nElementType = {name}\nElementDataFile = LOCAL\n",
            list(grid.origin, " "),
            list(grid.spacing, " "),
            self.sizes()
        )
    }

    /// Returns the grid as the scan's MetaImage file states it, or as SimpleITK reads a scan of another format.
    fn grid(&self) -> Grid {
        let [slice, row, column] = self.spacing();
        self.grid.as_deref().cloned().unwrap_or_else(|| Grid::of(self.affine(), [column, row, slice]))
    }

    /// Returns the steps in mm along columns, rows and slices, in LPS.
    fn steps(&self) -> [[f64; 3]; 3] {
        if self.nifti.is_some() { self.grid().steps() } else { [0, 1, 2].map(|axis| lps(self.affine().column(axis))) }
    }

    fn sizes(&self) -> String {
        let [slices, rows, columns] = self.shape();
        format!("{columns} {rows} {slices}")
    }
}

/// Writes numbers with as many digits as they need to be read back unchanged.
fn list(v: [f64; 3], between: &str) -> String {
    v.map(|v| format!("{v:?}")).join(between)
}
