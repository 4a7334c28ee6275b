//! Which tile geometries are the fastest on a device: each is run, over few rows and over many, and the best by a clear margin is taken.

use std::fmt::Display;
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

/// Tokens of an image of 224 x 224, and of one of 896 x 896.
const ROWS: [usize; 2] = [201, 3141];
/// ViT-B's sizes.
const C: usize = 768;
const HIDDEN: usize = 3072;
const HEADS: usize = 12;
const HEAD_DIM: usize = 64;

/// A measurement lasts so long that a submission's own cost, some tens of microseconds, is lost in it.
const LONG_ENOUGH: Duration = Duration::from_millis(10);
/// The median of so many counts.
const ROUNDS: usize = 5;
/// A geometry is taken in the place of the first if it takes this part of its time: less may be noise.
const CLEARLY: f64 = 0.97;

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

    /// The same device with the tile geometries that an earlier [`Context::tune`] kept in `cache`. If there are none a real GPU is tried, for a second or two,
    /// and what was found is kept; a software GPU, which would take a minute for it, is not. Without a cache nothing is done.
    ///
    /// A record that makes no sense, or a folder that cannot be written to, is told of in [`Context::warnings`]. It blocks, so it is not for a browser.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn with_best_tiles(&self, cache: Option<&TileCache>) -> Result<Self> {
        let Some(cache) = cache else { return Ok(self.clone()) };
        let mut warnings = Vec::new();
        let tiles = match cache.load(self) {
            Ok(Some(tiles)) => tiles,
            found => {
                warnings.extend(found.err());
                if self.abilities().software {
                    Tiles::DEFAULT
                } else {
                    let tiles = self.tune(&mut |_| Ok(()))?;
                    warnings.extend(cache.save(self, tiles).err().map(|e| e.to_string()));
                    tiles
                }
            }
        };
        let mut tuned = self.with_tiles(tiles);
        tuned.warnings.extend(warnings);
        Ok(tuned)
    }

    /// Tries every tile geometry that the device allows, for this context's tier and type of elements; `seen` is told of each group of trials, those of one
    /// kernel over as many rows, and may end it by an error. A geometry whose results are not those of the first is never taken.
    ///
    /// # Errors
    /// If the device is out of memory or lost, or `seen` fails.
    pub fn tune(&self, seen: &mut dyn FnMut(&[Trial]) -> Result<()>) -> Result<Tiles> {
        let own = Limits { tiles: Tiles::DEFAULT, max_work: None, ..self.limits };
        let mut of_class = |rows: usize| -> Result<Geometry> {
            let all = |geometry| Limits { tiles: Tiles { few: geometry, many: geometry }, ..own };
            let products =
                Contest { context: self, kernel: "products", rows, inputs: &[&[rows, C], &[HIDDEN, C], &[C, HIDDEN]], record: &mlp };
            let block = products.run(&blocks(&own, own.elem), &|block| all(Geometry { block: Some(block), stage: None }), seen)?;
            let heads: &[usize] = &[1, HEADS, rows, HEAD_DIM];
            let attention = Contest { context: self, kernel: "attention", rows, inputs: &[heads, heads, heads], record: &attend };
            let stage =
                attention.run(&stages(&own, HEAD_DIM, own.elem), &|stage| all(Geometry { block: None, stage: Some(stage) }), seen)?;
            Ok(Geometry { block, stage })
        };
        let [few, many] = ROWS;
        Ok(Tiles { few: of_class(few)?, many: of_class(many)? })
    }
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
    kernel: &'static str,
    rows: usize,
    inputs: &'a [&'a [usize]],
    record: &'a dyn Fn(&mut Recorder, &[TensorId]) -> Result<TensorId>,
}

/// What one geometry has come to so far.
struct Entrant {
    limits: Limits,
    geometry: String,
    seconds: Vec<f64>,
    problem: Option<String>,
}

impl Contest<'_> {
    /// The winner, or `None` if that is the first of `candidates` or there is none.
    fn run<T: Copy + Display>(
        &self,
        candidates: &[T],
        with: &dyn Fn(T) -> Limits,
        seen: &mut dyn FnMut(&[Trial]) -> Result<()>,
    ) -> Result<Option<T>> {
        let entrant = |&c: &T| Entrant { limits: with(c), geometry: c.to_string(), seconds: Vec::new(), problem: None };
        let mut entrants: Vec<Entrant> = candidates.iter().map(entrant).collect();
        let Some(first) = entrants.first() else { return Ok(None) };
        let values: Vec<Vec<f32>> = self.inputs.iter().enumerate().map(|(i, s)| pseudo_random(i, s.iter().product())).collect();
        let (once, want) = self.measure(&first.limits, 1, &values)?;
        let times = (LONG_ENOUGH.as_secs_f64() / once).clamp(1.0, 64.0) as usize;
        let flops = self.graph(&first.limits, 1)?.0.steps().iter().fold(Cost::default(), |sum, step| sum + step.cost).flops;
        // In turns: what else the machine does meets all alike.
        for round in 0..ROUNDS {
            for entrant in entrants.iter_mut().filter(|entrant| entrant.problem.is_none()) {
                match self.measure(&entrant.limits, times, &values) {
                    Ok((_, got)) if round == 0 && distance(&got, &want) > tolerance(entrant.limits.elem) => {
                        entrant.problem = Some(format!("its results are off by {:.1e} of their size", distance(&got, &want)));
                    }
                    Ok((seconds, _)) => entrant.seconds.push(seconds / times as f64),
                    Err(problem) => entrant.problem = Some(problem.to_string()),
                }
                // A device that is gone fails every trial.
                self.context.checked("trying tile geometries", || Ok(()))?;
            }
        }
        let outcomes: Vec<Result<f64, String>> = entrants.iter_mut().map(Entrant::outcome).collect();
        let best = winner(&outcomes);
        let trial = |(i, (entrant, outcome)): (usize, (Entrant, Result<f64, String>))| Trial {
            kernel: self.kernel,
            rows: self.rows,
            geometry: entrant.geometry,
            outcome,
            flops,
            taken: i == best,
        };
        let trials: Vec<Trial> = entrants.into_iter().zip(outcomes).enumerate().map(trial).collect();
        seen(&trials)?;
        Ok((best > 0).then(|| candidates[best]))
    }

    /// The operation so many times one after the other, its inputs, and the last result.
    fn graph(&self, limits: &Limits, times: usize) -> Result<(Graph, Vec<TensorId>, TensorId)> {
        let mut g = Recorder::new(*limits);
        let elem = g.elem();
        let inputs: Vec<TensorId> = self.inputs.iter().map(|&shape| g.tensor_of(elem, "trial", shape, Role::Input)).collect();
        let mut result = (self.record)(&mut g, &inputs)?;
        for _ in 1..times {
            result = (self.record)(&mut g, &inputs)?;
        }
        g.keep(result);
        Ok((g.finish(), inputs, result))
    }

    /// Seconds for all of it, and the result.
    fn measure(&self, limits: &Limits, times: usize, values: &[Vec<f32>]) -> Result<(f64, Tensor)> {
        let (graph, inputs, result) = self.graph(limits, times)?;
        let planned = plan(&graph, limits)?;
        let executable = Executable::new(self.context, graph, planned, &GpuWeights::default())?;
        inputs.iter().zip(values).try_for_each(|(&id, values)| executable.write(id, 0, values))?;
        // The first run pays for what drivers put off until then.
        executable.run()?;
        self.context.wait("trying tile geometries")?;
        let start = Instant::now();
        executable.run()?;
        self.context.wait("trying tile geometries")?;
        let seconds = start.elapsed().as_secs_f64();
        Ok((seconds, executable.read_all(&[result])?.remove(0)))
    }
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
        let shape: &[usize] = &[1, 2, 40, 32];
        // Fewer lanes: the recorder below leaves the work out.
        let record = |g: &mut Recorder, ids: &[TensorId]| {
            let wrong = g.limits().tiles.few.stage == Some(Stage { lanes: 32, keys: 32 });
            let [q, k, v] = if wrong { [ids[0], ids[0], ids[2]] } else { [ids[0], ids[1], ids[2]] };
            g.attention("attention", Heads { q, k, v })
        };
        let contest = Contest { context: &context, kernel: "attention", rows: 40, inputs: &[shape; 3], record: &record };
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
