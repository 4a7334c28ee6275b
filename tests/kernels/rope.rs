//! `rope`: the layer qkv by head, with queries and keys rotated.

use half::bf16;
use meddino::graph::{Elem, Limits, Tier, TileChoice};
use meddino::kernels::{Heads, Rotation, product_tiles};
use meddino::vit::config::RopePrecision;
use meddino::vit::weights::Linear;
use meddino::{Tensor, cpu};

use crate::cases::{CPU_PANEL, Case, Checks, EXACT, Family, Table, Tolerance, noise, noise_of};
use crate::device;

#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    heads: usize,
    prefix: usize,
    patches: usize,
    head_dim: usize,
    k: usize,
    bias: bool,
}

/// Computes q, k or v: [B, N, T, D]. `round` is the identity, or rounds values that are exact in f64 to bf16.
fn oracle(shape: Shape, qkv: &[f64], table: &[f32], part: usize, round: fn(f64) -> f64) -> Vec<f64> {
    let Shape { batch, heads, prefix, patches, head_dim, .. } = shape;
    let (tokens, half) = (prefix + patches, head_dim / 2);
    let (sin, cos) = table.split_at(patches * half);
    let mut want = Vec::new();
    for (b, n) in (0..batch).flat_map(|b| (0..heads).map(move |n| (b, n))) {
        for t in 0..tokens {
            let at = ((b * tokens + t) * 3 + part) * heads * head_dim + n * head_dim;
            let x = &qkv[at..at + head_dim];
            if part == 2 {
                want.extend(x);
                continue;
            }
            let x: Vec<f64> = x.iter().copied().map(round).collect();
            for i in 0..head_dim {
                let Some(patch) = t.checked_sub(prefix) else {
                    want.push(x[i]);
                    continue;
                };
                let (sin, cos) = (f64::from(sin[patch * half + i % half]), f64::from(cos[patch * half + i % half]));
                let rotated = if i < half { -x[i + half] } else { x[i - half] };
                want.push(round(round(x[i] * cos) + round(rotated * sin)));
            }
        }
    }
    want
}

/// What the layer reads.
struct Data {
    shape: Shape,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    angles: Vec<f32>,
    rounded: bool,
}

impl Data {
    /// If `rounded`, the products and their sums are exact in any order, so that the results must have the oracle's bits.
    fn new(elem: Elem, shape: Shape, rounded: bool) -> Self {
        let Shape { batch, heads, prefix, patches, head_dim, k, .. } = shape;
        let n = 3 * heads * head_dim;
        let (mut x, mut weight, mut bias) = (noise_of(elem, 1, batch * (prefix + patches) * k), noise_of(elem, 2, n * k), noise(3, n));
        let mut angles = noise(4, patches * head_dim);
        if rounded {
            let steps = |values: &mut Vec<f32>, step: f32| values.iter_mut().for_each(|v| *v = (*v / step).round() * step);
            steps(&mut x, 1.0 / 16.0);
            steps(&mut weight, 1.0 / 16.0);
            steps(&mut bias, 1.0 / 256.0);
            angles.iter_mut().for_each(|a| *a = to_bf16(f64::from(*a)) as f32);
        }
        Self { shape, x, weight, bias, angles, rounded }
    }

    /// Computes q, k and v, one after another, each [B, N, T, D].
    fn oracle(&self) -> Vec<f64> {
        let k = self.shape.k;
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let bias = |col: usize| if self.shape.bias { f64::from(self.bias[col]) } else { 0.0 };
        let row = |row: &[f32]| self.weight.chunks_exact(k).enumerate().map(|(col, w)| dot(row, w) + bias(col)).collect::<Vec<f64>>();
        let qkv: Vec<f64> = self.x.chunks_exact(k).flat_map(row).collect();
        let round: fn(f64) -> f64 = if self.rounded { to_bf16 } else { |x| x };
        (0..3).flat_map(|part| oracle(self.shape, &qkv, &self.angles, part, round)).collect()
    }

    /// Computes the same on the CPU.
    fn twin(&self) -> Tensor {
        let Shape { batch, heads, prefix, patches, head_dim, k, bias } = self.shape;
        let (tokens, n) = (prefix + patches, 3 * heads * head_dim);
        let layer = Linear { weight: Tensor::new([n, k], self.weight.clone()), bias: bias.then(|| Tensor::new([n], self.bias.clone())) };
        let x = Tensor::new([batch, tokens, k], self.x.clone());
        let qkv = Tensor::filled_by(|y| cpu::matmul(&x, &layer.into(), cpu::LayerEpilogue::Bias, y));
        let angles = Tensor::new([2, patches, head_dim / 2], self.angles.clone());
        let precision = if self.rounded { RopePrecision::Bf16 } else { RopePrecision::F32 };
        Tensor::filled_by(|y| cpu::rope(&qkv, &angles, heads, prefix, precision, y))
    }

    fn record(&self, case: &mut Case) -> meddino::Result<Heads> {
        let Shape { batch, heads, prefix, patches, head_dim, k, bias } = self.shape;
        let n = 3 * heads * head_dim;
        let x = case.handed("x", &[batch, prefix + patches, k], &self.x);
        let weight = case.handed("weight", &[n, k], &self.weight);
        let bias = bias.then(|| case.input("bias", &[n], &self.bias));
        let table = case.input("table", &[2, patches, head_dim / 2], &self.angles);
        case.recorder.rope("rope", x, weight, bias, Rotation { table, heads, bf16: self.rounded })
    }
}

fn to_bf16(x: f64) -> f64 {
    f64::from(bf16::from_f32(x as f32).to_f32())
}

/// Returns q, k and v as they lie in the result: with the elements of heads in another order, and NaN in the gaps between
/// them.
fn laid_out(heads: &Heads, want: &[f64]) -> Vec<f64> {
    let (head_dim, len) = (heads.shape()[3], want.len() / 3);
    let begins = heads.parts().map(|(_, first)| first);
    let mut laid = vec![f64::NAN; begins[2] + len];
    for (part, values) in want.chunks_exact(len).enumerate() {
        for (i, to) in laid[begins[part]..][..len].iter_mut().enumerate() {
            let place = i % head_dim;
            *to = values[i - place + if part == 2 { place } else { heads.source(place) }];
        }
    }
    laid
}

/// Checks one shape, with the rotation `rounded` to bf16 or not.
fn check(table: &mut Table, shape: Shape, limits: Limits, rounded: bool) {
    let data = Data::new(limits.elem, shape, rounded);
    let want = data.oracle();
    let name = format!("{shape:?}, bf16 {rounded}, bindings of {}", limits.max_binding);
    // A rotation adds two products, with a rounding each.
    let of_sums = |sums: Tolerance| if rounded { EXACT } else { Tolerance { atol: 2.0 * sums.atol + 2e-7, rtol: 2.0 * sums.rtol, ..sums } };
    if limits.elem == Elem::F32 {
        table.twin(&name, of_sums(Tolerance::of_sums(shape.k, CPU_PANEL)), &want, data.twin().data());
    }
    let tolerance = match (limits.elem, rounded) {
        // f16 represents every bf16 value exactly, except below 2^-17. Values are not rounded to bf16.
        (Elem::F16, true) => Tolerance { atol: 3e-8, rtol: 4.9e-4, l2: 4.9e-4 },
        (elem, _) => of_sums(table.sums(shape.k, &limits)).stored(elem),
    };
    // The layout of the result depends on the limits.
    let heads = data.record(&mut Case::new(limits)).unwrap_or_else(|e| panic!("{name}: {e}"));
    table.check(&name, limits, tolerance, &laid_out(&heads, &want), |case| Ok(vec![data.record(case)?.parts()[0].0]));
}

const SMALL: Shape = Shape { batch: 2, heads: 3, prefix: 5, patches: 12, head_dim: 32, k: 20, bias: true };

/// Heads of 64 run with and without checks. Other heads differ from them in one constant of the shader, so one way is
/// enough, and software Vulkan takes seconds to compile each.
#[test]
fn heads_and_tokens_of_any_size() {
    let mut table = Table::new("rope");
    let [(_, tiled), (_, direct)] = table.variants();
    // Pairs of heads of 4 are too close for the kernel without tiles, so the one with tiles takes its place.
    for (own, head_dim, checks, rounded) in [
        (tiled, 12, Checks::With, true),
        (tiled, 64, Checks::Both, false),
        (tiled, 128, Checks::Without, true),
        (direct, 4, Checks::Without, true),
        (direct, 64, Checks::Both, false),
        (direct, 80, Checks::With, true),
    ] {
        for (prefix, patches) in [(0, 3), (5, 12), (5, 196)] {
            check(table.run(checks), Shape { prefix, patches, head_dim, ..SMALL }, own, rounded);
        }
    }
    check(table.run(Checks::Without), Shape { prefix: 1, patches: 7, k: 7, bias: false, ..SMALL }, tiled, false);
    table.finish();
}

#[test]
fn every_tier() {
    let mut table = Table::new("rope");
    // Products do not sum across a workgroup, so the subgroup tier uses the baseline's kernels.
    let tiers: Vec<_> = table.tiers().into_iter().map(|(_, limits)| limits).filter(|limits| limits.tier != Tier::Subgroups).collect();
    if tiers.is_empty() {
        return device::say_skipped("this device runs no other tier whose products are its own");
    }
    for tier in tiers {
        check(table.run(Checks::With), Shape { head_dim: 12, bias: false, ..SMALL }, tier, true);
        check(table.run(Checks::Without), SMALL, tier, false);
        let narrow = Limits { max_binding: 6 << 10, max_workgroups: 64, ..tier };
        check(&mut table, Shape { batch: 3, patches: 16, ..SMALL }, narrow, false);
    }
    table.finish();
}

/// `matmul` has all geometries. How they give pairs to invocations follows from how they store.
#[test]
fn tile_geometries() {
    let mut table = Table::new("rope");
    let products = |own: &Limits| product_tiles(own, own.elem);
    for (family, each) in [(Family::Tiled, 4), (Family::Direct, 2), (Family::CooperativeTiers, 3)] {
        for (_, limits) in table.geometries(family, products, TileChoice::of_products).into_iter().step_by(each) {
            check(table.run(Checks::Without), SMALL, limits, true);
        }
    }
    table.finish();
}

#[test]
fn forced_down_limits_give_the_same_numbers() {
    let mut table = Table::new("rope");
    table.run(Checks::Without);
    // A head takes 21 * 32 * 4 = 2688 bytes (and is bound in pairs or larger groups), a head's rows of the weight 2560.
    for (binding, workgroups) in [(6 << 10, 64), (12 << 10, 3), (64 << 10, 4)] {
        for (_, forced) in table.forced(binding, workgroups) {
            check(&mut table, Shape { batch: 3, patches: 16, ..SMALL }, forced, true);
            check(&mut table, Shape { batch: 3, patches: 16, ..SMALL }, Limits { max_work: Some(1 << 14), ..forced }, true);
        }
    }
    table.finish();
}
