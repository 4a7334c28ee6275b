//! The loop over K that matrix products share, and the tile geometries it runs with.

use super::shared;
use crate::graph::{Block, Constant, Elem, Limits};

/// What a workgroup and an invocation do of a matrix product. Which one a device gets is decided in [`Tile::choose`] and [`Tile::plain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Rows of a workgroup.
    pub m: u32,
    /// Columns of a workgroup.
    pub n: u32,
    /// How that is divided.
    pub way: Way,
}

/// How a workgroup's rows and columns are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Tiles of `k` along K in workgroup memory; an invocation does `rows` x `cols`.
    Tiled { k: u32, rows: u32, cols: u32 },
    /// Straight from the bindings; an invocation does `rows` x `cols`.
    Direct { rows: u32, cols: u32 },
    /// Tiles of `k` along K, of type `elem`, in workgroup memory; `subgroups` of `subgroup_size` along rows and along columns do matrices of
    /// `side` x `side`.
    Cooperative { k: u32, elem: Elem, side: u32, subgroups: [u32; 2], subgroup_size: u32 },
}

/// For GPUs, [m, n, k, rows, cols]. The first, 256 invocations of 4 x 4 sums and tiles of 8 KiB, suits most; smaller ones keep more cores busy over few
/// rows, larger ones use each value that they load more often.
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

/// For software GPUs, [m, n, rows, cols]: the invocations of a workgroup become the lanes of vector instructions, each with its own sums, for a load costs as
/// much as several products there.
const DIRECT: [[u32; 4]; 4] = [[16, 128, 16, 16], [8, 128, 8, 16], [16, 64, 16, 8], [12, 128, 12, 16]];

/// For cooperative matrices, [m, n, bytes of k, subgroups along rows, along columns].
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

/// The geometries that a device may use for the products of x of type `elem`; the first is for those that have not tried.
pub fn blocks(limits: &Limits, elem: Elem) -> Vec<Block> {
    Tile::candidates(limits, elem).into_iter().map(Tile::block).collect()
}

impl Tile {
    /// The geometry for factors of any type, whose sums are of f32 products.
    pub fn plain(limits: &Limits) -> Self {
        if limits.software { Self::direct(DIRECT[0]) } else { Self::tiled(TILED[0]) }
    }

    /// The geometry for `rows` rows of x of type `elem`, to which products may round both factors.
    pub fn choose(limits: &Limits, elem: Elem, rows: usize) -> Self {
        let candidates = Self::candidates(limits, elem);
        let asked = limits.tiles.of(rows).block;
        candidates.iter().copied().find(|tile| Some(tile.block()) == asked).unwrap_or_else(|| candidates[0])
    }

    /// Never none: where not even the plainest fits, the device refuses it by name.
    fn candidates(limits: &Limits, elem: Elem) -> Vec<Self> {
        let side = limits.tier.cooperative().filter(|_| !limits.software);
        let cooperative =
            side.into_iter().flat_map(|side| COOPERATIVE.map(|sizes| Self::cooperative(sizes, elem, side, limits.subgroup_size)));
        let fits = |tile: &Self| tile.memory() <= limits.workgroup_memory && tile.invocations() <= limits.max_invocations;
        let found: Vec<Self> = cooperative.filter(fits).collect();
        if !found.is_empty() {
            return found;
        }
        let plain = Self::plain(limits);
        let all: &mut dyn Iterator<Item = Self> =
            if limits.software { &mut DIRECT.map(Self::direct).into_iter() } else { &mut TILED.map(Self::tiled).into_iter() };
        std::iter::once(plain).chain(all.filter(|&tile| tile != plain && fits(&tile))).collect()
    }

    fn tiled([m, n, k, rows, cols]: [u32; 5]) -> Self {
        Self { m, n, way: Way::Tiled { k, rows, cols } }
    }

    fn direct([m, n, rows, cols]: [u32; 4]) -> Self {
        Self { m, n, way: Way::Direct { rows, cols } }
    }

    fn cooperative([m, n, bytes, along_m, along_n]: [u32; 5], elem: Elem, side: u32, subgroup_size: u32) -> Self {
        let k = bytes / elem.bytes() as u32;
        Self { m, n, way: Way::Cooperative { k, elem, side, subgroups: [along_m, along_n], subgroup_size } }
    }

    /// As plans name it.
    fn block(self) -> Block {
        let (depth, by) = match self.way {
            Way::Tiled { k, rows, cols } => (k, [rows, cols]),
            Way::Direct { rows, cols } => (0, [rows, cols]),
            Way::Cooperative { k, subgroups, .. } => (k, subgroups),
        };
        Block { rows: self.m, cols: self.n, depth, by }
    }

    /// The shader of the loop.
    pub fn part(self) -> &'static str {
        match self.way {
            Way::Tiled { .. } => shared::GEMM_TILED,
            Way::Direct { .. } => shared::GEMM_DIRECT,
            Way::Cooperative { .. } => shared::GEMM_COOPERATIVE,
        }
    }

    /// What it is specialised by.
    pub fn constants(self) -> Vec<(&'static str, Constant)> {
        let mut constants = vec![("TILE_M", self.m.into()), ("TILE_N", self.n.into())];
        match self.way {
            Way::Tiled { k, rows, cols } => constants.extend([("ROWS", rows.into()), ("COLS", cols.into()), ("TILE_K", k.into())]),
            Way::Direct { rows, cols } => constants.extend([("ROWS", rows.into()), ("COLS", cols.into())]),
            Way::Cooperative { k, elem, side, subgroups: [m, n], subgroup_size } => {
                constants.extend([
                    ("TILE_K", k.into()),
                    ("TILE_PITCH", pitch(k, elem).into()),
                    ("SUBGROUPS_M", m.into()),
                    ("SUBGROUPS_N", n.into()),
                    ("SUBGROUP_SIZE", subgroup_size.into()),
                    ("LANES", (m * n * subgroup_size).into()),
                ]);
                constants.extend(matrices(side, elem));
                constants.push(("F", elem.into()));
            }
        }
        constants
    }

    /// Bytes of workgroup memory.
    fn memory(self) -> u32 {
        match self.way {
            Way::Tiled { k, .. } => (self.m + self.n) * k * 4,
            Way::Direct { .. } => 0,
            Way::Cooperative { k, elem, side, subgroups: [m, n], .. } => {
                (self.m + self.n) * pitch(k, elem) * elem.bytes() as u32 + m * n * side * side * 4
            }
        }
    }

    fn invocations(self) -> u32 {
        match self.way {
            Way::Tiled { rows, cols, .. } | Way::Direct { rows, cols } => (self.m / rows) * (self.n / cols),
            Way::Cooperative { subgroups: [m, n], subgroup_size, .. } => m * n * subgroup_size,
        }
    }

    /// The grid for a product of `m` rows and `n` columns.
    pub fn workgroups(self, m: usize, n: usize) -> [u32; 3] {
        [n.div_ceil(self.n as usize) as u32, m.div_ceil(self.m as usize) as u32, 1]
    }

    /// The most rows, and the most columns, that one grid reaches.
    pub fn reach(self, limits: &Limits) -> (usize, usize) {
        (limits.reach(self.m as usize), limits.reach(self.n as usize))
    }
}

/// Elements from a row of a tile to the next: 16 bytes beyond its `len` elements, so that rows begin in different banks, at addresses to which
/// matrices may be loaded (multiples of 16 bytes).
pub(super) fn pitch(len: u32, elem: Elem) -> u32 {
    len + 16 / elem.bytes() as u32
}

/// The types of cooperative matrices: left and right factor, and sum.
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
    use crate::graph::{Geometry, Tier, Tiles};

    #[test]
    fn geometries_divide_evenly_and_fit_the_device() {
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
        // What every device allows holds all but the deepest tiles.
        assert_eq!(blocks(&Limits::DEFAULT, Elem::F32).len(), TILED.len());
        let small = Limits { workgroup_memory: 8 << 10, max_invocations: 128, ..Limits::DEFAULT };
        let of_small = blocks(&small, Elem::F32);
        assert_eq!(of_small[0], Tile::tiled(TILED[0]).block(), "the plainest, whatever the device says");
        assert!(of_small[1..].iter().all(|b| (b.rows + b.cols) * b.depth * 4 <= 8 << 10), "{of_small:?}");
    }

    #[test]
    fn a_geometry_is_taken_where_it_is_one_of_the_device_s() {
        let block = Tile::tiled(TILED[1]).block();
        let tiles = Tiles { few: Geometry { block: Some(block), stage: None }, ..Tiles::DEFAULT };
        let limits = Limits { tiles, ..Limits::DEFAULT };
        assert_eq!(Tile::choose(&limits, Elem::F32, 201).block(), block);
        assert_eq!(Tile::choose(&limits, Elem::F32, 1029), Tile::plain(&limits));
        let software = Limits { software: true, tier: Tier::Direct, ..limits };
        assert_eq!(Tile::choose(&software, Elem::F32, 201), Tile::plain(&software), "of another tier");
    }
}
