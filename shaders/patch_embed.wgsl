// y[b, p, :] = weight patch(b, p) + bias: a convolution whose kernel size equals its stride, computed as a matrix
// product. A row of the left factor is a patch, read from the image in place. K = Cin PATCH^2, in the weight's order
// (channel, row, column).
//
// Rows are the patches of all images, row-major in each image. Pixels below and right of the last whole patch are
// ignored. An image of one channel stands for Cin equal ones: K is PATCH^2, and the weight is summed over its channels.
// The loop over K is in shared/gemm_*.wgsl, whose header assigns work to invocations.
//
// If an image does not fit one binding, a dispatch computes some patch rows of one image and one channel, and adds to
// the sums of the previous channels in y.
struct Params {
    m: u32, // patches of this dispatch
    n: u32, // C
    k: u32, // K of this dispatch
    width: u32, // W
    grid_cols: u32, // W / PATCH
    patches: u32, // P
    image_pitch: u32, // elements from an image to the next
    channel_pitch: u32, // elements from a channel to the next
    first_pixel: u32, // place in `image` of patch 0
    first_patch: u32, // this dispatch's first patch
    first_channel: u32, // 0: y starts with the bias; else this dispatch's channel, which adds to y
    channels: u32, // Cin
    first_row: u32, // row of y of the first patch
    folded: u32, // channels of the weight to be summed: Cin for an image of one channel, else 1
    pad1: u32,
    pad2: u32,
}
@group(0) @binding(0) var<storage, read> image: array<f32>; // [B, 1 or Cin, H, W], or patch rows of one channel
@group(0) @binding(1) var<storage, read> weight: array<f32>; // [C, Cin PATCH^2]
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [C]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [m, C]
@group(0) @binding(4) var<uniform> params: Params;

// The index in `image` of element k of a patch.
fn place(row: u32, k: u32) -> u32 {
    let p = params.first_patch + row;
    let line = p % params.patches / params.grid_cols * PATCH + k / PATCH % PATCH;
    let column = p % params.patches % params.grid_cols * PATCH + k % PATCH;
    let plane = p / params.patches * params.image_pitch + k / (PATCH * PATCH) * params.channel_pitch;
    return params.first_pixel + plane + line * params.width + column;
}

// Elements past K repeat the last one, and count as zero. Components have no index that varies, because FXC, a compiler of
// DX12, refuses loops with one.
fn places(k4: u32) -> vec4<u32> {
    return min(vec4<u32>(4u * k4) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.k - 1u));
}

fn padded(four: vec4<f32>, k4: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), four, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.k - 4u * k4));
}

fn load_x(row: u32, k4: u32) -> vec4<f32> {
    if PATCH % 4u == 0u {
        // Four elements never cross the end of a patch's line.
        let at = place(row, 4u * k4);
        return vec4<f32>(image[at], image[at + 1u], image[at + 2u], image[at + 3u]);
    }
    let k = places(k4);
    let four = vec4<f32>(image[place(row, k.x)], image[place(row, k.y)], image[place(row, k.z)], image[place(row, k.w)]);
    return padded(four, k4);
}

fn load_w(col: u32, k4: u32) -> vec4<f32> {
    var four = vec4<f32>(0.0);
    for (var channel = 0u; channel < params.folded; channel++) {
        let first = (col * params.channels + params.first_channel + channel) * PATCH * PATCH;
        if PATCH % 4u == 0u {
            let at = first + 4u * k4;
            four += vec4<f32>(weight[at], weight[at + 1u], weight[at + 2u], weight[at + 3u]);
        } else {
            let at = first + places(k4);
            four += padded(vec4<f32>(weight[at.x], weight[at.y], weight[at.z], weight[at.w]), k4);
        }
    }
    return four;
}

fn store(row: u32, col: u32, sum: f32) {
    let at = (params.first_row + row) * params.n + col;
    if params.first_channel == 0u {
        y[at] = bias[col] + sum;
    } else {
        y[at] += sum;
    }
}
