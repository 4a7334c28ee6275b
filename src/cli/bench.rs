//! `meddino bench`: how fast the model runs on this machine.

use std::fs;
use std::time::Instant;

use meddino::backbone::Tuning;
use meddino::ct::Size;
use meddino::graph::Tier;
use meddino::vit::features::Request;
use meddino::{Result, Tensor};
use serde_json::{Value, json};

use super::args::Bench;
use super::input::{Input, View};
use super::runner::{open_backbone, open_model};
use super::say::{Done, Say, result};

/// What was measured.
struct Measured {
    device: String,
    threads: Option<usize>,
    /// On a GPU.
    tuning: Tuning,
    checkpoint: String,
    size: usize,
    batch: usize,
    /// Of each timed run, seconds an image, ascending.
    seconds: Vec<f64>,
    /// Of one image: [`meddino::vit::config::Config::product_flops`].
    flops: u64,
    /// FLOP/s of one large product on the same device.
    peak: f64,
    /// On a GPU what is planned, on the CPU the most that the process held; where that can be known.
    bytes: Option<u64>,
}

/// The command.
pub fn run(args: &Bench, say: Say) -> Done {
    let measured = measure(args, say)?;
    if args.json { result(format_args!("{:#}", measured.to_json())) } else { measured.table() }
}

fn measure(args: &Bench, say: Say) -> Result<Measured> {
    let checkpoint = args.model.checkpoint.clone().unwrap_or_else(|| "seeded:0".into());
    let model = open_model(&checkpoint, args.model.rope.precision())?;
    let grid = model.config().grid(args.size, args.size)?;
    let (size, batch, request) = (args.size, args.batch as usize, Request::default());
    let slice = Input::open("phantom", View::demo(Size::Square(size)))?.batch(0..1)?;
    let images = Tensor::new([batch, 1, size, size], slice.data().repeat(batch));

    let backbone = open_backbone(&model, args.model.compute.choice()?, args.model.compute.kernels.tuning())?;
    say.note(format_args!("{} runs of {batch} x {size} x {size} on {}", args.runs, backbone.device()));
    let run = || -> Result<f64> {
        let started = Instant::now();
        backbone.features(&images, None, &request)?;
        Ok(started.elapsed().as_secs_f64() / batch as f64)
    };
    run()?;
    let mut seconds = (0..args.runs).map(|_| run()).collect::<Result<Vec<_>>>()?;
    seconds.sort_by(f64::total_cmp);
    let on_cpu = backbone.threads().is_some();
    let bytes = if on_cpu { peak_resident_bytes() } else { backbone.planned_bytes(images.shape(), 1, &request)? };
    Ok(Measured {
        device: backbone.device(),
        threads: backbone.threads(),
        tuning: backbone.tuning(),
        checkpoint,
        size,
        batch,
        seconds,
        flops: model.config().product_flops(images.shape()[1], grid),
        peak: backbone.peak_flops()?,
        bytes,
    })
}

impl Measured {
    fn median(&self) -> f64 {
        let (upper, lower) = (self.seconds.len() / 2, (self.seconds.len() - 1) / 2);
        f64::midpoint(self.seconds[lower], self.seconds[upper])
    }

    fn gflops(&self) -> f64 {
        self.flops as f64 / self.median() / 1e9
    }

    fn share(&self) -> f64 {
        self.gflops() * 1e9 / self.peak
    }

    fn to_json(&self) -> Value {
        json!({
            "device": self.device,
            "threads": self.threads,
            "tier": self.tuning.tier.map(Tier::name),
            "precision": self.tuning.precision.to_string(),
            "checkpoint": self.checkpoint,
            "size": self.size,
            "batch": self.batch,
            "runs": self.seconds.len(),
            "median_s": self.median(),
            "min_s": self.seconds[0],
            "gflop": self.flops as f64 / 1e9,
            "gflop_per_s": self.gflops(),
            "matmul_gflop_per_s": self.peak / 1e9,
            "matmul_share": self.share(),
            "peak_bytes": self.bytes,
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    fn table(&self) -> Done {
        let Self { size, batch, .. } = self;
        result(format_args!("device    {}", self.device))?;
        result(format_args!("model     {}, {batch} x {size} x {size}, {} runs", self.checkpoint, self.seconds.len()))?;
        let tier = self.tuning.tier.map_or(String::new(), |tier| format!(", {tier} kernels"));
        result(format_args!("precision {}{tier}", self.tuning.precision))?;
        result(format_args!("time      {:.4} s an image (median), {:.4} s (least)", self.median(), self.seconds[0]))?;
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
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
}
