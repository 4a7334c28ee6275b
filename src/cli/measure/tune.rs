//! `meddino tune`: finds the fastest tile geometries for this machine's GPU.

use meddino::gpu::{Context, TileCache, Trial};
use meddino::{Error, Result};
use serde_json::{Value, json};

use crate::cli::flags::Tune;
use crate::cli::terminal::Terminal;
use crate::cli::terminal::say::{result, warn};

/// Runs the command.
pub fn run(args: &Tune, terminal: &Terminal) -> Result<()> {
    let context = args.compute.choice()?.context(args.compute.kernels.tuning())?.ok_or_else(|| {
        Error::option("--backend", "tuning needs a GPU, and this machine has no real one; choose a software GPU with --backend gpu")
    })?;
    context.warnings().iter().for_each(warn);
    // A record of an earlier run spares other commands this test.
    context.self_test()?;
    let cache = TileCache::from_env();
    match &cache {
        Some(cache) => cache.check(&context)?,
        None => warn("the result will not be saved, because MEDDINO_CACHE is empty or this user has no cache folder"),
    }
    let (tier, precision) = (context.limits().tier, context.limits().elem.name());
    terminal.note(format_args!("trying the {tier} kernels over {precision} on {}", context.name()));
    let mut trials = Vec::new();
    // The callback never fails, so that all trials run.
    let tiles = context.tune(|group| {
        trials.extend(group.to_vec());
        terminal.note(format_args!("{}, {} rows: {} geometries", group[0].kernel, group[0].rows, group.len()));
        Ok(())
    })?;
    let file = cache.map(|cache| cache.save(&context, tiles)).transpose()?;
    if args.json {
        let file = file.map(|path| path.display().to_string());
        return result(format_args!("{:#}", to_json(&context, &trials, file.as_deref())));
    }
    table(&trials).into_iter().try_for_each(result)?;
    if let Some(path) = file {
        terminal.note(format_args!("saved in {}", path.display()));
    }
    Ok(())
}

/// The lines of a table of trials.
fn table(trials: &[Trial]) -> Vec<String> {
    let head = format!("{:<15} {:>5}  {:<38} {:>10} {:>9}", "kernel", "rows", "geometry", "ms", "GFLOP/s");
    let line = |trial: &Trial| {
        let Trial { kernel, rows, geometry, flops, taken, .. } = trial;
        let outcome = match &trial.outcome {
            Ok(seconds) => format!("{:>10.3} {:>9.0}{}", seconds * 1e3, *flops as f64 / seconds / 1e9, if *taken { "  taken" } else { "" }),
            Err(problem) => format!("not used: {problem}"),
        };
        format!("{kernel:<15} {rows:>5}  {geometry:<38} {outcome}")
    };
    std::iter::once(head).chain(trials.iter().map(line)).collect()
}

fn to_json(context: &Context, trials: &[Trial], file: Option<&str>) -> Value {
    let info = context.info();
    let trial = |trial: &Trial| {
        json!({
            "kernel": trial.kernel,
            "rows": trial.rows,
            "geometry": trial.geometry,
            "median_s": trial.outcome.as_ref().ok(),
            "gflop_per_s": trial.outcome.as_ref().ok().map(|seconds| trial.flops as f64 / seconds / 1e9),
            "problem": trial.outcome.as_ref().err(),
            "taken": trial.taken,
        })
    };
    json!({
        "device": context.name(),
        "driver": format!("{} {}", info.driver, info.driver_info).trim(),
        "tier": context.limits().tier.name(),
        "precision": context.limits().elem.name(),
        "trials": trials.iter().map(trial).collect::<Vec<_>>(),
        "file": file,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_names_what_was_taken_and_what_cannot_be_used() {
        let trial = |geometry: &str, outcome, taken| Trial {
            kernel: "attention",
            rows: 201,
            geometry: geometry.to_owned(),
            outcome,
            flops: 3_000_000_000,
            taken,
        };
        let trials = [
            trial("8 with 2", Ok(0.0015), true),
            trial("16 with 2", Ok(0.003), false),
            trial("64 with 4", Err("it differs from the first".to_owned()), false),
        ];
        let lines = table(&trials);
        assert_eq!(lines.len(), 4);
        let words = |line: usize| lines[line].split_whitespace().collect::<Vec<_>>();
        assert_eq!(words(0), ["kernel", "rows", "geometry", "ms", "GFLOP/s"]);
        assert_eq!(words(1), ["attention", "201", "8", "with", "2", "1.500", "2000", "taken"]);
        assert_eq!(words(2), ["attention", "201", "16", "with", "2", "3.000", "1000"]);
        assert!(lines[3].ends_with("64 with 4                              not used: it differs from the first"), "{}", lines[3]);
    }
}
