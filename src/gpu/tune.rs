//! Which tier of kernels a device gets: the best that it runs, once it has been seen to compute rightly there.

use super::context::Context;
use super::executable::Executable;
use super::weights::{GpuWeights, decoded, encoded};
use crate::error::{Error, Result};
use crate::graph::{Dispatch, Elem, Graph, Limits, Role, TensorId, Tier, plan};
use crate::kernels::{Epilogue, Heads, Recorder};

impl Context {
    /// The same device with kernels over tensors of `elem`, of the tier that is asked for or else of the best that it runs.
    ///
    /// Every tier but the plainest is first held against sums in f64, over a few small ragged products: drivers have had errors there. One
    /// that fails is passed over for the next, from f16 at last to f32, and [`Context::warnings`] says so.
    ///
    /// # Errors
    /// If the device's shaders cannot do what is asked for, or it is lost.
    pub fn tuned(&self, elem: Elem, asked: Option<Tier>) -> Result<Self> {
        self.tuned_by(elem, asked, &|candidate| self_test(candidate, &|_| ()))
    }

    fn tuned_by(&self, elem: Elem, asked: Option<Tier>, test: &dyn Fn(&Self) -> Result<(), String>) -> Result<Self> {
        let (able, name) = (self.abilities(), &self.info().name);
        if elem == Elem::F16 && !able.f16 {
            return Err(Error::option("--precision", format!("f16: the shaders of {name} have no f16; use --precision f32")));
        }
        if let Some(tier) = asked.filter(|&tier| !able.run(tier, elem)) {
            let refused = format!("{tier}: {name} does not run it over {}; it runs {able}", elem.name());
            return Err(Error::option("--tier", refused));
        }
        let ladder = able.ladder(elem).into_iter().filter(|&tier| Some(tier) != asked);
        let mut warnings = Vec::new();
        for tier in asked.into_iter().chain(ladder) {
            let mut tuned = self.of_tier(tier, elem);
            let problem = if is_plain(tier, elem) { None } else { test(&tuned).err() };
            let Some(problem) = problem else {
                tuned.warnings = warnings;
                return Ok(tuned);
            };
            // A device that is gone fails every test.
            self.checked("testing kernels", || Ok(()))?;
            warnings.push(format!(
                "{name} computes wrongly with kernels of tier {tier} over {}, which are not used: {problem}; a newer driver may mend it",
                elem.name()
            ));
        }
        let mut tuned = self.tuned_by(Elem::F32, None, test)?;
        tuned.warnings.splice(0..0, warnings);
        Ok(tuned)
    }

    fn of_tier(&self, tier: Tier, elem: Elem) -> Self {
        let subgroup_size = self.abilities().subgroup_size.unwrap_or(0);
        let limits = Limits { software: tier == Tier::Direct, tier, elem, subgroup_size, ..self.limits };
        let mut tuned = self.clone();
        (tuned.limits, tuned.warnings) = (limits, Vec::new());
        tuned
    }
}

/// What needs no extension of WGSL needs no test before use, and nothing is left to fall back to.
fn is_plain(tier: Tier, elem: Elem) -> bool {
    matches!(tier, Tier::Baseline | Tier::Direct) && elem == Elem::F32
}

/// Relative L2 distance that a kernel keeps from its f64 oracle: what rounding a result to its type costs, with room.
fn tolerance(elem: Elem) -> f64 {
    match elem {
        Elem::F32 => 1e-5,
        Elem::F16 => 1e-3,
    }
}

/// Runs a product, an attention and a normalisation on the device; `edit` may change their dispatches first.
fn self_test(context: &Context, edit: &dyn Fn(&mut Dispatch)) -> Result<(), String> {
    // SAFETY: the model runs the same kernels without the checks, and a test has to be of what is used.
    #[expect(unsafe_code, reason = "our own kernels need no run-time checks")]
    let context = unsafe { context.without_shader_checks() };
    let mut probe = Probe { g: Recorder::new(*context.limits()), inputs: Vec::new() };
    let cases = probe.record().map_err(|e| e.to_string())?;
    let results: Vec<TensorId> = cases.iter().map(|case| case.1).collect();
    let got = probe.run(&context, &results, edit).map_err(|e| e.to_string())?;
    for ((what, _, want), got) in cases.iter().zip(got) {
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let error = square(&mut got.iter().zip(want).map(|(&got, want)| f64::from(got) - want));
        let off = (error / square(&mut want.iter().copied())).sqrt();
        let most = tolerance(context.limits().elem);
        // A NaN is within no tolerance.
        if !matches!(off.partial_cmp(&most), Some(order) if order.is_le()) {
            return Err(format!("{what} is off by {off:.1e} of its size, {most:.0e} at most is rounding"));
        }
    }
    Ok(())
}

/// A few operations in the making.
struct Probe {
    g: Recorder,
    inputs: Vec<(TensorId, Vec<f32>)>,
}

/// What an operation is called, its result, and what that should be.
type Case = (&'static str, TensorId, Vec<f64>);

impl Probe {
    /// Sizes pass the edges of tiles along every axis, and are no multiples of any.
    fn record(&mut self) -> Result<[Case; 3]> {
        let elem = self.g.elem();
        let (m, n, k_len) = (70, 69, 100);
        let (x, x_id) = self.input(elem, &[1, m, k_len]);
        let (weight, weight_id) = self.input(elem, &[n, k_len]);
        let product = self.g.matmul("matmul", x_id, weight_id, Epilogue::None)?;

        let (heads, tokens, head_dim) = (2, 70, 32);
        let [(q, q_id), (k, k_id), (v, v_id)] = [0; 3].map(|_| self.input(elem, &[1, heads, tokens, head_dim]));
        let attended = self.g.attention("attention", Heads { q: q_id, k: k_id, v: v_id })?;

        let c = 68;
        let [(rows, rows_id), (scale, scale_id), (shift, shift_id)] = [3, 1, 1].map(|rows| self.input(Elem::F32, &[rows, c]));
        let normed = self.g.layernorm("layernorm", rows_id, scale_id, shift_id, 1e-6)?;
        Ok([
            ("a matrix product", product, oracle::matmul(&x, &weight, k_len)),
            ("attention", attended, oracle::attention(&q, &k, &v, [heads, tokens, head_dim])),
            ("layer normalisation", normed, oracle::layernorm(&rows, &scale, &shift, 1e-6)),
        ])
    }

    /// An input of values in [-1, 1) as they are on the device (an odd multiple of the golden ratio, modulo 2), and as f64.
    fn input(&mut self, elem: Elem, shape: &[usize]) -> (Vec<f64>, TensorId) {
        let len: usize = shape.iter().product();
        let start = 7919 * (self.inputs.len() + 1);
        let values: Vec<f32> = (start..start + len).map(|i| ((i * i) as f64 * 0.618_033_988_749_895 % 2.0 - 1.0) as f32).collect();
        let values = decoded(&encoded(&values, elem), elem, len);
        let id = self.g.tensor_of(elem, format!("input {}", self.inputs.len()), shape, Role::Input);
        let wide = values.iter().map(|&v| f64::from(v)).collect();
        self.inputs.push((id, values));
        (wide, id)
    }

    fn run(self, context: &Context, results: &[TensorId], edit: &dyn Fn(&mut Dispatch)) -> Result<Vec<Vec<f32>>> {
        let recorded = self.g.finish();
        let mut graph = Graph::new();
        for (id, info) in recorded.ids().zip(recorded.tensors()) {
            let role = if results.contains(&id) { Role::Output } else { info.role };
            graph.tensor_of(info.elem, &info.label, info.shape.clone(), role);
        }
        for step in recorded.steps() {
            let mut step = step.clone();
            edit(&mut step);
            graph.push(step);
        }
        let planned = plan(&graph, context.limits())?;
        let executable = Executable::new(context, graph, planned, &GpuWeights::default())?;
        self.inputs.iter().try_for_each(|(id, values)| executable.write(*id, 0, values))?;
        executable.run()?;
        Ok(executable.read_all(results)?.into_iter().map(crate::tensor::Tensor::into_data).collect())
    }
}

/// The same operations, by their definitions.
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
