//! `attention`: fused, online softmax.

use meddino::graph::{AttentionTile, Elem, Limits, Tier, TileChoice};
use meddino::kernels::attention_tiles;
use meddino::{Tensor, cpu};

use crate::cases::{Checks, Family, Table, Tolerance, each, for_larger_subgroups, noise_of};
use crate::device;

#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    heads: usize,
    tokens: usize,
    head_dim: usize,
}

/// Computes attention from [B, N, T, D] to [B, T, N D], and stores scores and weights whole.
fn oracle(shape: Shape, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
    let Shape { batch, heads, tokens, head_dim } = shape;
    let mut want = vec![0.0; batch * tokens * heads * head_dim];
    for head in 0..batch * heads {
        let row = |x: &[f32], t: usize| x[(head * tokens + t) * head_dim..][..head_dim].iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (keys, values): (Vec<_>, Vec<_>) = (0..tokens).map(|t| (row(k, t), row(v, t))).unzip();
        for t in 0..tokens {
            let query = row(q, t);
            let dot = |key: &Vec<f64>| query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() / (head_dim as f64).sqrt();
            let scores: Vec<f64> = keys.iter().map(dot).collect();
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - highest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let place = ((head / heads * tokens + t) * heads + head % heads) * head_dim;
            for (weight, value) in weights.iter().zip(&values) {
                want[place..place + head_dim].iter_mut().zip(value).for_each(|(o, v)| *o += weight / sum * v);
            }
        }
    }
    want
}

/// Checks one shape. `peak` scales the queries: at 1 the softmax is nearly flat, at 30 one key takes nearly all the
/// weight.
fn check<S: AsRef<str>>(table: &mut Table, shape: Shape, peak: f32, variants: &[(S, Limits)]) {
    for elem in [Elem::F32, Elem::F16] {
        let variants: Vec<(&str, Limits)> = variants.iter().map(|(name, limits)| (name.as_ref(), *limits)).collect();
        check_over(elem, table, shape, peak, &variants);
    }
}

/// Checks scores that rise from key to key, by so much that every step of every tile outgrows the one before.
fn check_rising(table: &mut Table, tokens: usize, variants: &[(String, Limits)]) {
    let shape = Shape { batch: 1, heads: 2, tokens, head_dim: 64 };
    for elem in [Elem::F32, Elem::F16] {
        let variants: Vec<(&str, Limits)> = variants.iter().map(|(name, limits)| (name.as_str(), *limits)).collect();
        let [mut q, mut k, v] = [1, 2, 3].map(|seed| noise_of(elem, seed, shape.heads * tokens * 64));
        for (t, (q, k)) in q.chunks_exact_mut(64).zip(k.chunks_exact_mut(64)).enumerate() {
            (q[0], k[0]) = (16.0, (t % tokens) as f32);
        }
        compare(elem, table, shape, 128.0, [&q, &k, &v], &variants);
    }
}

fn check_over(elem: Elem, table: &mut Table, shape: Shape, peak: f32, variants: &[(&str, Limits)]) {
    let n = shape.batch * shape.heads * shape.tokens * shape.head_dim;
    let (mut q, k, v) = (noise_of(elem, 1, n), noise_of(elem, 2, n), noise_of(elem, 3, n));
    // A power of two, so the element type still holds the scaled values exactly.
    let peak = peak.log2().round().exp2();
    q.iter_mut().for_each(|q| *q *= peak);
    compare(elem, table, shape, peak, [&q, &k, &v], variants);
}

/// Compares the variants with the oracle, for scores up to about `peak`.
fn compare(elem: Elem, table: &mut Table, shape: Shape, peak: f32, [q, k, v]: [&Vec<f32>; 3], variants: &[(&str, Limits)]) {
    let Shape { batch, heads, tokens, head_dim } = shape;
    let axes = [batch, heads, tokens, head_dim];
    let want = oracle(shape, q, k, v);
    // An absolute error of a score is a relative error of its weight. It grows with the scores.
    let error = 5e-7 * f64::from(peak.max(2.0));
    let tolerance = Tolerance { atol: error, rtol: 1e-6, l2: error };
    let heads_first = Tensor::new([3, batch, heads, tokens, head_dim], [&q[..], k, v].concat());
    if elem == Elem::F32 {
        table.twin(
            &format!("{shape:?}, peak {peak}"),
            tolerance,
            &want,
            Tensor::filled_by(|y| cpu::attention(&heads_first, cpu::FactorType::F32, y)).data(),
        );
    }
    for &(variant, limits) in variants.iter().filter(|(_, limits)| limits.elem == elem) {
        let stored = tolerance.stored(elem);
        // Cooperative matrices also round the softmax's weights w to f16. Then sum w (1 + d) v / sum w (1 + d), with d
        // up to 2^-11, is off by at most that share of the mean |v - y|, which is below 1.
        let weights = if limits.tier.cooperative().is_some() && elem == Elem::F16 { 4.9e-4 } else { 0.0 };
        let tolerance = Tolerance { atol: stored.atol + weights, ..stored };
        let name = format!("{variant} {shape:?}, peak {peak}, bindings of {}", limits.max_binding);
        table.check(&name, limits, tolerance, &want, |case| {
            let qkv = [("q", q), ("k", k), ("v", v)].map(|(name, values)| case.handed(name, &axes, values));
            let qkv = case.recorder.heads("attention", qkv);
            Ok(vec![case.recorder.attention("attention", qkv)?])
        });
    }
}

/// Pairs each head size with one way to run it, with and without checks in turns. Heads of 64 run both ways. Other
/// heads differ from them in one constant of the shader, so one way is enough.
fn in_turns(head_dims: [usize; 5]) -> impl Iterator<Item = (usize, Checks)> {
    head_dims.into_iter().zip([Checks::With, Checks::Without].into_iter().cycle())
}

fn check_sizes(variants: fn(&Table) -> (&'static str, Limits)) {
    let mut table = Table::new("attention");
    let variants = [variants(&table)];
    for tokens in [1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 129] {
        check(&mut table, Shape { batch: 1, heads: 2, tokens, head_dim: 64 }, 4.0, &variants);
    }
    for (head_dim, checks) in in_turns([4, 12, 32, 80, 128]) {
        check(table.run(checks), Shape { batch: 2, heads: 3, tokens: 37, head_dim }, 4.0, &variants);
    }
    table.run(Checks::Both);
    for peak in [0.01, 30.0, 1000.0] {
        check(&mut table, Shape { batch: 1, heads: 1, tokens: 70, head_dim: 64 }, peak, &variants);
    }
    check(&mut table, Shape { batch: 2, heads: 2, tokens: 201, head_dim: 64 }, 4.0, &variants);
    table.finish();
}

#[test]
fn heads_and_tokens_of_any_size() {
    check_sizes(|table| table.variants()[0]);
}

#[test]
fn heads_and_tokens_of_any_size_without_tiles() {
    check_sizes(|table| table.variants()[1]);
}

/// Returns a family's tiers except subgroups. Attention does not sum across a workgroup, so the subgroup tier uses the
/// baseline's kernel.
fn tiers_of(table: &Table, family: Family) -> Vec<(String, Limits)> {
    table.tiers_of(family).into_iter().filter(|(_, limits)| limits.tier != Tier::Subgroups).collect()
}

/// Checks heads of 64 with various numbers of tokens, and heads of 32 with lower limits.
fn check_tiers(family: Family) {
    let mut table = Table::new("attention");
    let tiers = tiers_of(&table, family);
    for tokens in [1, 8, 33, 64, 65] {
        check(&mut table, Shape { batch: 1, heads: 2, tokens, head_dim: 64 }, 4.0, &tiers);
    }
    for peak in [0.01, 30.0, 500.0] {
        check(&mut table, Shape { batch: 1, heads: 1, tokens: 70, head_dim: 64 }, peak, &tiers);
    }
    check(&mut table, Shape { batch: 1, heads: 1, tokens: 261, head_dim: 64 }, 8.0, &tiers);
    check_rising(&mut table, 70, &tiers);
    // The minimum workgroup memory, which every device has.
    let narrow = each(&tiers, "narrow", |own| Limits { workgroup_memory: 16 << 10, ..own });
    check(&mut table, Shape { batch: 1, heads: 2, tokens: 70, head_dim: 64 }, 4.0, &narrow);
    // The same limits as in forced_down_limits_give_the_same_numbers, at the size of f16.
    for (binding, workgroups) in [(5 << 10, 64), (10 << 10, 2), (20 << 10, 1), (40 << 10, 64)] {
        let of_f16: Vec<_> = tiers.iter().filter(|(_, own)| own.elem == Elem::F16).cloned().collect();
        let forced = each(&of_f16, "forced", |own| Limits { max_binding: binding, max_workgroups: workgroups, ..own });
        check(&mut table, Shape { batch: 2, heads: 3, tokens: 70, head_dim: 32 }, 4.0, &forced);
    }
    table.finish();
}

#[test]
fn every_tier_with_tiles() {
    check_tiers(Family::TiledTiers);
}

#[test]
fn every_tier_without_tiles() {
    check_tiers(Family::DirectTiers);
}

#[test]
fn every_tier_of_cooperative_matrices() {
    check_tiers(Family::CooperativeTiers);
}

/// The default tiles have one buffer. One tile with two whose values lie as they are, and one whose values are turned.
#[test]
fn every_tier_of_cooperative_matrices_with_two_buffers() {
    let mut table = Table::new("attention");
    let is_double = |tile: &AttentionTile| matches!(tile, AttentionTile::Cooperative { buffers: 2, .. });
    let double = |own: &Limits| {
        let all: Vec<_> = attention_tiles(own, 64, own.elem).into_iter().filter(is_double).collect();
        [all.first(), all.last()].into_iter().flatten().copied().collect()
    };
    let tiles = table.geometries(Family::CooperativeTiers, double, TileChoice::of_attention);
    table.run(Checks::Without);
    for tokens in [1, 8, 17, 70] {
        check(&mut table, Shape { batch: 1, heads: 2, tokens, head_dim: 64 }, 30.0, &tiles);
    }
    for tokens in [16, 17, 32] {
        check_rising(&mut table, tokens, &tiles);
    }
    table.finish();
}

/// As where the driver chooses subgroups of half the size that they may have: the default tile, and one with two buffers.
#[test]
fn every_tier_of_cooperative_matrices_with_smaller_subgroups() {
    let mut table = Table::new("attention");
    table.run(Checks::Without);
    let of_buffers = |tiles: &[AttentionTile], wanted: u8| {
        let has = |tile: &&AttentionTile| matches!(tile, AttentionTile::Cooperative { buffers, .. } if *buffers == wanted);
        tiles.iter().find(has).copied()
    };
    let tiles = |own: &Limits| {
        let tiles = attention_tiles(&for_larger_subgroups(own), 64, own.elem);
        [1, 2].into_iter().filter_map(|buffers| of_buffers(&tiles, buffers)).collect()
    };
    let tiers = table.geometries(Family::CooperativeTiers, tiles, TileChoice::of_attention);
    let tiers = each(&tiers, "subgroups of half the size", |own| for_larger_subgroups(&own));
    if tiers.is_empty() && !table.tiers_of(Family::CooperativeTiers).is_empty() {
        device::say_skipped("no tile fits subgroups of twice the size");
    }
    for tokens in [8, 70] {
        check(&mut table, Shape { batch: 1, heads: 2, tokens, head_dim: 64 }, 30.0, &tiers);
    }
    check_rising(&mut table, 70, &tiers);
    table.finish();
}

fn check_heads_of_tiers(family: Family) {
    let mut table = Table::new("attention");
    let tiers = tiers_of(&table, family);
    for (head_dim, checks) in in_turns([4, 8, 20, 80, 128]) {
        check(table.run(checks), Shape { batch: 2, heads: 1, tokens: 37, head_dim }, 4.0, &tiers);
    }
    table.finish();
}

#[test]
fn every_tier_with_tiles_has_heads_of_any_size() {
    check_heads_of_tiers(Family::TiledTiers);
}

#[test]
fn every_tier_without_tiles_has_heads_of_any_size() {
    check_heads_of_tiers(Family::DirectTiers);
}

#[test]
fn every_tier_of_cooperative_matrices_has_heads_of_any_size() {
    check_heads_of_tiers(Family::CooperativeTiers);
}

/// Returns a family with every geometry for heads of `head_dim` that it may use, except the first.
fn geometries(table: &Table, family: Family, head_dim: usize) -> Vec<(String, Limits)> {
    table.geometries(family, |own| attention_tiles(own, head_dim, own.elem).into_iter().skip(1).collect(), TileChoice::of_attention)
}

fn check_geometries(table: &mut Table, head_dim: usize, all: &[(String, Limits)]) {
    for tokens in [1, 137] {
        check(table, Shape { batch: 2, heads: 2, tokens, head_dim }, 4.0, all);
    }
    // The limit on a dispatch's work cuts queries and heads into pieces.
    let slow = each(all, "slow", |own| Limits { max_work: Some(1_400_000), ..own });
    check(table, Shape { batch: 2, heads: 3, tokens: 70, head_dim }, 30.0, &slow);
}

/// Checks every geometry on heads of 64, as in the released model, without checks.
fn check_released_heads(family: Family) {
    let mut table = Table::new("attention");
    let all = geometries(&table, family, 64);
    check_geometries(table.run(Checks::Without), 64, &all);
    table.finish();
}

/// Checks every geometry with run-time checks, alternately on heads of 4 and of 20, and every second geometry also on
/// heads of 80.
fn check_other_heads(family: Family) {
    let mut table = Table::new("attention");
    table.run(Checks::With);
    for (head_dim, first) in [(4, 0), (20, 1), (80, 0)] {
        let own: Vec<_> = geometries(&table, family, head_dim).into_iter().skip(first).step_by(2).collect();
        check_geometries(&mut table, head_dim, &own);
    }
    table.finish();
}

#[test]
fn every_tile_geometry() {
    check_released_heads(Family::Tiled);
}

#[test]
fn every_tile_geometry_has_heads_of_any_size() {
    check_other_heads(Family::Tiled);
}

#[test]
fn every_geometry_without_tiles() {
    check_released_heads(Family::Direct);
    check_other_heads(Family::Direct);
}

#[test]
fn every_tile_geometry_of_a_tier() {
    check_released_heads(Family::TiledTiers);
}

#[test]
fn every_tile_geometry_of_a_tier_has_heads_of_any_size() {
    check_other_heads(Family::TiledTiers);
}

#[test]
fn every_geometry_of_a_tier_without_tiles() {
    check_released_heads(Family::DirectTiers);
    check_other_heads(Family::DirectTiers);
}

#[test]
fn every_geometry_of_cooperative_matrices() {
    check_released_heads(Family::CooperativeTiers);
}

#[test]
fn every_geometry_of_cooperative_matrices_has_heads_of_any_size() {
    check_other_heads(Family::CooperativeTiers);
}

#[test]
fn a_long_row_of_tokens() {
    let mut table = Table::new("attention");
    let variants = table.variants();
    check(&mut table, Shape { batch: 1, heads: 1, tokens: 1029, head_dim: 64 }, 4.0, &variants);
    table.finish();
}

#[test]
fn forced_down_limits_give_the_same_numbers() {
    let mut table = Table::new("attention");
    // A head takes 70 * 32 * 4 = 8960 bytes, so a binding holds one, two or four heads. The result's rows are cut
    // within an image and across two images.
    for (binding, workgroups) in [(9 << 10, 64), (20 << 10, 2), (40 << 10, 1), (40 << 10, 64)] {
        let forced = table.forced(binding, workgroups);
        check(&mut table, Shape { batch: 2, heads: 3, tokens: 70, head_dim: 32 }, 4.0, &forced);
    }
    // The limits allow a tile of one head at a time, and of two heads.
    for max_work in [1, 1_400_000] {
        let slow = table.variants().map(|(name, own)| (name, Limits { max_work: Some(max_work), ..own }));
        check(&mut table, Shape { batch: 2, heads: 3, tokens: 70, head_dim: 32 }, 4.0, &slow);
    }
    // The alignment of bindings allows heads of 37 * 20 elements only in groups of sixteen.
    let forced = table.forced(60 << 10, 64);
    check(&mut table, Shape { batch: 3, heads: 7, tokens: 37, head_dim: 20 }, 4.0, &forced);
    table.finish();
}
