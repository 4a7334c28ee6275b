// Rows of any length. Each of the three steps reads the row from memory.
fn compute(group: vec3<u32>, lane: Lane) {
    let row = row_of(group.x, lane.index);

    var sum = Pack(0.0);
    for (var i = row.place; i < params.packs; i += ROW_LANES) {
        sum += Pack(x[row.start + i]);
    }
    let first_mean = mean_of(lane, sum);

    sum = Pack(0.0);
    var squares = Pack(0.0);
    for (var i = row.place; i < params.packs; i += ROW_LANES) {
        let centred = Pack(x[row.start + i]) - first_mean;
        sum += centred;
        squares += centred * centred;
    }
    let found = mean_and_scale(lane, first_mean, sum, squares);

    if row.index < params.rows {
        for (var i = row.place; i < params.packs; i += ROW_LANES) {
            y[row.result_start + i] = result(Pack(x[row.start + i]), i, found.x, found.y);
        }
    }
}
