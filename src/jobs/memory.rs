//! How many images go through the model at once, by the memory that may be taken.

use std::fmt;
use std::str::FromStr;

use super::system::{available_bytes, memory_limit, resident_bytes};
use crate::backbone::Backbone;
use crate::error::{Error, Result};
use crate::vit::features::Request;
use crate::vit::model::Model;

/// Beyond this many images a larger batch is no faster on a GPU.
const MOST_GPU: usize = 16;
/// The same on a CPU, whose caches a batch outgrows early.
const MOST_CPU: usize = 4;
/// Batches whose features are on their way from a GPU at once: just submitted, waiting in the pipeline, and waited for by its writer.
const ON_THEIR_WAY: u64 = 3;
/// What a process takes beside weights and images: code, stacks, the allocator's own; 16 to 24 MiB were measured.
const PROCESS: usize = 24 << 20;
/// On a GPU, whose free memory no portable interface tells; and on a CPU whose system does not tell.
const DEFAULT: u64 = 4 << 30;

/// A number of bytes; as a text a whole number and a unit, as `4GiB` or `512M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::option("max_memory", format!("'{text}' is no amount of memory; give one as 4GiB or 512MiB"));
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
            _ => return Err(wrong()),
        };
        let bytes = text[..digits].parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|&n| n > 0);
        bytes.map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    /// In MiB, rounded up: given as an option, that is enough.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0.div_ceil(1 << 20))
    }
}

/// The largest batch for up to `count` images [C, H, W] that stays below `most`, the weights included.
///
/// Without `most`, a GPU may take 4 GiB and the CPU half of the memory that the system has available; a single image is then let through,
/// however large it is, unless the machine or a limit of it cannot give so much.
pub(super) fn batch(
    model: &Model,
    backbone: &Backbone,
    image: [usize; 3],
    count: usize,
    request: &Request,
    most: Option<ByteSize>,
) -> Result<usize> {
    let need = |batch: usize| need(model, backbone, image, batch, request);
    let what = format!("one image of {} x {} needs {{}} with the weights; give more, or a smaller `size`", image[1], image[2]);
    fit(count, backbone.threads().is_some(), most, need, &what)
}

/// The largest batch of up to `count` that stays below `most`, where `need` says how many bytes one takes. If not even one does, `what` is the reason, with {}
/// for what one needs; without `most` it is let through.
pub(super) fn fit(count: usize, on_cpu: bool, most: Option<ByteSize>, need: impl Fn(usize) -> Result<u64>, what: &str) -> Result<usize> {
    let budget = most.map_or_else(|| default_budget(on_cpu), |bytes| bytes.0);
    let mut batch = if on_cpu { MOST_CPU } else { MOST_GPU }.min(count).max(1);
    while batch > 1 && need(batch).map_or(true, |bytes| bytes > budget) {
        batch /= 2;
    }
    let what = |bytes| what.replace("{}", &ByteSize(bytes).to_string());
    match most {
        _ if batch > 1 => Ok(batch),
        Some(most) if need(1)? > most.0 => Err(Error::option("max_memory", format!("{most} are too few: {}", what(need(1)?)))),
        _ if on_cpu => possible(need(1)?, what).map(|()| batch),
        _ => Ok(batch),
    }
}

fn default_budget(on_cpu: bool) -> u64 {
    let left = memory_limit().map(|memory| memory.bytes);
    let available = if on_cpu { available_bytes().into_iter().chain(left).min() } else { None };
    available.map_or(DEFAULT, |bytes| bytes / 2)
}

/// Refuses what the machine cannot give: `what` says what needs so many bytes, those that this process has already among them.
fn possible(bytes: u64, what: impl Fn(u64) -> String) -> Result<()> {
    match memory_limit() {
        Some(memory) if bytes.saturating_sub(resident_bytes()) > memory.bytes => {
            let left = ByteSize(memory.bytes);
            Err(Error::option("memory", format!("{left} are left below {}, which are too few: {}", memory.set_by, what(bytes))))
        }
        _ => Ok(()),
    }
}

/// Refuses a model whose weights the machine cannot hold.
pub(super) fn weights(parameters: usize) -> Result<()> {
    let what = |bytes| format!("the model's {parameters} parameters need {} as f32", ByteSize(bytes));
    possible(parameters as u64 * 4, what)
}

/// Bytes that a batch needs, the weights included: as planned on a GPU, derived from the forward pass on the CPU.
fn need(model: &Model, backbone: &Backbone, [channels, height, width]: [usize; 3], batch: usize, request: &Request) -> Result<u64> {
    if let Some(planned) = backbone.planned_bytes(&[batch, channels, height, width], ON_THEIR_WAY, request)? {
        return Ok(planned);
    }
    let config = backbone.config();
    let (c, t) = (config.embed_dim, config.prefix_tokens() + config.grid(height, width)?.patches());
    // What serves every block: x, the normalised one, q k v before and after RoPE, attention's result: 9 C; the hidden layer: F.
    let working = t * (9 * c + config.ffn_dim);
    // What is kept of a batch, in the model, on its way to the file and being written, and its copies as bytes.
    let kept = t * c * (1 + usize::from(request.prenorm) + request.layers.len()) * 4;
    // Being read, waiting, computed on, and of the last batch.
    let images = channels * height * width * 4;
    Ok(((model.parameters() + batch * (working + kept + images)) * 4 + PROCESS) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units() {
        for (text, want) in [("4GiB", 4 << 30), ("512M", 512 << 20), ("3 kb", 3000), ("17", 17), ("1TiB", 1 << 40)] {
            assert_eq!(text.parse::<ByteSize>().expect(text), ByteSize(want), "{text}");
        }
        for text in ["", "0", "GiB", "-1G", "1.5G", "4 apples", "99999999999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
