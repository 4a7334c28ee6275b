//! Layout of several canvases: side by side, with captions, in a sheet, with a colour bar.

use super::canvas::Canvas;
use super::colour::{Rgb, colour, distinct};
use super::font;

const GROUND: Rgb = [0; 3];
const INK: Rgb = [235; 3];

/// The distance between canvases, in pixels.
const GAP: usize = 8;

/// The number of values written beside a colour bar.
const TICKS: usize = 5;

/// Places canvases from left to right, on black.
///
/// # Panics
/// If `canvases` is empty.
pub fn beside(canvases: &[Canvas]) -> Canvas {
    let height = canvases.iter().map(Canvas::height).max().expect("a canvas");
    let width = canvases.iter().map(|c| c.width() + GAP).sum::<usize>() - GAP;
    let mut whole = Canvas::new(height, width, GROUND);
    let mut x = 0;
    for canvas in canvases {
        whole.put((x, 0), canvas);
        x += canvas.width() + GAP;
    }
    whole
}

/// Adds a caption with the slice's number below a canvas.
pub fn captioned(canvas: &Canvas, slice: usize) -> Canvas {
    let text = format!("slice {slice}");
    let scale = text_scale(canvas.height());
    let (width, height) = font::size(text.len(), scale);
    let mut whole = Canvas::new(canvas.height() + height + 2 * GAP, canvas.width().max(width), GROUND);
    whole.put((0, 0), canvas);
    whole.write(((whole.width() - width) / 2, canvas.height() + GAP), &text, scale, INK);
    whole
}

/// Places canvases of one size in rows of `columns`, on black.
///
/// # Panics
/// If `canvases` is empty, or `columns` is 0.
pub fn sheet(canvases: &[Canvas], columns: usize) -> Canvas {
    let columns = columns.min(canvases.len());
    let (height, width) = (canvases[0].height() + GAP, canvases[0].width() + GAP);
    let mut whole = Canvas::new(canvases.len().div_ceil(columns) * height - GAP, columns * width - GAP, GROUND);
    for (i, canvas) in canvases.iter().enumerate() {
        whole.put((i % columns * width, i / columns * height), canvas);
    }
    whole
}

/// Draws a colour bar, `height` pixels high, with numbers. The lower of `limits` is at the bottom, the upper at the
/// top.
pub fn bar(limits: (f32, f32), height: usize) -> Canvas {
    let scale = text_scale(height);
    let labels = labels(limits);
    let letters = labels.iter().map(String::len).max().unwrap_or(0);
    let (text_width, text_height) = font::size(letters, scale);
    // Leave a margin above and below the numbers at the ends, and to the right of all numbers.
    let (margin, thick, tick) = (text_height, 10 * scale, 2 * scale);
    let length = height.saturating_sub(2 * margin).max(TICKS);
    let mut canvas = Canvas::new(length + 2 * margin, thick + tick + 2 * scale + text_width + GAP, GROUND);
    for y in 0..length {
        canvas.fill((0, margin + y), (thick, 1), colour(1.0 - y as f32 / (length - 1) as f32));
    }
    for (i, label) in labels.iter().enumerate() {
        let y = margin + (length - 1) * (TICKS - 1 - i) / (TICKS - 1);
        canvas.fill((thick, y), (tick, scale.div_ceil(2)), INK);
        canvas.write((thick + tick + 2 * scale, y - text_height / 2), label, scale, INK);
    }
    canvas
}

/// Draws a legend: each of `labels` with its colour from [`distinct`], which gives its first colour to label 1. The
/// legend has as many columns as a canvas `height` pixels high needs.
///
/// # Panics
/// If a label is 0, which has no colour.
pub fn key(labels: &[usize], height: usize) -> Canvas {
    let scale = text_scale(height);
    let letters = labels.iter().map(|label| label.to_string().len()).max().unwrap_or(0);
    let (text_width, text_height) = font::size(letters, scale);
    let (line, swatch) = (text_height + GAP, 2 * text_height);
    let column = swatch + 2 * scale + text_width + 2 * GAP;
    let rows = (height / line).clamp(1, labels.len().max(1));
    let mut canvas = Canvas::new(rows * line, labels.len().div_ceil(rows).max(1) * column, GROUND);
    for (i, label) in labels.iter().enumerate() {
        let (x, y) = (i / rows * column, i % rows * line);
        canvas.fill((x, y), (swatch, text_height), distinct(label - 1));
        canvas.write((x + swatch + 2 * scale, y), &label.to_string(), scale, INK);
    }
    canvas
}

/// Returns the values at evenly spaced positions from `lo` to `hi`, with enough decimals to tell them apart: from 2 to
/// 6.
fn labels((lo, hi): (f32, f32)) -> Vec<String> {
    let step = f64::from(hi - lo) / (TICKS - 1) as f64;
    let decimals = if step > 0.0 { (1.0 - step.log10().floor()).clamp(2.0, 6.0) as usize } else { 2 };
    (0..TICKS).map(|i| format!("{:.decimals$}", f64::from(lo) + step * i as f64)).collect()
}

/// Returns the size in pixels of a letter's dot on a canvas of `height`. Letters are 1/40 of the canvas high, but never
/// too small to read.
fn text_scale(height: usize) -> usize {
    (height / (40 * font::HEIGHT)).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_tell_their_places_apart() {
        assert_eq!(labels((-1.0, 1.0)), ["-1.00", "-0.50", "0.00", "0.50", "1.00"]);
        assert_eq!(labels((0.96, 1.0)), ["0.960", "0.970", "0.980", "0.990", "1.000"]);
        assert_eq!(labels((1.0, 1.0)), ["1.00"; 5]);
    }

    #[test]
    fn a_key_has_a_line_for_every_label() {
        for (labels, height) in [(&[1_usize, 2, 3][..], 448), (&[7], 10), (&[], 448), (&[1, 20, 300, 4, 5, 6, 7], 60)] {
            let canvas = key(labels, height);
            let shown = labels.iter().filter(|label| canvas.pixels().contains(&distinct(**label - 1))).count();
            assert_eq!(shown, labels.len(), "{labels:?}");
            assert!(canvas.height() <= height.max(24), "{labels:?}");
        }
    }

    #[test]
    fn canvases_stand_where_they_should() {
        let tile = |shade: u8| Canvas::new(2, 3, [shade; 3]);
        let whole = sheet(&[tile(1), tile(2), tile(3)], 2);
        assert_eq!((whole.height(), whole.width()), (4 + GAP, 6 + GAP));
        let at = |x: usize, y: usize| whole.pixels()[y * whole.width() + x][0];
        assert_eq!([at(0, 0), at(3 + GAP, 1), at(2, 2 + GAP), at(3 + GAP, 2 + GAP), at(4, 0)], [1, 2, 3, 0, 0]);
        let pair = beside(&[tile(1), Canvas::new(5, 1, [9; 3])]);
        assert_eq!((pair.height(), pair.width()), (5, 4 + GAP));
        assert_eq!(pair.pixels()[pair.width() - 1], [9; 3]);
    }

    #[test]
    fn a_bar_runs_from_dark_below_to_light_above() {
        for height in [8, 64, 256, 1024] {
            let bar = bar((0.5, 1.0), height);
            let column: Vec<Rgb> = (0..bar.height()).map(|y| bar.pixels()[y * bar.width()]).collect();
            let drawn: Vec<&Rgb> = column.iter().filter(|c| **c != GROUND).collect();
            assert_eq!((*drawn[0], **drawn.last().expect("drawn")), (colour(1.0), colour(0.0)), "{height}");
        }
    }
}
