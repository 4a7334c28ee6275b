//! A picture in memory, with drawing operations.

use super::colour::Rgb;
use super::font;

/// A picture of RGB pixels.
#[derive(Clone, PartialEq, Eq)]
pub struct Canvas {
    width: usize,
    /// The pixels, row-major.
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// Creates a canvas of `height` x `width` pixels of one colour.
    ///
    /// # Panics
    /// If a side is 0.
    pub fn new(height: usize, width: usize, colour: Rgb) -> Self {
        assert!(height * width > 0, "a picture has pixels");
        Self { width, pixels: vec![colour; height * width] }
    }

    /// Returns the number of rows.
    pub fn height(&self) -> usize {
        self.pixels.len() / self.width
    }

    /// Returns the number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the pixels, row-major.
    pub fn pixels(&self) -> &[Rgb] {
        &self.pixels
    }

    /// Returns the pixel in column `x` of row `y`.
    pub(super) fn at(&mut self, x: usize, y: usize) -> &mut Rgb {
        &mut self.pixels[y * self.width + x]
    }

    /// Fills a rectangle, clipped to the canvas.
    pub(super) fn fill(&mut self, (x, y): (usize, usize), (width, height): (usize, usize), colour: Rgb) {
        for row in y..(y + height).min(self.height()) {
            for col in x..(x + width).min(self.width) {
                *self.at(col, row) = colour;
            }
        }
    }

    /// Copies `picture` onto the canvas with its top left corner at (`x`, `y`). It must fit inside.
    pub(super) fn put(&mut self, (x, y): (usize, usize), picture: &Self) {
        for (i, row) in picture.pixels.chunks_exact(picture.width).enumerate() {
            self.pixels[(y + i) * self.width + x..][..picture.width].copy_from_slice(row);
        }
    }

    /// Writes `text` with its top left corner at (`x`, `y`). Each dot of a letter is `scale` pixels wide.
    pub(super) fn write(&mut self, (x, y): (usize, usize), text: &str, scale: usize, colour: Rgb) {
        for (i, letter) in text.chars().enumerate() {
            for (row, bits) in font::glyph(letter).iter().enumerate() {
                for col in (0..font::WIDTH).filter(|col| bits >> (font::WIDTH - 1 - col) & 1 == 1) {
                    let corner = (x + (i * (font::WIDTH + 1) + col) * scale, y + row * scale);
                    self.fill(corner, (scale, scale), colour);
                }
            }
        }
    }

    /// Draws a ring with its centre at (`x`, `y`) and a crosshair reaching into it. Lines are white with a black
    /// outline, so that they are visible on any background.
    pub(super) fn ring(&mut self, (x, y): (f32, f32), radius: f32, line: f32) {
        let reach = radius + 2.0 * line + 1.0;
        let span = |c: f32, end: usize| (c - reach).max(0.0) as usize..((c + reach).max(0.0) as usize + 1).min(end);
        for row in span(y, self.height()) {
            for col in span(x, self.width) {
                let (dx, dy) = (col as f32 + 0.5 - x, row as f32 + 0.5 - y);
                let off_ring = (dx.hypot(dy) - radius).abs();
                let off_centre = dx.hypot(dy) - line * 0.5;
                let off = off_ring.min(off_centre);
                // Opaque inside the line, fading over one pixel at its edges.
                let (white, black) = ((line * 0.5 + 0.5 - off).clamp(0.0, 1.0), (line * 1.5 + 0.5 - off).clamp(0.0, 1.0));
                let pixel = self.at(col, row);
                *pixel = blend(blend(*pixel, [0; 3], black), [255; 3], white);
            }
        }
    }
}

impl std::fmt::Debug for Canvas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Canvas[{} x {}]", self.height(), self.width)
    }
}

/// Blends `over` onto `under` with opacity `alpha` (0 to 1).
pub(super) fn blend(under: Rgb, over: Rgb, alpha: f32) -> Rgb {
    [0, 1, 2].map(|k| (f32::from(under[k]) + (f32::from(over[k]) - f32::from(under[k])) * alpha).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_stays_on_the_canvas() {
        let mut canvas = Canvas::new(10, 20, [9; 3]);
        canvas.fill((18, 8), (5, 5), [1; 3]);
        canvas.ring((0.0, 0.0), 6.0, 2.0);
        canvas.ring((19.9, 9.9), 30.0, 2.0);
        canvas.write((12, 6), "-1.25", 2, [255; 3]);
        assert_eq!((canvas.height(), canvas.width(), canvas.pixels().len()), (10, 20, 200));
    }

    #[test]
    fn letters_are_where_they_are_written() {
        let mut canvas = Canvas::new(7, 11, [0; 3]);
        canvas.write((0, 0), "1-", 1, [255; 3]);
        let lit = |x: usize, y: usize| canvas.pixels()[y * 11 + x] == [255; 3];
        let rows: Vec<String> = (0..7).map(|y| (0..11).map(|x| if lit(x, y) { '#' } else { '.' }).collect()).collect();
        assert_eq!(rows, ["..#........", ".##........", "..#........", "..#...#####", "..#........", "..#........", ".###......."]);
    }
}
