// Sums a pair of values over the ROW_LANES invocations that share a row. All of them get the same bits, because each
// adds all values in the same order. The whole workgroup must call this function, from the kernel's `compute`.
var<workgroup> lane_values: array<vec2<f32>, LANES>;

struct Lane {
    index: u32, // in the workgroup
}

fn sum_over_lanes(lane: Lane, value: vec2<f32>) -> vec2<f32> {
    // Other invocations may still be reading the values of an earlier sum.
    workgroupBarrier();
    lane_values[lane.index] = value;
    workgroupBarrier();
    let first = lane.index / ROW_LANES * ROW_LANES;
    var sum = vec2<f32>(0.0);
    for (var i = 0u; i < ROW_LANES; i++) {
        sum += lane_values[first + i];
    }
    return sum;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    compute(group, Lane(index));
}
