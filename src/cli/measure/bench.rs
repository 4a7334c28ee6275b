//! `meddino bench`: measures the speed of single batches.

use std::time::Instant;

use meddino::Result;
use meddino::jobs::peak_resident_bytes;
use meddino::vit::features::Request;
use serde_json::{Value, json};

use super::peak::flops_of_gemm;
use super::subject::Subject;
use crate::cli::flags::Bench;
use crate::cli::terminal::Terminal;
use crate::cli::terminal::say::result;

/// The results of the benchmark.
struct Measured {
    subject: Subject,
    start: Start,
    /// Seconds per image of each timed run, ascending.
    seconds: Vec<f64>,
    /// On a GPU, seconds per image of each compute pass alone, without transfers, ascending.
    device_seconds: Option<Vec<f64>>,
    /// FLOPs of one image: [`meddino::vit::config::Config::product_flops`].
    flops: u64,
    /// FLOP/s of one large matrix product on the same device; none where no product uses the same instruction set.
    peak: Option<f64>,
    /// Planned bytes on a GPU, or the process's peak memory on the CPU; none where the system does not report it.
    bytes: Option<u64>,
}

/// What a user waits for before the first features.
struct Start {
    /// Seconds until the model is loaded onto its backend. On a GPU its kernels are tested, too.
    open: f64,
    /// Seconds of the first batch. On a GPU the model's kernels are compiled in this time.
    first: f64,
}

/// Runs a batch of the built-in slice `--runs` times, and prints the results.
pub fn run(args: &Bench, terminal: &Terminal) -> Result<()> {
    let measured = measure(args, terminal)?;
    if args.json { result(format_args!("{:#}", measured.to_json())) } else { measured.table() }
}

fn measure(args: &Bench, terminal: &Terminal) -> Result<Measured> {
    let began = Instant::now();
    let (subject, engine, mut input) = Subject::open(args, terminal)?;
    let open = began.elapsed().as_secs_f64();
    let (model, backbone) = (engine.model(), engine.backbone());
    let (batch, request) = (subject.batch, Request::default());
    let images = input.batch(vec![0; batch])?;
    terminal.note(format_args!("{} runs of {batch} x {1} x {1} on {2}", args.runs, args.size, subject.device));
    let run = || -> Result<f64> {
        let started = Instant::now();
        backbone.features(&images, None, &request)?;
        Ok(started.elapsed().as_secs_f64() / batch as f64)
    };
    let start = Start { open, first: run()? * batch as f64 };
    // A GPU is timed alone first, because that leaves it at its working clock.
    let times = backbone.pass_times(&images, &request, args.runs as usize)?;
    let seconds = (0..args.runs).map(|_| run()).collect::<Result<Vec<_>>>()?;
    let device_seconds = times.map(|times| ascending(times.iter().map(|time| time.as_secs_f64() / batch as f64).collect()));
    let on_cpu = backbone.threads().is_some();
    let bytes = if on_cpu { peak_resident_bytes() } else { backbone.planned_bytes(images.shape(), 1, &request)? };
    Ok(Measured {
        seconds: ascending(seconds),
        device_seconds,
        flops: model.config().product_flops(images.shape()[1], model.config().grid(args.size, args.size)?),
        peak: backbone.peak_flops()?.or_else(flops_of_gemm),
        bytes,
        subject,
        start,
    })
}

fn ascending(mut seconds: Vec<f64>) -> Vec<f64> {
    seconds.sort_by(f64::total_cmp);
    seconds
}

/// Returns the median of values in ascending order.
fn median(seconds: &[f64]) -> f64 {
    let (upper, lower) = (seconds.len() / 2, (seconds.len() - 1) / 2);
    f64::midpoint(seconds[lower], seconds[upper])
}

impl Measured {
    fn gflops(&self) -> f64 {
        self.flops as f64 / median(&self.seconds) / 1e9
    }

    /// The pass's speed as a share of one large product's.
    fn share(&self) -> Option<f64> {
        self.peak.map(|peak| self.gflops() * 1e9 / peak)
    }

    fn to_json(&self) -> Value {
        let mut json = self.subject.to_json();
        json["runs"] = json!(self.seconds.len());
        json["open_s"] = json!(self.start.open);
        json["first_s"] = json!(self.start.first);
        json["median_s"] = json!(median(&self.seconds));
        json["min_s"] = json!(self.seconds[0]);
        json["device_s"] = json!(self.device_seconds.as_deref().map(median));
        json["gflop"] = json!(self.flops as f64 / 1e9);
        json["gflop_per_s"] = json!(self.gflops());
        json["matmul_gflop_per_s"] = json!(self.peak.map(|peak| peak / 1e9));
        json["matmul_share"] = json!(self.share());
        json["peak_bytes"] = json!(self.bytes);
        json
    }

    fn table(&self) -> Result<()> {
        self.subject.table(&format!("{} runs", self.seconds.len()))?;
        let Start { open, first } = self.start;
        result(format_args!("start     {open:.2} s to load the model, {first:.2} s for the first batch"))?;
        result(format_args!("time      {:.4} s per image (median), {:.4} s (fastest)", median(&self.seconds), self.seconds[0]))?;
        if let Some(seconds) = &self.device_seconds {
            result(format_args!("          {:.4} s the pass alone on the device (median)", median(seconds)))?;
        }
        result(format_args!("speed     {:.1} GFLOP/s ({:.1} GFLOP per image)", self.gflops(), self.flops as f64 / 1e9))?;
        if let (Some(share), Some(peak)) = (self.share(), self.peak) {
            result(format_args!("          {:.0} % of one large product's {:.1} GFLOP/s", share * 100.0, peak / 1e9))?;
        }
        match self.bytes {
            Some(bytes) => result(format_args!("memory    at most {} MiB", bytes >> 20)),
            None => result("memory    unknown on this system"),
        }
    }
}
