//! A bitmap font of the characters that pictures need: digits, a minus, a point, and the letters of "slice".

/// The width of a letter in dots.
pub(super) const WIDTH: usize = 5;

/// The height of a letter in dots.
pub(super) const HEIGHT: usize = 7;

/// Each letter's rows from top to bottom. The highest of five bits is the leftmost dot.
const GLYPHS: [(char, [u8; HEIGHT]); 17] = [
    ('0', [0b01110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110]),
    ('1', [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('2', [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111]),
    ('3', [0b01110, 0b10001, 0b00001, 0b00110, 0b00001, 0b10001, 0b01110]),
    ('4', [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010]),
    ('5', [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110]),
    ('6', [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110]),
    ('7', [0b11111, 0b00001, 0b00010, 0b00010, 0b00100, 0b00100, 0b00100]),
    ('8', [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110]),
    ('9', [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100]),
    ('-', [0b00000, 0b00000, 0b00000, 0b11111, 0b00000, 0b00000, 0b00000]),
    ('.', [0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b01100, 0b01100]),
    ('s', [0b00000, 0b00000, 0b01111, 0b10000, 0b01110, 0b00001, 0b11110]),
    ('l', [0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('i', [0b00100, 0b00000, 0b01100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('c', [0b00000, 0b00000, 0b01110, 0b10000, 0b10000, 0b10000, 0b01110]),
    ('e', [0b00000, 0b00000, 0b01110, 0b10001, 0b11111, 0b10000, 0b01110]),
];

/// Returns the rows of `letter`. Characters without a glyph are blank.
pub(super) fn glyph(letter: char) -> [u8; HEIGHT] {
    GLYPHS.iter().find(|(known, _)| *known == letter).map_or([0; HEIGHT], |(_, rows)| *rows)
}

/// Returns the size in pixels of a text of `letters` letters with dots of `scale` pixels: (width, height).
pub(super) fn size(letters: usize, scale: usize) -> (usize, usize) {
    ((letters * (WIDTH + 1)).saturating_sub(1) * scale, HEIGHT * scale)
}
