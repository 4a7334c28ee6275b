//! Moves pixels that are stored patch by patch to their places on a map.

use rayon::prelude::*;

use crate::vit::config::Grid;

/// Writes the pixels [M * side^2, K] of M patches from patch `first` on into maps [K, rows * side, cols * side]. Pixels
/// are stored patch by patch, in Morton order (the bits of a pixel's row and column interleaved, the row's first).
pub fn mosaic(pixels: &[f32], first: usize, grid: Grid, side: usize, maps: &mut [f32]) {
    let (width, area) = (grid.cols * side, side * side);
    let map = grid.rows * side * width;
    let classes = maps.len() / map;
    assert!(side.is_power_of_two() && maps.len() == classes * map && pixels.len().is_multiple_of(area * classes), "whole patches");
    let place: Vec<usize> = (0..area).map(|z| even_bits(z >> 1) * width + even_bits(z)).collect();
    maps.par_chunks_mut(map).enumerate().for_each(|(class, map)| {
        for (patch, pixels) in pixels.chunks_exact(area * classes).enumerate() {
            let patch = first + patch;
            let corner = patch / grid.cols * side * width + patch % grid.cols * side;
            pixels[class..].iter().step_by(classes).zip(&place).for_each(|(v, place)| map[corner + place] = *v);
        }
    });
}

/// The number made of bits 0, 2, 4, .. of `z`.
fn even_bits(z: usize) -> usize {
    (0..usize::BITS / 2).map(|bit| (z >> (2 * bit) & 1) << bit).sum()
}
