//! Judges the tiles of one kernel: which compute rightly, and which of those is the fastest.

use std::fmt::Display;
use std::time::Duration;

use web_time::Instant;

use super::super::context::Context;
use super::super::executable::WARM;
use super::super::tune::most_between_kernels;
use super::Trial;
use super::bench::{Bench, Once, Subject, TRYING};
use crate::error::Result;
use crate::graph::Limits;
use crate::tensor::{Tensor, relative_l2};

/// A measurement lasts at least so long. A submission's own cost, some tens of microseconds, is then negligible.
const LONG_ENOUGH: Duration = Duration::from_millis(5);
/// The most runs of one measurement.
const MOST_TIMES: f64 = 256.0;
/// Each tile is measured so many times, and the median counts.
const ROUNDS: usize = 5;
/// No further round begins once a contest has lasted so long.
const ENOUGH: Duration = Duration::from_millis(500);
/// A tile that takes so many times as long as the fastest in the first round is not measured again.
const OUTCLASSED: f64 = 1.5;
/// A tile replaces the default if it takes at most this part of the default's time, because a smaller gain may be
/// noise.
const CLEARLY: f64 = 0.97;

/// What is known of one tile so far.
struct Entrant {
    limits: Limits,
    geometry: String,
    seconds: Vec<f64>,
    problem: Option<String>,
}

/// The best of `candidates`, each of which `with` puts into limits; `None` if that is the first, the default, or if
/// there is no candidate.
pub(super) async fn run<T: Copy + Display>(
    (context, subject): (&Context, &Subject<'_>),
    candidates: &[T],
    with: impl Fn(T) -> Limits,
    seen: &mut impl FnMut(&[Trial]) -> Result<()>,
) -> Result<Option<T>> {
    let entrant = |&tile: &T| Entrant { limits: with(tile), geometry: tile.to_string(), seconds: Vec::new(), problem: None };
    let mut entrants: Vec<Entrant> = candidates.iter().map(entrant).collect();
    let Some(first) = entrants.first() else { return Ok(None) };
    let bench = Bench::new(context, subject).await?;
    let default = bench.once(&first.limits).await?;
    qualify(context, &bench, &mut entrants, &default.results).await?;
    race(&bench, &mut entrants, default.seconds).await?;
    let outcomes: Vec<Result<f64, String>> = entrants.iter_mut().map(Entrant::outcome).collect();
    let best = winner(&outcomes);
    let trial = |(i, (entrant, outcome)): (usize, (Entrant, Result<f64, String>))| Trial {
        kernel: subject.kernel,
        rows: subject.rows,
        geometry: entrant.geometry,
        outcome,
        flops: default.flops,
        taken: i == best,
    };
    let trials: Vec<Trial> = entrants.into_iter().zip(outcomes).enumerate().map(trial).collect();
    seen(&trials)?;
    Ok((best > 0).then(|| candidates[best]))
}

/// Runs each tile by itself before any is timed, and notes which ones the device refuses, or computes otherwise than `want`
/// or not twice alike.
async fn qualify(context: &Context, bench: &Bench<'_>, entrants: &mut [Entrant], want: &[Tensor]) -> Result<()> {
    for entrant in entrants {
        entrant.problem = match bench.once(&entrant.limits).await {
            Ok(once) => problem_of(&once, want, most_between_kernels(entrant.limits.elem)),
            Err(problem) => Some(problem.to_string()),
        };
        // Without this check a device that is gone would fail every tile.
        context.checked_async(TRYING, || Ok(())).await?;
    }
    Ok(())
}

/// What is wrong with a tile's results, if anything is.
fn problem_of(once: &Once, want: &[Tensor], most: f64) -> Option<String> {
    if !once.is_steady {
        return Some("its results change from run to run".to_owned());
    }
    once.results.iter().zip(want).find_map(|(got, want)| differs(got, want, most))
}

/// By how much a result is off, if that is more than `most`.
fn differs(got: &Tensor, want: &Tensor, most: f64) -> Option<String> {
    let off = relative_l2(got.data(), want.data());
    (off.is_nan() || off > most).then(|| format!("its results are off by {off:.1e} of their size"))
}

/// Times the tiles that qualified, in turns, so that whatever else the machine does slows all of them alike. `once` is
/// about what one run takes.
async fn race(bench: &Bench<'_>, entrants: &mut [Entrant], once: f64) -> Result<()> {
    let mut entrants: Vec<&mut Entrant> = entrants.iter_mut().filter(|entrant| entrant.problem.is_none()).collect();
    let series = bench.series(entrants.iter().map(|entrant| entrant.limits).collect()).await?;
    let times = (LONG_ENOUGH.as_secs_f64() / once).clamp(1.0, MOST_TIMES) as usize;
    // An idle GPU runs at a low clock, at which the first tiles would look slow.
    let warming = Instant::now();
    while !entrants.is_empty() && warming.elapsed() < WARM {
        bench.time_in(&series, 0, times).await?;
    }
    let started = Instant::now();
    let mut fastest = f64::INFINITY;
    for round in 0..ROUNDS {
        for (index, entrant) in entrants.iter_mut().enumerate() {
            if round > 0 && entrant.seconds[0] > OUTCLASSED * fastest {
                continue;
            }
            let seconds = bench.time_in(&series, index, times).await?;
            entrant.seconds.push(seconds);
            fastest = if round == 0 { fastest.min(seconds) } else { fastest };
        }
        if started.elapsed() > ENOUGH {
            break;
        }
    }
    Ok(())
}

impl Entrant {
    fn outcome(&mut self) -> Result<f64, String> {
        self.seconds.sort_by(f64::total_cmp);
        self.problem.take().map_or_else(|| Ok(self.seconds[self.seconds.len() / 2]), Err)
    }
}

/// The index of the least time, or 0 if the first is not clearly slower.
fn winner(outcomes: &[Result<f64, String>]) -> usize {
    let time = |i: usize| outcomes[i].as_ref().copied().unwrap_or(f64::INFINITY);
    let best = (0..outcomes.len()).min_by(|&a, &b| time(a).total_cmp(&time(b))).unwrap_or(0);
    if time(best) < CLEARLY * time(0) { best } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::block_on;
    use crate::graph::{AttentionTile, Elem, Tier, TileChoice, Tiles};
    use crate::kernels::Recorder;

    fn tensor(values: [f32; 2]) -> Tensor {
        Tensor::new([2], values.to_vec())
    }

    #[test]
    fn the_first_is_kept_unless_another_is_clearly_faster() {
        let outcomes = |times: &[f64]| times.iter().map(|&t| if t < 0.0 { Err("refused".to_owned()) } else { Ok(t) }).collect::<Vec<_>>();
        assert_eq!(winner(&outcomes(&[1.0, 0.98, 1.2])), 0, "within the noise");
        assert_eq!(winner(&outcomes(&[1.0, 0.9, 0.8])), 2);
        assert_eq!(winner(&outcomes(&[1.0, -1.0, 0.9])), 2, "what cannot run cannot win");
        assert_eq!(winner(&outcomes(&[-1.0, 1.0])), 1, "not even the first");
        assert_eq!(winner(&outcomes(&[-1.0])), 0);
    }

    #[test]
    fn a_result_that_is_no_number_differs() {
        assert_eq!(differs(&tensor([1.0, 2.0]), &tensor([1.0, 2.0]), 0.0), None);
        assert!(differs(&tensor([1.0, 2.1]), &tensor([1.0, 2.0]), 1e-2).unwrap().contains("off by 4.5e-2"));
        assert!(differs(&tensor([1.0, f32::NAN]), &tensor([1.0, 2.0]), 1e9).is_some());
        assert!(differs(&tensor([1.0, f32::INFINITY]), &tensor([1.0, 2.0]), 1e9).is_some());
    }

    #[test]
    fn a_tile_whose_results_change_has_a_problem() {
        let results = || vec![tensor([1.0, 2.0]), tensor([3.0, 4.0])];
        let once = |is_steady| Once { seconds: 1.0, flops: 1, results: results(), is_steady };
        assert_eq!(problem_of(&once(true), &results(), 1e-3), None);
        assert!(problem_of(&once(false), &results(), 1e-3).unwrap().contains("from run to run"));
        let second_is_off = [tensor([1.0, 2.0]), tensor([3.0, 5.0])];
        assert!(problem_of(&once(true), &second_is_off, 1e-3).unwrap().contains("off by"));
    }

    /// One of three tiles computes something else: it is never taken, however fast it is.
    #[test]
    fn a_tile_that_computes_wrongly_is_never_taken() {
        let Some(context) = crate::gpu::tune::tests::device(Tier::Baseline, Elem::F32) else { return };
        let context = context.tuned(Elem::F32, Some(Tier::Baseline)).unwrap();
        let candidates = [(64, 4), (32, 4), (32, 2)].map(|(queries, n)| AttentionTile::Blocked { queries, keys: 8 * n, sums: [4, n] });
        // With the second tile the recorder leaves work out.
        let record = |g: &mut Recorder, inputs: &[crate::graph::TensorId]| {
            let wrong = g.limits().tiles.few.attention == Some(candidates[1]);
            let qkv = if wrong { [inputs[0], inputs[0], inputs[2]] } else { [inputs[0], inputs[1], inputs[2]] };
            let qkv = g.heads("attention", qkv);
            Ok(vec![g.attention("attention", qkv)?])
        };
        let subject = Subject { kernel: "attention", rows: 40, inputs: vec![(Elem::F32, vec![1, 2, 40, 32]); 3], record: &record };
        let limits = *context.limits();
        let with = |tile| Limits { tiles: Tiles { few: TileChoice::of_attention(tile), ..Tiles::DEFAULT }, ..limits };
        let mut trials = Vec::new();
        let best = block_on(run((&context, &subject), &candidates, with, &mut |group: &[Trial]| {
            trials.extend(group.to_vec());
            Ok(())
        }));
        assert_ne!(best.unwrap(), Some(candidates[1]));
        let fit: Vec<bool> = trials.iter().map(|trial| trial.outcome.is_ok()).collect();
        assert_eq!(fit, [true, false, true], "{trials:?}");
        assert!(trials[1].outcome.as_ref().unwrap_err().contains("off by"), "{trials:?}");
        assert_eq!(trials.iter().filter(|trial| trial.taken).count(), 1);
        assert!(trials.iter().all(|trial| trial.flops > 0 && trial.rows == 40));
    }
}
