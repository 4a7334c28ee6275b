//! Tests in which the device fails to create an object, each object in turn.

use super::tune::tests::device;
use super::{Context, Executable, Gpu, GpuWeights, Scorer, block_on};
use crate::error::{Error, GpuFailure, Result};
use crate::graph::{Elem, Limits, Role, Tier, plan};
use crate::kernels::Recorder;
use crate::tensor::Tensor;
use crate::vit::config::Config;
use crate::vit::config::ModelSize;
use crate::vit::decoder::{Decoder, Shape};
use crate::vit::features::{Features, Request};
use crate::vit::model::Model;
use crate::vit::weights::Weights;

/// Runs `work` on a value of `fresh` repeatedly, each time with a later object failing, until a run creates too few
/// objects to fail. Asserts that each failure is an error that tells the user what to do, and that a second run on the
/// same value then succeeds with a result that `is_right`. Returns the number of objects that failed, one per run.
pub fn each_object_fails<S, T>(
    context: &Context,
    mut fresh: impl FnMut() -> S,
    mut work: impl FnMut(&mut S) -> Result<T>,
    is_right: impl Fn(&T) -> bool,
) -> usize {
    for at in 0.. {
        let mut subject = fresh();
        context.fail_after(Some(at));
        let outcome = work(&mut subject);
        if context.fail_after(None).is_some() {
            assert!(is_right(&outcome.unwrap_or_else(|e| panic!("nothing failed, but {e}"))));
            return at;
        }
        let error = outcome.err().unwrap_or_else(|| panic!("object {at} failed, but the work succeeded"));
        let text = error.to_string();
        let names_all = text.starts_with("gpu: ") && text.contains(&context.info().name) && text.contains("`backend` cpu");
        assert!(names_all, "object {at}: {text}");
        assert!(matches!(error, Error::Gpu { kind: GpuFailure::Refused, source: Some(_), .. }), "object {at}: {error:?}");
        let result = work(&mut subject).unwrap_or_else(|e| panic!("object {at} failed once, and the second run failed too: {e}"));
        assert!(is_right(&result), "object {at} failed once, and the result of the second run is wrong");
    }
    unreachable!("the work creates a finite number of objects")
}

/// Returns the device for tests with a preset `max_work`, so that loading a model does not measure the device's speed.
pub fn paced() -> Option<Context> {
    let mut context = device(Tier::Baseline, Elem::F32)?;
    context.limits = Limits { max_work: Some(1 << 40), ..context.limits };
    Some(context)
}

/// Returns the smallest model, cut to one block.
pub fn one_block() -> (Config, Weights<Tensor>) {
    let model = Model::seeded(0, ModelSize::Micro);
    let mut weights = model.weights().expect("seeded weights");
    weights.blocks.truncate(1);
    (Config { depth: 1, ..model.config().clone() }, weights)
}

fn image(shape: [usize; 4]) -> Tensor {
    let len = shape.iter().product::<usize>();
    Tensor::new(shape, (0..len).map(|i| (i * i % 17) as f32 / 8.0 - 1.0).collect())
}

fn bits(features: &Features) -> Vec<u32> {
    features.x_norm.data().iter().map(|v| v.to_bits()).collect()
}

/// Each run begins without compiled kernels, so that it creates layouts, shaders and pipelines as well as the graph's buffers and
/// bind groups.
#[test]
fn each_object_of_a_graph_fails_once() {
    let Some(context) = paced() else { return };
    let mut g = Recorder::new(*context.limits());
    let x = g.tensor("x", [3, 8], Role::Input);
    let [weight, bias] = ["weight", "bias"].map(|name| g.tensor(name, [8], Role::Input));
    let normed = g.layernorm("layernorm", x, weight, bias, 1e-6).unwrap();
    let y = g.gelu("gelu", normed).unwrap();
    g.keep(y);
    let graph = g.finish();
    let run = |context: &mut Context| {
        let planned = plan(&graph, context.limits())?;
        let executable = Executable::new(context, graph.clone(), planned, &GpuWeights::default())?;
        executable.write(bias, 0, &[100.0; 8])?;
        let clocked = block_on(executable.run_clocked())?;
        let got = executable.read_all(&[y])?.remove(0);
        clocked.map(|clocked| block_on(clocked.spans())).transpose()?;
        Ok(got)
    };
    let fresh = || {
        context.pipelines.forget();
        context.clone()
    };
    let failed = each_object_fails(&context, fresh, run, |y| y.data() == [100.0; 24]);
    // 7 buffers: three inputs, a slot, an output, the parameters, the readback. 2 bind group layouts. 2 kernels with 4
    // objects each: shader, pipeline layout, pipeline and bind group.
    let clock = if context.device().features().contains(wgpu::Features::TIMESTAMP_QUERY) { 3 } else { 0 };
    assert_eq!(failed, 7 + 2 + 8 + clock);
}

#[test]
fn each_object_of_a_model_fails_once() {
    let Some(context) = paced() else { return };
    let (config, weights) = one_block();
    let load = || Gpu::new(&context, &config, &weights);
    let leaves = weights.leaves().len();
    assert_eq!(each_object_fails(&context, || (), |()| load(), |gpu| gpu.weights().bytes() > 0), leaves);

    let (images, request) = ([image([1, 1, 32, 48]), image([1, 3, 16, 16])], Request { prenorm: true, layers: vec![0], taps: false });
    let gpu = load().unwrap();
    let want = bits(&gpu.forward(&images[0], None, &request).unwrap());
    let forward = || gpu.submit(&images[0], None, &request)?.wait();
    let failed = each_object_fails(&context, || gpu.forget(), |()| forward(), |got| bits(got) == want);
    assert!(failed > 20, "{failed} objects of a pass failed");
    // If another prepared pass holds memory, a failed preparation drops it and tries again, so the forward pass
    // succeeds. A failed readback has no second try, so the loop leaves the readbacks out.
    let readbacks = 3;
    for at in 0..failed - readbacks {
        gpu.forget();
        gpu.forward(&images[1], None, &request).unwrap();
        context.fail_after(Some(at));
        assert!(bits(&forward().unwrap()) == want, "object {at}, after another prepared pass");
        assert_eq!(context.fail_after(None), None);
    }
}

#[test]
fn each_object_of_a_scorer_fails_once() {
    let Some(context) = paced() else { return };
    let (config, weights) = one_block();
    let shape = Shape { layers: vec![0], channels: vec![64, 4, 4, 4, 4], classes: 2 };
    let decoder = Decoder::linear_specs(&shape).map(&mut |spec| {
        let len = spec.shape.iter().product::<usize>();
        Tensor::new(spec.shape.clone(), (0..len).map(|i| (i % 5) as f32 / 4.0).collect())
    });
    let load = || Scorer::new(&context, &config, &weights, &shape, &decoder);
    assert_eq!(each_object_fails(&context, || (), |()| load(), |_| true), weights.leaves().len() + decoder.leaves().len());

    let (tiles, ones) = (image([1, 1, 16, 16]), [1.0; 256]);
    let sums = |scorer: &Scorer| {
        let slice = scorer.slice([16, 16], &[1, 1, 16, 16], &ones)?;
        slice.add(&tiles, &[([0, 0], [false; 2])])?;
        slice.finish()
    };
    let scorer = load().unwrap();
    let want = sums(&scorer).unwrap();
    // The kernels are already compiled, so only the objects of the pass are created again.
    let failed = each_object_fails(&context, || scorer.forget(), |()| sums(&scorer), |got| *got == want);
    assert!(failed > 20, "{failed} objects of a pass failed");
}

#[test]
fn an_out_of_memory_error_says_what_takes_less() {
    let Some(context) = paced() else { return };
    let error = context.explain("uploading blocks.0", wgpu::Error::OutOfMemory { source: "full".into() });
    let text = error.to_string();
    assert!(text.starts_with("gpu: uploading blocks.0: ") && text.contains("out of memory") && text.contains("`batch`"), "{text}");
    assert!(matches!(error, Error::Gpu { kind: GpuFailure::OutOfMemory, source: Some(_), .. }), "{error:?}");
}
