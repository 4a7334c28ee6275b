//! How the two kernels that take nearly all of the time divide their work: plain data. `kernels/` lists the tiles that
//! exist; `gpu/` finds the fastest of them on a device by measuring.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The part of a matrix product that a workgroup computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProductTile {
    /// Rows of the result.
    pub rows: u32,
    /// Columns of the result.
    pub cols: u32,
    /// How the workgroup shares these rows and columns among its invocations.
    pub split: ProductSplit,
}

/// How a workgroup shares a [`ProductTile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProductSplit {
    /// Through workgroup memory.
    Tiled {
        /// Steps along K that workgroup memory holds at a time.
        depth: u32,
        /// Rows and columns of an invocation.
        sums: [u32; 2],
        /// Groups of invocations, each of which sums its share of every `depth`.
        groups: u32,
    },
    /// Without workgroup memory: each invocation reads both factors from the bindings.
    Direct {
        /// Rows and columns of an invocation.
        sums: [u32; 2],
    },
    /// By cooperative matrices, through workgroup memory.
    Cooperative {
        /// Steps along K that workgroup memory holds at a time.
        depth: u32,
        /// Subgroups along the rows, along the columns and along K.
        subgroups: [u32; 3],
        /// Buffers for tiles in workgroup memory: with two, one is filled while the other is multiplied.
        buffers: u8,
    },
}

impl fmt::Display for ProductTile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, cols, split } = self;
        f.pad(&match split {
            ProductSplit::Direct { sums: [m, n] } => format!("{rows} x {cols} by {m} x {n}"),
            ProductSplit::Tiled { depth, sums: [m, n], groups: 1 } => format!("{rows} x {cols} x {depth} by {m} x {n}"),
            ProductSplit::Tiled { depth, sums: [m, n], groups } => format!("{rows} x {cols} x {depth} by {m} x {n} in {groups} groups"),
            ProductSplit::Cooperative { depth, subgroups: [m, n, k], buffers: 1 } => {
                format!("{rows} x {cols} x {depth} by {m} x {n} x {k}")
            }
            ProductSplit::Cooperative { depth, subgroups: [m, n, k], buffers } => {
                format!("{rows} x {cols} x {depth} by {m} x {n} x {k}, {buffers} buffers")
            }
        })
    }
}

/// The part of attention that a workgroup computes: some queries of one head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttentionTile {
    /// Blocks of queries times keys, as in a matrix product; all of them pass through workgroup memory.
    Blocked {
        /// Queries.
        queries: u32,
        /// Keys that workgroup memory holds at a time.
        keys: u32,
        /// Queries and keys of an invocation.
        sums: [u32; 2],
    },
    /// Several queries for each invocation, which reads keys and values from the bindings.
    Direct {
        /// Invocations.
        lanes: u32,
        /// Queries of an invocation.
        queries: u32,
    },
    /// By cooperative matrices; keys and values pass through workgroup memory.
    Cooperative {
        /// Subgroups.
        subgroups: u32,
        /// Matrices of queries of a subgroup.
        blocks: u32,
        /// Keys that workgroup memory holds at a time.
        keys: u32,
        /// Whether values lie turned in workgroup memory, so that their matrices are loaded by rows.
        turned: bool,
        /// Buffers of what passes through workgroup memory: with two, a step's softmax does not wait for products.
        buffers: u8,
    },
}

impl fmt::Display for AttentionTile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::Direct { lanes, queries } => format!("{lanes} with {queries}"),
            Self::Blocked { queries, keys, sums: [m, n] } => format!("{queries} x {keys} by {m} x {n}"),
            Self::Cooperative { subgroups, blocks, keys, turned, buffers } => {
                let of_values = if *turned { ", values turned" } else { "" };
                let of_buffers = if *buffers == 1 { String::new() } else { format!(", {buffers} buffers") };
                format!("{subgroups} x {blocks} with {keys}{of_values}{of_buffers}")
            }
        })
    }
}

/// The tiles for one class of shapes; `None` is the tile that suits most devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TileChoice {
    /// Of matrix products with at least [`TileChoice::WIDE`] columns.
    pub wide: Option<ProductTile>,
    /// Of matrix products with fewer columns, which large tiles would spread over too few of a device's cores.
    pub narrow: Option<ProductTile>,
    /// Of attention.
    pub attention: Option<AttentionTile>,
}

impl TileChoice {
    /// The tiles that suit most devices.
    pub const DEFAULT: Self = Self { wide: None, narrow: None, attention: None };

    /// The fewest columns that count as wide: in a ViT, those of `qkv` and of the MLP's first layer.
    pub const WIDE: usize = 1536;

    /// This tile for all matrix products.
    pub fn of_products(tile: ProductTile) -> Self {
        Self { wide: Some(tile), narrow: Some(tile), attention: None }
    }

    /// This tile for attention.
    pub fn of_attention(tile: AttentionTile) -> Self {
        Self { attention: Some(tile), ..Self::DEFAULT }
    }

    /// The tile for a product with this many columns.
    pub fn product(&self, cols: usize) -> Option<ProductTile> {
        if cols < Self::WIDE { self.narrow } else { self.wide }
    }
}

/// The tiles for each class of shapes. A tile that the device's limits do not allow counts as `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tiles {
    /// Up to [`Tiles::FEW`] rows, which large tiles would spread over too few of a device's cores.
    pub few: TileChoice,
    /// Up to [`Tiles::SOME`] rows.
    pub some: TileChoice,
    /// More than [`Tiles::SOME`] rows.
    pub many: TileChoice,
}

impl Tiles {
    /// The tiles that suit most devices.
    pub const DEFAULT: Self = Self::all(TileChoice::DEFAULT);

    /// The most rows that count as few. Two images of 224 x 224 have fewer rows, one of 512 x 512 has more.
    pub const FEW: usize = 512;

    /// The most rows that count as some. One image of 512 x 512 has fewer rows, one of 768 x 768 has more.
    pub const SOME: usize = 2048;

    /// The same tiles for any number of rows.
    pub const fn all(choice: TileChoice) -> Self {
        Self { few: choice, some: choice, many: choice }
    }

    /// The tiles for this many rows of a product, or tokens of a batch.
    pub fn of(&self, rows: usize) -> TileChoice {
        if rows <= Self::FEW {
            self.few
        } else if rows <= Self::SOME {
            self.some
        } else {
            self.many
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_chosen_by_rows_and_written_by_their_sizes() {
        let tiled = ProductTile { rows: 64, cols: 32, split: ProductSplit::Tiled { depth: 16, sums: [4, 2], groups: 1 } };
        let tiles = Tiles { few: TileChoice::of_products(tiled), ..Tiles::DEFAULT };
        assert_eq!((tiles.of(Tiles::FEW).product(1), tiles.of(Tiles::FEW + 1).product(1)), (Some(tiled), None));
        let tiles = Tiles { some: TileChoice::of_products(tiled), ..Tiles::DEFAULT };
        let [below, first, last, above] = [Tiles::FEW, Tiles::FEW + 1, Tiles::SOME, Tiles::SOME + 1].map(|rows| tiles.of(rows).product(1));
        assert_eq!([below, first, last, above], [None, Some(tiled), Some(tiled), None]);
        let wide = TileChoice { wide: Some(tiled), ..TileChoice::DEFAULT };
        assert_eq!((wide.product(TileChoice::WIDE), wide.product(TileChoice::WIDE - 1)), (Some(tiled), None));
        assert_eq!(tiled.to_string(), "64 x 32 x 16 by 4 x 2");
        let grouped = ProductSplit::Tiled { depth: 16, sums: [4, 2], groups: 2 };
        assert_eq!(ProductTile { split: grouped, ..tiled }.to_string(), "64 x 32 x 16 by 4 x 2 in 2 groups");
        assert_eq!(ProductTile { split: ProductSplit::Direct { sums: [4, 2] }, ..tiled }.to_string(), "64 x 32 by 4 x 2");
        let matrices = |buffers| ProductSplit::Cooperative { depth: 32, subgroups: [2, 2, 1], buffers };
        assert_eq!(ProductTile { split: matrices(1), ..tiled }.to_string(), "64 x 32 x 32 by 2 x 2 x 1");
        assert_eq!(ProductTile { split: matrices(2), ..tiled }.to_string(), "64 x 32 x 32 by 2 x 2 x 1, 2 buffers");
        assert_eq!(AttentionTile::Direct { lanes: 8, queries: 4 }.to_string(), "8 with 4");
        let matrices = |turned, buffers| AttentionTile::Cooperative { subgroups: 4, blocks: 1, keys: 16, turned, buffers };
        assert_eq!(matrices(false, 1).to_string(), "4 x 1 with 16");
        assert_eq!(matrices(true, 2).to_string(), "4 x 1 with 16, values turned, 2 buffers");
        assert_eq!(AttentionTile::Blocked { queries: 64, keys: 32, sums: [4, 8] }.to_string(), "64 x 32 by 4 x 8");
    }
}
