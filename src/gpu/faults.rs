//! What becomes of a program whose device cannot make an object: each in turn.

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

/// Does `work` upon what `fresh` gives again and again, each time with the next object failing, until it comes through without. Each failure has to be an
/// error that says what to do, after which the same work, upon the same thing, gives what it should. Gives how many objects failed, one after another.
pub fn each_object_fails<S, T>(
    context: &Context,
    mut fresh: impl FnMut() -> S,
    mut work: impl FnMut(&mut S) -> Result<T>,
    is_right: impl Fn(&T) -> bool,
) -> usize {
    for at in 0.. {
        let mut thing = fresh();
        context.fail_after(Some(at));
        let outcome = work(&mut thing);
        if context.fail_after(None).is_some() {
            assert!(is_right(&outcome.unwrap_or_else(|e| panic!("nothing failed, but {e}"))));
            return at;
        }
        let error = outcome.err().unwrap_or_else(|| panic!("object {at} failed, and nobody saw it"));
        let text = error.to_string();
        let names_all = text.starts_with("gpu: ") && text.contains(&context.info().name) && text.contains("`backend` cpu");
        assert!(names_all, "object {at}: {text}");
        assert!(matches!(error, Error::Gpu { kind: GpuFailure::Refused, source: Some(_), .. }), "object {at}: {error:?}");
        let again = work(&mut thing).unwrap_or_else(|e| panic!("object {at} failed once, and then {e}"));
        assert!(is_right(&again), "object {at} failed once, and the next results are wrong");
    }
    unreachable!("objects end")
}

/// The device that tests run on, as if its speed had been measured: there are no probes.
pub fn paced() -> Option<Context> {
    let mut context = device(Tier::Baseline, Elem::F32)?;
    context.limits = Limits { max_work: Some(1 << 40), ..context.limits };
    Some(context)
}

/// One block of the smallest model.
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

/// Layouts, shaders, pipelines, and what holds a graph: each graph is the first of its context.
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
    let failed = each_object_fails(&context, || context.without_shader_checks(), run, |y| y.data() == [100.0; 24]);
    // Buffers: three inputs, a slot, an output, the parameters, the readback. Two layouts, and two shaders, layouts, pipelines and bind groups.
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
    assert!(failed > 25, "{failed} objects of a pass failed");
    // Beside another pass, whose place it takes, it is prepared a second time before anything is said to be wrong; what is read back is not.
    let readbacks = 3;
    for at in 0..failed - readbacks {
        gpu.forget();
        gpu.forward(&images[1], None, &request).unwrap();
        context.fail_after(Some(at));
        assert!(bits(&forward().unwrap()) == want, "object {at}, beside another pass");
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
    // Its kernels are compiled: what is made anew is a pass.
    let failed = each_object_fails(&context, || scorer.forget(), |()| sums(&scorer), |got| *got == want);
    assert!(failed > 25, "{failed} objects of a pass failed");
}

#[test]
fn want_of_memory_says_what_takes_less() {
    let Some(context) = paced() else { return };
    let error = context.explain("uploading blocks.0", wgpu::Error::OutOfMemory { source: "full".into() });
    let text = error.to_string();
    assert!(text.starts_with("gpu: uploading blocks.0: ") && text.contains("out of memory") && text.contains("`batch`"), "{text}");
    assert!(matches!(error, Error::Gpu { kind: GpuFailure::OutOfMemory, source: Some(_), .. }), "{error:?}");
}
