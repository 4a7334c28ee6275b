//! The CPU backend gives the same bits with any number of threads.

mod common;

use meddino::Tensor;
use meddino::backbone::{Backbone, Choice, Precision, Tuning};
use meddino::vit::config::ModelSize;
use meddino::vit::features::Request;
use meddino::vit::model::Model;
use meddino::vit::source::ModelSource;
use rayon::ThreadPoolBuilder;

/// The bits of the features of a batch of two, computed on a pool of `threads`.
fn bits(backbone: &Backbone, image: &Tensor, threads: usize) -> Vec<u32> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    let request = Request { prenorm: true, ..Request::default() };
    let features = pool.install(|| backbone.features(image, None, &request)).expect("features");
    let x_prenorm = features.x_prenorm.expect("asked for");
    features.x_norm.data().iter().chain(x_prenorm.data()).map(|v| v.to_bits()).collect()
}

/// An unfinished file may resume with another number of threads, but not on a backend whose last bits may differ.
#[test]
fn threads_do_not_change_the_method() {
    let model = Model::seeded(0, ModelSize::Micro);
    let backbone = Backbone::new(&model, Choice::Cpu).expect("the CPU");
    let on = |threads| ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(|| backbone.method());
    assert_eq!(on(1), on(3));
    assert!(on(1).starts_with("device CPU, ") && on(1).ends_with("; precision f32"), "{}", on(1));
    let bf16 = Backbone::tuned(&model, Choice::Cpu, Tuning { precision: Precision::Bf16, tier: None });
    assert!(bf16.is_err() || bf16.is_ok_and(|bf16| bf16.method() != on(1)), "another precision is another method");
}

fn check(model: &str, shape: [usize; 4]) {
    let backbone =
        Backbone::new(&ModelSource::parse(model).and_then(|source| source.open()).expect("seeded weights"), Choice::Cpu).expect("the CPU");
    let image = Tensor::new(shape, common::uniform("image", shape.iter().product(), 3));
    let single_thread = bits(&backbone, &image, 1);
    for threads in [2, 3, 7] {
        let differ = bits(&backbone, &image, threads).iter().zip(&single_thread).filter(|(a, b)| a != b).count();
        assert_eq!(differ, 0, "{model}, {shape:?}: {differ} of {} values differ between 1 and {threads} threads", single_thread.len());
    }
}

#[test]
fn small_models_and_ragged_images() {
    check("seeded:0:micro", [1, 1, 48, 48]);
    check("seeded:0:tiny", [2, 3, 70, 115]);
    // More tokens than a block of keys, and than the rows of a product that finish at once.
    check("seeded:0:tiny", [1, 1, 400, 416]);
}

#[test]
fn lower_instruction_sets() {
    common::on_lower_sets(&["small_models_and_ragged_images"]);
}

#[test]
fn the_real_model() {
    check("seeded:0", [1, 1, 160, 240]);
}
