//! The loop over K that matrix products share, and the tile geometry it runs with.

use super::shared;
use crate::graph::{Constant, Elem, Limits};

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
    /// Tiles of `k` along K, of type `elem`, in workgroup memory; a subgroup of `subgroup_size` does matrices of `side` x `side`.
    Cooperative { k: u32, elem: Elem, side: u32, subgroup_size: u32 },
}

/// Subgroups of a workgroup along rows and along columns.
const SUBGROUPS: [u32; 2] = [2, 2];

impl Tile {
    /// For GPUs: 256 invocations of 4 x 4 sums, tiles of 8 KiB.
    const TILED: Self = Self { m: 64, n: 64, way: Way::Tiled { k: 16, rows: 4, cols: 4 } };
    /// For software GPUs: the invocations of a workgroup become the lanes of vector instructions, each with its own 16 x 16 sums, for a
    /// load costs as much as several products there.
    const DIRECT: Self = Self { m: 16, n: 128, way: Way::Direct { rows: 16, cols: 16 } };

    /// The geometry for factors of any type, whose sums are of f32 products.
    pub fn plain(limits: &Limits) -> Self {
        if limits.software { Self::DIRECT } else { Self::TILED }
    }

    /// The geometry for x of type `elem`, to which products may round both factors.
    pub fn choose(limits: &Limits, elem: Elem) -> Self {
        let cooperative = |side| {
            let (k, subgroup_size) = (64 / elem.bytes() as u32, limits.subgroup_size);
            let tile = Self { m: 64, n: 64, way: Way::Cooperative { k, elem, side, subgroup_size } };
            (tile.memory() <= limits.workgroup_memory && 4 * subgroup_size <= limits.max_invocations).then_some(tile)
        };
        limits.tier.cooperative().filter(|_| !limits.software).and_then(cooperative).unwrap_or_else(|| Self::plain(limits))
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
            Way::Cooperative { k, elem, side, subgroup_size } => {
                let [m, n] = SUBGROUPS;
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

    /// Bytes of workgroup memory of the cooperative way.
    fn memory(self) -> u32 {
        let Way::Cooperative { k, elem, side, .. } = self.way else { return 0 };
        (self.m + self.n) * pitch(k, elem) * elem.bytes() as u32 + SUBGROUPS[0] * SUBGROUPS[1] * side * side * 4
    }

    /// The grid for a product of `m` rows and `n` columns.
    pub fn workgroups(self, m: usize, n: usize) -> [u32; 3] {
        [(n as u32).div_ceil(self.n), (m as u32).div_ceil(self.m), 1]
    }

    /// The most rows, and the most columns, that one grid reaches.
    pub fn reach(self, limits: &Limits) -> (usize, usize) {
        let most = limits.max_workgroups as usize;
        (most * self.m as usize, most * self.n as usize)
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
