// sums[k, Y, X] += weights[y, x] pixels[r, k]: scatter-adds the scores of a tile into a slice. Pixels are stored patch
// by patch, in Morton order (the bits of a pixel's row and column interleaved, the row's first). (Y, X) is the tile's
// corner plus (y, x).
//
// An invocation adds one pixel's scores of all bound classes, which are contiguous in `pixels`. Neighbouring
// invocations write neighbouring elements. A dispatch adds one tile, so no two invocations write the same element, and
// dispatches run one after another.
@group(0) @binding(0) var<storage, read> pixels: array<X>; // [.., K]
@group(0) @binding(1) var<storage, read> weights: array<f32>; // [h, w] of a tile
// [tiles]: the row and the column of the corner, whether the tile is mirrored down, and whether across.
@group(0) @binding(2) var<storage, read> places: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>; // [bound classes, H, W]

struct Params {
    count: u32, // pixels
    first_pixel: u32, // the first one's row in what is bound
    place: u32, // the first one's number among the tile's pixels, as they stand patch by patch
    cols: u32, // patches side by side in a tile
    rows: u32, // patches one below the other
    classes: u32, // K
    first_class: u32, // the first one that is moved
    moved: u32, // how many classes are moved
    to: u32, // where the first one's map begins in what is bound
    map: u32, // elements of a class's map, H W
    width: u32, // W
    tile: u32, // which of the tiles
}
@group(0) @binding(4) var<uniform> params: Params;

// Inserts a zero after each bit of i.
fn spread(i: u32) -> u32 {
    var bits = 0u;
    for (var bit = 0u; bit < STAGES; bit++) {
        bits |= ((i >> bit) & 1u) << (2u * bit);
    }
    return bits;
}

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.count {
        return;
    }
    // Within a patch, neighbouring invocations follow its rows, and read in Morton order. A dispatch holds whole
    // patches.
    let area = SIDE * SIDE;
    let y = id.x % area / SIDE;
    let x = id.x % SIDE;
    let source = (params.first_pixel + id.x - id.x % area + 2u * spread(y) + spread(x)) * params.classes + params.first_class;

    let patch_index = (params.place + id.x) / area;
    let place = places[params.tile];
    let tile_width = params.cols * SIDE;
    let row = mirrored(patch_index / params.cols * SIDE + y, params.rows * SIDE, place.z);
    let col = mirrored(patch_index % params.cols * SIDE + x, tile_width, place.w);
    // Pixels outside the slice are dropped, so that a caller's mistake cannot write out of bounds.
    let slice_row = min(u32(place.x), params.map) + row;
    let slice_col = min(u32(place.y), params.map) + col;
    if slice_row >= params.map / params.width || slice_col >= params.width {
        return;
    }
    let to = params.to + slice_row * params.width + slice_col;
    let weight = weights[row * tile_width + col];
    for (var k = 0u; k < params.moved; k++) {
        sums[to + k * params.map] += weight * f32(pixels[source + k]);
    }
}

fn mirrored(i: u32, extent: u32, whether: f32) -> u32 {
    return select(i, extent - 1u - i, whether != 0.0);
}
