//! The loop over K that matrix products share, and the tiles it runs with.

use super::shared;
use crate::graph::{Constant, Elem, Limits, ProductSplit, ProductTile, Tier, TileChoice, Tiles};

/// A workgroup's tile of a product, and the properties of the device and of the factors that specialise its shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// The tile's sizes.
    pub size: ProductTile,
    /// The type of the factors. Cooperative matrices hold an f32 as two f16.
    elem: Elem,
    /// Side of the device's cooperative matrices; 0 where the tier has none.
    side: u32,
    /// [`Limits::subgroup_size`].
    subgroup_size: u32,
}

/// Tiles for GPUs, as [rows, cols, depth, rows and cols of an invocation, groups along K]. The first needs fewest
/// registers: 256 invocations of 4 x 4 sums, and 9 KiB of workgroup memory. The next five have more sums an invocation, so that they
/// use each loaded value more often, and are faster where the device has the registers. The last four are for few rows:
/// small tiles keep more cores busy, and groups give each core enough invocations.
///
/// [`TILED_FEW`] is the default for few rows: 201 rows of 768 columns are 120 such tiles, and 48 of the first.
/// [`TILED_MANY`] is the default for many rows, and for wide products of some: 90 % of its loop's instructions are products
/// on RDNA3, 66 % of the first's (docs/kernels.md). Narrow products of some rows are too few such tiles.
const TILED: [[u32; 6]; 10] = [
    [64, 64, 16, 4, 4, 1],
    [144, 128, 16, 9, 8, 1],
    [128, 128, 8, 8, 8, 1],
    [72, 128, 16, 9, 8, 1],
    [96, 96, 16, 6, 12, 1],
    [64, 64, 16, 8, 4, 1],
    [56, 96, 16, 7, 12, 4],
    [72, 64, 16, 9, 8, 4],
    [48, 32, 32, 6, 8, 8],
    [32, 32, 32, 4, 4, 4],
];

const TILED_FEW: [u32; 6] = TILED[8];
const TILED_MANY: [u32; 6] = TILED[4];

/// Tiles for software GPUs, as [rows, cols, rows and cols of an invocation]. Software GPUs run the invocations of a
/// workgroup as the lanes of vector instructions. Each invocation has many sums of its own, because a load costs as
/// much there as several products.
const DIRECT: [[u32; 4]; 4] = [[16, 128, 16, 16], [8, 128, 8, 16], [16, 64, 16, 8], [12, 128, 12, 16]];

/// Tiles for cooperative matrices, in units of their side: matrices of a subgroup along rows and along columns, steps
/// along K that a buffer in workgroup memory holds; then subgroups along rows, along columns and along K; then buffers.
///
/// Over f16 the first is the fastest on an NVIDIA H200 for 3141 rows. The second and the third, of 96 rows, divide the
/// products of 1029 rows evenly among its 132 cores. With two buffers, staging overlaps with multiplication. No card has
/// timed these yet.
///
/// [`COOPERATIVE_F16`] and [`COOPERATIVE_F32`] are the defaults for few and for some rows: the fastest on an NVIDIA H100 for
/// 201 and for 1029. [`FEWEST_LOADS`] comes first on AMD's cards, over f16.
const COOPERATIVE: [[u32; 7]; 25] = [
    [3, 4, 4, 3, 2, 1, 1],
    [3, 2, 4, 2, 4, 1, 1],
    [3, 1, 4, 2, 4, 1, 1],
    [4, 2, 4, 2, 4, 1, 1],
    [3, 3, 2, 2, 2, 2, 1],
    [3, 2, 2, 2, 4, 1, 1],
    [4, 2, 2, 2, 4, 1, 1],
    [3, 3, 4, 2, 2, 1, 1],
    [3, 4, 2, 3, 2, 1, 1],
    [2, 2, 4, 2, 2, 1, 1],
    [2, 2, 8, 2, 1, 4, 1],
    [2, 3, 2, 2, 2, 2, 1],
    [3, 1, 4, 1, 2, 4, 1],
    [1, 1, 4, 2, 2, 1, 1],
    [2, 2, 2, 2, 2, 1, 1],
    [4, 4, 2, 2, 2, 1, 1],
    [4, 4, 2, 2, 2, 1, 2],
    [4, 4, 1, 2, 2, 1, 2],
    [3, 4, 2, 2, 2, 1, 2],
    [3, 2, 2, 2, 4, 1, 2],
    [3, 3, 1, 2, 2, 1, 2],
    [2, 2, 4, 2, 2, 1, 2],
    [2, 2, 2, 2, 2, 1, 2],
    [3, 1, 2, 2, 4, 1, 2],
    [2, 2, 4, 2, 1, 4, 2],
];

/// The tile that loads least of all from workgroup memory for a product, on AMD's RDNA3 16 bytes (docs/kernels.md). It is slow
/// on an NVIDIA H200.
const FEWEST_LOADS: [u32; 7] = COOPERATIVE[15];

/// The defaults over f16, as [few, some] rows by [wide, narrow] products.
const COOPERATIVE_F16: [[[u32; 7]; 2]; 2] = [[COOPERATIVE[9], COOPERATIVE[10]], [COOPERATIVE[1], COOPERATIVE[2]]];

/// The defaults over f32.
const COOPERATIVE_F32: [[[u32; 7]; 2]; 2] = [[COOPERATIVE[11], COOPERATIVE[12]], [COOPERATIVE[4], COOPERATIVE[4]]];

/// Tells AMD's cards by their subgroups of up to 64. No other card whose matrices these kernels use is known to have such.
pub(super) fn is_amd(limits: &Limits) -> bool {
    limits.subgroup_size == 64
}

fn tiled([rows, cols, depth, m, n, groups]: [u32; 6]) -> ProductTile {
    ProductTile { rows, cols, split: ProductSplit::Tiled { depth, sums: [m, n], groups } }
}

fn direct([rows, cols, m, n]: [u32; 4]) -> ProductTile {
    ProductTile { rows, cols, split: ProductSplit::Direct { sums: [m, n] } }
}

fn cooperative([sums_m, sums_n, steps, m, n, k, buffers]: [u32; 7], side: u32) -> ProductTile {
    let split = ProductSplit::Cooperative { depth: steps * side, subgroups: [m, n, k], buffers: buffers as u8 };
    ProductTile { rows: sums_m * m * side, cols: sums_n * n * side, split }
}

/// Returns the tiles that a device may use for the products of x of type `elem`. The first is the default where
/// [`product_defaults`] names none. There is always one: if even the plainest tile does not fit, the device refuses
/// the shader and says what it lacks.
pub fn product_tiles(limits: &Limits, elem: Elem) -> Vec<ProductTile> {
    let fits = |&size: &ProductTile| {
        let tile = Tile::new(size, limits, elem);
        tile.memory() <= limits.workgroup_memory && tile.invocations() <= limits.max_invocations
    };
    if let Some(side) = limits.tier.cooperative() {
        let mut sizes = COOPERATIVE;
        if elem == Elem::F16 && is_amd(limits) {
            sizes.sort_by_key(|sizes| *sizes != FEWEST_LOADS);
        }
        let mut found: Vec<_> = sizes.map(|sizes| cooperative(sizes, side)).into_iter().filter(fits).collect();
        // Three products by matrices can be slower than one without, where a device's matrices are not much faster.
        if elem == Elem::F32 {
            found.extend(TILED.map(tiled).into_iter().filter(fits));
        }
        if !found.is_empty() {
            return found;
        }
    }
    let all = if limits.tier == Tier::Direct { DIRECT.map(direct).to_vec() } else { TILED.map(tiled).to_vec() };
    let others = all[1..].iter().copied().filter(fits);
    std::iter::once(all[0]).chain(others).collect()
}

/// Returns the tiles of [`product_tiles`] that suit most devices, where they are not the first.
pub fn product_defaults(limits: &Limits, elem: Elem) -> Tiles {
    let candidates = product_tiles(limits, elem);
    let fit = |size: ProductTile| Some(size).filter(|size| candidates.contains(size));
    let choice = |[wide, narrow]: [ProductTile; 2]| TileChoice { wide: fit(wide), narrow: fit(narrow), attention: None };
    let [few, some] = match (limits.tier, limits.tier.cooperative()) {
        (Tier::Direct, _) => return Tiles::DEFAULT,
        (_, None) => {
            let [first, few, many] = [TILED[0], TILED_FEW, TILED_MANY].map(tiled);
            return Tiles { few: choice([few; 2]), some: choice([many, first]), many: choice([many; 2]) };
        }
        (_, Some(side)) => {
            let mut of_elem = if elem == Elem::F16 { COOPERATIVE_F16 } else { COOPERATIVE_F32 };
            if elem == Elem::F16 && is_amd(limits) {
                of_elem[1][0] = FEWEST_LOADS;
            }
            of_elem.map(|tiles| choice(tiles.map(|sizes| cooperative(sizes, side))))
        }
    };
    Tiles { few, some, many: TileChoice::DEFAULT }
}

/// Returns the tiles that products of x of type `elem` have by default, whatever their rows and columns: each once.
pub fn default_products(limits: &Limits, elem: Elem) -> Vec<ProductTile> {
    let Tiles { few, some, many } = product_defaults(limits, elem);
    let mut found = vec![product_tiles(limits, elem)[0]];
    for tile in [few, some, many].into_iter().flat_map(|choice| [choice.wide, choice.narrow]).flatten() {
        if !found.contains(&tile) {
            found.push(tile);
        }
    }
    found
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

    /// Returns the tile for a product of x [m, k] of type `elem` with n columns: the limits' choice if the device may use
    /// it, else the default. Cooperative matrices need K to be a multiple of four.
    pub fn choose(limits: &Limits, elem: Elem, [m, n, k]: [usize; 3]) -> Self {
        let limits = if k.is_multiple_of(4) { *limits } else { limits.without_matrices() };
        let candidates = product_tiles(&limits, elem);
        let chosen = limits.tiles.of(m).product(n).filter(|size| candidates.contains(size));
        let default = || product_defaults(&limits, elem).of(m).product(n);
        Self::new(chosen.or_else(default).unwrap_or(candidates[0]), &limits, elem)
    }

    /// Returns the shaders of the loop, which calls `store_inside` for rows of four elements if `pack` is four, else `store` for
    /// single ones.
    pub fn parts(self, pack: usize) -> Vec<&'static str> {
        let store = match (self.stores_four(), pack) {
            (false, _) => shared::TWO_F32,
            (true, 4) => shared::FOUR_VEC4,
            (true, _) => shared::FOUR_F32,
        };
        std::iter::once(store).chain(self.loop_parts()).collect()
    }

    /// Returns the shaders of the loop alone, which calls `store_four` or `store_two`.
    pub fn loop_parts(self) -> Vec<&'static str> {
        match self.size.split {
            ProductSplit::Tiled { .. } => vec![shared::GEMM_TILED],
            ProductSplit::Direct { .. } => vec![shared::GEMM_DIRECT],
            ProductSplit::Cooperative { .. } => vec![factors(self.elem), shared::GEMM_COOPERATIVE],
        }
    }

    /// Returns whether the loop stores four columns at once, rather than two that lie apart.
    pub fn stores_four(self) -> bool {
        !matches!(self.size.split, ProductSplit::Direct { .. })
    }

    /// Returns how many columns apart the elements of a pair are in what the loop stores at once.
    pub fn pair_pitch(self) -> usize {
        match self.size.split {
            ProductSplit::Direct { sums: [_, cols] } => (self.size.cols / cols) as usize,
            ProductSplit::Tiled { .. } | ProductSplit::Cooperative { .. } => 2,
        }
    }

    /// Returns how many columns the loop stores at a time in rows of `n`, of which a dispatch begins at these `starts`.
    pub fn pack(self, n: usize, mut starts: impl Iterator<Item = usize>) -> usize {
        if self.stores_four() && n.is_multiple_of(4) && starts.all(|start| start.is_multiple_of(4)) { 4 } else { 1 }
    }

    /// Returns the constants that specialise the loop for rows of `k` elements.
    pub fn constants(self, k: usize) -> Vec<(&'static str, Constant)> {
        let mut constants = vec![("TILE_M", self.size.rows.into()), ("TILE_N", self.size.cols.into())];
        match self.size.split {
            ProductSplit::Tiled { depth, sums: [rows, cols], groups } => {
                constants.extend([
                    ("TILE_K", depth.into()),
                    ("WHOLE_K", k.is_multiple_of(depth as usize).into()),
                    ("ROWS", rows.into()),
                    ("COLS", cols.into()),
                    ("GROUPS", groups.into()),
                ]);
            }
            ProductSplit::Direct { sums: [rows, cols] } => constants.extend([("ROWS", rows.into()), ("COLS", cols.into())]),
            ProductSplit::Cooperative { depth, subgroups: [m, n, along_k], buffers } => {
                constants.extend([
                    ("TILE_K", depth.into()),
                    ("PITCH4", self.pitch4(depth).into()),
                    ("BUFFERS", u32::from(buffers).into()),
                    ("WHOLE_K", k.is_multiple_of(depth as usize).into()),
                    ("SUBGROUPS_M", m.into()),
                    ("SUBGROUPS_N", n.into()),
                    ("SUBGROUPS_K", along_k.into()),
                    ("SUBGROUP_SIZE", self.subgroup_size.into()),
                ]);
                constants.extend(matrices(self.side));
            }
        }
        constants
    }

    /// Returns the bytes of workgroup memory that the tile needs.
    fn memory(self) -> u32 {
        let ProductTile { rows, cols, split } = self.size;
        match split {
            ProductSplit::Tiled { depth, sums: [_, n], groups } => {
                // Rows of vec4s along K, with the padding of gemm_tiled.wgsl; or one row of sums of every invocation.
                let tiles = depth / 4 * (rows.next_multiple_of(8) + cols.next_multiple_of(8) + 2 * (32 / depth));
                let exchanged = if groups > 1 { self.invocations() * n / 4 } else { 0 };
                tiles.max(exchanged) * 16
            }
            ProductSplit::Direct { .. } => 0,
            ProductSplit::Cooperative { depth, subgroups, buffers } => {
                // Sums pass through rows of a matrix and one vec4.
                let patch = self.side * (self.side / 4 + 1) * 16;
                u32::from(buffers) * (rows + cols) * self.pitch4(depth) * 8 + subgroups.iter().product::<u32>() * patch
            }
        }
    }

    /// Returns the stride between the rows of a cooperative tile, in vec4s of f16: `depth` elements, twice if they are
    /// split, and 16 bytes of padding, so that eight rows lie in different banks.
    fn pitch4(self, depth: u32) -> u32 {
        parts(self.elem) * depth / 4 + 2
    }

    fn invocations(self) -> u32 {
        match self.size.split {
            ProductSplit::Tiled { sums: [m, n], groups, .. } => (self.size.rows / m) * (self.size.cols / n) * groups,
            ProductSplit::Direct { sums: [m, n] } => (self.size.rows / m) * (self.size.cols / n),
            ProductSplit::Cooperative { subgroups, .. } => subgroups.iter().product::<u32>() * self.subgroup_size,
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

/// Returns the aliases for cooperative matrices over f16: left factor, right factor, sum, and the factors' elements.
pub(super) fn matrices(side: u32) -> [(&'static str, Constant); 5] {
    [
        ("SIDE", side.into()),
        ("Left", Constant::Matrix(side, Elem::F16, "A")),
        ("Right", Constant::Matrix(side, Elem::F16, "B")),
        ("Sum", Constant::Matrix(side, Elem::F32, "C")),
        ("F", Elem::F16.into()),
    ]
}

/// Returns the shader part that makes factors of cooperative matrices from elements of type `elem`.
pub(super) fn factors(elem: Elem) -> &'static str {
    match elem {
        Elem::F32 => shared::FACTORS_SPLIT,
        Elem::F16 => shared::FACTORS_WHOLE,
    }
}

/// Returns how many f16 hold an element of type `elem` in a factor of cooperative matrices.
pub(super) fn parts(elem: Elem) -> u32 {
    match elem {
        Elem::F32 => 2,
        Elem::F16 => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_divide_evenly_and_fit_the_device() {
        for sizes @ [m, n, k, rows, cols, groups] in TILED {
            assert!(m % rows == 0 && n % cols == 0 && cols % 4 == 0, "{sizes:?}");
            assert!([8, 16, 32].contains(&k) && k / 4 % groups == 0, "{sizes:?}");
            // 32 invocations form a block of 4 x 8 or of 8 x 4.
            let blocks = if n / cols % 8 == 0 { 4 } else { 8 };
            assert!(n / cols % 4 == 0 && m / rows % blocks == 0, "{sizes:?}");
        }
        for [m, n, rows, cols] in DIRECT {
            assert!(m % rows == 0 && n % cols == 0, "{m} x {n} by {rows} x {cols}");
        }
        for sizes @ [_, _, steps, m, n, k, _] in COOPERATIVE {
            // Invocations stage whole rows of vec4s: subgroups of 8 for matrices of 8, of 32 for those of 16.
            for (side, subgroup) in [(8, 8), (16, 32)] {
                assert!(steps % k == 0 && (m * n * k * subgroup) % (steps * side / 4) == 0, "{sizes:?}");
            }
        }
        let nvidia =
            Limits { tier: Tier::Cooperative16, subgroup_size: 32, workgroup_memory: 48 << 10, max_invocations: 1024, ..Limits::DEFAULT };
        assert_eq!(product_tiles(&nvidia, Elem::F16).len(), COOPERATIVE.len());
        assert_eq!(product_tiles(&nvidia, Elem::F16)[0].to_string(), "144 x 128 x 64 by 3 x 2 x 1");
        let of_f32 = product_tiles(&nvidia, Elem::F32);
        assert_eq!(of_f32[0].to_string(), "96 x 96 x 32 by 2 x 2 x 2");
        assert!(of_f32.contains(&tiled(TILED[0])), "without matrices, for devices where that is faster");
        let roomy = Limits { workgroup_memory: 32 << 10, ..Limits::DEFAULT };
        assert_eq!(product_tiles(&roomy, Elem::F32).len(), TILED.len());
        // The limits of every WebGPU device allow the first tile and all but the largest.
        let everywhere = product_tiles(&Limits::DEFAULT, Elem::F32);
        assert_eq!(everywhere.len(), TILED.len() - 1, "{everywhere:?}");
        assert!(Tile::plain(&Limits::DEFAULT).memory() <= Limits::DEFAULT.workgroup_memory);
        let small = Limits { workgroup_memory: 8 << 10, max_invocations: 128, ..Limits::DEFAULT };
        assert_eq!(product_tiles(&small, Elem::F32), [tiled(TILED[0])], "the plainest, whatever the device says");
        let narrow = Limits { max_invocations: 128, ..Limits::DEFAULT };
        let of_narrow = product_tiles(&narrow, Elem::F32);
        assert!(
            of_narrow.len() > 1 && of_narrow[1..].iter().all(|&size| Tile::new(size, &narrow, Elem::F32).invocations() <= 128),
            "{of_narrow:?}"
        );
    }

    #[test]
    fn a_tile_is_taken_where_it_is_one_of_the_device_s() {
        let product = tiled(TILED[9]);
        let tiles = Tiles { few: TileChoice::of_products(product), ..Tiles::DEFAULT };
        let limits = Limits { tiles, ..Limits::DEFAULT };
        assert_eq!(Tile::choose(&limits, Elem::F32, [201, 768, 768]).size, product);
        assert_eq!(Tile::choose(&limits, Elem::F32, [1029, 768, 768]), Tile::plain(&limits));
        let software = Limits { tier: Tier::Direct, ..limits };
        assert_eq!(Tile::choose(&software, Elem::F32, [201, 768, 768]), Tile::plain(&software), "of another tier");
        let matrices = Limits { tier: Tier::Cooperative8, subgroup_size: 8, ..Limits::DEFAULT };
        assert!(matches!(Tile::choose(&matrices, Elem::F32, [9, 9, 36]).size.split, ProductSplit::Cooperative { .. }));
        assert_eq!(Tile::choose(&matrices, Elem::F32, [9, 9, 35]).size, tiled(TILED_FEW), "K is no multiple of four");
    }

    #[test]
    fn fewer_rows_have_defaults_of_their_own() {
        let roomy = Limits { subgroup_size: 32, workgroup_memory: 48 << 10, max_invocations: 1024, ..Limits::DEFAULT };
        let default = |tier, elem, m, n| Tile::choose(&Limits { tier, elem, ..roomy }, elem, [m, n, 768]).size.to_string();
        let of = |tier, elem| [201, 1029, 3141].map(|m| [2304, 768].map(|n| default(tier, elem, m, n)));
        let few = "48 x 32 x 32 by 6 x 8 in 8 groups";
        let [least, many] = ["64 x 64 x 16 by 4 x 4", "96 x 96 x 16 by 6 x 12"];
        assert_eq!(of(Tier::Baseline, Elem::F32), [[few; 2], [many, least], [many; 2]]);
        let of_f16 = [
            ["64 x 64 x 64 by 2 x 2 x 1", "64 x 32 x 128 by 2 x 1 x 4"],
            ["96 x 128 x 64 by 2 x 4 x 1", "96 x 64 x 64 by 2 x 4 x 1"],
            ["144 x 128 x 64 by 3 x 2 x 1"; 2],
        ];
        assert_eq!(of(Tier::Cooperative16, Elem::F16), of_f16);
        let wide = "96 x 96 x 32 by 2 x 2 x 2";
        assert_eq!(of(Tier::Cooperative16, Elem::F32), [["64 x 96 x 32 by 2 x 2 x 2", "48 x 32 x 64 by 1 x 2 x 4"], [wide; 2], [wide; 2]]);
        let amd = Limits { tier: Tier::Cooperative16, subgroup_size: 64, workgroup_memory: 64 << 10, ..roomy };
        let of_amd = [201, 1029, 3141].map(|m| Tile::choose(&amd, Elem::F16, [m, 2304, 768]).size.to_string());
        assert_eq!(of_amd, ["64 x 64 x 64 by 2 x 2 x 1", "128 x 128 x 32 by 2 x 2 x 1", "128 x 128 x 32 by 2 x 2 x 1"]);
        // A device without room for a default has the first tile that fits.
        let small = Limits { workgroup_memory: 10 << 10, ..Limits::DEFAULT };
        assert_eq!(Tile::choose(&small, Elem::F32, [201, 768, 768]).size, tiled(TILED[0]));
    }
}
