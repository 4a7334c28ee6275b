//! Helpers that several test files share: goldens, and distances between results.
#![allow(dead_code, reason = "each test file uses its own part of this module")]

use std::path::{Path, PathBuf};
use std::process::Command;

use meddino::Tensor;
use meddino::cpu::InstructionSet;
use meddino::tensor::relative_l2;
use meddino::vit::config::{Config, RopePrecision};
use meddino::vit::features::{Features, Request};
use safetensors::{Dtype, SafeTensors};

/// A file under `tests/`.
pub fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// The largest allowed relative L2 between f32 backends, and between them and PyTorch, on the seeded models.
///
/// With f32 RoPE, f32 differs from f64 by 5e-7. An eps of 1e-5 in place of 1e-6 would cost 2e-5.
///
/// With bf16 RoPE, q and k are rounded to units of 2^-8. A relative difference d upstream flips 2^8 d of these
/// roundings by a unit each, which is sqrt(12 2^8 d) of what all roundings together cost (an RMS of a unit / sqrt(12)):
/// 4 % for the d = 5e-7 of f32. Every block flips more, because it sees the flips of the blocks before it. In ViT-B
/// (12 blocks), right runs on several devices differ by up to 2.1e-4, and a run without any of the roundings (f32 RoPE
/// by mistake) by 1.2e-3 or more in every tensor. In the small models (2 or 3 blocks), right runs differ by up to 1e-6,
/// or 2e-5 if one rounding of few tokens is flipped; f32 RoPE costs 7e-5 in the golden and up to 2.5e-4 elsewhere.
pub fn f32_tolerance(config: &Config) -> f64 {
    match config.rope {
        RopePrecision::F32 => 2e-6,
        RopePrecision::Bf16 if config.depth <= 3 => 5e-5,
        RopePrecision::Bf16 => 4e-4,
    }
}

/// Runs tests of the calling program again, those whose names contain one of `names`, with each instruction set of this
/// CPU below the one in use. A process uses one set, so each run is a process of its own.
pub fn on_lower_sets(names: &[&str]) {
    let in_use = InstructionSet::in_use();
    for set in InstructionSet::of_this_cpu().skip_while(|set| *set != in_use).skip(1) {
        let tests = std::env::current_exe().expect("this program");
        let run = Command::new(tests).args(names).env("MEDDINO_CPU", set.to_string()).output().expect("it starts");
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && !text.contains("running 0 tests"), "{set}: {text}");
    }
}

/// The largest absolute difference.
pub fn max_abs(got: &[f32], want: &[f32]) -> f32 {
    got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

/// `uniform(name, n, seed)` of `golden/seeded.py`: values in [-1, 1), bit for bit.
pub fn uniform(name: &str, n: usize, seed: u64) -> Vec<f32> {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let hash = format!("{seed}/{name}").bytes().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    let mix = |i: u64| {
        let x = hash.wrapping_add(i.wrapping_mul(GOLDEN)).wrapping_add(GOLDEN);
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    };
    (0..n as u64).map(|i| (mix(i) >> 40) as f32 / 8_388_608.0 - 1.0).collect()
}

/// Every tensor of a safetensors file as f32, and its metadata.
pub fn read_safetensors(path: &Path) -> (Vec<(String, Tensor)>, std::collections::HashMap<String, String>) {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a golden is a safetensors file");
    let file = SafeTensors::deserialize(&bytes).expect("a golden is a safetensors file");
    let tensors = file.iter().map(|(name, view)| {
        let values = match view.dtype() {
            Dtype::F32 => view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect(),
            Dtype::BF16 => view.data().chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => panic!("{name} is {other:?}"),
        };
        (name.to_string(), Tensor::new(view.shape(), values))
    });
    (tensors.collect(), header.metadata().clone().unwrap_or_default())
}

/// One golden: the inputs, and PyTorch's outputs.
pub struct Golden {
    /// The source of the weights, such as `seeded:0:tiny`.
    pub weights: String,
    /// [B, 3, H, W], normalised.
    pub image: Tensor,
    /// The mask of B * P flags, if there is one.
    pub mask: Option<Vec<bool>>,
    pub rope: RopePrecision,
    pub request: Request,
    tensors: Vec<(String, Tensor)>,
}

impl Golden {
    /// Opens `golden/NAME.safetensors`, as `golden/make_goldens.py` writes it.
    pub fn open(name: &str) -> Self {
        let (tensors, meta) = read_safetensors(&data(&format!("golden/{name}.safetensors")));
        let shape: Vec<usize> = meta["shape"].split(',').map(|n| n.parse().expect("a number")).collect();
        let image = blocks(&shape, meta["block"].parse().expect("a number"));
        let patches = shape[0] * (shape[2] / 16) * (shape[3] / 16);
        let layers = tensors.iter().filter_map(|(name, _)| name.strip_prefix("layers.")?.split('_').next()?.parse().ok()).collect();
        Self {
            weights: meta["weights"].clone(),
            image,
            mask: (meta["masked"] == "true").then(|| uniform("mask", patches, 0).iter().map(|&u| u > 0.5).collect()),
            rope: if meta["rope"] == "bf16" { RopePrecision::Bf16 } else { RopePrecision::F32 },
            request: Request { prenorm: true, layers, taps: false },
            tensors,
        }
    }

    /// Each tensor's name, relative L2 distance and largest difference between `features` and PyTorch's.
    pub fn compare(&self, features: &Features) -> Vec<(String, f64, f32)> {
        let prefix = features.x_norm.shape()[1] - features.grid.patches();
        let row = |(name, want): &(String, Tensor)| {
            let (base, every) = name.split_once("_every").map_or((name.as_str(), 1), |(base, n)| (base, n.parse().expect("a number")));
            let got = match base {
                "x_norm_clstoken" => features.cls(),
                "x_storage_tokens" => features.storage(),
                "x_norm_patchtokens" => every_nth(&features.patches(), 0, every),
                "x_prenorm" => every_nth(features.x_prenorm.as_ref().expect("asked for"), prefix, every),
                layer => {
                    let n: usize = layer.strip_prefix("layers.").and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("unknown {layer}"));
                    every_nth(&features.layers.iter().find(|(i, _)| *i == n).expect("asked for").1, prefix, every)
                }
            };
            assert_eq!(got.shape(), want.shape(), "{name}");
            (name.clone(), relative_l2(got.data(), want.data()), max_abs(got.data(), want.data()))
        };
        self.tensors.iter().map(row).collect()
    }
}

/// The goldens' image: seeded noise of `shape` in squares of `block` x `block` pixels.
fn blocks(shape: &[usize], block: usize) -> Tensor {
    let &[b, channels, h, w] = shape else { panic!("an image is [B, channels, H, W]") };
    let (rows, cols) = (h / block, w / block);
    let noise = uniform("image", b * channels * rows * cols, 0);
    let pixel = |i: usize| noise[(i / (h * w) * rows + i / w % h / block) * cols + i % w / block] * 2.0;
    Tensor::new(shape, (0..b * channels * h * w).map(pixel).collect())
}

/// The first `skip` tokens of each image, then every `n`th: [B, T, C] -> [B, T', C].
fn every_nth(x: &Tensor, skip: usize, n: usize) -> Tensor {
    let &[b, t, c] = x.shape() else { panic!("tokens are [B, T, C]") };
    let kept: Vec<usize> = (0..t).filter(|&i| i < skip || (i - skip).is_multiple_of(n)).collect();
    let data = x.data().chunks_exact(t * c).flat_map(|image| kept.iter().flat_map(|&i| &image[i * c..(i + 1) * c])).copied().collect();
    Tensor::new([b, kept.len(), c], data)
}
