// The texel at (x, y) = values[y, x, :], of one to four CHANNELS. Missing channels are 0, except the fourth, which is
// 1.
@group(0) @binding(0) var<storage, read> values: array<f32>; // [height, width, CHANNELS]
@group(0) @binding(1) var texels: texture_storage_2d<rgba16float, write>; // [height, width]

@compute @workgroup_size(SIDE, SIDE)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let size = textureDimensions(texels);
    if all(id.xy < size) {
        var texel = vec4<f32>(0.0, 0.0, 0.0, 1.0);
        for (var k = 0u; k < CHANNELS; k++) {
            texel[k] = values[(id.y * size.x + id.x) * CHANNELS + k];
        }
        textureStore(texels, id.xy, texel);
    }
}
