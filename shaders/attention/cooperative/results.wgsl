    for (var b = 0u; b < BLOCKS; b++) { // unroll
        for (var far = 1u; far < SHARE; far *= 2u) {
            l[b] += subgroupShuffleXor(l[b], far);
        }
        let t = first_query + team * OWN + b * SIDE + of_block;
        let row = batch_row + t;
        let bound = t < params.tokens && row >= params.first_row && row - params.first_row < params.rows;
        let place = ((row - params.first_row) * params.heads + head % params.heads) * D4;
        for (var i = 0u; i < PIECES; i++) { // unroll
            workgroupBarrier();
            coopStoreT(o[b][i], &scores[own_scores], SCORE_ROW4);
            workgroupBarrier();
            if bound {
                for (var j = 0u; j < PATCH_FOURS; j++) { // unroll
                    y[place + i * SIDE4 + j * SHARE + share] = vec4<Y>(scores[query_scores + j * SHARE] / l[b]);
                }
            }
        }
    }
}
