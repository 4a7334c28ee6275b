//! Pixels that stand patch by patch, put where they belong on a map.

use std::ops::Range;

use super::cut::cut;
use super::{LANES, Recorder, rows_of, words};
use crate::error::Result;
use crate::graph::{Cost, Dispatch, Elem, Kernel, TensorId};

/// Where the pixels of a batch belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mosaic {
    /// [B, K, rows side, cols side], made by [`Recorder::joined`].
    pub maps: TensorId,
    /// Patches down and across an image.
    pub grid: [usize; 2],
    /// Of a patch, in pixels: a power of two.
    pub side: usize,
}

impl Recorder {
    /// `pixels` [patches side^2, K] of the patches numbered `patches` among all of the batch, each patch's in Z-order (the bits of a pixel's row and column
    /// in it interleaved, the row's first), to where they belong.
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn mosaic(&mut self, label: &str, pixels: TensorId, patches: &Range<usize>, to: Mosaic) -> Result<()> {
        let Mosaic { maps, grid: [rows, cols], side } = to;
        let [batch, classes, height, width] = self.shape(label, maps);
        let (area, of_each, map) = (side * side, rows * cols, height * width);
        assert!(side.is_power_of_two() && [height, width] == [rows * side, cols * side], "{label}: {to:?} of {height} x {width}");
        assert!(patches.end <= batch * of_each, "{label}: patches {patches:?} of {batch} x {of_each}");
        self.expect_len(label, pixels, patches.len() * area * classes);
        let most = (self.limits.max_workgroups * LANES) as usize / area;
        let bound_maps = cut(&self.limits, label, batch * classes, &[4 * map], usize::MAX, usize::MAX)?;
        for piece in cut(&self.limits, label, patches.len(), &[], most, usize::MAX)? {
            let piece = patches.start + piece.start..patches.start + piece.end;
            for image in piece.start / of_each..piece.end.div_ceil(of_each) {
                let own = piece.start.max(image * of_each)..piece.end.min((image + 1) * of_each);
                let row = (own.start - patches.start) * area * classes;
                let (view, at) = self.around(pixels, row..row + own.len() * area * classes);
                for bound in &bound_maps {
                    let moved = bound.start.max(image * classes)..bound.end.min((image + 1) * classes);
                    if moved.is_empty() {
                        continue;
                    }
                    let (class, write) = (moved.start - image * classes, rows_of(maps, bound, map));
                    let place = (own.start - image * of_each) * area;
                    // A pixel's row need not begin at a multiple of K elements behind the binding's start: the rest is added to the class.
                    let from = [at / classes, class + at % classes];
                    let count = own.len() * area;
                    self.graph.push(Dispatch {
                        label: label.to_owned(),
                        kernel: kernel(self.elem_of(pixels), side),
                        reads: vec![view],
                        write,
                        params: words(&[
                            count,
                            from[0],
                            place,
                            cols,
                            classes,
                            from[1],
                            moved.len(),
                            (moved.start - bound.start) * map,
                            map,
                        ]),
                        workgroups: [count.div_ceil(LANES as usize) as u32, 1, 1],
                        cost: Cost { flops: 0, bytes: (count * moved.len() * (self.elem_of(pixels).bytes() + 4)) as u64 },
                    });
                }
            }
        }
        Ok(())
    }
}

fn kernel(pixels: Elem, side: usize) -> Kernel {
    let constants = vec![("LANES", LANES.into()), ("SIDE", (side as u32).into()), ("STAGES", side.ilog2().into()), ("X", pixels.into())];
    Kernel { name: "mosaic", parts: vec![include_str!("../../shaders/mosaic.wgsl")], constants }
}
