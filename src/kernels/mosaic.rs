//! Scatter-adds the scores of tiles into a slice.

use std::ops::Range;

use super::cut::cut;
use super::{LANES, Recorder, words};
use crate::count::product;
use crate::error::Result;
use crate::graph::{Cost, Dispatch, Elem, Kernel, TensorId};

/// Where the scores of a batch of tiles are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mosaic {
    /// [K, H, W], made by [`Recorder::joined`]. Scores are added to the values there, so the caller zeroes them before
    /// the first tile.
    pub sums: TensorId,
    /// [h, w]: the weight of each pixel of a tile.
    pub weights: TensorId,
    /// [B, 4] of f32, for each tile: the row and the column of its corner on the slice, whether the tile is mirrored
    /// down (1 or 0), and whether it is mirrored across. A tile must lie within the slice.
    pub places: TensorId,
    /// Patches down and across a tile.
    pub grid: [usize; 2],
    /// Side of a patch in pixels: a power of two.
    pub side: usize,
}

impl Recorder {
    /// Adds the weighted scores `pixels` [patches side^2, K] to the slice. `patches` numbers these patches among those
    /// of all tiles. Pixels are stored patch by patch, in Morton order (the bits of a pixel's row and column
    /// interleaved, the row's first). Mirrored tiles are mirrored back.
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn mosaic(&mut self, label: &str, pixels: TensorId, patches: &Range<usize>, to: &Mosaic) -> Result<()> {
        let &Mosaic { sums, weights, places, grid: [rows, cols], side } = to;
        let ([classes, height, width], [batch, _]) = (self.shape(label, sums), self.shape(label, places));
        let (area, of_each, map) = (side * side, rows * cols, height * width);
        assert!(side.is_power_of_two() && rows * side <= height && cols * side <= width, "{label}: {to:?} on {height} x {width}");
        assert!(patches.end <= batch * of_each, "{label}: patches {patches:?} of {batch} x {of_each}");
        self.expect_len(label, pixels, patches.len() * area * classes);
        self.expect_len(label, weights, of_each * area);
        self.expect_len(label, places, 4 * batch);
        self.expect_f32(label, &[sums, weights, places]);
        // A bound view may begin up to an alignment before the elements that are read or written.
        let bytes = self.limits.max_binding.saturating_sub(self.limits.alignment) as usize;
        let most = (self.limits.reach(LANES as usize) / area).min(bytes / (area * classes * self.elem_of(pixels).bytes()));
        let bound = bytes / (4 * map);
        for piece in pieces_of_images(patches, of_each, most) {
            let tile = piece.start / of_each;
            let (view, at) = self.around(pixels, elements(piece.start - patches.start..piece.end - patches.start, area * classes));
            for moved in cut(&self.limits, label, classes, &[], bound, usize::MAX)? {
                let (write, first) = self.around(sums, elements(moved.clone(), map));
                // The bound view may begin within a pixel's K scores, so the remainder is added to the class.
                let (first_pixel, first_class) = (at / classes, at % classes + moved.start);
                let (count, place) = (piece.len() * area, (piece.start - tile * of_each) * area);
                self.push(Dispatch {
                    label: label.to_owned(),
                    kernel: kernel(self.elem_of(pixels), side),
                    reads: vec![view, self.graph.whole(weights), self.graph.whole(places)],
                    write,
                    params: words(&[count, first_pixel, place, cols, rows, classes, first_class, moved.len(), first, map, width, tile]),
                    workgroups: [count.div_ceil(LANES as usize) as u32, 1, 1],
                    cost: Cost {
                        flops: product(&[2, count, moved.len()]),
                        bytes: product(&[count, moved.len() * (self.elem_of(pixels).bytes() + 8) + 4]),
                    },
                });
            }
        }
        Ok(())
    }
}

/// Cuts patches into pieces of one image each, of at most `most` patches, and at least one.
fn pieces_of_images(patches: &Range<usize>, of_each: usize, most: usize) -> Vec<Range<usize>> {
    let (mut pieces, mut start) = (Vec::new(), patches.start);
    while start < patches.end {
        let end = patches.end.min((start / of_each + 1) * of_each).min(start.saturating_add(most.max(1)));
        pieces.push(start..end);
        start = end;
    }
    pieces
}

/// Returns the range of elements of these rows, of `len` elements each.
fn elements(rows: Range<usize>, len: usize) -> Range<usize> {
    rows.start * len..rows.end * len
}

fn kernel(pixels: Elem, side: usize) -> Kernel {
    let constants = vec![("LANES", LANES.into()), ("SIDE", (side as u32).into()), ("STAGES", side.ilog2().into()), ("X", pixels.into())];
    Kernel { name: "mosaic", parts: vec![include_str!("../../shaders/mosaic.wgsl")], constants }
}
