//! Compares the segmentation decoder with its definition on whole maps: transposed convolutions, LayerNorm over
//! channels, GELU, a 1 x 1 convolution.

use meddino::cpu::{FactorType, decode, decoder_layers};
use meddino::graph::Limits;
use meddino::kernels::{Columns, Mosaic};
use meddino::vit::config::Grid;
use meddino::vit::decoder::{DECODER_EPS, Decoder, FAN, Shape, Stage};
use meddino::vit::scores;
use meddino::vit::weights::{Linear, Norm};
use meddino::{Tensor, cpu};

use crate::cases::{EXACT, Table, Tolerance, noise, noise_of, wide};
use crate::elementwise::{gelu, layernorm};

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

    /// Makes a map [Cout, H, W] of `value(c, y, x)`.
    fn of(channels: usize, height: usize, width: usize, value: impl Fn(usize, usize, usize) -> f64) -> Self {
        let index = (0..channels).flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, y, x))));
        Self { channels, height, width, values: index.map(|(c, y, x)| value(c, y, x)).collect() }
    }
}

/// Computes a transposed convolution, kernel 2 and stride 2, with weights [Cin, Cout, 2, 2] and a bias.
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

/// Returns the linear layer of a convolution: rows from its weights [Cin, Cout, 2, 2], and its bias repeated four
/// times.
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
    let decoder = Decoder { stages, classify: last };
    let rows: Vec<f32> = (0..batch * grid.patches())
        .flat_map(|patch| layers.iter().map(move |layer| (patch, layer)))
        .flat_map(|(patch, layer)| layer.data()[(patch / grid.patches() * tokens + prefix + patch % grid.patches()) * c..][..c].to_vec())
        .collect();
    check_recorded(table, (batch, grid), channels, &decoder, &rows, &want);
    let decoder = decoder_layers(decoder, FactorType::F32);
    let got = decode(&decoder, &layers.iter().collect::<Vec<_>>(), grid);
    let side = 1 << (channels.len() - 1);
    assert_eq!(got.shape(), [batch, classes, grid.rows * side, grid.cols * side]);
    let name = format!("{batch} x {} x {}, {channels:?} -> {classes}", grid.rows, grid.cols);
    table.twin(&name, Tolerance { atol: 2e-5, rtol: 1e-5, l2: 2e-6 }, &want, got.data());
}

/// Checks the same decoder as recorded for the device, whole and in as many pieces as narrow bindings require.
fn check_recorded(
    table: &mut Table,
    (batch, grid): (usize, Grid),
    channels: &[usize],
    decoder: &Decoder<Tensor>,
    rows: &[f32],
    want: &[f64],
) {
    let classes = decoder.classify.weight.shape()[0];
    let shape = Shape { layers: vec![0], channels: channels.to_vec(), classes };
    let side = 1 << decoder.stages.len();
    let image = grid.patches() * side * side;
    let stacked: Vec<f64> = (0..classes)
        .flat_map(|k| (0..batch).flat_map(move |b| (b * classes + k) * image..(b * classes + k + 1) * image))
        .map(|i| want[i])
        .collect();
    let [(_, tiled), (_, direct)] = table.variants();
    // The binding holds little more than one class's map. With 16 x 16 pixels per patch, at most six patches are then
    // decoded together.
    let map = (batch * image * 4) as u64;
    let narrow = Limits { max_binding: (map + 256).max(24 << 10), ..direct };
    for limits in [tiled, direct, narrow] {
        let name = format!("{batch} x {} x {}, {channels:?} -> {classes}, bindings of {}", grid.rows, grid.cols, limits.max_binding);
        table.check(&name, limits, Tolerance { atol: 2e-5, rtol: 1e-5, l2: 2e-6 }, &stacked, |case| {
            let d = decoder.map(&mut |leaf: &Tensor| case.input("weight", leaf.shape(), leaf.data()));
            let pieces: Vec<scores::Piece> = scores::pieces(&mut case.recorder, &shape, batch * grid.patches())
                .into_iter()
                .map(|scores::Piece { patches, .. }| {
                    let values = &rows[patches.start * channels[0]..patches.end * channels[0]];
                    scores::Piece { tokens: case.input("tokens", &[patches.len(), channels[0]], values), patches }
                })
                .collect();
            let cut = limits == narrow && decoder.stages.len() == 4 && batch * grid.patches() > 6;
            assert!(!cut || pieces.len() > 1, "narrow bindings make several pieces");
            // The tiles of a slice, one below the other.
            let (height, width) = (grid.rows * side, grid.cols * side);
            let places: Vec<f32> = (0..batch).flat_map(|b| [(b * height) as f32, 0.0, 0.0, 0.0]).collect();
            let to = Mosaic {
                sums: case.sum("sums", &[classes, batch * height, width]),
                weights: case.input("weights", &[height, width], &vec![1.0; height * width]),
                places: case.input("places", &[batch, 4], &places),
                grid: [grid.rows, grid.cols],
                side,
            };
            scores::decode(&mut case.recorder, &d, &pieces, &to)?;
            Ok(vec![to.sums])
        });
    }
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
    // The number of patches exceeds the number decoded at a time, and is not a multiple of it.
    check(&mut table, 1, grid(20, 11), 3, 1, &[12, 6], 2);
    check(&mut table, 1, grid(31, 14), 1, 2, &[16, 8, 4], 5);
    table.finish();
}

/// Returns pixels, patch by patch. Each value is the pixel's own index in the maps [K, rows side, cols side], plus
/// `from`.
fn places(grid: Grid, stages: usize, classes: usize, from: usize) -> Vec<f32> {
    let side = 1 << stages;
    let (height, width) = (grid.rows * side, grid.cols * side);
    let mut pixels = Vec::new();
    for patch in 0..grid.patches() {
        for z in 0..side * side {
            // Each stage takes 2 bits of z, which select a quarter.
            let (mut y, mut x) = (patch / grid.cols, patch % grid.cols);
            for stage in (0..stages).rev() {
                (y, x) = (2 * y + (z >> (2 * stage + 1) & 1), 2 * x + (z >> (2 * stage) & 1));
            }
            pixels.extend((0..classes).map(|class| (from + (class * height + y) * width + x) as f32));
        }
    }
    pixels
}

const MOSAICS: [(usize, usize, usize, usize); 6] = [(1, 1, 0, 1), (2, 3, 1, 1), (3, 2, 2, 2), (1, 5, 4, 3), (4, 4, 3, 1), (3, 5, 2, 7)];

#[test]
fn mosaic_puts_every_pixel_where_it_belongs() {
    let mut table = Table::new("mosaic");
    for (rows, cols, stages, classes) in MOSAICS {
        let (side, grid) = (1 << stages, Grid { rows, cols });
        let pixels = places(grid, stages, classes, 0);
        let mut maps = vec![-1.0; classes * grid.patches() * side * side];
        let patch = side * side * classes;
        // The maps are written in two parts, because the decoder also writes them in parts.
        let cut = rows * cols / 2;
        cpu::mosaic(&pixels[cut * patch..], cut, grid, side, &mut maps);
        cpu::mosaic(&pixels[..cut * patch], 0, grid, side, &mut maps);
        let want: Vec<f64> = (0..maps.len()).map(|i| i as f64).collect();
        let name = format!("{rows} x {cols} of {side}, {classes}");
        table.twin(&name, EXACT, &want, &maps);
        for batch in [1, 2, 3] {
            let map = (4 * (grid.rows * side + 5) * (grid.cols * side + 4)) as u64;
            // The bindings hold one class at a time, or all classes.
            let forced = table.forced(256 + map, 4).map(|(_, limits)| limits);
            for limits in table.variants().map(|(_, own)| own).into_iter().chain(forced) {
                check_mosaic(&mut table, (&format!("{name}, {batch} tiles"), limits), (batch, grid), stages, classes);
            }
        }
    }
    table.finish();
}

/// Checks overlapping tiles, mirrored in every way, in two pieces that need not end at the end of a tile. The values
/// are whole numbers, so their sums are exact.
fn check_mosaic(table: &mut Table, (name, limits): (&str, Limits), (batch, grid): (usize, Grid), stages: usize, classes: usize) {
    let side = 1 << stages;
    let (height, width) = (grid.rows * side, grid.cols * side);
    let (rows, cols, image) = (height + 5, width + 4, height * width);
    let pixels: Vec<f32> = (0..batch).flat_map(|b| places(grid, stages, classes, b)).collect();
    let weights: Vec<f32> = (0..image).map(|i| (1 + i * i % 7) as f32).collect();
    let places: Vec<[usize; 4]> = (0..batch).map(|b| [2 * b, 4 - b, (b + 1) % 2, (b + classes) % 2]).collect();
    let mut want = vec![0.0; classes * rows * cols];
    for (b, [row, col, down, across]) in places.iter().enumerate() {
        for (i, at) in (0..classes * image).map(|i| (i, i % image)) {
            let (y, x) = (at / width, at % width);
            let (y, x) = (if *down == 1 { height - 1 - y } else { y }, if *across == 1 { width - 1 - x } else { x });
            want[(i / image * rows + row + y) * cols + col + x] += f64::from(weights[y * width + x]) * (b + i) as f64;
        }
    }
    let (patch, all) = (side * side * classes, batch * grid.patches());
    table.check(&format!("{name}, bindings of {}", limits.max_binding), limits, EXACT, &want, |case| {
        let to = Mosaic {
            sums: case.sum("sums", &[classes, rows, cols]),
            weights: case.input("weights", &[height, width], &weights),
            places: case.input("places", &[batch, 4], &places.as_flattened().iter().map(|v| *v as f32).collect::<Vec<_>>()),
            grid: [grid.rows, grid.cols],
            side,
        };
        for patches in [0..all / 3, all / 3..all].into_iter().filter(|patches| !patches.is_empty()) {
            let values = &pixels[patches.start * patch..patches.end * patch];
            let id = case.input("pixels", &[values.len() / classes, classes], values);
            case.recorder.mosaic("mosaic", id, &patches, &to)?;
        }
        Ok(vec![to.sums])
    });
}

/// If a tile reaches beyond the slice, the kernel drops the part beyond and writes nothing else, with checks or
/// without.
#[test]
fn mosaic_keeps_to_the_slice() {
    let mut table = Table::new("mosaic");
    let (side, rows, cols) = (4, 6, 7);
    for (row, col) in [(0, 0), (3, 0), (0, 5), (4, 6), (6, 0), (0, 7), (1 << 20, 2), (2, 1 << 30)] {
        let mut want = vec![0.0; rows * cols];
        for (y, x) in (0..side * side).map(|i| (row + i / side, col + i % side)).filter(|(y, x)| *y < rows && *x < cols) {
            want[y * cols + x] = 2.0;
        }
        for (name, limits) in table.variants() {
            table.check(&format!("{name}, a tile at {row}, {col}"), limits, EXACT, &want, |case| {
                let to = Mosaic {
                    sums: case.sum("sums", &[1, rows, cols]),
                    weights: case.input("weights", &[side, side], &[2.0; 16]),
                    places: case.input("places", &[1, 4], &[row as f32, col as f32, 0.0, 0.0]),
                    grid: [1, 1],
                    side,
                };
                let id = case.input("pixels", &[side * side, 1], &[1.0; 16]);
                case.recorder.mosaic("mosaic", id, &(0..1), &to)?;
                Ok(vec![to.sums])
            });
        }
    }
    table.finish();
}

/// On the CPU, one pass over rows gives the same bits as two passes. The kernel is compared with f64.
#[test]
fn layernorm_gelu_is_gelu_of_layernorm() {
    let mut table = Table::new("layernorm_gelu");
    let [(_, tiled), (_, direct)] = table.variants();
    let [(_, forced), _] = table.forced(64 << 10, 3);
    let mut variants = vec![tiled, direct, forced];
    variants.extend(table.tiers().into_iter().map(|(_, limits)| limits));
    for (rows, c) in [(1, 1), (3, 4), (1030, 5), (33, 48), (17, 192), (5, 4100)] {
        let values = [(1, rows * c), (2, c), (3, c)].map(|(seed, n)| noise(seed, n));
        let x = Tensor::new([rows, c], values[0].clone());
        let norm = Norm { weight: Tensor::new([c], values[1].clone()), bias: Tensor::new([c], values[2].clone()) };
        let mut want = Tensor::filled_by(|y| cpu::layernorm(&x, &norm, DECODER_EPS, y));
        cpu::gelu(want.data_mut());
        let got = Tensor::filled_by(|y| cpu::layernorm_gelu(&x, &norm, DECODER_EPS, y));
        table.twin(&format!("{rows} x {c}"), EXACT, &wide(want.data()), got.data());
        for limits in &variants {
            let stored = noise_of(limits.elem, 1, rows * c);
            let want: Vec<f64> = layernorm(&stored, &values[1], &values[2], DECODER_EPS).into_iter().map(gelu).collect();
            let name = format!("{} over {}, {rows} x {c}", limits.tier, limits.elem.name());
            // A row of one element has no variance, so only its bias remains.
            let tolerance = Tolerance { atol: 2e-6, rtol: 2e-6, l2: 8e-7 }.stored(limits.elem);
            table.check(&name, *limits, tolerance, &want, |case| {
                // If the number of rows is a multiple of four, four rows of c form one row, as in the output of a
                // stage's product.
                let shape = if rows % 4 == 0 { [rows / 4, 4 * c] } else { [rows, c] };
                let x = case.handed("x", &shape, &stored);
                let (weight, bias) = (case.input("weight", &[c], &values[1]), case.input("bias", &[c], &values[2]));
                Ok(vec![case.recorder.layernorm_gelu("layernorm_gelu", x, weight, bias, DECODER_EPS)?])
            });
        }
    }
    table.finish();
}

/// Joins the patches of two layers side by side, in pieces that need not end at the end of an image.
#[test]
fn layernorm_of_patches_puts_layers_side_by_side() {
    let mut table = Table::new("layernorm_patches");
    let [(_, tiled), (_, direct)] = table.variants();
    let mut variants = vec![tiled, direct, Limits { max_workgroups: 2, ..tiled }];
    variants.extend(table.tiers().into_iter().map(|(_, limits)| limits));
    for (batch, prefix, of_each, c) in [(1, 0, 1, 4), (2, 5, 7, 12), (3, 1, 4, 5), (2, 5, 3, 64), (1, 5, 40, 20)] {
        let (tokens, all) = (prefix + of_each, batch * of_each);
        let layers = [1, 2].map(|seed| noise(seed, batch * tokens * c));
        let (weight, bias) = (noise(3, c), noise(4, c));
        let normed = layers.clone().map(|x| layernorm(&x, &weight, &bias, 1e-6));
        let token = |patch: usize| patch / of_each * tokens + prefix + patch % of_each;
        let row = |patch: usize| normed.iter().flat_map(move |layer| layer[token(patch) * c..][..c].iter().copied());
        let want: Vec<f64> = (0..all).flat_map(row).collect();
        for limits in &variants {
            let name = format!("{} over {}, {batch} x {prefix} + {of_each} x {c}", limits.tier, limits.elem.name());
            table.check(&name, *limits, Tolerance { atol: 2e-6, rtol: 1e-6, l2: 6e-7 }.stored(limits.elem), &want, |case| {
                let ids = [0, 1].map(|i| case.input("x", &[batch, tokens, c], &layers[i]));
                let norm = [case.input("weight", &[c], &weight), case.input("bias", &[c], &bias)];
                let (mut joined, elem) = (Vec::new(), limits.elem);
                for patches in [0..all / 2, all / 2..all].into_iter().filter(|patches| !patches.is_empty()) {
                    let y = case.recorder.joined(elem, "joined", [patches.len(), 2 * c]);
                    for (place, x) in ids.into_iter().enumerate() {
                        let to = Columns { patches: patches.clone(), of_each, joined: y, column: place * c };
                        case.recorder.layernorm_patches("layernorm_patches", x, norm, 1e-6, &to)?;
                    }
                    joined.push(y);
                }
                Ok(joined)
            });
        }
    }
    table.finish();
}
