//! How the two kernels that take nearly all of the time divide their work: plain data. Which geometries there are is decided in `kernels/`, and
//! which of them is the fastest on a device in `gpu/`, by trying.

use std::fmt;

/// What a workgroup does of a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// Rows of the result.
    pub rows: u32,
    /// Columns of the result.
    pub cols: u32,
    /// Steps along K that lie in workgroup memory at a time; 0 where none does.
    pub depth: u32,
    /// Rows and columns of an invocation; of a cooperative product, subgroups along rows and along columns.
    pub by: [u32; 2],
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, cols, depth, by } = self;
        let depth = if *depth == 0 { String::new() } else { format!(" x {depth}") };
        f.pad(&format!("{rows} x {cols}{depth} by {} x {}", by[0], by[1]))
    }
}

/// What a workgroup does of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stage {
    /// Its invocations; of cooperative attention, its subgroups.
    pub lanes: u32,
    /// Keys that lie in workgroup memory at a time; where none does, queries of an invocation.
    pub keys: u32,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} with {}", self.lanes, self.keys))
    }
}

/// The geometries for one class of shapes; `None` is the one that suits most devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Geometry {
    /// Of matrix products.
    pub block: Option<Block>,
    /// Of attention.
    pub stage: Option<Stage>,
}

/// The geometries for each class of shapes. One that a device's limits do not allow counts as `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tiles {
    /// Few rows: a device has more cores than large tiles would fill.
    pub few: Geometry,
    /// More than [`Tiles::FEW`] rows.
    pub many: Geometry,
}

impl Tiles {
    /// Those that suit most devices.
    pub const DEFAULT: Self = Self { few: Geometry { block: None, stage: None }, many: Geometry { block: None, stage: None } };

    /// The most rows that are few: two images of 224 x 224 are, one of 512 x 512 is not.
    pub const FEW: usize = 512;

    /// The geometries for this many rows of a product, or tokens of a batch.
    pub fn of(&self, rows: usize) -> Geometry {
        if rows <= Self::FEW { self.few } else { self.many }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometries_are_told_apart_by_rows_and_by_name() {
        let block = Block { rows: 64, cols: 32, depth: 16, by: [4, 2] };
        let tiles = Tiles { few: Geometry { block: Some(block), stage: None }, ..Tiles::DEFAULT };
        assert_eq!((tiles.of(Tiles::FEW).block, tiles.of(Tiles::FEW + 1).block), (Some(block), None));
        assert_eq!(block.to_string(), "64 x 32 x 16 by 4 x 2");
        assert_eq!(Block { depth: 0, ..block }.to_string(), "64 x 32 by 4 x 2");
        assert_eq!(Stage { lanes: 64, keys: 32 }.to_string(), "64 with 32");
    }
}
