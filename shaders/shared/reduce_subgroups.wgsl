// As reduce.wgsl where ROW_LANES is LANES, with each subgroup's sum by one subgroup operation: workgroup memory holds a value a subgroup, none where one subgroup is
// all. A subgroup's sum has the same bits in all its invocations, and everyone adds the subgroups in the same order.
var<workgroup> subgroup_values: array<vec2<f32>, LANES>;

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) place: u32,
}

fn sum_over_lanes(lane: Lane, value: vec2<f32>) -> vec2<f32> {
    let own = subgroupAdd(value);
    // The values of an earlier sum may still be being read.
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
