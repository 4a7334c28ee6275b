//! Kernels without barriers against kernels with workgroup memory on one device: the whole pass of ViT-B, in turns, and
//! a profile of each. Arguments: the image's side (224), and the number of runs of each (5).

mod common;

use std::time::Instant;

use meddino::Tensor;
use meddino::gpu::{Context, Gpu, Selection};
use meddino::graph::{Elem, Tier};
use meddino::verify::TapDistance;
use meddino::vit::config::ModelSize;
use meddino::vit::features::Request;
use meddino::vit::model::Model;

use common::noise;

/// One family of kernels, and the times of its runs in seconds.
struct Family {
    name: &'static str,
    gpu: Gpu,
    seconds: Vec<f64>,
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let (side, runs) = (numbers.next().unwrap_or(224), numbers.next().unwrap_or(5).max(1));
    let default_context = match Context::new(&Selection::Auto) {
        Ok(context) => context,
        Err(problem) => {
            assert!(std::env::var_os("MEDDINO_REQUIRE_GPU").is_none_or(|v| v != "1"), "MEDDINO_REQUIRE_GPU=1, but {problem}");
            eprintln!("SKIPPED the comparison of kernels: {problem}");
            return;
        }
    };
    println!("on {}, {side} x {side}, each {runs} times in turn", default_context.info().name);
    let model = Model::seeded(0, ModelSize::Base);
    let weights = model.weights().expect("seeded weights");
    let (image, request) = (noise(1, &[1, 1, side, side]), Request::default());
    let mut families = [("workgroup memory", Tier::Baseline), ("no barriers", Tier::Direct)].map(|(name, tier)| {
        let context = default_context.tuned(Elem::F32, Some(tier)).expect("the same device");
        let gpu = Gpu::new(&context, model.config(), &weights).expect("room for the weights");
        Family { name, gpu, seconds: Vec::new() }
    });

    let results: Vec<Tensor> = families.iter().map(|f| f.gpu.forward(&image, None, &request).expect("features").x_norm).collect();
    let apart = TapDistance::new("x_norm", &results[1], &results[0]).relative_l2;
    assert!(apart < 2e-4, "the two differ by {apart:.2e}");
    for _ in 0..runs {
        for family in &mut families {
            let start = Instant::now();
            family.gpu.forward(&image, None, &request).expect("features");
            family.seconds.push(start.elapsed().as_secs_f64());
        }
    }
    for Family { name, gpu, seconds } in &mut families {
        seconds.sort_by(f64::total_cmp);
        println!("\n{name}: {:.3} s (median), {:.3} s (least)", seconds[runs / 2], seconds[0]);
        println!("{}", gpu.profile(&image, None, &request).expect("a profile"));
    }
    let [tiled, direct] = &families;
    println!(
        "{:.2} times as fast without barriers (medians), relative L2 apart {apart:.1e}",
        tiled.seconds[runs / 2] / direct.seconds[runs / 2]
    );
}
