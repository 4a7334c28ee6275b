//! The positions of a feature file's patches in patient space.

use crate::ct::Affine;

/// Maps patches to the scan that their images were made from, and to patient space.
#[derive(Clone, Debug, PartialEq)]
pub struct ImagePlace {
    /// The affine of the scan after orientation: from (column, row, slice) to millimetres.
    pub affine: Affine,
    /// Height and width of a slice in pixels.
    pub slice: (usize, usize),
    /// Height and width of the image that the slice was resized to, in pixels.
    pub image: (usize, usize),
    /// Side of a patch in the image's pixels.
    pub patch_size: usize,
    /// The scan's slices that are in the file, in the file's order.
    pub slices: Vec<usize>,
}

impl ImagePlace {
    /// Returns the affine from (patch column, patch row, position in the file's list of slices) to a patch's centre in
    /// RAS+ mm, or `None` if the distances between the file's slices differ.
    ///
    /// A resize keeps the edges of the image in place, so that pixel i of the image is at pixel
    /// `(i + 0.5) * scale - 0.5` of the slice. The centre of patch p is at pixel
    /// `p * patch_size + (patch_size - 1) / 2` of the image, which is pixel `(p + 0.5) * patch_size * scale - 0.5` of
    /// the slice. The position counts slices of the file. In a file of one slice, a step of 1 is the scan's distance
    /// between slices.
    pub fn patch_affine(&self) -> Option<Affine> {
        let step = self.slice_step()?;
        let [column, row] = self.patch_steps();
        Some(Affine::from_columns(column, row, self.affine.column(2).map(|v| v * step), self.first_patch(self.slices[0])))
    }

    /// Returns the vectors from a patch to the next patch to the right, and to the next patch down, in RAS+ mm.
    pub fn patch_steps(&self) -> [[f64; 3]; 2] {
        let [across, down] = self.pixels_a_patch();
        [self.affine.column(0).map(|v| v * across), self.affine.column(1).map(|v| v * down)]
    }

    /// Returns the centre of patch (0, 0) of each of the file's slices, in RAS+ mm.
    pub fn slice_positions(&self) -> Vec<[f64; 3]> {
        self.slices.iter().map(|&slice| self.first_patch(slice)).collect()
    }

    /// Returns a patch's width and height in pixels of the slice.
    fn pixels_a_patch(&self) -> [f64; 2] {
        let ((height, width), (image_height, image_width)) = (self.slice, self.image);
        [width as f64 / image_width as f64, height as f64 / image_height as f64].map(|scale| scale * self.patch_size as f64)
    }

    fn first_patch(&self, slice: usize) -> [f64; 3] {
        let [across, down] = self.pixels_a_patch();
        self.affine.apply([0.5 * across - 0.5, 0.5 * down - 0.5, slice as f64])
    }

    /// Returns the distance from one slice of the file to the next, in slices of the scan, or `None` if the distances
    /// differ or are 0.
    fn slice_step(&self) -> Option<f64> {
        let steps = || self.slices.windows(2).map(|pair| pair[1] as f64 - pair[0] as f64);
        let first = steps().next().unwrap_or(1.0);
        (first != 0.0 && steps().all(|step| (step - first).abs() < 0.5)).then_some(first)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these sums are exact in f64")]
mod tests {
    use super::*;

    /// Columns 0.5 mm to the left, rows 2 mm to posterior, slices 3 mm up; slices of 64 x 96 pixels, resized to 32 x
    /// 32.
    fn place(slices: &[usize]) -> ImagePlace {
        let affine = Affine::from_columns([-0.5, 0.0, 0.0], [0.0, -2.0, 0.0], [0.0, 0.0, 3.0], [100.0, 50.0, -7.0]);
        ImagePlace { affine, slice: (64, 96), image: (32, 32), patch_size: 16, slices: slices.to_vec() }
    }

    #[test]
    fn a_patch_lies_where_it_does_by_hand() {
        // A patch is 48 x 32 pixels of the slice. The first patch covers columns 0 to 47 and rows 0 to 31, so its
        // centre is column 23.5, row 15.5.
        let patch = place(&[10, 8, 6]).patch_affine().expect("equal steps");
        assert_eq!(patch.apply([0.0, 0.0, 0.0]), [100.0 - 23.5 * 0.5, 50.0 - 15.5 * 2.0, -7.0 + 30.0]);
        // One patch to the right, one down, the last slice of the list: column 71.5, row 47.5, slice 6.
        assert_eq!(patch.apply([1.0, 1.0, 2.0]), [100.0 - 71.5 * 0.5, 50.0 - 47.5 * 2.0, -7.0 + 18.0]);
    }

    #[test]
    fn without_a_resize_patches_are_of_sixteen_pixels() {
        let whole = ImagePlace { image: (64, 96), ..place(&[0]) };
        let patch = whole.patch_affine().expect("one slice");
        assert_eq!(patch.apply([0.0, 0.0, 0.0]), [100.0 - 7.5 * 0.5, 50.0 - 7.5 * 2.0, -7.0]);
        assert_eq!(patch.spacing(), [8.0, 32.0, 3.0]);
    }

    #[test]
    fn slices_without_a_rule_have_a_place_each() {
        let place = place(&[0, 1, 5]);
        assert_eq!(place.patch_affine(), None);
        assert_eq!(place.slice_positions().iter().map(|p| p[2]).collect::<Vec<_>>(), [-7.0, -4.0, 8.0]);
        assert_eq!(place.patch_steps(), [[-24.0, 0.0, 0.0], [0.0, -64.0, 0.0]]);
        let (x, y) = (100.0 - 23.5 * 0.5, 50.0 - 15.5 * 2.0);
        assert!(place.slice_positions().iter().all(|p| p[..2] == [x, y]));
        assert_eq!(ImagePlace { slices: vec![3, 3], ..place }.patch_affine(), None, "twice the same slice spans nothing");
    }
}
