    // The steps, each of which ends with the products of the next scores.
    workgroupBarrier();
    for (var start = 0u; start < end; start += KEYS) {
        let ragged = start + KEYS > params.tokens;
        var any_grown = false;
        var rescale: array<f32, BLOCKS>;
        for (var b = 0u; b < BLOCKS; b++) { // unroll
            var s: array<vec4<f32>, FOURS>;
            for (var j = 0u; j < FOURS; j++) { // unroll
                s[j] = scores[query_scores + b * SCORE_PATCH + j * SHARE];
            }
            if ragged {
                for (var j = 0u; j < FOURS; j++) { // unroll
                    let first = start + (j * SHARE + share) * 4u;
                    s[j] = select(vec4<f32>(MASKED), s[j], vec4<u32>(first, first + 1u, first + 2u, first + 3u) < vec4<u32>(params.tokens));
                }
            }
            var tops = s[0];
            for (var j = 1u; j < FOURS; j++) { // unroll
                tops = max(tops, s[j]);
            }
            var highest = max(max(tops.x, tops.y), max(tops.z, tops.w)) * SCALE2;
            if PARTS > 1u {
                // A factor beyond f16 makes an infinite score. A negative one would vanish, so it makes the result NaN.
                var lows = s[0];
                for (var j = 1u; j < FOURS; j++) { // unroll
                    lows = min(lows, s[j]);
                }
                let lowest = min(min(lows.x, lows.y), min(lows.z, lows.w));
                highest = select(highest, -lowest, lowest < -3e38);
            }
            for (var other = 1u; other < SHARE; other *= 2u) {
                highest = max(highest, subgroupShuffleXor(highest, other));
            }
            let grown = highest > m[b] + SLACK;
            any_grown |= grown;
            let offset = select(m[b], highest, grown);
            rescale[b] = exp2(m[b] - offset);
            m[b] = offset;
            var sums = vec4<f32>(0.0);
            for (var j = 0u; j < FOURS; j++) { // unroll
                let four = exp2(fma(s[j], vec4<f32>(SCALE2), vec4<f32>(-offset)));
                let parts = w_parts(four);
                for (var p = 0u; p < PARTS; p++) { // unroll
                    weights[query_weights + b * WEIGHT_PATCH + p * KEYS / 4u + j * SHARE] = parts[p];
                }
                sums += four;
            }
            l[b] = fma(l[b], rescale[b], (sums.x + sums.y) + (sums.z + sums.w));
        }
        if any_grown {
            atomicStore(&grown_at[0], start + KEYS);
        }
        for (var i = 0u; i < CHUNKS; i++) { // unroll
            let e = lane.index + i * LANES;
            if EXACT || e < KEYS * D4 {
                let k_parts = x_parts(next_k[i]);
                let v_parts = x_parts(next_v[i]);
                for (var p = 0u; p < PARTS; p++) { // unroll
                    k_tile[e / D4 * PITCH4 + p * D4 + e % D4] = k_parts[p];
                    if !TURNED {
                        v_tile[e / D4 * PITCH4 + p * D4 + e % D4] = v_parts[p];
                    }
                }
            }
        }
        if TURNED {
            for (var i = 0u; i < SQUARES; i++) { // unroll
                let e = lane.index + i * LANES;
                if e < KEYS4 * D4 {
                    let first = x_parts(next_v[4u * i]);
                    let second = x_parts(next_v[4u * i + 1u]);
                    let third = x_parts(next_v[4u * i + 2u]);
                    let fourth = x_parts(next_v[4u * i + 3u]);
                    for (var p = 0u; p < PARTS; p++) { // unroll
                        for (var c = 0u; c < 4u; c++) { // unroll
                            let at = (e / KEYS4 * 4u + c) * VALUE_ROW4 + p * KEYS4 + e % KEYS4;
                            v_tile[at] = vec4<F>(first[p][c], second[p][c], third[p][c], fourth[p][c]);
                        }
                    }
                }
            }
        }
        workgroupBarrier();
        at_values += KEYS * D4;
        next_k = loaded_keys(at_values + lane.index + KEYS * D4, last);
        next_v = loaded_values(at_values, lane.index, last);
        // o is rescaled if an offset of any subgroup has grown; at first o is 0. Cooperative matrices need uniform control
        // flow. This is uniform, but naga sees that of loops alone.
        let turns = select(0u, 1u, start != 0u && atomicLoad(&grown_at[0]) == start + KEYS);
        for (var turn = 0u; turn < turns; turn++) {
            for (var b = 0u; b < BLOCKS; b++) { // unroll
                for (var i = 0u; i < PIECES; i++) { // unroll
                    workgroupBarrier();
                    coopStoreT(o[b][i], &scores[own_scores], SCORE_ROW4);
                    workgroupBarrier();
                    for (var j = 0u; j < PATCH_FOURS; j++) { // unroll
                        scores[query_scores + j * SHARE] *= rescale[b];
                    }
                    workgroupBarrier();
                    o[b][i] = coopLoadT<Sum>(&scores[own_scores], SCORE_ROW4);
                }
            }
        }
        for (var j = 0u; j < SPAN; j++) { // unroll
            var weight: array<Left, PARTS * BLOCKS>;
            for (var b = 0u; b < BLOCKS; b++) { // unroll
                for (var p = 0u; p < PARTS; p++) { // unroll
                    let at = own_weights + b * WEIGHT_PATCH + p * KEYS / 4u + j * SIDE4;
                    weight[b * PARTS + p] = coopLoadT<Left>(&weights[at], WEIGHT_ROW4);
                }
            }
            for (var i = 0u; i < PIECES; i++) { // unroll
                var value: Right;
                let at = j * NEXT_VALUES + i * NEXT_PIECE;
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
