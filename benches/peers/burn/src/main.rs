//! MedDINOv3's forward pass in burn on wgpu, for `benches/peers/run.py`.
//!
//!     burn-peer WEIGHTS.safetensors INPUT.safetensors f32|f16 OUT.safetensors
//!
//! The input holds `image` [B, 3, H, W], and `sin` and `cos` [T, D/2] of every token (0 and 1 for tokens that are not
//! patches). Writes `x` [B, T, C] and prints `ready`. Then each line of stdin is a number of runs, answered by one line
//! `HOST DEVICE`: the median seconds from the image on the host to features on the host, and those of the pass alone,
//! which ends when the device has finished.

use std::fs;
use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

use burn::tensor::activation::gelu;
use burn::tensor::module::{attention, conv2d, layer_norm, linear};
use burn::tensor::ops::{AttentionModuleOptions, ConvOptions};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};

const HEAD: usize = 64;
const PATCH: usize = 16;
const EPS: f64 = 1e-6;

/// The tensors of a file, on the host in f32.
struct File(Vec<u8>);

impl File {
    fn open(path: &str) -> Self {
        Self(fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}")))
    }

    fn get(&self, name: &str) -> Option<TensorData> {
        let file = SafeTensors::deserialize(&self.0).expect("a safetensors file");
        let view = file.tensor(name).ok()?;
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        let values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        Some(TensorData::new(values, view.shape().to_vec()))
    }
}

/// Puts host values on the device in the measured precision.
struct Loader {
    file: File,
    device: Device,
    dtype: DType,
}

impl Loader {
    fn put<const D: usize>(&self, data: TensorData) -> Tensor<D> {
        Tensor::from_data(data, (&self.device, self.dtype))
    }

    fn maybe<const D: usize>(&self, name: &str) -> Option<Tensor<D>> {
        self.file.get(name).map(|data| self.put(data))
    }

    fn get<const D: usize>(&self, name: &str) -> Tensor<D> {
        self.maybe(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// [N, K] as [K, N], transposed on the host when loading, so that the time does not include it.
    fn turned(&self, name: &str) -> Tensor<2> {
        let data = self.file.get(name).unwrap_or_else(|| panic!("no {name}"));
        let [n, k] = data.shape()[..] else { panic!("{name} is no matrix") };
        let from = data.try_to_vec::<f32>().unwrap();
        let to: Vec<f32> = (0..k * n).map(|i| from[i % n * k + i / n]).collect();
        self.put(TensorData::new(to, [k, n]))
    }
}

struct Linear(Tensor<2>, Option<Tensor<1>>);

impl Linear {
    fn load(w: &Loader, at: &str) -> Self {
        Self(w.turned(&format!("{at}.weight")), w.maybe(&format!("{at}.bias")))
    }

    fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        linear(x, self.0.clone(), self.1.clone())
    }
}

struct Norm(Tensor<1>, Tensor<1>);

impl Norm {
    fn load(w: &Loader, at: &str) -> Self {
        Self(w.get(&format!("{at}.weight")), w.get(&format!("{at}.bias")))
    }

    fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        layer_norm(x, self.0.clone(), Some(self.1.clone()), EPS)
    }
}

struct Block {
    norms: [Norm; 2],
    qkv: Linear,
    proj: Linear,
    fc1: Linear,
    fc2: Linear,
    scales: [Tensor<3>; 2],
}

impl Block {
    fn load(w: &Loader, at: &str) -> Self {
        let scale = |i: usize| w.get::<1>(&format!("{at}.ls{i}.gamma")).unsqueeze();
        let linear = |name: &str| Linear::load(w, &format!("{at}.{name}"));
        Self {
            norms: [1, 2].map(|i| Norm::load(w, &format!("{at}.norm{i}"))),
            qkv: linear("attn.qkv"),
            proj: linear("attn.proj"),
            fc1: linear("mlp.fc1"),
            fc2: linear("mlp.fc2"),
            scales: [1, 2].map(scale),
        }
    }

    fn attend(&self, x: Tensor<3>, turn: &Turn) -> Tensor<3> {
        let [b, t, c] = x.dims();
        let qkv = self.qkv.apply(x).reshape([b, t, 3, c / HEAD, HEAD]);
        let part = |i: usize| qkv.clone().narrow(2, i, 1).squeeze_dim::<4>(2).swap_dims(1, 2);
        let a = attention(turn.apply(part(0)), turn.apply(part(1)), part(2), None, None, AttentionModuleOptions::default());
        self.proj.apply(a.swap_dims(1, 2).reshape([b, t, c]))
    }

    fn apply(&self, x: Tensor<3>, turn: &Turn) -> Tensor<3> {
        let h = self.attend(self.norms[0].apply(x.clone()), turn);
        let x = x + h * self.scales[0].clone();
        let h = self.fc2.apply(gelu(self.fc1.apply(self.norms[1].apply(x.clone()))));
        x + h * self.scales[1].clone()
    }
}

/// RoPE's table, [1, 1, T, D/2].
struct Turn {
    sin: Tensor<4>,
    cos: Tensor<4>,
}

impl Turn {
    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let [a, b] = [0, HEAD / 2].map(|at| x.clone().narrow(3, at, HEAD / 2));
        let first = a.clone() * self.cos.clone() - b.clone() * self.sin.clone();
        Tensor::cat(vec![first, b * self.cos.clone() + a * self.sin.clone()], 3)
    }
}

struct Model {
    patch: (Tensor<4>, Tensor<1>),
    tokens: Tensor<3>,
    blocks: Vec<Block>,
    norm: Norm,
    turn: Turn,
}

impl Model {
    fn load(w: &Loader, input: &Loader) -> Self {
        let depth = (0..).take_while(|i| w.file.get(&format!("blocks.{i}.ls1.gamma")).is_some()).count();
        let table = |name: &str| input.get::<2>(name).unsqueeze();
        Self {
            patch: (w.get("patch_embed.proj.weight"), w.get("patch_embed.proj.bias")),
            tokens: Tensor::cat(vec![w.get("cls_token"), w.get("storage_tokens")], 1),
            blocks: (0..depth).map(|i| Block::load(w, &format!("blocks.{i}"))).collect(),
            norm: Norm::load(w, "norm"),
            turn: Turn { sin: table("sin"), cos: table("cos") },
        }
    }

    /// image [B, 3, H, W] to x_norm [B, T, C].
    fn forward(&self, image: Tensor<4>) -> Tensor<3> {
        let options = ConvOptions::new([PATCH; 2], [0; 2], [1; 2], 1);
        let patches = conv2d(image, self.patch.0.clone(), Some(self.patch.1.clone()), options).flatten::<3>(2, 3).swap_dims(1, 2);
        let [b, _, c] = patches.dims();
        let tokens = self.tokens.clone().expand([b, self.tokens.dims()[1], c]);
        let x = Tensor::cat(vec![tokens, patches], 1);
        self.norm.apply(self.blocks.iter().fold(x, |x, block| block.apply(x, &self.turn)))
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn timed(runs: usize, run: impl Fn()) -> f64 {
    let one = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    run();
    median((0..runs).map(one).collect())
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [weights, input, precision, out] = args.as_slice() else { panic!("WEIGHTS INPUT f32|f16 OUT are wanted") };
    let dtype = if precision == "f16" { DType::F16 } else { DType::F32 };
    let device = Device::vulkan(Default::default());
    assert!(device.supports_dtype(dtype), "burn has no {precision} on this device");
    let load = |path: &str| Loader { file: File::open(path), device: device.clone(), dtype };
    let input = load(input);
    let model = Model::load(&load(weights), &input);
    let image = input.file.get("image").expect("an image");
    let whole = || model.forward(input.put(image.clone())).into_data_as::<f32>();

    // The first runs include autotune, which tries kernels and keeps the fastest for each shape.
    let features = (0..3).map(|_| whole()).last().unwrap();
    let bytes: Vec<u8> = features.try_to_vec::<f32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, features.shape().to_vec(), &bytes).unwrap();
    serialize_to_file([("x", view)], None, out.as_ref()).unwrap();
    println!("ready");
    let resident = input.put::<4>(image.clone());
    let pass = || {
        // kept until the device has finished, because fusion drops unused results
        let kept = model.forward(resident.clone());
        device.sync().unwrap();
        drop(kept);
    };
    for line in stdin().lock().lines() {
        let runs = line.unwrap().trim().parse().expect("a number of runs");
        let host = timed(runs, || drop(whole()));
        println!("{host} {}", timed(runs, pass));
        stdout().flush().unwrap();
    }
}
