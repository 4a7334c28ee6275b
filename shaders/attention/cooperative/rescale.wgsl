        // o is rescaled if an offset of any subgroup has grown in the last softmax; at first o is 0. Cooperative matrices
        // need uniform control flow. This is uniform, but naga sees that of loops alone.
        let repeats = select(0u, 1u, done > KEYS && atomicLoad(&grown_at[other]) == done);
        for (var repeat = 0u; repeat < repeats; repeat++) {
            for (var b = 0u; b < BLOCKS; b++) { // unroll
                for (var i = 0u; i < PIECES; i++) { // unroll
                    let at = other * SCORES + own_scores;
                    coopStoreT(o[b][i], &scores[at], SCORE_ROW4);
                    workgroupBarrier();
                    for (var j = 0u; j < PATCH_FOURS; j++) { // unroll
                        scores[other * SCORES + query_scores + j * SHARE] *= rescale[b];
                    }
                    workgroupBarrier();
                    o[b][i] = coopLoadT<Sum>(&scores[at], SCORE_ROW4);
                    workgroupBarrier();
                }
            }
        }
