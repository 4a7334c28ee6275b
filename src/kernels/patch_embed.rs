//! Patch embedding: a convolution whose kernel size equals its stride.

use std::ops::Range;

use super::cut::cut;
use super::gemm::Tile;
use super::{Recorder, rows_of, words};
use crate::count::product;
use crate::error::Result;
use crate::graph::{Cost, Dispatch, Kernel, Operand, TensorId};

/// The tensors and sizes of one patch embedding.
struct Layer<'a> {
    label: &'a str,
    image: TensorId,
    weight: TensorId,
    bias: TensorId,
    batch: usize,
    /// Channels of the image: 1, or as many as the weight's.
    planes: usize,
    height: usize,
    width: usize,
    /// C
    embed_dim: usize,
    /// Channels of the weight.
    channels: usize,
    /// Side of a patch.
    patch: usize,
}

/// What one dispatch does.
struct Piece {
    /// Bound rows of the result, of B P.
    bound: Range<usize>,
    /// The bound rows that the dispatch writes.
    rows: Range<usize>,
    /// Channels of the image.
    planes: Range<usize>,
    /// The part of the image that the dispatch binds.
    window: Operand,
    /// Offset in `window` of the first pixel of the patch row that holds the first patch.
    first_pixel: usize,
    /// The first patch, counted from the start of that patch row.
    first_patch: usize,
}

impl Recorder {
    /// Embeds the patches of `image` [B, 1 or Cin, H, W]: `weight` [C, Cin, p, p] and `bias` `[C]` give [B, P, C], with
    /// P = (H / p) (W / p) and patches row-major. An image with one channel counts as Cin equal channels, but costs
    /// only one. A remainder of H or W below one patch is ignored.
    ///
    /// # Errors
    /// If the device's limits are too narrow for any piece of it.
    pub fn patch_embed(&mut self, label: &str, image: TensorId, weight: TensorId, bias: TensorId) -> Result<TensorId> {
        let [batch, planes, height, width] = self.shape(label, image);
        let [embed_dim, channels, patch, _] = self.shape(label, weight);
        self.expect_len(label, weight, embed_dim * channels * patch * patch);
        self.expect_len(label, bias, embed_dim);
        self.expect_f32(label, &[image, weight, bias]);
        assert!(planes == 1 || planes == channels, "{label}: an image of {planes} channels, a weight of {channels}");
        assert!(height >= patch && width >= patch, "{label}: no patch of {patch} in {height} x {width}");
        let layer = Layer { label, image, weight, bias, batch, planes, height, width, embed_dim, channels, patch };
        let pieces = self.pieces(&layer)?;
        let y = self.result(label, [batch, layer.patches(), embed_dim]);
        for piece in &pieces {
            self.embed(&layer, piece, y);
        }
        Ok(y)
    }

    /// Splits the work into dispatches. If the images fit one binding, only the result is cut. Otherwise the work is
    /// cut by image, by channel if an image has several, and into as many patch rows at a time as can be bound.
    fn pieces(&self, layer: &Layer) -> Result<Vec<Piece>> {
        let (rows, patches) = (layer.batch * layer.patches(), layer.patches());
        let tile = Tile::plain(&self.limits);
        let (reach, _) = tile.reach(&self.limits);
        // Reading patches is slower than reading rows of a product, so the cost counts all channels even if the image
        // has one.
        let patch = layer.channels * layer.patch * layer.patch;
        let row_cost = Cost { flops: product(&[2, patch, layer.embed_dim]), bytes: 4 * (patch + layer.embed_dim) as u64 };
        let wanted = self.affordable(row_cost, tile.size.rows as usize);
        let whole = self.graph.whole(layer.image);
        let bindable = (self.limits.max_binding / 4) as usize;
        if whole.len <= bindable {
            let all = |bound: Range<usize>| Piece {
                rows: bound.clone(),
                planes: 0..layer.planes,
                window: whole,
                first_pixel: 0,
                first_patch: bound.start,
                bound,
            };
            return Ok(cut(&self.limits, layer.label, rows, &[4 * layer.embed_dim], reach, wanted)?.into_iter().map(all).collect());
        }
        // A range may begin and end within a patch row, and the bound view may begin up to an alignment before the
        // range.
        let align = self.limits.alignment as usize / 4;
        let patch_rows = (bindable.saturating_sub(align) / (layer.patch * layer.width)).saturating_sub(1);
        let most = reach.min(patch_rows * layer.grid_cols());
        let mut pieces = Vec::new();
        for bound in cut(&self.limits, layer.label, rows, &[4 * layer.embed_dim], most, wanted)? {
            for image in bound.start / patches..bound.end.div_ceil(patches) {
                let rows = bound.start.max(image * patches)..bound.end.min((image + 1) * patches);
                for plane in 0..layer.planes {
                    pieces.push(layer.piece(image, plane, bound.clone(), rows.clone(), align));
                }
            }
        }
        Ok(pieces)
    }

    fn embed(&mut self, layer: &Layer, piece: &Piece, y: TensorId) {
        let tile = Tile::plain(&self.limits);
        let (m, k) = (piece.rows.len(), piece.planes.len() * layer.patch * layer.patch);
        let reads = vec![piece.window, self.graph.whole(layer.weight), self.graph.whole(layer.bias)];
        let plane = layer.height * layer.width;
        let mut constants = tile.constants(k);
        constants.push(("PATCH", (layer.patch as u32).into()));
        let mut parts = vec![include_str!("../../shaders/patch_embed.wgsl")];
        parts.extend(tile.parts(1));
        self.push(Dispatch {
            label: layer.label.to_owned(),
            kernel: Kernel { name: "patch_embed", parts, constants },
            cost: Cost { flops: product(&[2, m, k, layer.embed_dim]), bytes: self.bytes(&reads) + product(&[4, m, layer.embed_dim]) },
            reads,
            write: rows_of(y, &piece.bound, layer.embed_dim),
            params: words(&[
                m,
                layer.embed_dim,
                k,
                layer.width,
                layer.grid_cols(),
                layer.patches(),
                layer.planes * plane,
                plane,
                piece.first_pixel,
                piece.first_patch,
                piece.planes.start,
                layer.channels,
                piece.rows.start - piece.bound.start,
                if layer.planes == 1 { layer.channels } else { 1 },
            ]),
            workgroups: tile.workgroups(m, layer.embed_dim),
        });
    }
}

impl Layer<'_> {
    fn grid_cols(&self) -> usize {
        self.width / self.patch
    }

    /// Returns P.
    fn patches(&self) -> usize {
        self.height / self.patch * self.grid_cols()
    }

    /// Returns the dispatch for `rows` of one `image`, by one of its channels.
    fn piece(&self, image: usize, plane: usize, bound: Range<usize>, rows: Range<usize>, align: usize) -> Piece {
        let first = rows.start - image * self.patches();
        let last = rows.end - 1 - image * self.patches();
        let patch_rows = first / self.grid_cols()..last / self.grid_cols() + 1;
        let start = ((image * self.planes + plane) * self.height + patch_rows.start * self.patch) * self.width;
        let offset = start / align * align;
        Piece {
            bound,
            rows,
            planes: plane..plane + 1,
            window: Operand { tensor: self.image, offset, len: start - offset + patch_rows.len() * self.patch * self.width },
            first_pixel: start - offset,
            first_patch: first % self.grid_cols(),
        }
    }
}
