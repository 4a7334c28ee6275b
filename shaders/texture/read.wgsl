// values[y, x] = the first channel of the texel at (x, y).
@group(0) @binding(0) var texels: texture_2d<f32>; // [height, width]
@group(0) @binding(1) var<storage, read_write> values: array<f32>; // [height, width]

@compute @workgroup_size(SIDE, SIDE)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let size = textureDimensions(texels);
    if all(id.xy < size) {
        values[id.y * size.x + id.x] = textureLoad(texels, id.xy, 0).x;
    }
}
