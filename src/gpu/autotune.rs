//! Which tile geometries are the fastest on a device: each is run, over few rows and over many, and the best by a clear margin is taken.

use std::fmt::Display;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::context::Context;
use super::executable::Executable;
use super::tile_cache::TileCache;
use super::tune::pseudo_random;
use super::weights::GpuWeights;
use crate::error::Result;
use crate::graph::{Cost, Elem, Geometry, Graph, Limits, Role, TensorId, Tiles, plan};
use crate::kernels::{Epilogue, Heads, Recorder, blocks, stages};
use crate::tensor::Tensor;

/// Tokens of an image of 224 x 224.
const FEW: usize = 201;
/// Of one of 896 x 896, and of one of 512 x 512 for devices that are slow.
const MANY: [usize; 2] = [3141, 1029];
/// ViT-B's sizes.
const C: usize = 768;
const HIDDEN: usize = 3072;
const HEADS: usize = 12;
const HEAD_DIM: usize = 64;

/// A device that takes longer than this for the fewer of [`MANY`] is slow: with the more of them a dispatch could last so long that its driver resets it.
const SLOW: Duration = Duration::from_millis(10);
/// A measurement lasts so long that a submission's own cost, some tens of microseconds, is lost in it.
const LONG_ENOUGH: Duration = Duration::from_millis(5);
/// As often in one measurement at most.
const MOST_TIMES: f64 = 256.0;
/// The median of so many counts.
const ROUNDS: usize = 5;
/// No further round is begun once a contest has lasted so long.
const ENOUGH: Duration = Duration::from_millis(500);
/// What takes so many times as long as the fastest in the first round is out of the others.
const OUTCLASSED: f64 = 1.5;
/// A geometry is taken in the place of the first if it takes this part of its time: less may be noise.
const CLEARLY: f64 = 0.97;
/// So many values are made up, and repeated to an input's length: a prime, so that no two rows are alike.
const VALUES: usize = 65_537;

/// One geometry of one kernel, tried.
#[derive(Clone, Debug)]
pub struct Trial {
    /// `products` or `attention`.
    pub kernel: &'static str,
    /// Rows of the products, tokens of the attention.
    pub rows: usize,
    /// [`crate::graph::Block`] or [`crate::graph::Stage`], as it is written.
    pub geometry: String,
    /// Seconds, the median of several measurements, or why it cannot be used on this device.
    pub outcome: Result<f64, String>,
    /// Floating-point operations in those seconds.
    pub flops: u64,
    /// Whether it is the one that is used from now on.
    pub taken: bool,
}

impl Context {
    /// The same device with tile geometries.
    #[must_use]
    pub fn with_tiles(&self, tiles: Tiles) -> Self {
        let mut tuned = self.clone();
        tuned.limits.tiles = tiles;
        tuned
    }

    /// The same device with the tile geometries that an earlier [`Context::tune`] kept in `cache`. If there are none a real GPU is tried, for some seconds,
    /// and what was found is kept; a software GPU, which would take a minute for it, is not. Without a cache nothing is done.
    ///
    /// A record that makes no sense, trials that fail, or a folder that cannot be written to are told of in [`Context::warnings`]; the device then has the
    /// geometries that suit most. It blocks, so it is not for a browser.
    #[must_use]
    pub fn with_best_tiles(&self, cache: Option<&TileCache>) -> Self {
        let Some(cache) = cache else { return self.clone() };
        let mut warnings = Vec::new();
        let kept = cache.load(self).unwrap_or_else(|problem| {
            warnings.push(problem);
            None
        });
        let tiles = kept.or_else(|| if self.abilities().software { None } else { self.tried(cache, &mut warnings) });
        let mut tuned = self.with_tiles(tiles.unwrap_or_default());
        tuned.warnings.extend(warnings);
        tuned
    }

    /// What trials find, which is kept; what goes wrong is no reason not to compute.
    fn tried(&self, cache: &TileCache, warnings: &mut Vec<String>) -> Option<Tiles> {
        match self.tune(&mut |_| Ok(())) {
            Ok(tiles) => {
                warnings.extend(cache.save(self, tiles).err().map(|e| e.to_string()));
                Some(tiles)
            }
            Err(problem) => {
                warnings.push(format!("tile geometries could not be tried, and those that suit most devices are used: {problem}"));
                None
            }
        }
    }

    /// Tries every tile geometry that the device allows, for this context's tier and type of elements; `seen` is told of each group of trials, those of one
    /// kernel over as many rows, and may end it by an error. A geometry whose results are not those of the first is never taken.
    ///
    /// # Errors
    /// If the device is out of memory or lost, or `seen` fails.
    pub fn tune(&self, seen: &mut dyn FnMut(&[Trial]) -> Result<()>) -> Result<Tiles> {
        // What is timed is what the model runs.
        let context = self.without_shader_checks();
        let [many, fewer] = MANY;
        let few = context.geometry(FEW, seen)?;
        let many = if context.slow(fewer)? { fewer } else { many };
        Ok(Tiles { few, many: context.geometry(many, seen)? })
    }

    /// The fastest geometry for so many rows.
    fn geometry(&self, rows: usize, seen: &mut dyn FnMut(&[Trial]) -> Result<()>) -> Result<Geometry> {
        let own = self.untuned();
        let all = |geometry| Limits { tiles: Tiles { few: geometry, many: geometry }, ..own };
        let block = self.contest(&products(rows), rows).run(
            &blocks(&own, own.elem),
            &|block| all(Geometry { block: Some(block), stage: None }),
            seen,
        )?;
        let stage = self.contest(&attention(rows), rows).run(
            &stages(&own, HEAD_DIM, own.elem),
            &|stage| all(Geometry { block: None, stage: Some(stage) }),
            seen,
        )?;
        Ok(Geometry { block, stage })
    }

    /// Whether the geometries that suit most devices take long for so many rows.
    fn slow(&self, rows: usize) -> Result<bool> {
        for subject in [products(rows), attention(rows)] {
            let contest = self.contest(&subject, rows);
            if contest.alone(&self.untuned(), &contest.upload()?)?.seconds > SLOW.as_secs_f64() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn untuned(&self) -> Limits {
        Limits { tiles: Tiles::DEFAULT, max_work: None, ..self.limits }
    }

    fn contest<'a>(&'a self, subject: &'a Subject<'a>, rows: usize) -> Contest<'a> {
        Contest { context: self, subject, rows }
    }
}

/// What geometries are tried with: an operation, and the shapes of its inputs.
struct Subject<'a> {
    kernel: &'static str,
    inputs: Vec<Vec<usize>>,
    record: &'a dyn Fn(&mut Recorder, &[TensorId]) -> Result<TensorId>,
}

fn products(rows: usize) -> Subject<'static> {
    Subject { kernel: "products", inputs: vec![vec![rows, C], vec![HIDDEN, C], vec![C, HIDDEN]], record: &mlp }
}

fn attention(tokens: usize) -> Subject<'static> {
    Subject { kernel: "attention", inputs: vec![vec![1, HEADS, tokens, HEAD_DIM]; 3], record: &attend }
}

/// Two products, from C to HIDDEN and back: the longest rows and the longest columns that a block has.
fn mlp(g: &mut Recorder, inputs: &[TensorId]) -> Result<TensorId> {
    let hidden = g.matmul("fc1", inputs[0], inputs[1], Epilogue::None)?;
    g.matmul("fc2", hidden, inputs[2], Epilogue::None)
}

fn attend(g: &mut Recorder, inputs: &[TensorId]) -> Result<TensorId> {
    g.attention("attention", Heads { q: inputs[0], k: inputs[1], v: inputs[2] })
}

/// Geometries of one kernel against each other, over the same inputs.
struct Contest<'a> {
    context: &'a Context,
    subject: &'a Subject<'a>,
    rows: usize,
}

/// What one geometry has come to so far.
struct Entrant {
    limits: Limits,
    geometry: String,
    /// Where its dispatches stand in the executable of all.
    steps: Range<usize>,
    seconds: Vec<f64>,
    problem: Option<String>,
}

/// One geometry by itself, run once.
struct Alone {
    seconds: f64,
    flops: u64,
    result: Tensor,
}

impl Contest<'_> {
    /// The winner, or `None` if that is the first of `candidates` or there is none.
    fn run<T: Copy + Display>(
        &self,
        candidates: &[T],
        with: &dyn Fn(T) -> Limits,
        seen: &mut dyn FnMut(&[Trial]) -> Result<()>,
    ) -> Result<Option<T>> {
        let entrant = |&c: &T| Entrant { limits: with(c), geometry: c.to_string(), steps: 0..0, seconds: Vec::new(), problem: None };
        let mut entrants: Vec<Entrant> = candidates.iter().map(entrant).collect();
        let Some(first) = entrants.first() else { return Ok(None) };
        let inputs = self.upload()?;
        let first = self.alone(&first.limits, &inputs)?;
        self.qualify(&mut entrants, &inputs, &first.result)?;
        self.race(&mut entrants, &inputs, first.seconds)?;
        let outcomes: Vec<Result<f64, String>> = entrants.iter_mut().map(Entrant::outcome).collect();
        let best = winner(&outcomes);
        let trial = |(i, (entrant, outcome)): (usize, (Entrant, Result<f64, String>))| Trial {
            kernel: self.subject.kernel,
            rows: self.rows,
            geometry: entrant.geometry,
            outcome,
            flops: first.flops,
            taken: i == best,
        };
        let trials: Vec<Trial> = entrants.into_iter().zip(outcomes).enumerate().map(trial).collect();
        seen(&trials)?;
        Ok((best > 0).then(|| candidates[best]))
    }

    /// The inputs on the device, shared by all.
    fn upload(&self) -> Result<GpuWeights> {
        let values = |(i, shape): (usize, &Vec<usize>)| {
            let some = pseudo_random(i, VALUES);
            (label(i), Tensor::new(shape.clone(), some.iter().copied().cycle().take(shape.iter().product()).collect()))
        };
        let inputs: Vec<(String, Tensor)> = self.subject.inputs.iter().enumerate().map(values).collect();
        let elem = self.context.limits().elem;
        GpuWeights::upload_as(self.context, inputs.iter().map(|(name, tensor)| (name.as_str(), tensor, elem)))
    }

    /// Runs each by itself, so that one that the device refuses, or that computes something else than `want`, is known before they are timed.
    fn qualify(&self, entrants: &mut [Entrant], inputs: &GpuWeights, want: &Tensor) -> Result<()> {
        for entrant in &mut *entrants {
            entrant.problem = match self.alone(&entrant.limits, inputs).map(|alone| distance(&alone.result, want)) {
                Ok(off) => (off > tolerance(entrant.limits.elem)).then(|| format!("its results are off by {off:.1e} of their size")),
                Err(problem) => Some(problem.to_string()),
            };
            // A device that is gone fails every trial.
            self.context.checked(TRYING, || Ok(()))?;
        }
        Ok(())
    }

    /// Times those that are left, in turns: what else the machine does meets all alike. `once` is about what one run takes.
    fn race(&self, entrants: &mut [Entrant], inputs: &GpuWeights, once: f64) -> Result<()> {
        let executable = self.prepare(entrants, inputs)?;
        let times = (LONG_ENOUGH.as_secs_f64() / once).clamp(1.0, MOST_TIMES) as usize;
        let started = Instant::now();
        let mut fastest = f64::INFINITY;
        for round in 0..ROUNDS {
            for entrant in entrants.iter_mut().filter(|entrant| entrant.problem.is_none()) {
                if round > 0 && entrant.seconds[0] > OUTCLASSED * fastest {
                    continue;
                }
                let seconds = self.time(&executable, &entrant.steps, times)?;
                entrant.seconds.push(seconds);
                fastest = if round == 0 { fastest.min(seconds) } else { fastest };
            }
            if started.elapsed() > ENOUGH {
                break;
            }
        }
        Ok(())
    }

    /// One executable of all that are left: pipelines and bind groups are made once, and the entrants share their buffers.
    fn prepare(&self, entrants: &mut [Entrant], inputs: &GpuWeights) -> Result<Executable> {
        let mut g = Recorder::new(*self.context.limits());
        let ids = self.inputs(&mut g);
        for entrant in entrants.iter_mut().filter(|entrant| entrant.problem.is_none()) {
            g.set_limits(entrant.limits);
            let from = g.graph().steps().len();
            (self.subject.record)(&mut g, &ids)?;
            entrant.steps = from..g.graph().steps().len();
        }
        self.executable(g.finish(), inputs)
    }

    fn inputs(&self, g: &mut Recorder) -> Vec<TensorId> {
        let elem = self.context.limits().elem;
        let input = |(i, shape): (usize, &Vec<usize>)| g.tensor_of(elem, label(i), shape.clone(), Role::Weight);
        self.subject.inputs.iter().enumerate().map(input).collect()
    }

    fn executable(&self, graph: Graph, inputs: &GpuWeights) -> Result<Executable> {
        let planned = plan(&graph, &self.context.untuned())?;
        Executable::new(self.context, graph, planned, inputs)
    }

    /// One run of one geometry, after one that pays for what drivers put off until then.
    fn alone(&self, limits: &Limits, inputs: &GpuWeights) -> Result<Alone> {
        let mut g = Recorder::new(*limits);
        let ids = self.inputs(&mut g);
        let result = (self.subject.record)(&mut g, &ids)?;
        g.keep(result);
        let executable = self.executable(g.finish(), inputs)?;
        let all = 0..executable.graph().steps().len();
        self.time(&executable, &all, 1)?;
        let seconds = self.time(&executable, &all, 1)?;
        let flops = executable.graph().steps().iter().fold(Cost::default(), |sum, step| sum + step.cost).flops;
        Ok(Alone { seconds, flops, result: executable.read_all(&[result])?.remove(0) })
    }

    /// Seconds that some of the dispatches take, run so many times one after the other.
    fn time(&self, executable: &Executable, steps: &Range<usize>, times: usize) -> Result<f64> {
        let context = self.context;
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("trial") };
        let started = context.checked(TRYING, || {
            let mut encoder = context.device().create_command_encoder(&descriptor);
            (0..times).for_each(|_| executable.encode_steps(&mut encoder, steps.clone()));
            let commands = encoder.finish();
            let started = Instant::now();
            context.submit([commands]);
            Ok(started)
        })?;
        context.wait(TRYING)?;
        Ok(started.elapsed().as_secs_f64() / times as f64)
    }
}

/// What errors open with.
const TRYING: &str = "trying tile geometries";

fn label(input: usize) -> String {
    format!("trial {input}")
}

impl Entrant {
    fn outcome(&mut self) -> Result<f64, String> {
        self.seconds.sort_by(f64::total_cmp);
        self.problem.take().map_or_else(|| Ok(self.seconds[self.seconds.len() / 2]), Err)
    }
}

/// The place of the least time, or 0 if the first is not clearly slower.
fn winner(outcomes: &[Result<f64, String>]) -> usize {
    let time = |i: usize| outcomes[i].as_ref().copied().unwrap_or(f64::INFINITY);
    let best = (0..outcomes.len()).min_by(|&a, &b| time(a).total_cmp(&time(b))).unwrap_or(0);
    if time(best) < CLEARLY * time(0) { best } else { 0 }
}

/// How far results may be apart by the order of their sums, and by rounding them twice.
fn tolerance(elem: Elem) -> f64 {
    match elem {
        Elem::F32 => 1e-5,
        Elem::F16 => 2e-3,
    }
}

/// Relative L2; infinite if any value is not a number.
fn distance(got: &Tensor, want: &Tensor) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let error = square(&mut got.data().iter().zip(want.data()).map(|(&g, &w)| f64::from(g) - f64::from(w)));
    let off = (error / square(&mut want.data().iter().map(|&w| f64::from(w)))).sqrt();
    if off.is_nan() { f64::INFINITY } else { off }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Stage, Tier};

    #[test]
    fn the_first_is_kept_unless_another_is_clearly_faster() {
        let outcomes = |times: &[f64]| times.iter().map(|&t| if t < 0.0 { Err("refused".to_owned()) } else { Ok(t) }).collect::<Vec<_>>();
        assert_eq!(winner(&outcomes(&[1.0, 0.98, 1.2])), 0, "within the noise");
        assert_eq!(winner(&outcomes(&[1.0, 0.9, 0.8])), 2);
        assert_eq!(winner(&outcomes(&[1.0, -1.0, 0.9])), 2, "what cannot run cannot win");
        assert_eq!(winner(&outcomes(&[-1.0, 1.0])), 1, "not even the first");
        assert_eq!(winner(&outcomes(&[-1.0])), 0);
    }

    /// Three geometries, of which one is not what the device allows and one computes something else: neither is taken, however fast.
    #[test]
    fn a_geometry_that_computes_wrongly_is_never_taken() {
        let Some(context) = crate::gpu::tune::tests::device(Tier::Baseline, Elem::F32) else { return };
        let context = context.tuned(Elem::F32, Some(Tier::Baseline)).unwrap();
        // Fewer lanes: the recorder below leaves the work out.
        let record = |g: &mut Recorder, ids: &[TensorId]| {
            let wrong = g.limits().tiles.few.stage == Some(Stage { lanes: 32, keys: 32 });
            let [q, k, v] = if wrong { [ids[0], ids[0], ids[2]] } else { [ids[0], ids[1], ids[2]] };
            g.attention("attention", Heads { q, k, v })
        };
        let subject = Subject { kernel: "attention", inputs: vec![vec![1, 2, 40, 32]; 3], record: &record };
        let contest = Contest { context: &context, subject: &subject, rows: 40 };
        let own = *context.limits();
        let with = |stage| Limits { tiles: Tiles { few: Geometry { block: None, stage: Some(stage) }, ..Tiles::DEFAULT }, ..own };
        let mut told = Vec::new();
        let candidates = [Stage { lanes: 64, keys: 32 }, Stage { lanes: 32, keys: 32 }, Stage { lanes: 64, keys: 16 }];
        let best = contest.run(&candidates, &with, &mut |trials| {
            told.extend(trials.to_vec());
            Ok(())
        });
        assert_ne!(best.unwrap(), Some(candidates[1]));
        let fit: Vec<bool> = told.iter().map(|trial| trial.outcome.is_ok()).collect();
        assert_eq!(fit, [true, false, true], "{told:?}");
        assert!(told[1].outcome.as_ref().unwrap_err().contains("off by"), "{told:?}");
        assert_eq!(told.iter().filter(|trial| trial.taken).count(), 1);
        assert!(told.iter().all(|trial| trial.flops > 0 && trial.rows == 40));
    }
}
