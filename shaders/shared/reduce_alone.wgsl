// reduce.wgsl for ROW_LANES = 1, where there is nothing to add and no barrier.
struct Lane {
    @builtin(local_invocation_index) index: u32,
}

fn sum_over_lanes(lane: Lane, value: vec2<f32>) -> vec2<f32> {
    return value;
}
