//! Batch sizes that keep a job within its memory limit.

use std::fmt;
use std::str::FromStr;

use super::observer::Observer;
use super::system::{available_bytes, memory_limit, resident_bytes};
use crate::backbone::{Backbone, Projector};
use crate::count::product;
use crate::error::{Error, Result};
use crate::vit::features::Request;
use crate::vit::model::Model;

/// The largest batch on a GPU; larger batches are not faster.
const MAX_GPU_BATCH: usize = 16;
/// The largest batch on a CPU, because larger batches exceed the caches.
const MAX_CPU_BATCH: usize = 4;
/// Number of batches whose features are in flight from a GPU: just submitted, queued in the pipeline, and awaited by
/// the writer.
const IN_FLIGHT: u64 = 3;
/// Bytes of a process besides weights and images, for code, stacks and the allocator. Measured: 16 to 24 MiB.
const PROCESS: u64 = 24 << 20;
/// The default limit on a GPU, because no portable interface reports its free memory, and on a CPU whose system reports
/// none.
const DEFAULT: u64 = 4 << 30;

/// A number of bytes. Its text form is a whole number and a unit, such as `4GiB` or `512M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || Error::option("max_memory", format!("'{text}' is not an amount of memory; give one such as 4GiB or 512MiB"));
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit: u64 = match text[digits..].trim().to_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(error()),
        };
        let bytes = text[..digits].parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|&n| n > 0);
        bytes.map(Self).ok_or_else(error)
    }
}

impl fmt::Display for ByteSize {
    /// Formats the size in MiB, rounded up, so that the printed size is large enough as an option.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0.div_ceil(1 << 20))
    }
}

/// Returns the largest batch, up to `count` images [C, H, W], that needs at most `limit` bytes, including the weights.
///
/// Without `limit`, a GPU may use 4 GiB and the CPU half of the system's available memory. A single image may then
/// exceed this default, unless it needs more than the machine or a system limit allows.
pub(super) fn batch(
    model: &Model,
    backbone: &Backbone,
    image: [usize; 3],
    count: usize,
    request: &Request,
    limit: Option<ByteSize>,
) -> Result<usize> {
    let need = |batch: usize| need(model, backbone, image, batch, request);
    fit(count, backbone.threads().is_some(), limit, need, &for_one(image))
}

/// Works as [`batch`] for passes on a GPU that hand out scores in place of tokens.
pub(super) fn projected_batch(projector: &Projector, image: [usize; 3], count: usize, limit: Option<ByteSize>) -> Result<usize> {
    let [channels, height, width] = image;
    let need = |batch: usize| {
        let bytes = projector.bytes(&[batch, channels, height, width])?;
        Ok(bytes.total() + IN_FLIGHT * bytes.outputs)
    };
    fit(count, false, limit, need, &for_one(image))
}

/// Returns the text that says what one image needs.
fn for_one([_, height, width]: [usize; 3]) -> String {
    format!("one image of {height} x {width} needs {{}} with the weights; give more, or use a smaller `size`")
}

/// Returns the largest batch, up to `count`, that needs at most `limit` bytes; `need` returns the bytes of a batch. If
/// a batch of one needs more, fails with the text `reason`, in which {} stands for the bytes that it needs. Without
/// `limit`, a batch of one is allowed.
pub(super) fn fit(count: usize, on_cpu: bool, limit: Option<ByteSize>, need: impl Fn(usize) -> Result<u64>, reason: &str) -> Result<usize> {
    let budget = limit.map_or_else(|| default_budget(on_cpu), |bytes| bytes.0);
    let mut batch = if on_cpu { MAX_CPU_BATCH } else { MAX_GPU_BATCH }.min(count).max(1);
    while batch > 1 && need(batch).map_or(true, |bytes| bytes > budget) {
        batch /= 2;
    }
    let reason = |bytes| reason.replace("{}", &ByteSize(bytes).to_string());
    match limit {
        _ if batch > 1 => Ok(batch),
        Some(limit) if need(1)? > limit.0 => Err(Error::option("max_memory", format!("{limit} are too few: {}", reason(need(1)?)))),
        _ if on_cpu => check_available(need(1)?, reason).map(|()| batch),
        _ => Ok(batch),
    }
}

fn default_budget(on_cpu: bool) -> u64 {
    let left = memory_limit().map(|memory| memory.bytes);
    let available = if on_cpu { available_bytes().into_iter().chain(left).min() } else { None };
    available.map_or(DEFAULT, |bytes| bytes / 2)
}

/// Fails if the machine cannot provide `bytes`, which include the memory that this process already has. `reason`
/// formats the error's explanation.
fn check_available(bytes: u64, reason: impl Fn(u64) -> String) -> Result<()> {
    match memory_limit() {
        Some(memory) if bytes.saturating_sub(resident_bytes()) > memory.bytes => {
            let left = ByteSize(memory.bytes);
            Err(Error::option("memory", format!("only {left} are left of {}: {}", memory.set_by, reason(bytes))))
        }
        _ => Ok(()),
    }
}

/// Tells `observer` that `what` takes up to `bytes` beside the memory that this process has.
///
/// # Errors
/// If the machine cannot provide them; the text ends with `advice`.
pub(super) fn tell(what: &str, bytes: u64, advice: &str, observer: &dyn Observer) -> Result<()> {
    let reason = |_| format!("{what} takes up to {}; {advice}", ByteSize(bytes));
    check_available(resident_bytes() + bytes, reason)?;
    observer.note(&format!("{what} takes up to {} of memory", ByteSize(bytes)));
    Ok(())
}

/// Fails if the machine cannot hold a model with this number of parameters.
pub(super) fn weights(parameters: usize) -> Result<()> {
    let reason = |bytes| format!("the model's {parameters} parameters need {} as f32", ByteSize(bytes));
    check_available(parameters as u64 * 4, reason)
}

/// Returns the bytes that a batch needs, including the weights: planned on a GPU, derived from the forward pass on the
/// CPU.
fn need(model: &Model, backbone: &Backbone, [channels, height, width]: [usize; 3], batch: usize, request: &Request) -> Result<u64> {
    if let Some(planned) = backbone.planned_bytes(&[batch, channels, height, width], IN_FLIGHT, request)? {
        return Ok(planned);
    }
    let config = backbone.config();
    let (c, t) = (config.embed_dim, config.prefix_tokens() + config.grid(height, width)?.patches());
    let working = config.working_values(t);
    // Four copies of a batch's features: in the model, on the way to the file, being written, and as bytes.
    let kept = product(&[t, c, 1 + usize::from(request.prenorm) + request.layers.len(), 4]);
    // Four batches of images: being read, queued, being computed, and the last batch of the report.
    let images = product(&[channels, height, width, 4]);
    Ok((model.parameters() as u64 + batch as u64 * (working + kept + images)) * 4 + PROCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_sizes_are_parsed_with_their_units() {
        for (text, want) in [("4GiB", 4 << 30), ("512M", 512 << 20), ("3 kb", 3000), ("17", 17), ("1TiB", 1 << 40)] {
            assert_eq!(text.parse::<ByteSize>().expect(text), ByteSize(want), "{text}");
        }
        for text in ["", "0", "GiB", "-1G", "1.5G", "4 apples", "99999999999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
