// Loads KEYS keys and values at a time into workgroup memory. All queries then read the same key at the same time.
var<workgroup> key_tile: array<vec4<X>, KEYS * HEAD_DIM / 4u>;
var<workgroup> value_tile: array<vec4<X>, KEYS * HEAD_DIM / 4u>;

fn stage(head_start: u32, start: u32, lane: u32) {
    // Other invocations may still be reading the previous tile.
    workgroupBarrier();
    for (var i = lane; i < KEYS * D4; i += LANES) {
        let at = (head_start + min(start + i / D4, params.tokens - 1u)) * D4 + i % D4;
        key_tile[i] = k[at];
        value_tile[i] = v[at];
    }
    workgroupBarrier();
}

fn key(head_start: u32, start: u32, j: u32, i: u32) -> vec4<f32> {
    return vec4<f32>(key_tile[j * D4 + i]);
}

fn value(head_start: u32, start: u32, j: u32, i: u32) -> vec4<f32> {
    return vec4<f32>(value_tile[j * D4 + i]);
}
