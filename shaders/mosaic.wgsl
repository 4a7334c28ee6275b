// sums[k, Y, X] += weights[y, x] pixels[r, k]: the scores of tiles, which stand patch by patch, each patch's in Z-order (the bits of a
// pixel's row and column in it interleaved, the row's first), to where they belong on a slice. (Y, X) is (y, x) behind the tile's corner.
//
// An invocation moves one pixel of all bound classes: what it reads stands together, and neighbours write neighbours. No two invocations of
// a dispatch, which does one tile, meet; dispatches run one after another.
@group(0) @binding(0) var<storage, read> pixels: array<X>; // [.., K]
@group(0) @binding(1) var<storage, read> weights: array<f32>; // [h, w] of a tile
@group(0) @binding(2) var<storage, read> places: array<vec4<f32>>; // [tiles]: corner's row and column, whether mirrored down, and across
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

// The bits of i, each followed by a zero.
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
    // Within a patch, neighbours go along its rows, and read by Z-order. A dispatch begins and ends with a patch.
    let area = SIDE * SIDE;
    let y = id.x % area / SIDE;
    let x = id.x % SIDE;
    let source = (params.first_pixel + id.x - id.x % area + 2u * spread(y) + spread(x)) * params.classes + params.first_class;

    let patch_index = (params.place + id.x) / area;
    let place = places[params.tile];
    let tile_width = params.cols * SIDE;
    let row = mirrored(patch_index / params.cols * SIDE + y, params.rows * SIDE, place.z);
    let col = mirrored(patch_index % params.cols * SIDE + x, tile_width, place.w);
    // A caller's mistake must not write elsewhere: what is beyond the slice goes nowhere.
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
