// reduce.wgsl for ROW_LANES = LANES, with one subgroup operation for each subgroup's sum. Workgroup memory holds one
// value per subgroup. All invocations get the same bits, because a subgroup's sum is the same in all its invocations
// and each adds the subgroups in the same order.
var<workgroup> subgroup_values: array<vec2<f32>, LANES>;

struct Lane {
    index: u32, // in the workgroup
    subgroup: u32,
    subgroups: u32, // of the workgroup
    place: u32, // in the subgroup
}

fn sum_over_lanes(lane: Lane, value: vec2<f32>) -> vec2<f32> {
    let own = subgroupAdd(value);
    // Other invocations may still be reading the values of an earlier sum.
    workgroupBarrier();
    if lane.place == 0u {
        subgroup_values[lane.subgroup] = own;
    }
    workgroupBarrier();
    var sum = vec2<f32>(0.0);
    for (var i = 0u; i < lane.subgroups; i++) {
        sum += subgroup_values[i];
    }
    return sum;
}

// The subgroup's values are arguments of their own, because naga does not write those of a struct for DX12.
@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) place: u32,
) {
    compute(group, Lane(index, subgroup, subgroups, place));
}
