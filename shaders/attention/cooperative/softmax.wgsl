        // The softmax of this step's scores. Also stages this step's values, and over its keys the next ones (with one
        // buffer) or those after the next (with two).
        let ragged = start + KEYS > params.tokens;
        var any_grown = false;
        for (var b = 0u; b < BLOCKS; b++) { // unroll
            var s: array<vec4<f32>, FOURS>;
            for (var j = 0u; j < FOURS; j++) { // unroll
                s[j] = scores[buffer * SCORES + query_scores + b * SCORE_PATCH + j * SHARE];
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
            for (var far = 1u; far < SHARE; far *= 2u) {
                highest = max(highest, subgroupShuffleXor(highest, far));
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
                    weights[buffer * WEIGHTS + query_weights + b * WEIGHT_PATCH + p * KEYS / 4u + j * SHARE] = parts[p];
                }
                sums += four;
            }
            l[b] = fma(l[b], rescale[b], (sums.x + sums.y) + (sums.z + sums.w));
        }
        done = start + KEYS;
        if any_grown {
            atomicStore(&grown_at[buffer], done);
        }
        for (var i = 0u; i < CHUNKS; i++) { // unroll
            let e = lane.index + i * LANES;
            if EXACT || e < KEYS * D4 {
                let k_parts = x_parts(next_k[i]);
                let v_parts = x_parts(next_v[i]);
                for (var p = 0u; p < PARTS; p++) { // unroll
                    k_tile[buffer * K_TILE + e / D4 * PITCH4 + p * D4 + e % D4] = k_parts[p];
                    if !TURNED {
                        v_tile[buffer * V_TILE + e / D4 * PITCH4 + p * D4 + e % D4] = v_parts[p];
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
                            let at = buffer * V_TILE + (e / KEYS4 * 4u + c) * VALUE_ROW4 + p * KEYS4 + e % KEYS4;
                            v_tile[at] = vec4<F>(first[p][c], second[p][c], third[p][c], fourth[p][c]);
                        }
                    }
                }
            }
        }
        if BUFFERS == 1u {
            workgroupBarrier();
        }
        at_values += KEYS * D4;
        next_k = loaded_keys(at_values + lane.index + BUFFERS * KEYS * D4, last);
        next_v = loaded_values(at_values, lane.index, last);
