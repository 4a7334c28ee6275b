//! `meddino bench --slices`: measures the slices per second of a volume, from the scan to the file, and the GPU's idle
//! time.

use std::time::Instant;

use meddino::archive::Dtype;
use meddino::gpu::Span;
use meddino::jobs::{Engine, Input, Observer};
use meddino::output::{Contents, FeatureFile, Format, Output};
use meddino::{Error, Result};
use serde_json::json;

use super::subject::Subject;
use crate::cli::flags::Bench;
use crate::cli::terminal::Terminal;
use crate::cli::terminal::say::result;

/// The results of the benchmark.
struct Throughput {
    slices: usize,
    /// Seconds from the first read until the file is finished.
    seconds: f64,
    /// The GPU's idle share of the time between the start of the first pass and the end of the last pass, by the
    /// device's clock; `None` if the device has no timestamps.
    idle: Option<f64>,
}

/// Processes a volume of `slices` copies of the built-in slice as `features` does, and prints the results.
///
/// Slices are read, computed and written at the same time, to a temporary file.
pub fn run(args: &Bench, slices: usize, terminal: &Terminal) -> Result<()> {
    let (subject, engine, mut input) = Subject::open(args, terminal)?;
    terminal.note(format_args!("{slices} slices of {0} x {0}, {1} at a time, on {2}", args.size, subject.batch, subject.device));
    // The first batch of a size compiles its pipelines, so it is not timed.
    engine.backbone().features(&input.batch(vec![0; subject.batch.min(slices)])?, None, &Output::request(&OUTPUTS))?;
    let measured = measure(&engine, &mut input, slices, subject.batch, terminal)?;
    if args.json { measured.json(&subject) } else { measured.table(&subject) }
}

/// The outputs that `features` writes by default.
const OUTPUTS: [Output; 3] = [Output::Cls, Output::Storage, Output::Patch];

fn measure(engine: &Engine, input: &mut Input, slices: usize, batch: usize, terminal: &Terminal) -> Result<Throughput> {
    let folder = tempfile::tempdir().map_err(|e| Error::output("a temporary folder", format!("{e}; set TMPDIR to another folder")))?;
    terminal.begins();
    let (indices, request) = (vec![0; slices], Output::request(&OUTPUTS));
    let [_, channels, height, width] = input.shape();
    let (_, grid) = engine.model().config().check_image(&[1, channels, height, width])?;
    let metadata = engine.provenance(input, &indices)?.metadata();
    let contents = Contents { images: slices, grid, outputs: OUTPUTS.to_vec(), dtype: Dtype::F32 };
    let target = folder.path().join("volume.safetensors");

    let started = Instant::now();
    let mut file = FeatureFile::create(&target, Format::Safetensors, engine.model().config(), &contents, metadata, "")?;
    terminal.progress(0, slices);
    let mut spans: Vec<Option<Span>> = Vec::new();
    let done = Engine::pipe(
        input,
        &indices,
        batch,
        terminal,
        |images| engine.backbone().submit_clocked(images, None, &request),
        |pending, _| {
            let (features, span) = pending.wait_clocked()?;
            spans.push(span);
            file.push(&features)?;
            engine.backbone().reuse(features);
            terminal.progress(file.written(), slices);
            Ok(())
        },
    );
    terminal.ends();
    done?;
    file.finish()?;
    let seconds = started.elapsed().as_secs_f64();
    let spans: Option<Vec<Span>> = spans.into_iter().collect();
    Ok(Throughput { slices, seconds, idle: spans.and_then(|spans| idle_share(&spans)) })
}

/// Returns the share of time between the first start and the last end that no span covers. `spans` are in the order of
/// their starts.
fn idle_share(spans: &[Span]) -> Option<f64> {
    let (begin, end) = (spans.first()?.begin, spans.iter().map(|span| span.end).max()?);
    let whole = end.checked_sub(begin)?.as_secs_f64();
    let (mut idle, mut reached) = (0.0, begin);
    for span in spans {
        idle += span.begin.saturating_sub(reached).as_secs_f64();
        reached = reached.max(span.end);
    }
    (whole > 0.0).then(|| idle / whole)
}

impl Throughput {
    fn slices_per_s(&self) -> f64 {
        self.slices as f64 / self.seconds
    }

    fn json(&self, subject: &Subject) -> Result<()> {
        let mut json = subject.to_json();
        json["slices"] = json!(self.slices);
        json["seconds"] = json!(self.seconds);
        json["slices_per_s"] = json!(self.slices_per_s());
        json["gpu_idle_share"] = json!(self.idle);
        result(format_args!("{json:#}"))
    }

    fn table(&self, subject: &Subject) -> Result<()> {
        subject.table(&format!("{} slices", self.slices))?;
        result(format_args!("speed     {:.2} slices per second ({:.2} s in total)", self.slices_per_s(), self.seconds))?;
        match self.idle {
            Some(idle) => result(format_args!("GPU idle  {:.1} % of the time from the first pass to the last", 100.0 * idle)),
            None if subject.threads.is_some() => Ok(()),
            None => result("GPU idle  unknown: this device has no timestamps"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn idle_share_counts_the_time_without_a_pass() {
        let spans = |list: &[(u64, u64)]| -> Vec<Span> {
            list.iter().map(|&(begin, end)| Span { begin: Duration::from_micros(begin), end: Duration::from_micros(end) }).collect()
        };
        let share = |list: &[(u64, u64)]| idle_share(&spans(list)).map(|share| (share * 1000.0).round());
        assert_eq!(share(&[(100, 200)]), Some(0.0));
        assert_eq!(share(&[(100, 200), (250, 300)]), Some(250.0), "50 of 200");
        assert_eq!(share(&[(100, 200), (150, 300), (400, 500)]), Some(250.0), "100 of 400, though two ran at once");
        assert_eq!(share(&[(100, 400), (150, 200), (400, 500)]), Some(0.0), "one within another");
        assert_eq!(share(&[]), None);
        assert_eq!(share(&[(7, 7)]), None, "a clock that stands still");
        assert_eq!(share(&[(100, 50)]), None, "a clock that runs backwards");
    }
}
