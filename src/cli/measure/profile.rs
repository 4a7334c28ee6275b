//! GPU profiles, printed on stderr as text or written to a file as JSON.

use std::path::Path;
use std::time::Duration;

use meddino::archive::NewFile;
use meddino::gpu::{Profile, ProfileRow};
use meddino::jobs::Engine;
use meddino::output::WRITTEN_BY;
use meddino::vit::features::Request;
use meddino::{Result, Tensor};
use serde_json::{Value, json};

use crate::cli::terminal::Terminal;

/// The outputs of a profile.
#[derive(Clone, Copy, Debug)]
pub struct Profiling<'a> {
    /// Whether to print the profile on stderr.
    pub for_people: bool,
    /// The JSON file to write, if any.
    pub json: Option<&'a Path>,
}

impl Profiling<'_> {
    /// Runs `images` once more and reports the profile. Does nothing if no output is wanted.
    pub fn run(&self, engine: &Engine, images: &Tensor, request: &Request, terminal: &Terminal) -> Result<()> {
        if !self.for_people && self.json.is_none() {
            return Ok(());
        }
        let profile = engine.backbone().profile(images, request)?;
        if self.for_people {
            terminal.note(&profile);
        }
        self.json.map_or(Ok(()), |path| write(path, &to_json(&profile, images.shape())))
    }
}

fn write(path: &Path, value: &Value) -> Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_at(0, format!("{value:#}\n").as_bytes())?;
    file.commit()
}

fn to_json(profile: &Profile, image: &[usize]) -> Value {
    let has_dispatches = profile.dispatches.is_some();
    let rows = |rows: Vec<ProfileRow>| has_dispatches.then(|| rows.iter().map(row).collect::<Vec<_>>());
    let longest = profile.longest().map(|timed| json!({ "label": timed.label, "kernel": timed.kernel, "ms": millis(timed.time) }));
    json!({
        "device": profile.device,
        "image": image,
        "wall_ms": millis(profile.wall),
        "gflop": profile.cost.flops as f64 / 1e9,
        "dispatches": profile.dispatches.as_ref().map(Vec::len),
        "kernels": rows(profile.by_kernel()),
        "blocks": rows(profile.by_block()),
        "longest": longest,
        WRITTEN_BY: env!("CARGO_PKG_VERSION"),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn row(row: &ProfileRow) -> Value {
    json!({
        "name": row.name,
        "dispatches": row.dispatches,
        "ms": millis(row.time),
        "gflop": row.cost.flops as f64 / 1e9,
        "gflop_per_s": row.gflops(),
        "gb_per_s": row.gbytes(),
    })
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
