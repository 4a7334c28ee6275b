//! Chooses a device's tier of kernels: the best that the device runs and that passes a self-test there.

#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::context::Context;
use super::executable::Executable;
use super::weights::{GpuWeights, decode, encoded};
use crate::advice::CPU;
use crate::error::{Error, GpuFailure, Result};
use crate::graph::{Elem, Graph, Limits, Role, TensorId, Tier, TileChoice, Tiles, plan};
use crate::kernels::{Epilogue, Recorder, default_products};
use crate::tensor::relative_l2;

impl Context {
    /// The same device with kernels over tensors of `elem`, of the `requested` tier or else of the best that it runs.
    ///
    /// Every tier but the plainest is first compared with sums in f64, over a few small ragged products, because some
    /// drivers miscompile such kernels. If a tier fails, the next one is tried, and after all tiers over f16 those over
    /// f32. [`Context::warnings`] names the failures.
    ///
    /// # Errors
    /// If the device's shaders cannot run the request, or the device is lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn tuned(&self, elem: Elem, requested: Option<Tier>) -> Result<Self> {
        block_on(self.tuned_async(elem, requested))
    }

    /// [`Context::tuned`] as a future.
    ///
    /// # Errors
    /// If the device's shaders cannot run the request, or the device is lost.
    pub async fn tuned_async(&self, elem: Elem, requested: Option<Tier>) -> Result<Self> {
        self.tuned_unless_known(elem, requested, &[]).await
    }

    /// [`Context::tuned_async`] without the test of tiers that are `known` to have passed it over these elements.
    pub(crate) async fn tuned_unless_known(&self, elem: Elem, requested: Option<Tier>, known: &[(Tier, Elem)]) -> Result<Self> {
        self.tuned_by(elem, requested, known, async |candidate| self_test(candidate, |_| ()).await).await
    }

    /// Whether [`Context::tuned`] takes the kernels of this context without a test.
    pub(crate) fn has_plain_kernels(&self) -> bool {
        is_plain(self.limits.tier, self.limits.elem)
    }

    /// Compares the kernels of this context with sums in f64, as [`Context::tuned`] does with each tier before it takes it:
    /// for a host that lends a device and does not call that.
    ///
    /// # Errors
    /// [`GpuFailure::FailedSelfTest`] if a result is wrong; if the device is out of memory or lost, or refuses a kernel.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn self_test(&self) -> Result<()> {
        block_on(self.self_test_async())
    }

    /// [`Context::self_test`] as a future.
    ///
    /// # Errors
    /// As [`Context::self_test`].
    pub async fn self_test_async(&self) -> Result<()> {
        self.tested(|_| ()).await
    }

    async fn tested(&self, edit: impl Fn(&mut Graph)) -> Result<()> {
        let Some(problem) = problem_of(self, edit).await? else { return Ok(()) };
        let (name, Limits { tier, elem, .. }) = (&self.info().name, self.limits());
        let text = format!(
            "{name} computes wrongly with kernels of tier {tier} over {}: {problem}; choose another `tier`, update its driver, or use {CPU}",
            elem.name()
        );
        Err(Error::gpu(GpuFailure::FailedSelfTest, text))
    }

    async fn tuned_by(
        &self,
        elem: Elem,
        requested: Option<Tier>,
        known: &[(Tier, Elem)],
        test: impl AsyncFn(&Self) -> Result<(), String>,
    ) -> Result<Self> {
        let (able, name) = (self.abilities(), &self.info().name);
        if elem == Elem::F16 && !able.f16 {
            return Err(Error::option("precision", format!("the shaders of {name} have no f16; use f32")));
        }
        if let Some(tier) = requested.filter(|&tier| !able.run(tier, elem)) {
            let refused = format!("{name} does not run {tier} kernels over {}; it runs {able}", elem.name());
            return Err(Error::option("tier", refused));
        }
        let ladder = able.ladder(elem).into_iter().filter(|&tier| Some(tier) != requested);
        let of_elem = requested.into_iter().chain(ladder).map(|tier| (tier, elem));
        let of_f32 = able.ladder(Elem::F32).into_iter().map(|tier| (tier, Elem::F32));
        let mut warnings = Vec::new();
        for (tier, elem) in of_elem.chain(of_f32) {
            let mut tuned = self.of_tier(tier, elem);
            let is_trusted = is_plain(tier, elem) || known.contains(&(tier, elem));
            let problem = if is_trusted { None } else { test(&tuned).await.err() };
            let Some(problem) = problem else {
                tuned.warnings = warnings;
                return Ok(tuned);
            };
            // Without this check a device that is gone would fail every test.
            self.checked_async("testing kernels", || Ok(())).await?;
            let warning = format!(
                "{name} computes wrongly with kernels of tier {tier} over {}, which are not used: {problem}; a newer driver may fix it",
                elem.name()
            );
            log::warn!("{warning}");
            warnings.push(warning);
        }
        unreachable!("the plainest kernels need no test")
    }

    /// The same device with the kernels of one tier, as they are before tiles are chosen.
    pub(super) fn of_tier(&self, tier: Tier, elem: Elem) -> Self {
        let limits = Limits { tiles: Tiles::DEFAULT, ..self.limits.of_tier(tier, elem, self.abilities()) };
        let mut tuned = self.clone();
        (tuned.limits, tuned.warnings) = (limits, Vec::new());
        tuned
    }
}

/// Plain kernels use no extension of WGSL, so they need no test before use. There is no tier below them either. In a
/// browser, direct kernels are tested, because not every browser compiles them rightly.
fn is_plain(tier: Tier, elem: Elem) -> bool {
    let is_trusted = |tier| tier == Tier::Baseline || (tier == Tier::Direct && !cfg!(target_arch = "wasm32"));
    is_trusted(tier) && elem == Elem::F32
}

/// The most relative L2 between a kernel and its f64 oracle, with room: one rounding of the result to its type.
fn most_from_oracle(elem: Elem) -> f64 {
    match elem {
        Elem::F32 => 1e-5,
        Elem::F16 => 1e-3,
    }
}

/// The most relative L2 between two right kernels, with room: both round their results, and they add up in different
/// orders.
pub(super) fn most_between_kernels(elem: Elem) -> f64 {
    match elem {
        Elem::F32 => 1e-5,
        Elem::F16 => 2e-3,
    }
}

/// Why a tier is not to be used: a wrong result, or an error of the device.
async fn self_test(context: &Context, edit: impl Fn(&mut Graph)) -> Result<(), String> {
    problem_of(context, edit).await.map_err(|e| e.to_string())?.map_or(Ok(()), Err)
}

/// Says what the device computes wrongly; `None` if nothing. `edit` may change the recorded graphs before they run.
async fn problem_of(context: &Context, edit: impl Fn(&mut Graph)) -> Result<Option<String>> {
    // Without the checks, because the model runs its kernels without them.
    let context = context.without_shader_checks();
    match wrong_result(&context, &edit).await? {
        None if context.limits().tier.cooperative().is_some() => unsteady_result(&context, edit).await,
        problem => Ok(problem),
    }
}

/// Runs products, an attention and a normalisation on the device, and says which of them is wrong.
async fn wrong_result(context: &Context, edit: impl Fn(&mut Graph)) -> Result<Option<String>> {
    let mut probe = Probe { g: Recorder::new(*context.limits()), inputs: Vec::new() };
    let cases = probe.record(context.abilities().is_software())?;
    let results: Vec<TensorId> = cases.iter().map(|case| case.1).collect();
    let executable = probe.prepared(context, &results, edit).await?;
    executable.run()?;
    for ((what, _, want), got) in cases.iter().zip(executable.read_all_async(&results).await?) {
        let off = relative_l2(got.data(), want);
        let most = most_from_oracle(context.limits().elem);
        if off.is_nan() || off > most {
            return Ok(Some(format!("{what} is off by {off:.1e} of its size, {most:.0e} at most is rounding")));
        }
    }
    Ok(None)
}

/// How often a large attention runs, with the same bits each time.
const REPEATS: usize = 4;

/// Runs an attention over many tokens several times, and says whether its bits differ: a race between the subgroups of a
/// workgroup shows over many keys alone. Software GPUs, which run subgroups in turns and compile slowly, get the shape that
/// they have compiled already.
async fn unsteady_result(context: &Context, edit: impl Fn(&mut Graph)) -> Result<Option<String>> {
    let (tokens, head_dim) = if context.abilities().is_software() { (70, 32) } else { (3141, 64) };
    let mut probe = Probe { g: Recorder::new(*context.limits()), inputs: Vec::new() };
    let elem = probe.g.elem();
    let qkv = [0; 3].map(|_| probe.input(elem, &[1, 4, tokens, head_dim]).1);
    let qkv = probe.g.heads("attention", qkv);
    let result = [probe.g.attention("attention", qkv)?];
    let executable = probe.prepared(context, &result, edit).await?;
    let mut first: Vec<u32> = Vec::new();
    for _ in 0..REPEATS {
        executable.run()?;
        let read = executable.read_all_async(&result).await?.remove(0);
        let bits: Vec<u32> = read.data().iter().map(|value| value.to_bits()).collect();
        let differ = first.iter().zip(&bits).filter(|(first, bits)| first != bits).count();
        if differ > 0 {
            let all = bits.len();
            return Ok(Some(format!("attention over {tokens} tokens differs in {differ} of {all} values from one run to the next")));
        }
        first = bits;
    }
    Ok(None)
}

/// Pseudo-random values in [-1, 1), different for each `index`: squares times the golden ratio, modulo 2.
pub(super) fn pseudo_random(index: usize, len: usize) -> Vec<f32> {
    let start = 7919 * (index + 1);
    (start..start + len).map(|i| ((i * i) as f64 * 0.618_033_988_749_895 % 2.0 - 1.0) as f32).collect()
}

/// A few operations while they are recorded, and their inputs.
struct Probe {
    g: Recorder,
    inputs: Vec<(TensorId, Vec<f32>)>,
}

/// An operation's name, its result, and the right values of the result.
type Case = (&'static str, TensorId, Vec<f64>);

impl Probe {
    /// The sizes are no multiples of any tile, and exceed one small tile along every axis.
    /// Software GPUs, which compile slowly, get one tile of products.
    fn record(&mut self, software: bool) -> Result<Vec<Case>> {
        let elem = self.g.elem();
        let (m, n, k_len) = (70, 69, 100);
        let (x, x_id) = self.input(elem, &[1, m, k_len]);
        let (weight, weight_id) = self.input(elem, &[n, k_len]);
        let of_product = oracle::matmul(&x, &weight, k_len);
        let mut cases = Vec::new();
        let limits = *self.g.limits();
        for tile in default_products(&limits, elem).into_iter().take(if software { 1 } else { usize::MAX }) {
            self.g.set_limits(Limits { tiles: Tiles::all(TileChoice::of_products(tile)), ..limits });
            let product = self.g.matmul("matmul", x_id, weight_id, Epilogue::None)?;
            cases.push(("a matrix product", product, of_product.clone()));
        }
        self.g.set_limits(limits);

        let (heads, tokens, head_dim) = (2, 70, 32);
        let [(q, q_id), (k, k_id), (v, v_id)] = [0; 3].map(|_| self.input(elem, &[1, heads, tokens, head_dim]));
        let qkv = self.g.heads("attention", [q_id, k_id, v_id]);
        let attended = self.g.attention("attention", qkv)?;

        // Rows so long that a whole workgroup computes one.
        let c = 516;
        let [(rows, rows_id), (scale, scale_id), (shift, shift_id)] = [3, 1, 1].map(|rows| self.input(Elem::F32, &[rows, c]));
        let normed = self.g.layernorm("layernorm", rows_id, scale_id, shift_id, 1e-6)?;
        cases.push(("attention", attended, oracle::attention(&q, &k, &v, [heads, tokens, head_dim])));
        cases.push(("layer normalisation", normed, oracle::layernorm(&rows, &scale, &shift, 1e-6)));
        Ok(cases)
    }

    /// Creates an input of values in [-1, 1), and returns the values as the device stores them, as f64.
    fn input(&mut self, elem: Elem, shape: &[usize]) -> (Vec<f64>, TensorId) {
        let len: usize = shape.iter().product();
        let mut values = vec![0.0; len];
        decode(&encoded(&pseudo_random(self.inputs.len(), len), elem), elem, &mut values);
        let id = self.g.tensor_of(elem, format!("input {}", self.inputs.len()), shape, Role::Input);
        let wide = values.iter().map(|&v| f64::from(v)).collect();
        self.inputs.push((id, values));
        (wide, id)
    }

    async fn prepared(mut self, context: &Context, results: &[TensorId], edit: impl Fn(&mut Graph)) -> Result<Executable> {
        results.iter().for_each(|&id| self.g.keep(id));
        let mut graph = self.g.finish();
        edit(&mut graph);
        let planned = plan(&graph, context.limits())?;
        let executable = Executable::new_async(context, graph, planned, &GpuWeights::default()).await?;
        self.inputs.iter().try_for_each(|(id, values)| executable.write(*id, 0, values))?;
        Ok(executable)
    }
}

/// The same operations in f64, written as their definitions read.
mod oracle {
    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// [M, K] and [N, K] to [M, N].
    pub fn matmul(x: &[f64], weight: &[f64], k: usize) -> Vec<f64> {
        x.chunks_exact(k).flat_map(|row| weight.chunks_exact(k).map(move |col| dot(row, col))).collect()
    }

    /// [N, T, D] each to [T, N, D].
    pub fn attention(q: &[f64], k: &[f64], v: &[f64], [heads, tokens, d]: [usize; 3]) -> Vec<f64> {
        let mut y = vec![0.0; q.len()];
        for (i, query) in q.chunks_exact(d).enumerate() {
            let (head, t) = (i / tokens, i % tokens);
            let of_head = head * tokens * d..(head + 1) * tokens * d;
            let weights: Vec<f64> = k[of_head.clone()].chunks_exact(d).map(|key| (dot(query, key) / (d as f64).sqrt()).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let place = (t * heads + head) * d;
            for (weight, value) in weights.iter().zip(v[of_head].chunks_exact(d)) {
                y[place..place + d].iter_mut().zip(value).for_each(|(y, v)| *y += weight / sum * v);
            }
        }
        y
    }

    /// [R, C], `[C]` and `[C]` to [R, C].
    pub fn layernorm(x: &[f64], scale: &[f64], shift: &[f64], eps: f64) -> Vec<f64> {
        let c = scale.len();
        let normed = |row: &[f64]| {
            let mean = row.iter().sum::<f64>() / c as f64;
            let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / c as f64;
            let each = |((v, scale), shift): ((&f64, &f64), &f64)| (v - mean) / (variance + eps).sqrt() * scale + shift;
            row.iter().zip(scale).zip(shift).map(each).collect::<Vec<f64>>()
        };
        x.chunks_exact(c).flat_map(normed).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::gpu::Selection;
    use std::io::Write;

    /// The device that tests run on, if it runs a tier over `elem`; says so if not. `MEDDINO_REQUIRE_TIER` names one
    /// that must be there: `cooperative8/f16`.
    pub fn device(tier: Tier, elem: Elem) -> Option<Context> {
        let name = format!("{tier}/{}", elem.name());
        let skip = |problem: &str| {
            assert!(std::env::var("MEDDINO_REQUIRE_TIER").as_ref() != Ok(&name), "MEDDINO_REQUIRE_TIER={name}, but {problem}");
            // Written past the harness's capture: a test that did not run must not look as if it had.
            let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {problem}");
            None
        };
        match Context::new(&Selection::Auto) {
            Err(problem) => {
                assert!(std::env::var_os("MEDDINO_REQUIRE_GPU").is_none_or(|v| v != "1"), "MEDDINO_REQUIRE_GPU=1, but {problem}");
                skip(&problem.to_string())
            }
            Ok(context) if context.abilities().run(tier, elem) => Some(context),
            Ok(context) => skip(&format!("{} runs {}", context.info().name, context.abilities())),
        }
    }

    /// Replaces one text of the shaders by another, wherever it stands.
    fn plant(from: &'static str, to: &'static str) -> impl Fn(&mut Graph) {
        move |graph| {
            let parts = graph.steps_mut().iter_mut().flat_map(|step| &mut step.kernel.parts);
            for part in parts.filter(|part| part.contains(from)) {
                *part = Box::leak(part.replace(from, to).into_boxed_str());
            }
        }
    }

    #[test]
    fn every_tier_of_the_device_computes_rightly() {
        for (tier, elem) in Tier::ALL.into_iter().flat_map(|tier| [(tier, Elem::F32), (tier, Elem::F16)]) {
            let Some(context) = device(tier, elem) else { continue };
            let tuned = context.tuned(elem, Some(tier)).unwrap();
            assert_eq!((tuned.limits().tier, tuned.limits().elem, tuned.warnings()), (tier, elem, &[][..]), "{tier} over {}", elem.name());
            let start = std::time::Instant::now();
            block_on(self_test(&tuned, |_| ())).unwrap();
            println!("{tier} over {}: a self-test takes {:?}", elem.name(), start.elapsed());
        }
    }

    /// Each is an error that a driver or a careless edit might make: the wrong distance from row to row of a matrix, a
    /// sum without its neighbours, a row's fours taken to be alike.
    #[test]
    fn a_planted_fault_is_caught_and_fallen_back_from() {
        let faults = [
            (Tier::Cooperative8, Elem::F16, "a matrix product", "&w_tile[at], PITCH4)", "&w_tile[at], PITCH4 - 2u)"),
            (Tier::Cooperative8, Elem::F16, "attention", "&k_tile[at], PITCH4)", "&k_tile[at], PITCH4 - 2u)"),
            (Tier::Cooperative8, Elem::F16, "attention", "&v_tile[at], PITCH4)", "&v_tile[at], PITCH4 - 2u)"),
            (Tier::Cooperative16, Elem::F16, "a matrix product", "&x_tile[at], PITCH4)", "&x_tile[at], PITCH4 - 2u)"),
            // Results add up from run to run.
            (
                Tier::Cooperative8,
                Elem::F16,
                "from one run to the next",
                "j * SHARE + share] = vec4<Y>(",
                "j * SHARE + share] = y[place + i * SIDE4 + j * SHARE + share] + vec4<Y>(",
            ),
            (Tier::Cooperative8, Elem::F32, "a matrix product", "small * (1.0 / 2048.0)", "small"),
            (Tier::Cooperative16, Elem::F32, "a matrix product", "(four - high) * 2048.0", "four - high"),
            (Tier::Subgroups, Elem::F32, "layer normalisation", "subgroupAdd(value)", "value"),
            (Tier::Baseline, Elem::F16, "a matrix product", "x[row * (params.k / 4u) + k4]", "x[row * (params.k / 4u)]"),
        ];
        for (tier, elem, what, right, wrong) in faults {
            let Some(context) = device(tier, elem) else { continue };
            let fault = plant(right, wrong);
            let test = async |candidate: &Context| {
                let planted = candidate.limits().tier == tier && candidate.limits().elem == elem;
                self_test(candidate, |graph| {
                    if planted {
                        fault(graph);
                    }
                })
                .await
            };
            let tuned = block_on(context.tuned_by(elem, Some(tier), &[], test)).unwrap();
            let ladder = context.abilities().ladder(elem);
            let next = ladder.into_iter().find(|&other| other != tier).unwrap();
            assert_eq!((tuned.limits().tier, tuned.limits().elem), (next, elem), "{what}: {:?}", tuned.warnings());
            let [warning] = tuned.warnings() else { panic!("{what}: one warning wanted: {:?}", tuned.warnings()) };
            assert!(warning.contains(&format!("tier {tier} over {}", elem.name())) && warning.contains(what), "{warning}");
        }
    }

    #[test]
    fn a_failed_self_test_says_so() {
        let Some(context) = device(Tier::Baseline, Elem::F32) else { return };
        let plain = context.of_tier(Tier::Baseline, Elem::F32);
        plain.self_test().unwrap();
        let fault = plant("x[row * (params.k / 4u) + k4]", "x[row * (params.k / 4u)]");
        let error = block_on(plain.tested(fault)).unwrap_err();
        assert!(matches!(error, Error::Gpu { kind: GpuFailure::FailedSelfTest, .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("a matrix product") && text.contains("tier baseline over f32") && text.contains("`backend` cpu"), "{text}");
    }

    #[test]
    fn where_f16_fails_altogether_f32_is_left() {
        let Some(context) = device(Tier::Baseline, Elem::F16) else { return };
        let test = async |candidate: &Context| if candidate.limits().elem == Elem::F16 { Err("planted".to_owned()) } else { Ok(()) };
        let tuned = block_on(context.tuned_by(Elem::F16, None, &[], test)).unwrap();
        assert_eq!(tuned.limits().elem, Elem::F32);
        assert_eq!(tuned.warnings().len(), context.abilities().ladder(Elem::F16).len());
        assert!(tuned.warnings().iter().all(|w| w.contains("over f16") && w.contains("planted")), "{:?}", tuned.warnings());
    }

    #[test]
    fn what_the_device_does_not_run_is_refused_by_name() {
        let Some(context) = device(Tier::Baseline, Elem::F32) else { return };
        for (tier, elem) in Tier::ALL.into_iter().flat_map(|tier| [(tier, Elem::F32), (tier, Elem::F16)]) {
            if !context.abilities().run(tier, elem) {
                let refused = context.tuned(elem, Some(tier)).unwrap_err().to_string();
                assert!(refused.starts_with("tier: ") || refused.starts_with("precision: "), "{refused}");
            }
        }
    }
}
