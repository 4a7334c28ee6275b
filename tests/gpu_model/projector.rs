//! Scores of patch tokens that stay on the GPU.

use meddino::Tensor;
use meddino::gpu::{Gpu, Projector};
use meddino::vit::config::RopePrecision;
use meddino::vit::features::{Projection, Request};
use meddino::vit::layers::Layers;

use crate::common::uniform;
use crate::{device, image, open};

/// A projection of tokens of these `layers`, `width` wide together, whose mean is far from 0 beside the spread of the
/// tokens.
fn projection(layers: &Layers, k: usize, width: usize) -> Projection {
    let values = |name: &str, n: usize| uniform(name, n, 3).into_iter().map(|v| 2.0 * v - 1.0).collect::<Vec<f32>>();
    let mean = values("mean", width).into_iter().map(|v| 4.0 * v).collect();
    let (mean, directions) = (Tensor::new([width], mean), Tensor::new([k, width], values("directions", k * width)));
    Projection { layers: layers.clone(), mean, directions }
}

/// The product of each direction with each token minus the mean, and the sum of the products' sizes, in f64.
fn products(tokens: &Tensor, Projection { mean, directions, .. }: &Projection) -> Vec<(f64, f64)> {
    let c = tokens.cols();
    let product = |token: &[f32], direction: &[f32]| {
        let terms = token.iter().zip(mean.data()).zip(direction).map(|((x, m), d)| (f64::from(*x) - f64::from(*m)) * f64::from(*d));
        terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
    };
    tokens.data().chunks_exact(c).flat_map(|token| directions.data().chunks_exact(c).map(move |d| product(token, d))).collect()
}

#[test]
fn scores_are_the_products_of_the_tokens_that_the_model_has() {
    let Some(context) = device::context() else { return };
    let (config, weights) = open("seeded:0:micro", RopePrecision::F32);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    for (layers, k) in [("", 1), ("", 5), ("0", 1), ("0,1", 2)] {
        let layers: Layers = layers.parse().unwrap();
        let (projection, request) = (projection(&layers, k, layers.count() * config.embed_dim), Request::of_layers([&layers]));
        let projector = Projector::new(&gpu, &projection).unwrap();
        let images = [image([2, 3, 48, 80]), image([1, 1, 32, 32]), image([3, 1, 48, 80])];
        // All batches are on their way before the first is awaited.
        let pending: Vec<_> = images.iter().map(|image| projector.submit(image).unwrap()).collect();
        for (image, pending) in images.iter().zip(pending) {
            let features = gpu.forward(image, None, &request).unwrap();
            let scores = pending.wait().unwrap();
            assert_eq!(scores.shape(), [image.shape()[0], features.grid.patches(), k]);
            for (at, (got, (want, size))) in scores.data().iter().zip(products(&features.joined(&layers), &projection)).enumerate() {
                let what = format!("layers {layers}, {k} directions, {:?}, {at}", image.shape());
                // f32 rounds each term and the sums over a few lanes.
                assert!((f64::from(*got) - want).abs() <= 1e-6 * size, "{what}: {got} for {want}");
            }
        }
        let (b, t) = (2, config.prefix_tokens() + 15);
        let [scores, features] =
            [projector.bytes(&[2, 3, 48, 80]).unwrap(), gpu.bytes(&[2, 3, 48, 80], false, &Request::default()).unwrap()];
        assert_eq!(scores.outputs, (4 * b * t * k * layers.count()) as u64, "the host gets the scores alone");
        assert_eq!(features.outputs, (4 * b * t * config.embed_dim) as u64);
    }
}

#[test]
fn a_projection_of_other_tokens_is_refused() {
    let Some(context) = device::context() else { return };
    let (config, weights) = open("seeded:0:micro", RopePrecision::F32);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    let narrow = projection(&Layers::LAST, 2, config.embed_dim - 4);
    let message = Projector::new(&gpu, &narrow).unwrap_err().to_string();
    let width = config.embed_dim;
    assert!(message.contains(&format!("expected a mean [{width}] and directions [K, {width}], found [{}]", width - 4)), "{message}");
    let projector = Projector::new(&gpu, &projection(&Layers::LAST, 2, width)).unwrap();
    assert!(projector.submit(&image([1, 2, 32, 32])).is_err(), "two channels");
    let overflowing = Projection { directions: Tensor::new([1, width], vec![f32::MAX; width]), ..projection(&Layers::LAST, 1, width) };
    let message = Projector::new(&gpu, &overflowing).unwrap().submit(&image([1, 1, 32, 32])).unwrap().wait().unwrap_err().to_string();
    assert!(message.contains("the scores are not finite"), "{message}");
}
