//! MedDINOv3's forward pass in candle, f32 on the CPU, for `benches/peers/run.py`. Prints the median seconds per image,
//! and writes x_norm.
//!
//!     candle-peer WEIGHTS.safetensors INPUT.safetensors RUNS OUT.safetensors
//!
//! The input holds `image` [1, 3, H, W], and `sin` and `cos` [T, D/2] of every token (0 and 1 for tokens that are not
//! patches).

use std::collections::HashMap;
use std::time::Instant;

use candle_core::{D, Device, Result, Tensor, safetensors};
use candle_nn::ops::{layer_norm, softmax_last_dim};
use candle_nn::rotary_emb::rope;

const HEAD: usize = 64;
const PATCH: usize = 16;
const EPS: f32 = 1e-6;

type Named = HashMap<String, Tensor>;

/// x [T, K] to [T, N]. Weights are transposed when loading, so that the time does not include it.
fn linear(w: &Named, at: &str, x: &Tensor) -> Result<Tensor> {
    let y = x.matmul(&w[&format!("{at}.weight")])?;
    match w.get(&format!("{at}.bias")) {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

fn norm(w: &Named, at: &str, x: &Tensor) -> Result<Tensor> {
    layer_norm(x, &w[&format!("{at}.weight")], &w[&format!("{at}.bias")], EPS)
}

/// x [T, C] to [T, C].
fn attention(w: &Named, at: &str, x: &Tensor, input: &Named) -> Result<Tensor> {
    let (t, c) = x.dims2()?;
    let qkv = linear(w, &format!("{at}.qkv"), x)?.reshape((t, 3, c / HEAD, HEAD))?;
    let part = |i: usize| qkv.narrow(1, i, 1)?.squeeze(1)?.transpose(0, 1)?.contiguous()?.unsqueeze(0);
    let turn = |x: Tensor| rope(&x, &input["cos"], &input["sin"]);
    let (q, k, v) = (turn(part(0)?)?, turn(part(1)?)?, part(2)?);
    let scores = (q.matmul(&k.transpose(2, 3)?)? * (HEAD as f64).powf(-0.5))?;
    let a = softmax_last_dim(&scores)?.matmul(&v)?;
    linear(w, &format!("{at}.proj"), &a.squeeze(0)?.transpose(0, 1)?.reshape((t, c))?)
}

/// image [1, 3, H, W] to x_norm [1, T, C].
fn forward(w: &Named, input: &Named) -> Result<Tensor> {
    let patches = input["image"].conv2d(&w["patch_embed.proj.weight"], 0, PATCH, 1, 1)?;
    let patches = patches.flatten_from(2)?.squeeze(0)?.t()?.broadcast_add(&w["patch_embed.proj.bias"])?;
    let mut x = Tensor::cat(&[&w["cls_token"].squeeze(0)?, &w["storage_tokens"].squeeze(0)?, &patches], 0)?.contiguous()?;
    for i in (0..).take_while(|i| w.contains_key(&format!("blocks.{i}.ls1.gamma"))) {
        let at = format!("blocks.{i}");
        let h = attention(w, &format!("{at}.attn"), &norm(w, &format!("{at}.norm1"), &x)?, input)?;
        x = (x + h.broadcast_mul(&w[&format!("{at}.ls1.gamma")])?)?;
        let h = linear(w, &format!("{at}.mlp.fc1"), &norm(w, &format!("{at}.norm2"), &x)?)?.gelu_erf()?;
        let h = linear(w, &format!("{at}.mlp.fc2"), &h)?;
        x = (x + h.broadcast_mul(&w[&format!("{at}.ls2.gamma")])?)?;
    }
    norm(w, "norm", &x)?.unsqueeze(0)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [weights, input, runs, out] = args.as_slice() else { panic!("WEIGHTS INPUT RUNS OUT are wanted") };
    let mut w = safetensors::load(weights, &Device::Cpu)?;
    for (name, tensor) in &mut w {
        if name.starts_with("blocks.") && tensor.dims().len() == 2 {
            *tensor = tensor.transpose(D::Minus2, D::Minus1)?.contiguous()?;
        }
    }
    let input = safetensors::load(input, &Device::Cpu)?;
    let features = forward(&w, &input)?;
    safetensors::save(&HashMap::from([("x".to_owned(), features)]), out)?;
    let mut seconds: Vec<f64> = (0..runs.parse::<usize>().expect("a number of runs"))
        .map(|_| {
            let start = Instant::now();
            forward(&w, &input).map(|_| start.elapsed().as_secs_f64())
        })
        .collect::<Result<_>>()?;
    seconds.sort_by(f64::total_cmp);
    println!("{}", seconds[seconds.len() / 2]);
    Ok(())
}
