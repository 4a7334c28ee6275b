//! Tiled inference over a slice: overlapping tiles, mirrored, with scores summed under Gaussian weights.

use half::f16;

use crate::error::Result;
use crate::tensor::{Tensor, TensorView};

/// The tiling of a slice.
#[derive(Clone, Debug)]
pub struct Tiling {
    /// Rows and columns of a tile.
    tile: [usize; 2],
    /// The largest distance between neighbouring tiles, in tiles. At 0.5 they overlap by half.
    step: f64,
    /// The axes (0 rows, 1 columns) along which each tile is mirrored, in all combinations. The result is the mean of
    /// their scores.
    mirror_axes: Vec<usize>,
    /// The weights of a tile's pixels: [rows, columns].
    weights: Vec<f32>,
}

/// One pass of a tile through the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TilePass {
    /// The tile's first row and column.
    pub corner: [usize; 2],
    /// Whether the tile is mirrored vertically (its rows), and horizontally (its columns).
    pub mirrored: [bool; 2],
}

impl Tiling {
    /// Creates a tiling with tiles of `tile` rows and columns, at most `step` of a tile apart (above 0, at most 1).
    pub fn new(tile: [usize; 2], step: f64, mirror_axes: &[usize]) -> Self {
        Self { tile, step, mirror_axes: mirror_axes.to_vec(), weights: gaussian(tile) }
    }

    /// Returns the rows and columns of a tile.
    pub fn tile(&self) -> [usize; 2] {
        self.tile
    }

    /// Returns the weights of a tile's pixels: [rows, columns].
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Returns the tiles of a slice of `size`, mirrored ones included. No side of the slice may be smaller than a
    /// tile's.
    pub fn passes(&self, size: [usize; 2]) -> Vec<TilePass> {
        let [rows, columns] = [0, 1].map(|axis| starts(size[axis], self.tile[axis], self.step));
        let mirrors = |axis: usize| if self.mirror_axes.contains(&axis) { &[false, true][..] } else { &[false] };
        let mut passes = Vec::new();
        for &row in &rows {
            for &column in &columns {
                for &down in mirrors(0) {
                    passes.extend(mirrors(1).iter().map(|&across| TilePass { corner: [row, column], mirrored: [down, across] }));
                }
            }
        }
        passes
    }

    /// Cuts the tiles [B, 1, h, w] of `passes` out of an image [H, W], and mirrors them as the passes say.
    pub fn cut(&self, image: TensorView<'_>, passes: &[TilePass]) -> Tensor {
        let tiles = passes.iter().flat_map(|pass| self.pixels(image, *pass)).collect();
        Tensor::new([passes.len(), 1, self.tile[0], self.tile[1]], tiles)
    }

    /// Returns the weighted sums [K, H, W] of the scores of all tiles of `image` [H, W]. `network` returns the scores
    /// [B, K, h, w] of at most `batch` tiles [B, 1, h, w].
    ///
    /// # Errors
    /// If `network` fails, its error.
    pub fn sums<E>(
        &self,
        image: TensorView<'_>,
        classes: usize,
        batch: usize,
        mut network: impl FnMut(&Tensor) -> Result<Tensor, E>,
    ) -> Result<Tensor, E> {
        let &[height, width] = image.shape() else { panic!("a slice is [H, W], not {:?}", image.shape()) };
        let [rows, columns] = self.tile;
        let mut sums = Tensor::zeros([classes, height, width]);
        for passes in self.passes([height, width]).chunks(batch) {
            let scores = network(&self.cut(image, passes))?;
            assert_eq!(scores.shape(), [passes.len(), classes, rows, columns], "scores of every tile");
            for (pass, scores) in passes.iter().zip(scores.data().chunks_exact(classes * rows * columns)) {
                let maps = sums.data_mut().chunks_exact_mut(height * width).zip(scores.chunks_exact(rows * columns));
                maps.for_each(|(sums, scores)| self.add(*pass, Some(scores), sums, width));
            }
        }
        Ok(sums)
    }

    /// Divides the weighted sums [K, H, W] of `networks` networks by the sums of their weights, which gives the mean
    /// scores.
    pub fn mean(&self, sums: &mut Tensor, networks: usize) {
        let &[_, height, width] = sums.shape() else { panic!("sums are [K, H, W], not {:?}", sums.shape()) };
        let mut weights = vec![0.0; height * width];
        self.passes([height, width]).iter().for_each(|pass| self.add(*pass, None, &mut weights, width));
        weights.iter_mut().for_each(|weight| *weight *= networks as f32);
        let maps = sums.data_mut().chunks_exact_mut(height * width);
        maps.for_each(|map| map.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum /= weight));
    }

    /// Returns the pixels of a tile, mirrored as `pass` says.
    fn pixels(&self, image: TensorView<'_>, pass: TilePass) -> Vec<f32> {
        let width = image.cols();
        let mut tile = Vec::with_capacity(self.tile[0] * self.tile[1]);
        for row in 0..self.tile[0] {
            let line = &image.data()[(pass.corner[0] + pass.row(row, self.tile)) * width + pass.corner[1]..][..self.tile[1]];
            if pass.mirrored[1] { tile.extend(line.iter().rev()) } else { tile.extend(line) }
        }
        tile
    }

    /// Adds a tile's weighted scores to `sums` at the tile's position. Without scores, adds the weights alone. Mirrored
    /// passes have the same weights.
    fn add(&self, pass: TilePass, scores: Option<&[f32]>, sums: &mut [f32], width: usize) {
        let columns = self.tile[1];
        for row in 0..self.tile[0] {
            let line = &mut sums[(pass.corner[0] + row) * width + pass.corner[1]..][..columns];
            let weighted = line.iter_mut().zip(&self.weights[row * columns..]);
            match scores.map(|scores| &scores[pass.row(row, self.tile) * columns..][..columns]) {
                None => weighted.for_each(|(sum, weight)| *sum += weight),
                Some(scores) if pass.mirrored[1] => weighted.zip(scores.iter().rev()).for_each(|((sum, weight), v)| *sum += weight * v),
                Some(scores) => weighted.zip(scores).for_each(|((sum, weight), v)| *sum += weight * v),
            }
        }
    }
}

impl TilePass {
    /// Maps row `row` of the mirrored tile to its row in the unmirrored tile. The mapping is its own inverse.
    fn row(self, row: usize, tile: [usize; 2]) -> usize {
        if self.mirrored[0] { tile[0] - 1 - row } else { row }
    }
}

/// Returns the start of each tile along an axis of `size`: as few tiles as possible, evenly spread.
fn starts(size: usize, tile: usize, step: f64) -> Vec<usize> {
    let (room, most) = ((size - tile) as f64, tile as f64 * step);
    let count = (room / most).ceil() as usize + 1;
    let width = if count > 1 { room / (count - 1) as f64 } else { 0.0 };
    (0..count).map(|i| (width * i as f64).round_ties_even() as usize).collect()
}

/// Returns nnU-Net's weights of a tile's pixels: a Gaussian around the tile's middle with a standard deviation of an
/// eighth of the tile and a maximum of 10, rounded to f16. A weight that rounds to 0 becomes the smallest weight above
/// 0.
fn gaussian(tile: [usize; 2]) -> Vec<f32> {
    let [rows, columns] = tile.map(|side| {
        let (sigma, middle) = (side as f64 / 8.0, (side / 2) as f64);
        (0..side).map(|i| (-0.5 * ((i as f64 - middle) / sigma).powi(2)).exp()).collect::<Vec<_>>()
    });
    let weights = rows.iter().flat_map(|row| columns.iter().map(move |column| f16::from_f64(10.0 * row * column)));
    let mut weights: Vec<f32> = weights.map(f16::to_f32).collect();
    let least = weights.iter().copied().filter(|weight| *weight > 0.0).fold(f32::INFINITY, f32::min);
    weights.iter_mut().for_each(|weight| *weight = weight.max(least));
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_begin_where_nnunet_begins_them() {
        // Each row holds the result of nnU-Net's `compute_steps_for_sliding_window`.
        for (size, tile, step, want) in [
            (160, 160, 0.5, &[0][..]),
            (161, 160, 0.5, &[0, 1]),
            (330, 160, 0.5, &[0, 57, 113, 170]),
            (256, 192, 0.5, &[0, 64]),
            (110, 64, 0.25, &[0, 15, 31, 46]),
            (65, 64, 1.0, &[0, 1]),
        ] {
            assert_eq!(starts(size, tile, step), want, "{size} {tile} {step}");
        }
    }

    #[test]
    fn weights_are_greatest_in_the_middle_and_nowhere_none() {
        let weights = gaussian([896, 896]);
        assert_eq!(weights[448 * 896 + 448].to_bits(), 10_f32.to_bits());
        assert!(weights.iter().all(|weight| *weight > 0.0));
        // A quarter of a tile is two standard deviations.
        let quarter = f64::from(weights[448 * 896 + 224]);
        assert!((quarter / (10.0 * (-2.0_f64).exp()) - 1.0).abs() < 5e-4, "{quarter}");
    }

    /// A network that computes a function of each pixel alone gives that function, whatever the tiles. A network that
    /// tells left from right gives its mean over the mirrored passes.
    #[test]
    fn what_is_cut_comes_back_where_it_was() {
        let image = Tensor::new([21, 30], (0..630).map(|i| i as f32).collect());
        for axes in [&[][..], &[0], &[1], &[0, 1]] {
            for batch in [1, 3, 100] {
                let tiling = Tiling::new([16, 16], 0.5, axes);
                let mut tiles = 0;
                let network = |x: &Tensor| {
                    tiles += x.shape()[0];
                    let pixels = x.data().chunks_exact(256);
                    let scores =
                        pixels.flat_map(|p| [p.to_vec(), p.iter().map(|v| 2.0 * v).collect(), (0..256).map(|i| (i % 16) as f32).collect()]);
                    Ok::<_, ()>(Tensor::new([x.shape()[0], 3, 16, 16], scores.flatten().collect()))
                };
                let mut scores = tiling.sums((&image).into(), 3, batch, network).expect("scores");
                tiling.mean(&mut scores, 1);
                assert_eq!(tiles, tiling.passes([21, 30]).len());
                let (plain, rest) = scores.data().split_at(630);
                assert!(plain.iter().zip(image.data()).all(|(got, want)| (got - want).abs() < 1e-3), "{axes:?} {batch}");
                assert!(rest.iter().zip(image.data()).all(|(got, want)| (got - 2.0 * want).abs() < 2e-3), "{axes:?} {batch}");
                let first = rest[630];
                let want = if axes.contains(&1) { 7.5 } else { 0.0 };
                assert!((first - want).abs() < 1e-5, "{axes:?}: {first} for {want}");
            }
        }
    }
}
