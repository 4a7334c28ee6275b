//! Charts of a classifier's report: ROC curves, confusion, calibration. Classes are numbered from 1 and have the colours of
//! [`distinct`]; axes run from 0 to 1.

use super::canvas::Canvas;
use super::colour::{Rgb, colour, distinct};
use super::font;
use super::sheet::{beside, key};

/// Side of the area of a curve, in pixels.
const SIDE: usize = 400;
/// Room for numbers at the left and below.
const MARGIN: usize = 48;
/// Size of a letter's dot.
const SCALE: usize = 2;
const GROUND: Rgb = [0; 3];
const INK: Rgb = [230; 3];
const GRID: Rgb = [60; 3];

/// Draws the ROC curve of each class, from (false positive rate, true positive rate) at (0, 0) to (1, 1), and a key of the
/// classes' numbers from 1.
///
/// # Panics
/// If a class is 0.
#[must_use]
pub fn roc_chart(curves: &[(usize, &[(f64, f64)])]) -> Canvas {
    let mut canvas = axes();
    for (class, points) in curves {
        points.windows(2).for_each(|ends| line(&mut canvas, ends[0], ends[1], distinct(class - 1)));
    }
    let classes: Vec<usize> = curves.iter().map(|(class, _)| *class).collect();
    beside(&[canvas, key(&classes, SIDE)])
}

/// Draws a calibration curve: the mean predicted probability to the right, the observed share upwards, beside the diagonal
/// of a calibrated classifier.
#[must_use]
pub fn calibration_chart(points: &[(f64, f64)]) -> Canvas {
    let mut canvas = axes();
    points.windows(2).for_each(|ends| line(&mut canvas, ends[0], ends[1], distinct(0)));
    for &point in points {
        let (x, y) = place(point);
        canvas.fill((x.saturating_sub(4), y.saturating_sub(4)), (9, 9), distinct(0));
    }
    canvas
}

/// Draws counts of (true class, predicted class): truth downwards, prediction to the right, each row coloured by its
/// shares.
///
/// # Panics
/// If there are no classes.
#[must_use]
pub fn confusion_chart(counts: &[Vec<u64>]) -> Canvas {
    let letters = counts.iter().flatten().map(|count| count.to_string().len()).max().unwrap_or(1).max(3);
    let (text_width, text_height) = font::size(letters, SCALE);
    let (width, height) = (text_width + 16, text_height + 24);
    let mut canvas = Canvas::new(MARGIN + counts.len() * height, MARGIN + counts.len() * width, GROUND);
    for (truth, row) in counts.iter().enumerate() {
        let total = row.iter().sum::<u64>().max(1);
        let number = (truth + 1).to_string();
        let (number_width, _) = font::size(number.len(), SCALE);
        canvas.write((MARGIN - 8 - number_width.min(MARGIN - 8), MARGIN + truth * height + 12), &number, SCALE, INK);
        canvas.write((MARGIN + truth * width + (width - number_width.min(width)) / 2, MARGIN - 8 - text_height), &number, SCALE, INK);
        for (guess, count) in row.iter().enumerate() {
            let share = *count as f32 / total as f32;
            let corner = (MARGIN + guess * width, MARGIN + truth * height);
            canvas.fill(corner, (width - 1, height - 1), colour(share));
            let text = count.to_string();
            let (text_width, _) = font::size(text.len(), SCALE);
            // Light on the dark half of the scale, dark on the light half.
            let ink = if share < 0.5 { [255; 3] } else { [0; 3] };
            canvas.write((corner.0 + (width - text_width) / 2, corner.1 + 12), &text, SCALE, ink);
        }
    }
    canvas
}

/// Draws a frame with a grid of quarters, its numbers, and the diagonal.
fn axes() -> Canvas {
    let mut canvas = Canvas::new(SIDE + MARGIN + 16, MARGIN + SIDE + 16, GROUND);
    for quarter in 0..=4_usize {
        let at = quarter as f64 / 4.0;
        line(&mut canvas, (at, 0.0), (at, 1.0), GRID);
        line(&mut canvas, (0.0, at), (1.0, at), GRID);
        let text = format!("{at:.2}");
        let (width, height) = font::size(text.len(), SCALE);
        let ((x, _), (_, y)) = (place((at, 0.0)), place((0.0, at)));
        canvas.write((MARGIN.saturating_sub(width + 4), y.saturating_sub(height / 2)), &text, SCALE, INK);
        canvas.write((x.saturating_sub(width / 2).min(MARGIN + SIDE + 16 - width), 8 + SIDE + 12), &text, SCALE, INK);
    }
    line(&mut canvas, (0.0, 0.0), (1.0, 1.0), [110; 3]);
    canvas
}

/// Returns the pixel of a point from (0, 0), bottom left, to (1, 1), top right.
fn place((x, y): (f64, f64)) -> (usize, usize) {
    let along = |v: f64| (v.clamp(0.0, 1.0) * SIDE as f64).round() as usize;
    (MARGIN + along(x), 8 + SIDE - along(y))
}

/// Draws a line of 3 pixels between two points, 1 pixel for the grid.
fn line(canvas: &mut Canvas, from: (f64, f64), to: (f64, f64), colour: Rgb) {
    let size = if colour == GRID { 1 } else { 3 };
    let steps = (2.0 * SIDE as f64 * (to.0 - from.0).abs().max((to.1 - from.1).abs())).ceil().max(1.0);
    for step in 0..=steps as usize {
        let way = step as f64 / steps;
        let (x, y) = place((from.0 + (to.0 - from.0) * way, from.1 + (to.1 - from.1) * way));
        canvas.fill((x.saturating_sub(size / 2), y.saturating_sub(size / 2)), (size, size), colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_passes_its_points() {
        let curve = [(0.0, 0.0), (0.0, 0.5), (1.0, 1.0)];
        let canvas = roc_chart(&[(2, &curve)]);
        let at = |point| {
            let (x, y) = place(point);
            canvas.pixels()[y * canvas.width() + x]
        };
        assert!(curve.iter().chain(&[(0.5, 0.75)]).all(|point| at(*point) == distinct(1)));
        assert_ne!(at((0.3, 0.9)), distinct(1));
        assert!(calibration_chart(&curve).pixels().contains(&distinct(0)));
        assert!(!calibration_chart(&[]).pixels().contains(&distinct(0)));
    }

    #[test]
    fn a_confusion_has_a_cell_of_each_pair() {
        let canvas = confusion_chart(&[vec![9, 1], vec![0, 0]]);
        for share in [0.9, 0.1, 0.0] {
            assert!(canvas.pixels().contains(&colour(share)), "{share}");
        }
        assert!(confusion_chart(&vec![vec![123_456_789; 30]; 30]).width() > 3000);
    }
}
