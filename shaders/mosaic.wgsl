// maps[k, y, x] = pixels[r, k]: pixels that stand patch by patch, each patch's in Z-order (the bits of a pixel's row and column in it
// interleaved, the row's first), put where they belong.
//
// An invocation moves one pixel of all bound maps: what it reads stands together, and neighbours write neighbours.
@group(0) @binding(0) var<storage, read> pixels: array<X>; // [.., K]
@group(0) @binding(1) var<storage, read_write> maps: array<f32>; // [bound maps, rows SIDE, cols SIDE]

struct Params {
    count: u32, // pixels
    first_pixel: u32, // the first one's row in what is bound
    place: u32, // the first one's number among the image's pixels, as they stand patch by patch
    cols: u32, // patches side by side in an image
    classes: u32, // K
    first_class: u32, // the first one that is moved
    moved: u32, // how many classes are moved
    to: u32, // where the first one's map begins in what is bound
    map: u32, // elements of a map
    pad0: u32,
    pad1: u32,
    pad2: u32,
}
@group(0) @binding(2) var<uniform> params: Params;

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
    let patch_pixels = SIDE * SIDE;
    let patch_index = id.x / patch_pixels;
    let inside = id.x % patch_pixels;
    let y = inside / SIDE;
    let x = inside % SIDE;
    let source = (params.first_pixel + patch_index * patch_pixels + 2u * spread(y) + spread(x)) * params.classes + params.first_class;
    let tile = params.place / patch_pixels + patch_index;
    let row = tile / params.cols * SIDE + y;
    let to = params.to + row * (params.cols * SIDE) + tile % params.cols * SIDE + x;
    for (var k = 0u; k < params.moved; k++) {
        maps[to + k * params.map] = f32(pixels[source + k]);
    }
}
