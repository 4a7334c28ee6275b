// Rows of at most HELD packs an invocation, which keeps them in registers between the three steps, so that a row is
// read from memory once. If WHOLE, each invocation has exactly HELD packs; else the last may be past the row's end.
// Loops over private arrays are unrolled (graph/unroll.rs).
fn compute(group: vec3<u32>, lane: Lane) {
    let row = row_of(group.x, lane.index);

    var own: array<Pack, HELD>;
    for (var j = 0u; j < HELD; j++) { // unroll
        let i = row.place + j * ROW_LANES;
        if WHOLE || i < params.packs {
            own[j] = Pack(x[row.start + i]);
        }
    }
    var sum = Pack(0.0);
    for (var j = 0u; j < HELD; j++) { // unroll
        // Packs past the row's end are zero.
        sum += own[j];
    }
    let first_mean = mean_of(lane, sum);

    sum = Pack(0.0);
    var squares = Pack(0.0);
    for (var j = 0u; j < HELD; j++) { // unroll
        if WHOLE || row.place + j * ROW_LANES < params.packs {
            let centred = own[j] - first_mean;
            sum += centred;
            squares += centred * centred;
        }
    }
    let found = mean_and_scale(lane, first_mean, sum, squares);

    if row.index < params.rows {
        for (var j = 0u; j < HELD; j++) { // unroll
            let i = row.place + j * ROW_LANES;
            if WHOLE || i < params.packs {
                y[row.result_start + i] = result(own[j], i, found.x, found.y);
            }
        }
    }
}
