//! Computes the table of the rotary position embedding. Every step is rounded as in PyTorch.

use std::f64::consts::TAU;

use half::bf16;

use super::config::{Config, Grid, RopePrecision};
use crate::tensor::Tensor;

/// Computes the sines and cosines of every patch: [2, P, D/2], sines first.
///
/// The D/2 columns are D/4 angles of the patch's row, then D/4 angles of its column. Each is
/// `angle = 2 pi coord / period`, where `coord` in (-1, 1) is the patch's centre, and `period` is one of [`periods`].
/// The original repeats the columns to fill D and pairs channel i with i + D/2, so half the columns suffice. Under
/// [`RopePrecision::Bf16`] every step is rounded to bf16 (nearest even), as DINOv3's `RopePositionEmbedding` does with
/// its default dtype.
pub fn table(config: &Config, grid: Grid) -> Tensor {
    let periods = periods(config);
    let rows = axis_angles(grid.rows, &periods, config.rope);
    let cols = axis_angles(grid.cols, &periods, config.rope);
    let angles: Vec<f32> = rows.iter().flat_map(|y| cols.iter().flat_map(move |x| y.iter().chain(x).copied())).collect();
    let round = rounding(config.rope);
    let sin = angles.iter().map(|&a| round(f64::from(a).sin() as f32));
    let cos = angles.iter().map(|&a| round(f64::from(a).cos() as f32));
    Tensor::new([2, grid.patches(), config.head_dim() / 2], sin.chain(cos).collect())
}

/// Computes the D/4 periods, `base ^ (2 i / (D/2))`. A checkpoint may hold them as `rope_embed.periods`.
pub fn periods(config: &Config) -> Vec<f32> {
    let round = rounding(config.rope);
    let quarter = config.head_dim() / 4;
    let exponent = |i: usize| round((2 * i) as f32 / (2 * quarter) as f32);
    (0..quarter).map(|i| round(f64::from(config.rope_base).powf(f64::from(exponent(i))) as f32)).collect()
}

/// Computes the angles of each of `n` positions along one axis: n rows of D/4.
fn axis_angles(n: usize, periods: &[f32], rope: RopePrecision) -> Vec<Vec<f32>> {
    let round = rounding(rope);
    let coord = |i: usize| {
        let centre = round(round(i as f32 + 0.5) / n as f32);
        round(round(2.0 * centre) - 1.0)
    };
    let angle = |coord: f32, period: f32| round(round(TAU as f32 * coord) / period);
    (0..n).map(|i| periods.iter().map(|&period| angle(coord(i), period)).collect()).collect()
}

/// Returns the function that rounds each step's f32 result.
fn rounding(rope: RopePrecision) -> fn(f32) -> f32 {
    match rope {
        RopePrecision::Bf16 => |x| bf16::from_f32(x).to_f32(),
        RopePrecision::F32 => |x| x,
    }
}
