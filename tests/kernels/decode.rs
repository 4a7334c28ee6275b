//! The segmentation decoder on the CPU against its definition: transposed convolutions, LayerNorm over channels, GELU, a 1 x 1 convolution, on whole maps.

use meddino::cpu::{Precision, decode, decoder_layers};
use meddino::vit::config::Grid;
use meddino::vit::decoder::{DECODER_EPS, Decoder, FAN, Stage};
use meddino::vit::weights::{Linear, Norm};
use meddino::{Tensor, cpu};

use crate::cases::{EXACT, Table, Tolerance, noise, wide};
use crate::elementwise::gelu;

/// A map in f64: [C, H, W].
struct Map {
    channels: usize,
    height: usize,
    width: usize,
    values: Vec<f64>,
}

impl Map {
    fn at(&self, c: usize, y: usize, x: usize) -> f64 {
        self.values[(c * self.height + y) * self.width + x]
    }

    /// [Cout, H, W] of `value(c, y, x)`.
    fn of(channels: usize, height: usize, width: usize, value: impl Fn(usize, usize, usize) -> f64) -> Self {
        let index = (0..channels).flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, y, x))));
        Self { channels, height, width, values: index.map(|(c, y, x)| value(c, y, x)).collect() }
    }
}

/// A transposed convolution, kernel 2 and stride 2, by weights [Cin, Cout, 2, 2] and a bias.
fn conv_transpose(map: &Map, weight: &[f32], bias: &[f32]) -> Map {
    let out = bias.len();
    Map::of(out, 2 * map.height, 2 * map.width, |c, y, x| {
        let tap = |k: usize| map.at(k, y / 2, x / 2) * f64::from(weight[((k * out + c) * 2 + y % 2) * 2 + x % 2]);
        f64::from(bias[c]) + (0..map.channels).map(tap).sum::<f64>()
    })
}

fn norm_gelu(map: &Map, weight: &[f32], bias: &[f32]) -> Map {
    let c = map.channels as f64;
    let stat = |y: usize, x: usize| {
        let mean = (0..map.channels).map(|k| map.at(k, y, x)).sum::<f64>() / c;
        let variance = (0..map.channels).map(|k| (map.at(k, y, x) - mean).powi(2)).sum::<f64>() / c;
        (mean, 1.0 / (variance + f64::from(DECODER_EPS)).sqrt())
    };
    Map::of(map.channels, map.height, map.width, |k, y, x| {
        let (mean, scale) = stat(y, x);
        gelu((map.at(k, y, x) - mean) * scale * f64::from(weight[k]) + f64::from(bias[k]))
    })
}

fn classify(map: &Map, weight: &[f32], bias: &[f32]) -> Map {
    Map::of(bias.len(), map.height, map.width, |k, y, x| {
        f64::from(bias[k]) + (0..map.channels).map(|c| map.at(c, y, x) * f64::from(weight[k * map.channels + c])).sum::<f64>()
    })
}

/// The rows of a linear layer for a convolution's weights [Cin, Cout, 2, 2], and its bias four times.
fn linear(weight: &[f32], bias: &[f32], inner: usize) -> Linear<Tensor> {
    let out = bias.len();
    let mut rows = vec![0.0; weight.len()];
    for (i, w) in weight.iter().enumerate() {
        let (k, c, pixel) = (i / (out * FAN), i / FAN % out, i % FAN);
        rows[(pixel * out + c) * inner + k] = *w;
    }
    Linear { weight: Tensor::new([FAN * out, inner], rows), bias: Some(Tensor::new([FAN * out], bias.repeat(FAN))) }
}

fn check(table: &mut Table, batch: usize, grid: Grid, prefix: usize, layers: usize, channels: &[usize], classes: usize) {
    let c = channels[0] / layers;
    let tokens = prefix + grid.patches();
    let layer = |i: usize| Tensor::new([batch, tokens, c], noise(i as u64 + 1, batch * tokens * c));
    let layers: Vec<Tensor> = (0..layers).map(layer).collect();
    let scaled = |seed: u64, n: usize, by: usize| noise(seed, n).iter().map(|v| v * 2.0 / (by as f32).sqrt()).collect::<Vec<_>>();
    let mut maps: Vec<Map> = (0..batch)
        .map(|b| {
            Map::of(channels[0], grid.rows, grid.cols, |k, y, x| {
                f64::from(layers[k / c].data()[(b * tokens + prefix + y * grid.cols + x) * c + k % c])
            })
        })
        .collect();
    let mut stages = Vec::new();
    for (i, pair) in channels.windows(2).enumerate() {
        let seed = 10 * (i as u64 + 1);
        let (up, up_bias) = (scaled(seed, pair[0] * pair[1] * FAN, pair[0]), noise(seed + 1, pair[1]));
        let (weight, bias) = (noise(seed + 2, pair[1]), noise(seed + 3, pair[1]));
        maps = maps.iter().map(|map| norm_gelu(&conv_transpose(map, &up, &up_bias), &weight, &bias)).collect();
        let norm = Norm { weight: Tensor::new([pair[1]], weight), bias: Tensor::new([pair[1]], bias) };
        stages.push(Stage { up: linear(&up, &up_bias, pair[0]), norm });
    }
    let last = channels[channels.len() - 1];
    let (weight, bias) = (noise(98, classes * last), noise(99, classes));
    let want: Vec<f64> = maps.iter().flat_map(|map| classify(map, &weight, &bias).values).collect();
    let last = Linear { weight: Tensor::new([classes, last], weight), bias: Some(Tensor::new([classes], bias)) };
    let decoder = decoder_layers(Decoder { stages, classify: last }, Precision::F32);
    let got = decode(&decoder, &layers.iter().collect::<Vec<_>>(), grid);
    let side = 1 << (channels.len() - 1);
    assert_eq!(got.shape(), [batch, classes, grid.rows * side, grid.cols * side]);
    let name = format!("{batch} x {} x {}, {channels:?} -> {classes}", grid.rows, grid.cols);
    table.twin(&name, Tolerance { atol: 2e-5, rtol: 1e-5, l2: 2e-6 }, &want, got.data());
}

#[test]
fn decode_is_its_definition_on_ragged_grids() {
    let mut table = Table::new("decode");
    let grid = |rows: usize, cols: usize| Grid { rows, cols };
    check(&mut table, 1, grid(1, 1), 0, 1, &[3, 2], 1);
    check(&mut table, 2, grid(2, 3), 5, 1, &[8, 4, 2], 3);
    check(&mut table, 1, grid(3, 2), 1, 4, &[64, 32, 16, 8, 4], 4);
    check(&mut table, 2, grid(4, 5), 5, 4, &[64, 32, 16, 8, 8], 7);
    check(&mut table, 1, grid(1, 3), 5, 2, &[130, 65, 33, 17], 2);
    // More patches than are decoded at a time, and not a multiple of them.
    check(&mut table, 1, grid(20, 11), 3, 1, &[12, 6], 2);
    check(&mut table, 1, grid(31, 14), 1, 2, &[16, 8, 4], 5);
    table.finish();
}

/// Values that are their own place.
#[test]
fn mosaic_puts_every_pixel_where_it_belongs() {
    let mut table = Table::new("mosaic");
    for (rows, cols, stages, classes) in [(1, 1, 0, 1), (2, 3, 1, 1), (3, 2, 2, 2), (1, 5, 4, 3), (4, 4, 3, 1)] {
        let (side, grid) = (1 << stages, Grid { rows, cols });
        let (height, width) = (rows * side, cols * side);
        let mut pixels = Vec::new();
        for patch in 0..rows * cols {
            for z in 0..side * side {
                // The way down through the stages: at each, 2 bits say which quarter.
                let (mut y, mut x) = (patch / cols, patch % cols);
                for stage in (0..stages).rev() {
                    (y, x) = (2 * y + (z >> (2 * stage + 1) & 1), 2 * x + (z >> (2 * stage) & 1));
                }
                pixels.extend((0..classes).map(|class| ((class * height + y) * width + x) as f32));
            }
        }
        let mut maps = vec![-1.0; classes * height * width];
        let patch = side * side * classes;
        // In two goes, as the decoder does it.
        let cut = rows * cols / 2;
        cpu::mosaic(&pixels[cut * patch..], cut, grid, side, &mut maps);
        cpu::mosaic(&pixels[..cut * patch], 0, grid, side, &mut maps);
        let want: Vec<f32> = (0..maps.len()).map(|i| i as f32).collect();
        table.twin(&format!("{rows} x {cols} of {side}, {classes}"), EXACT, &wide(&want), &maps);
    }
    table.finish();
}

/// One pass over rows gives the bits of two.
#[test]
fn layernorm_gelu_is_gelu_of_layernorm() {
    let mut table = Table::new("layernorm_gelu");
    for (rows, c) in [(1, 1), (3, 4), (1030, 5), (17, 192), (5, 4100)] {
        let x = Tensor::new([rows, c], noise(1, rows * c));
        let norm = Norm { weight: Tensor::new([c], noise(2, c)), bias: Tensor::new([c], noise(3, c)) };
        let mut want = Tensor::made(|y| cpu::layernorm(&x, &norm, DECODER_EPS, y));
        cpu::gelu(want.data_mut());
        let got = Tensor::made(|y| cpu::layernorm_gelu(&x, &norm, DECODER_EPS, y));
        table.twin(&format!("{rows} x {c}"), EXACT, &wide(want.data()), got.data());
    }
    table.finish();
}
