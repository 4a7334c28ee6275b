//! Heads against scikit-learn, NumPy and PyTorch: `golden/make_heads.py` writes what they compute.

#[path = "../common/mod.rs"]
mod common;
mod logistic;
mod metrics;
mod neighbours;
mod probe;
mod splits;

use meddino::Tensor;
use serde_json::Value;

/// `features()` of `golden/make_heads.py`: [N, D] and the class of each vector.
fn features(n: usize, d: usize, k: usize, seed: u64) -> (Tensor, Vec<usize>) {
    let (noise, centres) = (common::uniform("features", n * d, seed), common::uniform("centres", k * d, seed));
    let value = |i: usize| {
        let (row, channel) = (i / d, i % d);
        let v = noise[i] + 0.25 * centres[row % k * d + channel];
        let v = v * if channel.is_multiple_of(3) { 10.0 } else { 1.0 };
        v + if channel.is_multiple_of(5) { 3.0 } else { 0.0 }
    };
    (Tensor::new([n, d], (0..n * d).map(value).collect()), (0..n).map(|i| i % k).collect())
}

/// A golden of `golden/heads/`.
fn golden(name: &str) -> Value {
    let path = common::data(&format!("golden/heads/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("a golden is JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
}

fn number(value: &Value) -> usize {
    value.as_u64().expect("a whole number") as usize
}
