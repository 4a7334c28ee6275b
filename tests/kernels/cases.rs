//! Runs one recorded operation on a device and compares the result with its oracle.

use std::fmt::Display;

use meddino::gpu::{Context, Executable, GpuWeights};
use meddino::graph::{Dispatch, Elem, Graph, Limits, Role, TensorId, Tier, TileChoice, Tiles, plan};
use meddino::kernels::Recorder;
use meddino::tensor::relative_l2;

use crate::device;

/// The number of elements behind each result that no kernel may change.
const SENTINELS: usize = 70;
const SENTINEL: f32 = -7.75e33;

/// Returns a sentinel's bits as the device returns them. The sentinel exceeds the range of f16, where it becomes
/// infinite.
fn sentinel(elem: Elem) -> u32 {
    match elem {
        Elem::F32 => SENTINEL.to_bits(),
        Elem::F16 => f32::NEG_INFINITY.to_bits(),
    }
}

/// Returns values in [-1, 1) that depend only on the seed (splitmix64) and are never all equal.
pub fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mix = |i: u64| {
        let x = (seed << 40).wrapping_add(i).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (1..=n as u64).map(mix).collect()
}

/// Returns the same values, rounded to what a tensor of `elem` holds.
pub fn noise_of(elem: Elem, seed: u64, n: usize) -> Vec<f32> {
    let stored = |v: f32| if elem == Elem::F16 { half::f16::from_f32(v).to_f32() } else { v };
    noise(seed, n).into_iter().map(stored).collect()
}

/// An operation that is being recorded: its recorder, and the values of its inputs.
pub struct Case {
    pub recorder: Recorder,
    limits: Limits,
    inputs: Vec<(TensorId, Vec<f32>)>,
    /// Results that operations add to. They begin as zeros.
    sums: Vec<TensorId>,
}

impl Case {
    pub fn new(limits: Limits) -> Self {
        Self { recorder: Recorder::new(limits), limits, inputs: Vec::new(), sums: Vec::new() }
    }

    pub fn input(&mut self, name: &str, shape: &[usize], values: &[f32]) -> TensorId {
        let id = self.recorder.tensor(name, shape, Role::Input);
        self.inputs.push((id, values.to_vec()));
        id
    }

    /// Adds an input of the element type that operations pass to each other.
    pub fn handed(&mut self, name: &str, shape: &[usize], values: &[f32]) -> TensorId {
        let id = self.recorder.tensor_of(self.limits.elem, name, shape, Role::Input);
        self.inputs.push((id, values.to_vec()));
        id
    }

    /// Adds a result that operations add to.
    pub fn sum(&mut self, name: &str, shape: &[usize]) -> TensorId {
        let id = self.recorder.joined(Elem::F32, name, shape);
        self.sums.push(id);
        id
    }

    /// Runs the recording on each of `contexts`, and returns all results, one after another. `want` is NaN where nothing is
    /// written.
    ///
    /// # Errors
    /// If the plan exceeds the limits, a dispatch writes outside its binding, a sentinel is overwritten, an element is
    /// not written or one between results is, or a second run gives other bits.
    fn run(&self, contexts: &[Context], results: &[TensorId], want: &[f64]) -> Result<Vec<Vec<f32>>, String> {
        plan(self.recorder.graph(), &self.limits).map_err(|e| format!("breaks its limits: {e}"))?;
        self.stays_within_its_pieces(&contexts[0], results)?;
        let bits = |run: &[f32]| run.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let mut runs = Vec::new();
        for context in contexts {
            let graph = with_sentinels(self.recorder.graph(), results, self.recorder.graph().steps());
            let executable = self.prepare(context, graph)?;
            let [first, second] = [self.run_once(&executable, results, want)?, self.run_once(&executable, results, want)?];
            if bits(&first) != bits(&second) {
                return Err("two runs differ".to_owned());
            }
            runs.push(first);
        }
        Ok(runs)
    }

    /// Runs each dispatch of a cut operation alone. Elements outside the dispatch's piece must keep their sentinels.
    fn stays_within_its_pieces(&self, context: &Context, results: &[TensorId]) -> Result<(), String> {
        let graph = self.recorder.graph();
        if graph.steps().len() == 1 {
            // The single dispatch runs alone anyway, and `run_once` checks the sentinels behind its result.
            return Ok(());
        }
        if graph.steps().iter().any(|step| !results.contains(&step.write.tensor)) {
            // The operations depend on each other's results, so none can run alone. Each of them has its own table.
            return Ok(());
        }
        for (at, step) in graph.steps().iter().enumerate() {
            let alone = with_sentinels(graph, results, std::slice::from_ref(step));
            let executable = self.prepare(context, alone)?;
            let result = step.write.tensor;
            let (len, untouched) = (executable.graph().info(result).len(), sentinel(executable.graph().info(result).elem));
            executable.write(result, 0, &vec![SENTINEL; len]).map_err(|e| e.to_string())?;
            executable.run().map_err(|e| e.to_string())?;
            let values = executable.read_all(&[result]).map_err(|e| e.to_string())?.remove(0);
            let own = step.write.offset..step.write.offset + step.write.len;
            let stray = (0..len).find(|i| !own.contains(i) && values.data()[*i].to_bits() != untouched);
            if let Some(stray) = stray {
                return Err(format!("dispatch {at}, alone, binds elements {own:?} of the result and writes element {stray}"));
            }
        }
        Ok(())
    }

    fn run_once(&self, executable: &Executable, results: &[TensorId], want: &[f64]) -> Result<Vec<f32>, String> {
        for &id in results {
            let len = executable.graph().info(id).len();
            let mut values = vec![SENTINEL; len];
            if self.sums.contains(&id) {
                values[..len - SENTINELS].fill(0.0);
            }
            executable.write(id, 0, &values).map_err(|e| e.to_string())?;
        }
        executable.run().map_err(|e| e.to_string())?;
        let tensors = executable.read_all(results).map_err(|e| e.to_string())?;
        let mut values = Vec::new();
        for (tensor, &id) in tensors.into_iter().zip(results) {
            let untouched = sentinel(executable.graph().info(id).elem);
            let mut result = tensor.into_data();
            let sentinels = result.split_off(result.len() - SENTINELS);
            if let Some(at) = sentinels.iter().position(|v| v.to_bits() != untouched) {
                return Err(format!("sentinel {at} behind the result was overwritten with {}", sentinels[at]));
            }
            let of_result = want.iter().skip(values.len()).chain(std::iter::repeat(&0.0));
            let is_wrong = |(value, want): (&f32, &f64)| (value.to_bits() == untouched) != want.is_nan();
            if let Some(at) = result.iter().zip(of_result).position(is_wrong) {
                return Err(format!("element {at} of {} was not written, or lies between results and was", result.len()));
            }
            values.extend(result);
        }
        Ok(values)
    }

    /// Prepares a graph on the device, and writes its inputs.
    fn prepare(&self, context: &Context, graph: Graph) -> Result<Executable, String> {
        let planned = plan(&graph, context.limits()).map_err(|e| e.to_string())?;
        let executable = Executable::new(context, graph, planned, &GpuWeights::default()).map_err(|e| e.to_string())?;
        for (id, values) in &self.inputs {
            executable.write(*id, 0, values).map_err(|e| e.to_string())?;
        }
        Ok(executable)
    }
}

/// Returns the same graph with results that are kept. Each result is longer by the sentinels, and each binding of a
/// result includes the sentinels, whichever part of the result the dispatch writes.
fn with_sentinels(graph: &Graph, results: &[TensorId], steps: &[Dispatch]) -> Graph {
    let mut padded = Graph::new();
    for id in graph.ids() {
        let info = graph.info(id);
        if results.contains(&id) {
            padded.tensor_of(info.elem, &info.label, [info.len() + SENTINELS], Role::Output);
        } else {
            padded.tensor_of(info.elem, &info.label, info.shape.clone(), info.role);
        }
    }
    for step in steps {
        let mut step = step.clone();
        if results.contains(&step.write.tensor) {
            step.write.len += SENTINELS;
        }
        // SAFETY: This is the shader's own step, with a longer binding. The recorder's step was trusted.
        #[expect(unsafe_code, reason = "what is tested is that the checks are not needed")]
        unsafe {
            padded.push_unchecked(step);
        }
    }
    padded
}

/// The allowed error of a result: `|got - want| <= atol + rtol |want|` for each element, and the relative L2 error over
/// all.
#[derive(Clone, Copy)]
pub struct Tolerance {
    pub atol: f64,
    pub rtol: f64,
    pub l2: f64,
}

impl Tolerance {
    /// Returns the tolerance of sums of K products of values in [-1, 1), added in panels of `panel` terms. The error of
    /// an f32 sum is a random walk, so it grows with the square root of the number of terms in one running sum.
    pub fn of_sums(k: usize, panel: usize) -> Self {
        let walk = (k as f64 * panel as f64 / 64.0).sqrt();
        Self { atol: 3e-7 * walk, rtol: 1e-6, l2: FEW_TERMS.max(running(panel)) }
    }

    /// Returns the tolerance of sums in the variant `limits`, if every addition is rounded to nearest. Kernels with tiles
    /// and cooperative matrices add all of K in one running sum.
    fn of_variant(k: usize, limits: &Limits) -> Self {
        if limits.tier == Tier::Direct {
            return Self::of_sums(k, SHADER_PANEL);
        }
        let sums = Self::of_sums(k, k.max(SHADER_PANEL));
        if limits.tier.cooperative().is_some() {
            return Self { l2: FEW_TERMS * (k as f64 / SHADER_PANEL as f64).sqrt().max(1.0), ..sums };
        }
        // The errors of many panels even out in an element, but those of one running sum depend on its course. So the
        // worst element is off by more: up to six of its standard deviations, where sums have one of sqrt(K) / 3.
        Self { atol: sums.atol.max(6.0 * running(k) * (k as f64).sqrt() / 3.0), ..sums }
    }

    /// Returns the tolerance if the device adds `side` products at a time to the running sum and truncates.
    ///
    /// Tensor cores do (Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021; Ootomo and Yokota, "Recovering
    /// single precision accuracy from Tensor Cores", 2022): each addition loses up to 2^-23 of the sum, half of that on
    /// average, and always towards zero. So the losses do not cancel, and K / side additions lose 2^-24 K / side of the
    /// partial sums. A product of two values in [-1, 1) has the variance 1/9, so partial sums have a standard deviation
    /// of at most sqrt(K) / 3; four of these bound those of every element.
    fn truncated(self, k: usize, side: u32) -> Self {
        let lost = ULP / 2.0 * k.div_ceil(side as usize) as f64;
        Self { atol: self.atol + lost * 4.0 / 3.0 * (k as f64).sqrt(), l2: self.l2 + lost, ..self }
    }

    /// Returns the tolerance of the result rounded to `elem`. f16 keeps 11 bits, so the rounding error of an element is
    /// at most 2^-12 to 2^-11 of its value, and 3e-8 below 6e-5.
    pub fn stored(self, elem: Elem) -> Self {
        match elem {
            Elem::F32 => self,
            Elem::F16 => Self { atol: self.atol + 3e-8, rtol: self.rtol + 4.9e-4, l2: self.l2 + 4.9e-4 },
        }
    }
}

/// One unit in the last place of an f32, relative to its value, at most.
pub const ULP: f64 = f32::EPSILON as f64;

/// Returns the most relative L2 of running sums of `terms` terms: an addition is off by at most ULP / sqrt(12) of the sum so
/// far, in the root mean square, and on average the sum so far has half the variance of the last one.
fn running(terms: usize) -> f64 {
    ULP / 12f64.sqrt() * (terms as f64 / 2.0).sqrt()
}

/// The tolerance of relative L2 where a running sum has few terms.
const FEW_TERMS: f64 = 5e-7;

/// The number of terms of one running sum in the shaders without tiles, and on the CPU (`cpu/product.rs`).
const SHADER_PANEL: usize = 64;
pub const CPU_PANEL: usize = 128;

/// Requires the same bits.
pub const EXACT: Tolerance = Tolerance { atol: 0.0, rtol: 0.0, l2: 0.0 };

/// The largest errors in a table of cases.
#[derive(Default)]
struct Seen {
    abs: f64,
    l2: f64,
}

/// Whether cases run with the shaders' run-time checks, without them, or both ways.
#[derive(Clone, Copy)]
pub enum Checks {
    Both,
    With,
    Without,
}

/// A family of kernels that a device runs. Each family has its own tests, so that several cores compile shaders in
/// parallel. Software Vulkan takes seconds to compile each shader.
#[derive(Clone, Copy, PartialEq)]
pub enum Family {
    /// The tiled baseline over f32.
    Tiled,
    /// The kernels without tiles, over f32.
    Direct,
    /// The other tiled kernels: the baseline over f16, and the kernels with subgroups.
    TiledTiers,
    /// The kernels without tiles, over f16.
    DirectTiers,
    /// Cooperative matrices.
    CooperativeTiers,
}

/// The cases of one kernel, the device that runs them with and without run-time checks, and the failures so far.
pub struct Table {
    kernel: &'static str,
    /// The device with checks, and without them. `None` if there is no adapter, which the log shows; then only the CPU
    /// twins are checked.
    device: Option<[Context; 2]>,
    checks: Checks,
    seen: Seen,
    failures: Vec<String>,
    ran: usize,
}

impl Table {
    pub fn new(kernel: &'static str) -> Self {
        let both = |context: Context| {
            let unchecked = context.without_shader_checks();
            [context, unchecked]
        };
        let device = device::context().map(both);
        Self { kernel, device, checks: Checks::Both, seen: Seen::default(), failures: Vec::new(), ran: 0 }
    }

    /// Sets how the following cases run. Software Vulkan takes seconds to compile a shader, and as long again without
    /// checks.
    pub fn run(&mut self, checks: Checks) -> &mut Self {
        self.checks = checks;
        self
    }

    /// Returns the tolerance of sums of K products in the variant `limits` on this device. Software rounds the sums of
    /// cooperative matrices to nearest.
    pub fn sums(&self, k: usize, limits: &Limits) -> Tolerance {
        let rounded = Tolerance::of_variant(k, limits);
        let hardware = self.device.as_ref().is_some_and(|[context, _]| !context.abilities().is_software());
        limits.tier.cooperative().filter(|_| hardware).map_or(rounded, |side| rounded.truncated(k, side))
    }

    /// Returns the two families of variants, with the device's own limits.
    pub fn variants(&self) -> [(&'static str, Limits); 2] {
        let own = self.device.as_ref().map_or(Limits::DEFAULT, |[context, _]| *context.limits());
        [("tiled", Limits { tier: Tier::Baseline, workgroup_memory: 16 << 10, ..own }), ("direct", Limits { tier: Tier::Direct, ..own })]
    }

    /// Returns the other tiers of kernels that the device runs, over f32 and over f16, with the device's own limits.
    pub fn tiers(&self) -> Vec<(String, Limits)> {
        let Some([context, _]) = &self.device else { return Vec::new() };
        let (able, mut found) = (context.abilities(), Vec::new());
        for (tier, elem) in Tier::ALL.into_iter().flat_map(|tier| [(tier, Elem::F32), (tier, Elem::F16)]) {
            let in_a_family = matches!(tier, Tier::Baseline | Tier::Direct) && elem == Elem::F32;
            if able.run(tier, elem) && !in_a_family {
                found.push((format!("{tier} over {}", elem.name()), context.limits().of_tier(tier, elem, able)));
            }
        }
        println!("{}: tiers {:?}", self.kernel, found.iter().map(|f| &f.0).collect::<Vec<_>>());
        found
    }

    /// Returns the tiers of [`Table::tiers`] that belong to `family`.
    pub fn tiers_of(&self, family: Family) -> Vec<(String, Limits)> {
        let family_of = |limits: &Limits| match limits.tier {
            Tier::Direct => Family::DirectTiers,
            tier if tier.cooperative().is_some() => Family::CooperativeTiers,
            _ => Family::TiledTiers,
        };
        self.tiers().into_iter().filter(|(_, limits)| family_of(limits) == family).collect()
    }

    /// Returns a family with every tile geometry of `all`.
    pub fn geometries<T: Copy + Display>(
        &self,
        family: Family,
        all: impl Fn(&Limits) -> Vec<T>,
        choice: impl Fn(T) -> TileChoice,
    ) -> Vec<(String, Limits)> {
        let Some([context, _]) = &self.device else { return Vec::new() };
        let workgroup_memory = context.limits().workgroup_memory;
        let [tiled, direct] = self.variants().map(|(name, own)| (name.to_owned(), Limits { workgroup_memory, ..own }));
        let members = match family {
            Family::Tiled => vec![tiled],
            Family::Direct => vec![direct],
            _ => self.tiers_of(family),
        };
        let with = |(name, own): (String, Limits)| {
            let all = all(&own);
            let one = |one: T| {
                let tiles = Tiles::all(choice(one));
                (format!("{name}, {one}"), Limits { tiles, ..own })
            };
            all.into_iter().map(one).collect::<Vec<_>>()
        };
        // Products and attention do not sum across a workgroup, so the subgroup tier uses the baseline's kernels.
        let has_own = |(_, own): &(String, Limits)| own.tier != Tier::Subgroups;
        members.into_iter().filter(has_own).flat_map(with).collect()
    }

    /// Returns the two families with a smaller largest binding and a smaller largest grid.
    pub fn forced(&self, max_binding: u64, max_workgroups: u32) -> [(&'static str, Limits); 2] {
        self.variants().map(|(name, own)| (name, Limits { max_binding, max_workgroups, ..own }))
    }

    /// Records, runs and checks one case. `record` returns the results, and `want` is the oracle of all of them, one
    /// after another, with NaN where nothing is written.
    pub fn check(
        &mut self,
        case: &str,
        limits: Limits,
        tolerance: Tolerance,
        want: &[f64],
        record: impl FnOnce(&mut Case) -> meddino::Result<Vec<TensorId>>,
    ) {
        let Some(contexts) = &self.device else { return };
        let contexts = match self.checks {
            Checks::Both => &contexts[..],
            Checks::With => &contexts[..1],
            Checks::Without => &contexts[1..],
        };
        self.ran += 1;
        let mut made = Case::new(limits);
        let run = record(&mut made).map_err(|e| e.to_string()).and_then(|results| {
            let runs = made.run(contexts, &results, want)?;
            runs.iter().try_for_each(|got| compare(got, want, tolerance, &mut self.seen))
        });
        if let Err(problem) = run {
            self.failures.push(format!("{} {case}: {problem}", self.kernel));
        }
    }

    /// Checks the result of the CPU twin for the same case.
    pub fn twin(&mut self, case: &str, tolerance: Tolerance, want: &[f64], got: &[f32]) {
        self.ran += 1;
        if let Err(problem) = compare(got, want, tolerance, &mut self.seen) {
            self.failures.push(format!("{} on the CPU, {case}: {problem}", self.kernel));
        }
    }

    /// Panics with a list of the cases that failed. Without a device, a table of the GPU's cases runs none.
    pub fn finish(self) {
        assert!(self.ran > 0 || self.device.is_none(), "{}: no case ran", self.kernel);
        println!("{}: {} cases, largest error {:.2e}, largest relative L2 {:.2e}", self.kernel, self.ran, self.seen.abs, self.seen.l2);
        assert!(self.failures.is_empty(), "{} of {} cases failed:\n{}", self.failures.len(), self.ran, self.failures.join("\n"));
    }
}

/// Returns the same variants with changed limits. `called` precedes each name.
pub fn each(variants: &[(String, Limits)], called: &str, change: impl Fn(Limits) -> Limits) -> Vec<(String, Limits)> {
    variants.iter().map(|(name, own)| (format!("{called} {name}"), change(*own))).collect()
}

/// Returns the limits as of a device whose driver chooses subgroups of half the size that they may have.
pub fn for_larger_subgroups(own: &Limits) -> Limits {
    Limits { subgroup_size: 2 * own.subgroup_size, ..*own }
}

fn compare(got: &[f32], want: &[f64], tolerance: Tolerance, seen: &mut Seen) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} elements, {} wanted", got.len(), want.len()));
    }
    let (mut worst, mut off) = ((0.0, 0), 0);
    // What is not written was checked before.
    let (got, want): (Vec<f32>, Vec<f64>) = got.iter().zip(want).filter(|(_, want)| !want.is_nan()).unzip();
    let (got, want) = (&got[..], &want[..]);
    for (at, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        // A NaN exceeds every tolerance.
        off += usize::from(!matches!(error.partial_cmp(&(tolerance.atol + tolerance.rtol * want.abs())), Some(o) if o.is_le()));
        if error > worst.0 || error.is_nan() {
            worst = (error, at);
        }
    }
    let l2 = relative_l2(got, want);
    seen.abs = seen.abs.max(worst.0);
    seen.l2 = seen.l2.max(l2);
    if off > 0 || l2.is_nan() || l2 > tolerance.l2 {
        let (error, at) = worst;
        return Err(format!(
            "{off} of {} elements off, worst [{at}] {} for {} ({error:.2e}), relative L2 {l2:.2e}",
            got.len(),
            got[at],
            want[at]
        ));
    }
    Ok(())
}

/// Converts to f64.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}
