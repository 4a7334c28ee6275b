//! Compares two runs tap by tap: GPU against CPU, or either against PyTorch's outputs in a file.

use std::fmt;
use std::path::Path;

use crate::archive::Archive;
use crate::backbone::Precision;
use crate::error::{Error, Result};
use crate::tensor::{Tensor, relative_l2};
use crate::vit::config::{Config, RopePrecision};
use crate::vit::features::{Features, Request};

/// The bounds within which two runs agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The largest relative L2 distance of a tap that passes.
    pub relative_l2: f64,
    /// The smallest cosine between two versions of a token that passes.
    pub cosine: f64,
}

impl Tolerance {
    /// The tolerance between two runs in f32.
    ///
    /// Under f32 RoPE, two correct runs differ by about 1e-6 on the seeded weights. Mistakes differ by more: an eps of
    /// 1e-5 instead of 1e-6 by 2e-5, tanh-GELU by 1.6e-4, no RoPE by 0.11. A bound of 1e-5 therefore separates them.
    ///
    /// Under bf16 RoPE, q and k are rounded, and a last-bit difference upstream flips some of these roundings. f32 and
    /// f64 runs of the same code then differ by 3e-5 on the seeded weights, and by up to 5e-4 where activations are
    /// milder, while f32 RoPE by mistake differs by 8e-4. f32 RoPE is therefore the stricter test of everything else,
    /// and worth running in addition to the checkpoint's own RoPE.
    pub fn f32(rope: RopePrecision) -> Self {
        let relative_l2 = match rope {
            RopePrecision::F32 => 1e-5,
            RopePrecision::Bf16 => 5e-4,
        };
        Self { relative_l2, cosine: -1.0 }
    }

    /// The tolerance between a run in `precision` and a run in f32.
    pub fn of(precision: Precision, rope: RopePrecision) -> Self {
        match precision {
            Precision::F32 => Self::f32(rope),
            Precision::F16 => Self::F16,
            Precision::Bf16 => Self::BF16,
        }
    }

    /// The tolerance for a run whose kernels pass f16 to each other. Each rounding is off by up to 2^-11 = 5e-4 of its
    /// value, and every sum contains a few of them. The bound on the cosine catches errors that mix up patches.
    pub const F16: Self = Self { relative_l2: 3e-3, cosine: 0.9999 };

    /// The tolerance for a run whose products have bf16 factors, each off by up to 2^-9. PyTorch's autocast differs
    /// from PyTorch's f32 on the seeded weights by up to 2.3e-2, most in single tokens; a model all in bf16 differs by
    /// up to 7e-2.
    pub const BF16: Self = Self { relative_l2: 2.5e-2, cosine: 0.9995 };
}

/// The differences between two runs at one tap.
#[derive(Clone, Debug, PartialEq)]
pub struct TapDistance {
    /// The tap's name: `patch_embed`, `blocks.3`, `layers.5`, `x_prenorm`, `x_norm_clstoken`, ...
    pub tap: String,
    /// `|got - want| / |want|` over the whole tap.
    pub relative_l2: f64,
    /// Largest absolute difference of an element.
    pub largest: f64,
    /// Smallest cosine between the two versions of a token.
    pub cosine: f64,
}

impl TapDistance {
    /// Compares `got` with `want`. Both have the same shape, whose innermost axis is a token. Sums are in f64; a NaN in
    /// either makes the result NaN.
    ///
    /// # Panics
    /// If the shapes differ, which is a programmer's mistake.
    pub fn new(tap: impl Into<String>, got: &Tensor, want: &Tensor) -> Self {
        assert_eq!(got.shape(), want.shape(), "two versions of a tap must have the same shape");
        let (mut largest, mut cosine) = (0.0, 1.0);
        for (got, want) in got.data().chunks_exact(got.cols()).zip(want.data().chunks_exact(want.cols())) {
            let (mut gg, mut gw, mut ww) = (0.0, 0.0, 0.0);
            for (&g, &w) in got.iter().zip(want) {
                let (g, w) = (f64::from(g), f64::from(w));
                largest = or_nan((g - w).abs(), largest, f64::max);
                (gg, gw, ww) = (gg + g * g, gw + g * w, ww + w * w);
            }
            // The cosine of two zero vectors is undefined; two tokens of zeros count as equal.
            let token = if gg == 0.0 && ww == 0.0 { 1.0 } else { gw / (gg * ww).sqrt() };
            cosine = or_nan(token, cosine, f64::min);
        }
        Self { tap: tap.into(), relative_l2: relative_l2(got.data(), want.data()), largest, cosine }
    }

    /// Returns whether the row is within `tolerance`; a row with a NaN is not.
    pub fn passes(&self, tolerance: Tolerance) -> bool {
        self.relative_l2 <= tolerance.relative_l2 && self.cosine >= tolerance.cosine
    }
}

/// Returns `pick(value, so_far)`, or NaN if either is NaN.
fn or_nan(value: f64, so_far: f64, pick: fn(f64, f64) -> f64) -> f64 {
    if value.is_nan() || so_far.is_nan() { f64::NAN } else { pick(value, so_far) }
}

/// The comparison of two runs: one row for each tap, in the order in which the model computes the taps.
#[derive(Clone, Debug)]
pub struct Report {
    /// A readable title, such as `CPU against PyTorch`.
    pub title: String,
    /// One row for each tap.
    pub rows: Vec<TapDistance>,
    /// The bounds for every row.
    pub tolerance: Tolerance,
}

impl Report {
    /// Returns the first row that is out of tolerance, if any.
    pub fn first_off(&self) -> Option<&TapDistance> {
        self.rows.iter().find(|row| !row.passes(self.tolerance))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tolerance { relative_l2, cosine } = self.tolerance;
        let cosine = if cosine > -1.0 { format!(", cosine >= {cosine}") } else { String::new() };
        writeln!(f, "{}: relative L2 <= {relative_l2:.0e}{cosine} at every tap", self.title)?;
        writeln!(f, "{:<20} {:>12} {:>14} {:>14}", "tap", "relative L2", "largest error", "1 - cosine min")?;
        for row in &self.rows {
            let mark = if row.passes(self.tolerance) { "" } else { "  <- off" };
            writeln!(f, "{:<20} {:>12.2e} {:>14.2e} {:>14.2e}{mark}", row.tap, row.relative_l2, row.largest, 1.0 - row.cosine)?;
        }
        match self.first_off() {
            None => write!(f, "all {} taps agree", self.rows.len()),
            Some(row) => write!(f, "the first tap that is off is {}", row.tap),
        }
    }
}

/// Returns every tensor of a run with its name, in the order in which the model computes them.
pub fn taps(features: &Features) -> Vec<(String, Tensor)> {
    let mut taps = features.taps.clone();
    taps.extend(features.layers.iter().map(|(n, x)| (format!("layers.{n}"), x.clone())));
    taps.extend(features.x_prenorm.iter().map(|x| ("x_prenorm".to_string(), x.clone())));
    taps.push(("x_norm_clstoken".into(), features.cls()));
    taps.push(("x_storage_tokens".into(), features.storage()));
    taps.push(("x_norm_patchtokens".into(), features.patches()));
    // Without storage tokens, `x_storage_tokens` is an empty tensor.
    taps.retain(|(_, x)| !x.data().is_empty());
    taps
}

/// Compares two runs of the same request.
///
/// # Panics
/// If the runs have different taps, which is a programmer's mistake.
pub fn compare(got: &Features, want: &Features) -> Vec<TapDistance> {
    let rows = taps(got).into_iter().zip(taps(want)).map(|((name, got), (want_name, want))| {
        assert_eq!(name, want_name, "both runs must answer the same request");
        TapDistance::new(name, &got, &want)
    });
    rows.collect()
}

/// PyTorch's outputs in a safetensors file: `image` [B, C, H, W], and any taps by their names. `NAME_everyN` holds
/// every Nth patch of a tap, after its prefix tokens if the tap has them.
#[derive(Debug)]
pub struct Golden {
    archive: Archive,
    name: String,
    /// The names of the file's taps: all names but `image`.
    names: Vec<String>,
}

impl Golden {
    /// Opens `path` and reads the names of its tensors.
    ///
    /// # Errors
    /// If it is not a safetensors file, or holds no tap.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let archive = Archive::open(path).map_err(|problem| Error::input(&name, problem))?;
        let names: Vec<String> = archive.tensors().keys().filter(|n| *n != "image").cloned().collect();
        if names.is_empty() {
            return Err(Error::input(&name, "holds no outputs to compare with; expected x_norm_patchtokens, layers.N, blocks.N, ..."));
        }
        Ok(Self { archive, name, names })
    }

    /// Returns the RoPE precision that the file's metadata names, if any.
    pub fn rope(&self) -> Option<RopePrecision> {
        match self.archive.metadata().get("rope").map(String::as_str) {
            Some("bf16") => Some(RopePrecision::Bf16),
            Some("f32") => Some(RopePrecision::F32),
            _ => None,
        }
    }

    /// Reads the normalised `image` [B, C, H, W], if the file holds one.
    ///
    /// # Errors
    /// If the tensor cannot be read.
    pub fn image(&self) -> Result<Option<Tensor>> {
        if self.archive.tensors().contains_key("image") { self.read("image").map(Some) } else { Ok(None) }
    }

    /// Returns a request for every tap in the file.
    pub fn request(&self) -> Request {
        let layers = self.names.iter().filter_map(|n| base(n).0.strip_prefix("layers.")?.parse().ok()).collect();
        Request { prenorm: true, layers, taps: true }
    }

    /// Compares a run of [`Golden::request`] with the file, in the order in which the model computes the taps.
    ///
    /// # Errors
    /// If a name is not a tap of this model, a shape differs, or a tensor cannot be read.
    pub fn compare(&self, got: &Features, config: &Config) -> Result<Vec<TapDistance>> {
        let taps = taps(got);
        let unknown = self.names.iter().find(|n| !taps.iter().any(|(tap, _)| tap == base(n).0));
        if let Some(unknown) = unknown {
            return Err(Error::input(&self.name, format!("{unknown} is no tap of this model, which has {} blocks", config.depth)));
        }
        let mut rows = Vec::new();
        for (tap, got) in &taps {
            for name in self.names.iter().filter(|n| base(n).0 == tap) {
                let got = thinned(got, if has_prefix(tap) { config.prefix_tokens() } else { 0 }, base(name).1);
                let want = self.read(name)?;
                if got.shape() != want.shape() {
                    return Err(Error::input(
                        &self.name,
                        format!("{name} is {:?}; this model and image give {:?}", want.shape(), got.shape()),
                    ));
                }
                rows.push(TapDistance::new(name, &got, &want));
            }
        }
        Ok(rows)
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        self.archive.read(name).map_err(|problem| Error::input(&self.name, problem.within(name)))
    }
}

/// Splits a golden's name into tap and stride: `layers.2_every16` is every 16th patch of `layers.2`.
fn base(name: &str) -> (&str, usize) {
    match name.rsplit_once("_every").and_then(|(tap, n)| Some((tap, n.parse().ok().filter(|&n| n > 0)?))) {
        Some((tap, n)) => (tap, n),
        None => (name, 1),
    }
}

/// Returns whether a tap has cls and storage tokens before its patches.
fn has_prefix(tap: &str) -> bool {
    tap == "x_prenorm" || tap.starts_with("layers.") || tap.starts_with("blocks.")
}

/// Keeps the first `prefix` tokens of each image and every `stride`th token after them: [B, T, C] -> [B, T', C].
fn thinned(x: &Tensor, prefix: usize, stride: usize) -> Tensor {
    let &[b, t, c] = x.shape() else { return x.clone() };
    let kept: Vec<usize> = (0..prefix).chain((prefix..t).step_by(stride)).collect();
    let data = x.data().chunks_exact(t * c).flat_map(|image| kept.iter().flat_map(|&i| &image[i * c..(i + 1) * c])).copied().collect();
    Tensor::new([b, kept.len(), c], data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_measures_the_distance_of_two_taps() {
        let want = Tensor::new([2, 2], vec![3.0, 4.0, 0.0, 1.0]);
        let row = TapDistance::new("x", &Tensor::new([2, 2], vec![3.0, 4.0, 1.0, 0.0]), &want);
        assert!((row.relative_l2 - (2.0_f64 / 26.0).sqrt()).abs() < 1e-12);
        assert!((row.largest - 1.0).abs() < 1e-12 && row.cosine.abs() < 1e-12);
        let same = TapDistance::new("x", &want, &want);
        assert!(same.passes(Tolerance { relative_l2: 0.0, cosine: -1.0 }) && (same.cosine - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_nan_never_passes() {
        let want = Tensor::new([1, 3], vec![1.0, 2.0, 3.0]);
        let row = TapDistance::new("x", &Tensor::new([1, 3], vec![1.0, f32::NAN, 3.0]), &want);
        assert!(!row.passes(Tolerance { relative_l2: f64::MAX, cosine: -1.0 }) && row.largest.is_nan() && row.cosine.is_nan());
    }

    #[test]
    fn a_golden_s_name_gives_its_tap_and_stride() {
        assert_eq!(base("layers.2_every16"), ("layers.2", 16));
        assert_eq!(base("x_prenorm"), ("x_prenorm", 1));
        assert_eq!(base("odd_every0"), ("odd_every0", 1));
        let x = Tensor::new([1, 6, 1], (0..6).map(|i| i as f32).collect());
        assert_eq!(thinned(&x, 1, 2).data(), [0., 1., 3., 5.]);
    }
}
