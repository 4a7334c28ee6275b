    // Scores of the next keys. Past the end of the head, they are those of the last key.
    for (var j = 0u; j < SPAN; j++) { // unroll
        var products: array<Sum, BLOCKS>;
        for (var i = 0u; i < PIECES; i++) { // unroll
            // A column of the scores is a row of the keys, so D runs down the matrix.
            let at = other * K_TILE + j * SIDE * PITCH4 + i * SIDE4;
            let key = coopLoad<Right>(&k_tile[at], PITCH4);
            if PARTS == 1u {
                for (var b = 0u; b < BLOCKS; b++) { // unroll
                    products[b] = coopMultiplyAdd(query[b][i * PARTS], key, products[b]);
                }
            } else {
                let at_low = at + D4;
                let key_low = coopLoad<Right>(&k_tile[at_low], PITCH4);
                for (var b = 0u; b < BLOCKS; b++) { // unroll
                    let small = coopMultiplyAdd(query[b][i * PARTS + PARTS - 1u], key, coopMultiplyAdd(query[b][i * PARTS], key_low, Sum()));
                    let step = coopMultiplyAdd(query[b][i * PARTS], key, small * (1.0 / 2048.0));
                    products[b] = products[b] + step;
                }
            }
        }
        for (var b = 0u; b < BLOCKS; b++) { // unroll
            let at = other * SCORES + own_scores + b * SCORE_PATCH + j * SIDE4;
            coopStoreT(products[b], &scores[at], SCORE_ROW4);
        }
    }
