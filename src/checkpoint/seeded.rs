//! Weights computed from a seed. They are untrained, but bit-identical on every machine and numerically demanding.
//!
//! ```text
//! h = FNV-1a-64(utf8("{seed}/{name}"))
//! z = splitmix64(h + i * 0x9E3779B97F4A7C15)     wrapping u64; i is the flat index, row-major
//! u = f32(z >> 40) / 2^23 - 1                    in [-1, 1), exact
//! ```
//!
//! Each step after `u` is one f32 operation, in the order written. The scales keep attention between uniform and
//! one-hot, and LayerScale far from zero. As in trained models, a few norm channels are large, and block 2 drives two
//! residual channels past 250. Tests therefore detect an engine that drops RoPE, or uses a wrong epsilon or a cheaper
//! GELU.

use crate::parallel;
use crate::tensor::Tensor;

/// 2^64 divided by the golden ratio: splitmix64's increment.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Computes the tensor called `name`, of any `shape`.
pub(super) fn tensor(seed: u64, name: &str, shape: &[usize]) -> Tensor {
    let start = fnv1a(&format!("{seed}/{name}"));
    let shaped = Rule::of(name);
    let cols = shape.last().copied().unwrap_or(1).max(1);
    let n: usize = shape.iter().product();
    let values = parallel::map(n, |i| shaped.value(uniform(start, i as u64), i, i / cols));
    Tensor::new(shape, values)
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// Returns value `i` of the stream that starts at `start`, in [-1, 1).
fn uniform(start: u64, i: u64) -> f32 {
    let x = start.wrapping_add(i.wrapping_mul(GOLDEN)).wrapping_add(GOLDEN);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let x = x ^ (x >> 31);
    // 24 bits are exact in f32, and so is the division by a power of two.
    (x >> 40) as f32 / 8_388_608.0 - 1.0
}

/// The rule that computes a parameter's values from `u`. The parameter's name selects it.
#[derive(Clone, Copy)]
enum Rule {
    /// `u * scale`
    Scaled(f32),
    /// `1 + u/4`; four times that in every 97th channel, starting at channel 13.
    NormWeight,
    /// `1/4 + 3u/16`
    LayerScale,
    /// `u/32`, times 512 in rows 5 and 321, which drive the two channels that grow past 250.
    Outliers,
}

impl Rule {
    fn of(name: &str) -> Self {
        let kind = name.rsplit('.').next();
        let weight = kind == Some("weight");
        match name {
            "cls_token" | "storage_tokens" | "mask_token" => Self::Scaled(0.5),
            "patch_embed.proj.weight" => Self::Scaled(0.03125),
            _ if name.contains("norm") && weight => Self::NormWeight,
            _ if name.contains("norm") => Self::Scaled(0.25),
            _ if kind == Some("gamma") => Self::LayerScale,
            _ if name.ends_with("mlp.fc2.weight") && name.starts_with("blocks.2.") => Self::Outliers,
            _ if name.ends_with("mlp.fc2.weight") => Self::Scaled(0.03125),
            _ if weight => Self::Scaled(0.0625),
            _ => Self::Scaled(0.125),
        }
    }

    /// Returns the value at flat index `i`, in row `row`.
    fn value(self, u: f32, i: usize, row: usize) -> f32 {
        match self {
            Self::Scaled(scale) => u * scale,
            Self::NormWeight => {
                let v = 1.0 + u * 0.25;
                if i % 97 == 13 { v * 4.0 } else { v }
            }
            Self::LayerScale => 0.25 + u * 0.1875,
            Self::Outliers => {
                let v = u * 0.03125;
                if row == 5 || row == 321 { v * 512.0 } else { v }
            }
        }
    }
}
