//! `patch_embed`: a convolution whose kernel is as wide as its stride.

use meddino::graph::Limits;
use meddino::vit::weights::Linear;
use meddino::{Tensor, cpu};

use crate::cases::{CPU_PANEL, Table, Tolerance, noise};

#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    /// Channels of the image.
    planes: usize,
    height: usize,
    width: usize,
    embed_dim: usize,
    channels: usize,
    patch: usize,
}

fn oracle(shape: Shape, image: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f64> {
    let Shape { batch, planes, height, width, embed_dim, channels, patch } = shape;
    let mut want = Vec::new();
    for b in 0..batch {
        for (row, col) in (0..height / patch).flat_map(|row| (0..width / patch).map(move |col| (row, col))) {
            for out in 0..embed_dim {
                let mut sum = f64::from(bias[out]);
                for c in 0..channels {
                    for (y, x) in (0..patch).flat_map(|y| (0..patch).map(move |x| (y, x))) {
                        let plane = (b * planes + c.min(planes - 1)) * height;
                        let pixel = image[(plane + row * patch + y) * width + col * patch + x];
                        sum += f64::from(pixel) * f64::from(weight[((out * channels + c) * patch + y) * patch + x]);
                    }
                }
                want.push(sum);
            }
        }
    }
    want
}

fn check(table: &mut Table, shape: Shape, variants: &[(&str, Limits)]) {
    let Shape { batch, planes, height, width, embed_dim, channels, patch } = shape;
    let image = noise(1, batch * planes * height * width);
    let (weight, bias) = (noise(2, embed_dim * channels * patch * patch), noise(3, embed_dim));
    let want = oracle(shape, &image, &weight, &bias);
    let k = channels * patch * patch;
    let tensor = |shape: &[usize], values: &[f32]| Tensor::new(shape, values.to_vec());
    let proj = Linear { weight: tensor(&[embed_dim, channels, patch, patch], &weight), bias: Some(tensor(&[embed_dim], &bias)) };
    let twin = cpu::patch_embed(&tensor(&[batch, planes, height, width], &image), &proj.into(), patch);
    table.twin(&format!("{shape:?}"), Tolerance::of_sums(k, CPU_PANEL), &want, twin.data());
    for &(variant, limits) in variants {
        let name = format!("{variant} {shape:?}, bindings of {}", limits.max_binding);
        let tolerance = table.sums(k, &limits);
        table.check(&name, limits, tolerance, &want, |case| {
            let image = case.input("image", &[batch, planes, height, width], &image);
            let weight = case.input("weight", &[embed_dim, channels, patch, patch], &weight);
            let bias = case.input("bias", &[embed_dim], &bias);
            Ok(vec![case.recorder.patch_embed("patch_embed", image, weight, bias)?])
        });
    }
}

#[test]
fn images_and_patches_of_any_size() {
    let mut table = Table::new("patch_embed");
    let variants = table.variants();
    let base = Shape { batch: 1, planes: 3, height: 32, width: 48, embed_dim: 65, channels: 3, patch: 16 };
    for planes in [1, 3] {
        for (height, width) in [(16, 16), (31, 33), (16, 65 * 16), (70, 115)] {
            check(&mut table, Shape { planes, height, width, ..base }, &variants);
        }
        check(&mut table, Shape { planes, batch: 3, height: 35, width: 50, ..base }, &variants);
        check(&mut table, Shape { planes, height: 24, width: 37, patch: 7, embed_dim: 5, batch: 2, ..base }, &variants);
    }
    check(&mut table, Shape { planes: 1, height: 224, width: 224, embed_dim: 96, ..base }, &variants);
    table.finish();
}

#[test]
fn forced_down_limits_give_the_same_numbers() {
    let mut table = Table::new("patch_embed");
    let base = Shape { batch: 2, planes: 3, height: 50, width: 35, embed_dim: 16, channels: 3, patch: 4 };
    // The images take 42 or 14 KB, and a patch row takes 560 bytes. The limits bind all images together, one image at a
    // time, or a few patch rows of one channel at a time.
    for (binding, workgroups) in [(64 << 10, 1), (20 << 10, 64), (6 << 10, 64), (6 << 10, 1)] {
        let forced = table.forced(binding, workgroups);
        for planes in [1, 3] {
            for width in [35, 32] {
                check(&mut table, Shape { planes, width, ..base }, &forced);
            }
        }
    }
    table.finish();
}
