//! `meddino bench`: how fast the model runs on this machine.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use meddino::Result;
use meddino::backbone::Tuning;
use meddino::ct::Size;
use meddino::graph::Tier;
use meddino::vit::features::Request;
use serde_json::{Value, json};

use super::args::Bench;
use super::cases::Case;
use super::input::{Input, View};
use super::limits;
use super::peak;
use super::runner::{Runner, open_model};
use super::say::{Done, Say, result};
use super::text::text;
use super::throughput;

/// What is measured: a model on a backend, and images.
pub struct Subject {
    pub device: String,
    /// On the CPU.
    pub threads: Option<usize>,
    tuning: Tuning,
    checkpoint: PathBuf,
    size: usize,
    /// Images that go through the model at once.
    pub batch: usize,
}

/// How fast it was.
struct Measured {
    subject: Subject,
    /// Of each timed run, seconds an image, ascending.
    seconds: Vec<f64>,
    /// The same of the pass alone, on a GPU.
    device_seconds: Option<Vec<f64>>,
    /// Of one image: [`meddino::vit::config::Config::product_flops`].
    flops: u64,
    /// FLOP/s of one large product on the same device.
    peak: f64,
    /// On a GPU what is planned, on the CPU the most that the process held; where that can be known.
    bytes: Option<u64>,
}

/// The command.
pub fn run(args: &Bench, say: Say) -> Done {
    if let Some(slices) = args.slices {
        return throughput::run(args, slices as usize, say);
    }
    let measured = measure(args, say)?;
    if args.json { result(format_args!("{:#}", measured.to_json())) } else { measured.table() }
}

fn measure(args: &Bench, say: Say) -> Result<Measured> {
    let (subject, Runner { model, backbone, .. }, mut input) = Subject::open(args)?;
    let (batch, request) = (subject.batch, Request::default());
    let images = input.batch(vec![0; batch])?;
    say.note(format_args!("{} runs of {batch} x {1} x {1} on {2}", args.runs, args.size, subject.device));
    let run = || -> Result<f64> {
        let started = Instant::now();
        backbone.features(&images, None, &request)?;
        Ok(started.elapsed().as_secs_f64() / batch as f64)
    };
    run()?;
    let seconds = (0..args.runs).map(|_| run()).collect::<Result<Vec<_>>>()?;
    let times = backbone.pass_times(&images, &request, args.runs as usize)?;
    let device_seconds = times.map(|times| ascending(times.iter().map(|time| time.as_secs_f64() / batch as f64).collect()));
    let on_cpu = backbone.threads().is_some();
    let bytes = if on_cpu { peak_resident_bytes() } else { backbone.planned_bytes(images.shape(), 1, &request)? };
    Ok(Measured {
        seconds: ascending(seconds),
        device_seconds,
        flops: model.config().product_flops(images.shape()[1], model.config().grid(args.size, args.size)?),
        peak: backbone.peak_flops()?.unwrap_or_else(peak::flops_of_gemm),
        bytes,
        subject,
    })
}

fn ascending(mut seconds: Vec<f64>) -> Vec<f64> {
    seconds.sort_by(f64::total_cmp);
    seconds
}

/// Of values in ascending order.
fn median(seconds: &[f64]) -> f64 {
    let (upper, lower) = (seconds.len() / 2, (seconds.len() - 1) / 2);
    f64::midpoint(seconds[lower], seconds[upper])
}

impl Subject {
    /// The model and the backend that the flags mean, and the built-in slice.
    pub fn open(args: &Bench) -> Result<(Self, Runner, Input)> {
        let checkpoint = args.model.checkpoint.clone().unwrap_or_else(|| "seeded:0".into());
        let model = open_model(&checkpoint, args.model.rope.precision())?;
        model.config().grid(args.size, args.size)?;
        let input = Input::open(&Case::new("phantom"), View::demo(Size::Square(args.size)))?;
        let runner = Runner::load(checkpoint.clone(), model, args.model.compute.choice()?, args.model.compute.kernels.tuning())?;
        let Runner { backbone, .. } = &runner;
        let (device, threads, tuning) = (backbone.device(), backbone.threads(), backbone.tuning());
        Ok((Self { device, threads, tuning, checkpoint, size: args.size, batch: args.batch as usize }, runner, input))
    }

    pub fn to_json(&self) -> Value {
        json!({
            "device": self.device,
            "threads": self.threads,
            "tier": self.tuning.tier.map(Tier::name),
            "precision": self.tuning.precision.to_string(),
            "checkpoint": text(&self.checkpoint),
            "size": self.size,
            "batch": self.batch,
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    /// The first lines of a table; `what` was done with the images.
    pub fn table(&self, what: &str) -> Done {
        let Self { size, batch, .. } = self;
        result(format_args!("device    {}", self.device))?;
        result(format_args!("model     {}, {batch} x {size} x {size}, {what}", self.checkpoint.display()))?;
        let tier = self.tuning.tier.map_or(String::new(), |tier| format!(", {tier} kernels"));
        result(format_args!("precision {}{tier}", self.tuning.precision))
    }
}

impl Measured {
    fn gflops(&self) -> f64 {
        self.flops as f64 / median(&self.seconds) / 1e9
    }

    fn share(&self) -> f64 {
        self.gflops() * 1e9 / self.peak
    }

    fn to_json(&self) -> Value {
        let mut told = self.subject.to_json();
        told["runs"] = json!(self.seconds.len());
        told["median_s"] = json!(median(&self.seconds));
        told["min_s"] = json!(self.seconds[0]);
        told["device_s"] = json!(self.device_seconds.as_deref().map(median));
        told["gflop"] = json!(self.flops as f64 / 1e9);
        told["gflop_per_s"] = json!(self.gflops());
        told["matmul_gflop_per_s"] = json!(self.peak / 1e9);
        told["matmul_share"] = json!(self.share());
        told["peak_bytes"] = json!(self.bytes);
        told
    }

    fn table(&self) -> Done {
        self.subject.table(&format!("{} runs", self.seconds.len()))?;
        result(format_args!("time      {:.4} s an image (median), {:.4} s (least)", median(&self.seconds), self.seconds[0]))?;
        if let Some(seconds) = &self.device_seconds {
            result(format_args!("          {:.4} s the pass alone, on the device (median)", median(seconds)))?;
        }
        result(format_args!("speed     {:.1} GFLOP/s ({:.1} GFLOP an image)", self.gflops(), self.flops as f64 / 1e9))?;
        result(format_args!("          {:.0} % of a large product's {:.1} GFLOP/s", self.share() * 100.0, self.peak / 1e9))?;
        match self.bytes {
            Some(bytes) => result(format_args!("memory    {} MiB at most", bytes >> 20)),
            None => result("memory    not known on this system"),
        }
    }
}

/// The most memory that this process has held, where the kernel says so (Linux: `VmHWM`, in KiB).
fn peak_resident_bytes() -> Option<u64> {
    limits::kib(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}
