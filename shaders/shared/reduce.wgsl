// The sum of one pair of values of each of the ROW_LANES invocations that do a row, the same bits in all of them: everyone adds all in the
// same order. To be called by the whole workgroup.
var<workgroup> lane_values: array<vec2<f32>, LANES>;

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

fn sum_over_lanes(lane: Lane, value: vec2<f32>) -> vec2<f32> {
    // The values of an earlier sum may still be being read.
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
