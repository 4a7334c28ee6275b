// Keys and values straight from the bindings: no workgroup memory, no barrier. For software GPUs, where barriers are dear.
fn stage(head_start: u32, start: u32, lane: u32) {}

fn key(head_start: u32, start: u32, j: u32, i: u32) -> vec4<f32> {
    return vec4<f32>(k[(head_start + min(start + j, params.tokens - 1u)) * D4 + i]);
}

fn value(head_start: u32, start: u32, j: u32, i: u32) -> vec4<f32> {
    return vec4<f32>(v[(head_start + min(start + j, params.tokens - 1u)) * D4 + i]);
}
