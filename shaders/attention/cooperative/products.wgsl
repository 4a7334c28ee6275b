        // Weights times values: those of the last softmax.
        for (var j = 0u; j < SPAN; j++) { // unroll
            var weight: array<Left, PARTS * BLOCKS>;
            for (var b = 0u; b < BLOCKS; b++) { // unroll
                for (var p = 0u; p < PARTS; p++) { // unroll
                    let at = other * WEIGHTS + own_weights + b * WEIGHT_PATCH + p * KEYS / 4u + j * SIDE4;
                    weight[b * PARTS + p] = coopLoadT<Left>(&weights[at], WEIGHT_ROW4);
                }
            }
            for (var i = 0u; i < PIECES; i++) { // unroll
                var value: Right;
                let at = other * V_TILE + j * NEXT_VALUES + i * NEXT_PIECE;
                if TURNED {
                    value = coopLoad<Right>(&v_tile[at], VALUE_ROW4);
                } else {
                    value = coopLoadT<Right>(&v_tile[at], PITCH4);
                }
                if PARTS == 1u {
                    for (var b = 0u; b < BLOCKS; b++) { // unroll
                        o[b][i] = coopMultiplyAdd(weight[b * PARTS], value, o[b][i]);
                    }
                } else {
                    var value_low: Right;
                    let at_low = at + LOW_VALUES;
                    if TURNED {
                        value_low = coopLoad<Right>(&v_tile[at_low], VALUE_ROW4);
                    } else {
                        value_low = coopLoadT<Right>(&v_tile[at_low], PITCH4);
                    }
                    for (var b = 0u; b < BLOCKS; b++) { // unroll
                        let small = coopMultiplyAdd(weight[b * PARTS + PARTS - 1u], value, coopMultiplyAdd(weight[b * PARTS], value_low, Sum()));
                        let step = coopMultiplyAdd(weight[b * PARTS], value, small * (1.0 / 2048.0));
                        o[b][i] = o[b][i] + step;
                    }
                }
            }
        }
