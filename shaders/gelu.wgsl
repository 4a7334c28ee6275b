// y = gelu(x), elementwise over n packs; invocation i computes pack i.
@group(0) @binding(0) var<storage, read> x: array<Pack>; // [n]
@group(0) @binding(1) var<storage, read_write> y: array<Pack>; // [n]

struct Params {
    n: u32, // packs
    pad0: u32,
    pad1: u32,
    pad2: u32,
}
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(LANES)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.n {
        y[id.x] = gelu(x[id.x]);
    }
}
