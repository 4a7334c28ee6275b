// reduce.wgsl for ROW_LANES = 1, where there is nothing to add and no barrier.
struct Lane {
    index: u32, // in the workgroup
}

fn sum_over_lanes(lane: Lane, value: vec2<f32>) -> vec2<f32> {
    return value;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    compute(group, Lane(index));
}
