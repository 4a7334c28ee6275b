//! The loop over K that matrix products share, and the tile geometry it runs with.

use super::shared;
use crate::graph::{Constant, Limits};

/// What a workgroup and an invocation do of a matrix product. Which one a device gets is decided in [`Tile::choose`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Rows of a workgroup.
    pub m: u32,
    /// Columns of a workgroup.
    pub n: u32,
    /// How far along K a workgroup goes between barriers; `None` without workgroup memory.
    pub k: Option<u32>,
    /// Rows of an invocation.
    pub rows: u32,
    /// Columns of an invocation.
    pub cols: u32,
}

impl Tile {
    /// For GPUs: 256 invocations of 4 x 4 sums, tiles of 8 KiB.
    const TILED: Self = Self { m: 64, n: 64, k: Some(16), rows: 4, cols: 4 };
    /// For software GPUs: the invocations of a workgroup become the lanes of vector instructions, each with its own 16 x 8 sums.
    const DIRECT: Self = Self { m: 16, n: 64, k: None, rows: 16, cols: 8 };

    /// The geometry for a device.
    pub fn choose(limits: &Limits) -> Self {
        if limits.software { Self::DIRECT } else { Self::TILED }
    }

    /// The shader of the loop.
    pub fn part(self) -> &'static str {
        if self.k.is_some() { shared::GEMM_TILED } else { shared::GEMM_DIRECT }
    }

    /// What it is specialised by.
    pub fn constants(self) -> Vec<(&'static str, Constant)> {
        let k = self.k.map(|k| ("TILE_K", k));
        let sizes = [("TILE_M", self.m), ("TILE_N", self.n), ("ROWS", self.rows), ("COLS", self.cols)];
        sizes.into_iter().chain(k).map(|(name, size)| (name, size.into())).collect()
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
