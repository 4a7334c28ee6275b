//! The model on a GPU against PyTorch, against the CPU, and against itself.

#[path = "../common/mod.rs"]
mod common;
#[path = "../device/mod.rs"]
mod device;
mod overflow;
mod parity;
mod passes;
mod pending;
mod projector;
mod shards;

use common::{max_abs, uniform};
use meddino::Tensor;
use meddino::tensor::relative_l2;
use meddino::vit::config::{Config, RopePrecision};
use meddino::vit::features::{Features, Request};
use meddino::vit::source::ModelSource;
use meddino::vit::weights::Weights;

fn open(source: &str, rope: RopePrecision) -> (Config, Weights<Tensor>) {
    let mut model = ModelSource::parse(source).and_then(|source| source.open()).expect("seeded weights");
    model.set_rope(rope);
    (model.config().clone(), model.weights().expect("seeded weights"))
}

fn image(shape: [usize; 4]) -> Tensor {
    Tensor::new(shape, uniform("image", shape.iter().product(), 0).into_iter().map(|v| v * 2.0).collect())
}

/// A request for every output that the model has.
fn everything(config: &Config) -> Request {
    Request { prenorm: true, layers: (0..config.depth).collect(), taps: true }
}

/// Every tensor of `features` by name.
fn tensors(features: &Features) -> Vec<(String, &Tensor)> {
    let layers = features.layers.iter().map(|(n, x)| (format!("layers.{n}"), x));
    let taps = features.taps.iter().map(|(name, x)| (name.clone(), x));
    let prenorm = features.x_prenorm.iter().map(|x| ("x_prenorm".to_owned(), x));
    taps.chain(layers).chain(prenorm).chain([("x_norm".to_owned(), &features.x_norm)]).collect()
}

/// Compares every tensor by relative L2, and lists those beyond `l2`.
fn assert_close(got: &Features, want: &Features, l2: f64) {
    let (got, want) = (tensors(got), tensors(want));
    assert_eq!(got.iter().map(|t| &t.0).collect::<Vec<_>>(), want.iter().map(|t| &t.0).collect::<Vec<_>>());
    let exceeding: Vec<String> = got
        .iter()
        .zip(&want)
        .map(|((name, got), (_, want))| {
            assert_eq!(got.shape(), want.shape(), "{name}");
            (name, relative_l2(got.data(), want.data()), max_abs(got.data(), want.data()))
        })
        .filter(|(_, e, _)| e.is_nan() || *e > l2)
        .map(|(name, e, m)| format!("{name}: relative L2 {e:.2e}, largest difference {m:.2e}"))
        .collect();
    assert!(exceeding.is_empty(), "beyond {l2:.0e}:\n{}", exceeding.join("\n"));
}

fn same_bits(a: &Features, b: &Features) -> bool {
    tensors(a).iter().zip(&tensors(b)).all(|(a, b)| a.1.data().iter().map(|v| v.to_bits()).eq(b.1.data().iter().map(|v| v.to_bits())))
}
