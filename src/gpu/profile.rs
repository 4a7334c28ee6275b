//! Profiles a graph: times each dispatch with two timestamps, and sums the times by kernel and by block.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use web_time::Instant;

#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::executable::Executable;
use super::stamps::{Span, Stamps};
use crate::error::Result;
use crate::graph::Cost;

/// The times of one run of a graph.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The adapter's name, and the tier and the precision of its kernels.
    pub device: String,
    /// The time by the host's clock, from the first submission to the end of the last readback.
    pub wall: Duration,
    /// Every dispatch in the order of execution; `None` if the device has no timestamps.
    pub dispatches: Option<Vec<Timed>>,
    /// Declared arithmetic and traffic of the whole graph.
    pub cost: Cost,
}

/// The time of one dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timed {
    /// The tap's name, such as `blocks.3.attn.qkv`.
    pub label: String,
    /// The kernel's name, such as `matmul`.
    pub kernel: &'static str,
    /// The time by the device's clock.
    pub time: Duration,
    /// Declared arithmetic and traffic.
    pub cost: Cost,
}

/// The sums over the dispatches of one kernel or one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileRow {
    /// The kernel's name, or the block's, such as `blocks.3`.
    pub name: String,
    /// The number of dispatches.
    pub dispatches: usize,
    /// The time by the device's clock.
    pub time: Duration,
    /// Declared arithmetic and traffic.
    pub cost: Cost,
}

impl ProfileRow {
    /// Returns the speed in 1e9 floating-point operations per second.
    pub fn gflops(&self) -> f64 {
        rate(self.cost.flops, self.time)
    }

    /// Returns the memory traffic in 1e9 bytes per second. It counts the fewest bytes that the dispatches had to move,
    /// so the real traffic may be higher.
    pub fn gbytes(&self) -> f64 {
        rate(self.cost.bytes, self.time)
    }
}

fn rate(amount: u64, time: Duration) -> f64 {
    // Two timestamps may be equal if the device's clock is coarse.
    if time.is_zero() { 0.0 } else { amount as f64 / time.as_secs_f64() / 1e9 }
}

impl Profile {
    /// Returns a row for each kernel, the longest time first.
    pub fn by_kernel(&self) -> Vec<ProfileRow> {
        let mut rows = self.grouped(|timed| timed.kernel);
        rows.sort_by_key(|row| std::cmp::Reverse(row.time));
        rows
    }

    /// Returns a row for each block, and for each tap outside the blocks, in the order of execution.
    pub fn by_block(&self) -> Vec<ProfileRow> {
        self.grouped(|timed| block(&timed.label))
    }

    /// Returns the dispatch that took longest. A desktop on the same device may have to wait that long.
    pub fn longest(&self) -> Option<&Timed> {
        self.dispatches.iter().flatten().max_by_key(|timed| timed.time)
    }

    fn grouped<'a>(&'a self, key: impl Fn(&'a Timed) -> &'a str) -> Vec<ProfileRow> {
        let mut rows: Vec<ProfileRow> = Vec::new();
        for timed in self.dispatches.iter().flatten() {
            let name = key(timed);
            let at = rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
                rows.push(ProfileRow { name: name.to_owned(), dispatches: 0, time: Duration::ZERO, cost: Cost::default() });
                rows.len() - 1
            });
            let row = &mut rows[at];
            row.dispatches += 1;
            row.time += timed.time;
            row.cost = row.cost + timed.cost;
        }
        rows
    }
}

/// Returns the block of a label: `blocks.3.attn.qkv` -> `blocks.3`; `norm` -> `norm`.
fn block(label: &str) -> &str {
    let dots = if label.starts_with("blocks.") { 2 } else { 1 };
    label.match_indices('.').nth(dots - 1).map_or(label, |(at, _)| &label[..at])
}

impl fmt::Display for Profile {
    /// Writes two tables, by kernel and by block, and the longest dispatch.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = ProfileRow { name: "all".to_owned(), dispatches: 0, time: self.wall, cost: self.cost };
        writeln!(f, "{}: {:.2} ms by the host's clock, {:.1} GFLOP/s", self.device, millis(self.wall), whole.gflops())?;
        if self.dispatches.is_none() {
            return writeln!(f, "This device has no timestamps, so single kernels cannot be timed.");
        }
        for (heading, rows) in [("kernel", self.by_kernel()), ("block", self.by_block())] {
            let total: Duration = rows.iter().map(|row| row.time).sum();
            writeln!(f, "\n{heading:<20} {:>6} {:>12} {:>6} {:>10} {:>9}", "runs", "ms", "%", "GFLOP/s", "GB/s")?;
            for row in rows {
                let share = 100.0 * row.time.as_secs_f64() / total.as_secs_f64().max(f64::MIN_POSITIVE);
                let (name, ms) = (&row.name, millis(row.time));
                writeln!(f, "{name:<20} {:>6} {ms:>12.3} {share:>6.1} {:>10.1} {:>9.1}", row.dispatches, row.gflops(), row.gbytes())?;
            }
        }
        if let Some(Timed { label, kernel, time, .. }) = self.longest() {
            writeln!(f, "\nThe longest dispatch took {:.2} ms: {kernel} of {label}.", millis(*time))?;
        }
        Ok(())
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Executable {
    /// Runs the graph once with a compute pass for each dispatch, and times each dispatch. The passes make it slower
    /// than [`Executable::run`]. Call [`Executable::run`] once before, because drivers delay work until the first use,
    /// which the first dispatches would include.
    ///
    /// # Errors
    /// If the device refuses the work, is out of memory or lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile(&self) -> Result<Profile> {
        block_on(self.profile_async())
    }

    /// [`Executable::profile`] as a future.
    ///
    /// # Errors
    /// If the device refuses the work, is out of memory or lost.
    pub async fn profile_async(&self) -> Result<Profile> {
        let context = self.context();
        let steps = self.graph().steps();
        context.done("profiling").await?;
        let start = Instant::now();
        let dispatches = self.timed_dispatches().await?;
        if dispatches.is_none() {
            self.run()?;
            context.done("profiling").await?;
        }
        Ok(Profile {
            device: format!("{}, {} kernels over {}", context.info().name, context.limits().tier, context.limits().elem.name()),
            wall: start.elapsed(),
            dispatches,
            cost: steps.iter().fold(Cost::default(), |sum, step| sum + step.cost),
        })
    }

    /// Times every dispatch; `None` if the device has no timestamps.
    async fn timed_dispatches(&self) -> Result<Option<Vec<Timed>>> {
        let steps = self.graph().steps();
        let mut dispatches = Vec::new();
        for first in (0..steps.len()).step_by(Stamps::MOST) {
            let part = first..steps.len().min(first + Stamps::MOST);
            let Some(times) = self.timed(part.clone()).await? else { return Ok(None) };
            dispatches.extend(steps[part].iter().zip(times).map(|(step, time)| Timed {
                label: step.label.clone(),
                kernel: step.kernel.name,
                time,
                cost: step.cost,
            }));
        }
        Ok(Some(dispatches))
    }

    /// Returns the time of each of these dispatches; `None` if the device has no timestamps.
    async fn timed(&self, part: Range<usize>) -> Result<Option<Vec<Duration>>> {
        let context = self.context();
        let Some(stamps) = Stamps::new(context, part.len()).await? else { return Ok(None) };
        context.checked("profiling", || {
            let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("profile") });
            for (at, step) in part.enumerate() {
                self.encode_pass(&mut encoder, step..step + 1, Some(&self.graph().steps()[step].label), stamps.writes(at, true, true));
            }
            context.submit([encoder.finish()]);
            Ok(())
        })?;
        Ok(Some(stamps.begin(context)?.spans().await?.into_iter().map(Span::time).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(label: &str, kernel: &'static str, ms: u64) -> Timed {
        Timed { label: label.to_owned(), kernel, time: Duration::from_millis(ms), cost: Cost { flops: ms * 2_000_000, bytes: 4_000_000 } }
    }

    fn profile(dispatches: Option<Vec<Timed>>) -> Profile {
        Profile { device: "a GPU".into(), wall: Duration::from_millis(20), dispatches, cost: Cost { flops: 60_000_000, bytes: 0 } }
    }

    #[test]
    fn times_are_summed_by_kernel_and_by_block() {
        let profile = profile(Some(vec![
            timed("patch_embed", "patch_embed", 1),
            timed("blocks.1.norm1", "layernorm", 2),
            timed("blocks.1.attn.qkv", "matmul", 3),
            timed("blocks.10.attn.qkv", "matmul", 4),
        ]));
        let names = |rows: &[ProfileRow]| rows.iter().map(|row| (row.name.clone(), row.time.as_millis())).collect::<Vec<_>>();
        assert_eq!(names(&profile.by_kernel()), [("matmul".into(), 7), ("layernorm".into(), 2), ("patch_embed".into(), 1)]);
        assert_eq!(names(&profile.by_block()), [("patch_embed".into(), 1), ("blocks.1".into(), 5), ("blocks.10".into(), 4)]);
        let matmul = &profile.by_kernel()[0];
        assert_eq!(matmul.dispatches, 2);
        assert!((matmul.gflops() - 2.0).abs() < 1e-9, "14e6 FLOP in 7 ms");
        assert!((matmul.gbytes() - 8.0 / 7.0).abs() < 1e-9, "8e6 bytes in 7 ms");
        let text = profile.to_string();
        assert!(text.contains("a GPU: 20.00 ms by the host's clock, 3.0 GFLOP/s"), "{text}");
        assert!(text.contains("matmul"), "{text}");
    }

    #[test]
    fn a_profile_without_timestamps_says_so() {
        let text = profile(None).to_string();
        assert!(text.contains("no timestamps"), "{text}");
    }
}
