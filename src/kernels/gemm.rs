//! The loop over K that matrix products share, and the tiles it runs with.

use super::shared;
use crate::graph::{Constant, Elem, Limits, ProductSplit, ProductTile, Tier};

/// A workgroup's tile of a product, and the properties of the device and of the factors that specialise its shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// The tile's sizes.
    pub size: ProductTile,
    /// The type of the factors in workgroup memory, if the product is cooperative.
    elem: Elem,
    /// Side of the device's cooperative matrices; 0 where the tier has none.
    side: u32,
    /// [`Limits::subgroup_size`].
    subgroup_size: u32,
}

/// Tiles for GPUs, as [rows, cols, depth, rows and cols of an invocation]. The first suits most: 256 invocations of 4 x
/// 4 sums, and 8 KiB of workgroup memory. Smaller tiles keep more cores busy when there are few rows. Larger tiles use
/// each loaded value more often.
const TILED: [[u32; 5]; 12] = [
    [64, 64, 16, 4, 4],
    [32, 32, 16, 4, 4],
    [32, 32, 32, 2, 2],
    [16, 64, 32, 2, 2],
    [32, 64, 16, 4, 4],
    [64, 64, 16, 8, 4],
    [64, 64, 16, 8, 8],
    [128, 64, 16, 8, 4],
    [128, 64, 16, 8, 8],
    [64, 128, 16, 8, 8],
    [128, 128, 8, 8, 8],
    [128, 128, 16, 8, 8],
];

/// Tiles for software GPUs, as [rows, cols, rows and cols of an invocation]. Software GPUs run the invocations of a
/// workgroup as the lanes of vector instructions. Each invocation has many sums of its own, because a load costs as
/// much there as several products.
const DIRECT: [[u32; 4]; 4] = [[16, 128, 16, 16], [8, 128, 8, 16], [16, 64, 16, 8], [12, 128, 12, 16]];

/// Tiles for cooperative matrices, as [rows, cols, depth in bytes, subgroups along rows and along cols].
const COOPERATIVE: [[u32; 5]; 10] = [
    [64, 64, 64, 2, 2],
    [32, 64, 64, 1, 2],
    [32, 32, 128, 2, 2],
    [16, 64, 128, 1, 4],
    [32, 64, 128, 2, 2],
    [64, 64, 128, 2, 2],
    [64, 128, 64, 2, 2],
    [128, 128, 64, 2, 2],
    [128, 128, 64, 2, 4],
    [128, 128, 64, 4, 2],
];

fn tiled([rows, cols, depth, m, n]: [u32; 5]) -> ProductTile {
    ProductTile { rows, cols, split: ProductSplit::Tiled { depth, sums: [m, n] } }
}

fn direct([rows, cols, m, n]: [u32; 4]) -> ProductTile {
    ProductTile { rows, cols, split: ProductSplit::Direct { sums: [m, n] } }
}

fn cooperative([rows, cols, bytes, m, n]: [u32; 5], elem: Elem) -> ProductTile {
    ProductTile { rows, cols, split: ProductSplit::Cooperative { depth: bytes / elem.bytes() as u32, subgroups: [m, n] } }
}

/// Returns the tiles that a device may use for the products of x of type `elem`. The first is the default. There is
/// always one: if even the plainest tile does not fit, the device refuses the shader and says what it lacks.
pub fn product_tiles(limits: &Limits, elem: Elem) -> Vec<ProductTile> {
    let fits = |&size: &ProductTile| {
        let tile = Tile::new(size, limits, elem);
        tile.memory() <= limits.workgroup_memory && tile.invocations() <= limits.max_invocations
    };
    if limits.tier.cooperative().is_some() {
        let found: Vec<_> = COOPERATIVE.map(|sizes| cooperative(sizes, elem)).into_iter().filter(fits).collect();
        if !found.is_empty() {
            return found;
        }
    }
    let all = if limits.tier == Tier::Direct { DIRECT.map(direct).to_vec() } else { TILED.map(tiled).to_vec() };
    let others = all[1..].iter().copied().filter(fits);
    std::iter::once(all[0]).chain(others).collect()
}

impl Tile {
    fn new(size: ProductTile, limits: &Limits, elem: Elem) -> Self {
        Self { size, elem, side: limits.tier.cooperative().unwrap_or(0), subgroup_size: limits.subgroup_size }
    }

    /// Returns the tile for factors of any type, which sums f32 products.
    pub fn plain(limits: &Limits) -> Self {
        let size = if limits.tier == Tier::Direct { direct(DIRECT[0]) } else { tiled(TILED[0]) };
        Self::new(size, limits, Elem::F32)
    }

    /// Returns the tile for `rows` rows of x of type `elem`: the limits' choice if the device may use it, else the
    /// first tile. Products may round both factors to `elem`.
    pub fn choose(limits: &Limits, elem: Elem, rows: usize) -> Self {
        let candidates = product_tiles(limits, elem);
        let chosen = limits.tiles.of(rows).product.filter(|size| candidates.contains(size));
        Self::new(chosen.unwrap_or(candidates[0]), limits, elem)
    }

    /// Returns the shader of the loop.
    pub fn part(self) -> &'static str {
        match self.size.split {
            ProductSplit::Tiled { .. } => shared::GEMM_TILED,
            ProductSplit::Direct { .. } => shared::GEMM_DIRECT,
            ProductSplit::Cooperative { .. } => shared::GEMM_COOPERATIVE,
        }
    }

    /// Returns the constants that specialise the loop.
    pub fn constants(self) -> Vec<(&'static str, Constant)> {
        let mut constants = vec![("TILE_M", self.size.rows.into()), ("TILE_N", self.size.cols.into())];
        match self.size.split {
            ProductSplit::Tiled { depth, sums: [rows, cols] } => {
                constants.extend([("ROWS", rows.into()), ("COLS", cols.into()), ("TILE_K", depth.into())]);
            }
            ProductSplit::Direct { sums: [rows, cols] } => constants.extend([("ROWS", rows.into()), ("COLS", cols.into())]),
            ProductSplit::Cooperative { depth, subgroups: [m, n] } => {
                constants.extend([
                    ("TILE_K", depth.into()),
                    ("TILE_PITCH", pitch(depth, self.elem).into()),
                    ("SUBGROUPS_M", m.into()),
                    ("SUBGROUPS_N", n.into()),
                    ("SUBGROUP_SIZE", self.subgroup_size.into()),
                    ("LANES", (m * n * self.subgroup_size).into()),
                ]);
                constants.extend(matrices(self.side, self.elem));
                constants.push(("F", self.elem.into()));
            }
        }
        constants
    }

    /// Returns the bytes of workgroup memory that the tile needs.
    fn memory(self) -> u32 {
        let ProductTile { rows, cols, split } = self.size;
        match split {
            ProductSplit::Tiled { depth, .. } => (rows + cols) * depth * 4,
            ProductSplit::Direct { .. } => 0,
            ProductSplit::Cooperative { depth, subgroups: [m, n] } => {
                (rows + cols) * pitch(depth, self.elem) * self.elem.bytes() as u32 + m * n * self.side * self.side * 4
            }
        }
    }

    fn invocations(self) -> u32 {
        match self.size.split {
            ProductSplit::Tiled { sums: [m, n], .. } | ProductSplit::Direct { sums: [m, n] } => (self.size.rows / m) * (self.size.cols / n),
            ProductSplit::Cooperative { subgroups: [m, n], .. } => m * n * self.subgroup_size,
        }
    }

    /// Returns the grid for a product of `m` rows and `n` columns.
    pub fn workgroups(self, m: usize, n: usize) -> [u32; 3] {
        [n.div_ceil(self.size.cols as usize) as u32, m.div_ceil(self.size.rows as usize) as u32, 1]
    }

    /// Returns the most rows, and the most columns, that one grid reaches.
    pub fn reach(self, limits: &Limits) -> (usize, usize) {
        (limits.reach(self.size.rows as usize), limits.reach(self.size.cols as usize))
    }
}

/// Returns the stride between a tile's rows, in elements: `len` elements and 16 bytes of padding. The padding avoids
/// bank conflicts, and keeps rows at the multiples of 16 bytes from which cooperative matrices are loaded.
pub(super) fn pitch(len: u32, elem: Elem) -> u32 {
    len + 16 / elem.bytes() as u32
}

/// Returns the aliases for cooperative matrices: left factor, right factor, and sum.
pub(super) fn matrices(side: u32, elem: Elem) -> [(&'static str, Constant); 4] {
    [
        ("SIDE", side.into()),
        ("Left", Constant::Matrix(side, elem, "A")),
        ("Right", Constant::Matrix(side, elem, "B")),
        ("Sum", Constant::Matrix(side, Elem::F32, "C")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{TileChoice, Tiles};

    #[test]
    fn tiles_divide_evenly_and_fit_the_device() {
        for [m, n, k, rows, cols] in TILED {
            assert!(m % rows == 0 && n % cols == 0 && k % 4 == 0, "{m} x {n} x {k} by {rows} x {cols}");
        }
        for [m, n, rows, cols] in DIRECT {
            assert!(m % rows == 0 && n % cols == 0, "{m} x {n} by {rows} x {cols}");
        }
        for ([m, n, bytes, along_m, along_n], side) in COOPERATIVE.into_iter().flat_map(|sizes| [(sizes, 8), (sizes, 16)]) {
            assert!(
                m % (along_m * side) == 0 && n % (along_n * side) == 0 && (bytes / 4) % side == 0,
                "{m} x {n} by {along_m} x {along_n}"
            );
        }
        // The limits of every WebGPU device allow all tiles.
        assert_eq!(product_tiles(&Limits::DEFAULT, Elem::F32).len(), TILED.len());
        let small = Limits { workgroup_memory: 8 << 10, max_invocations: 128, ..Limits::DEFAULT };
        let of_small = product_tiles(&small, Elem::F32);
        assert_eq!(of_small[0], tiled(TILED[0]), "the plainest, whatever the device says");
        let memory = |tile: &ProductTile| match tile.split {
            ProductSplit::Tiled { depth, .. } => (tile.rows + tile.cols) * depth * 4,
            split => panic!("{split:?} on a GPU of the baseline"),
        };
        assert!(of_small[1..].iter().all(|tile| memory(tile) <= 8 << 10), "{of_small:?}");
    }

    #[test]
    fn a_tile_is_taken_where_it_is_one_of_the_device_s() {
        let product = tiled(TILED[1]);
        let tiles = Tiles { few: TileChoice { product: Some(product), attention: None }, ..Tiles::DEFAULT };
        let limits = Limits { tiles, ..Limits::DEFAULT };
        assert_eq!(Tile::choose(&limits, Elem::F32, 201).size, product);
        assert_eq!(Tile::choose(&limits, Elem::F32, 1029), Tile::plain(&limits));
        let software = Limits { tier: Tier::Direct, ..limits };
        assert_eq!(Tile::choose(&software, Elem::F32, 201), Tile::plain(&software), "of another tier");
    }
}
