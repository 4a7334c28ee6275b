//! A perceptually uniform colour scale.

/// Red, green and blue in sRGB, 8 bits each.
pub type Rgb = [u8; 3];

/// Returns the scale's colour at `t`, 0 to 1: from dark violet through blue and green to light yellow. Other values of
/// `t` are clamped.
///
/// The scale is a path through OKLab, a space whose distances approximate perceived differences. Lightness rises
/// evenly, so that the order is preserved in gray and for colour-blind readers. Hue turns evenly, and chroma stays just
/// inside the sRGB gamut.
#[must_use]
pub fn colour(t: f32) -> Rgb {
    let [l, a, b] = path(t.clamp(0.0, 1.0));
    linear(l, a, b).map(|v| (encoded(v) * 255.0).round() as u8)
}

/// Returns a colour for item `index` of a set whose items are told apart by colour alone. All colours have the same
/// lightness and chroma. Their hues are a golden angle apart, so that the first few are far from each other.
#[must_use]
pub fn distinct(index: usize) -> Rgb {
    const GOLDEN_ANGLE: f32 = 137.507_77;
    let hue = (30.0 + GOLDEN_ANGLE * (index % 1000) as f32).to_radians();
    linear(0.75, 0.12 * hue.cos(), 0.12 * hue.sin()).map(|v| (encoded(v.clamp(0.0, 1.0)) * 255.0).round() as u8)
}

/// Returns the scale's position in OKLab at `t`: (L, a, b).
fn path(t: f32) -> [f32; 3] {
    let lightness = 0.25 + 0.68 * t;
    let hue = (310.0 - 210.0 * t).to_radians();
    let chroma = 0.095 + 0.03 * (2.0 * t - 1.0).powi(2);
    [lightness, chroma * hue.cos(), chroma * hue.sin()]
}

/// Converts OKLab to linear sRGB: Björn Ottosson, "A perceptual color space for image processing" (2020).
fn linear(lightness: f32, a: f32, b: f32) -> [f32; 3] {
    let l = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
    let m = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
    let s = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
    [
        4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
        -1.268_438 * l + 2.609_757_4 * m - 0.341_319_38 * s,
        -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
    ]
}

/// Applies the sRGB transfer function (IEC 61966-2-1) to a value from 0 to 1.
fn encoded(v: f32) -> f32 {
    if v <= 0.003_130_8 { 12.92 * v } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_can_be_shown_and_steps_are_even() {
        let steps: Vec<[f32; 3]> = (0..=256_u16).map(|i| path(f32::from(i) / 256.0)).collect();
        for [l, a, b] in &steps {
            let rgb = linear(*l, *a, *b);
            assert!(rgb.iter().all(|v| (0.0..=1.0).contains(v)), "OKLab {l} {a} {b} is {rgb:?} in linear sRGB");
        }
        let step = |w: &[[f32; 3]]| (0..3).map(|k| (w[1][k] - w[0][k]).powi(2)).sum::<f32>().sqrt();
        let lengths: Vec<f32> = steps.windows(2).map(step).collect();
        let mean = lengths.iter().sum::<f32>() / lengths.len() as f32;
        assert!(lengths.iter().all(|l| (l / mean - 1.0).abs() < 0.15), "{lengths:?}");
    }

    #[test]
    fn white_black_and_gray_are_themselves() {
        for (lightness, want) in [(0.0, 0.0), (1.0, 1.0), (0.5, 0.125)] {
            assert!(linear(lightness, 0.0, 0.0).iter().all(|v| (v - want).abs() < 1e-5), "{lightness}");
        }
        assert!((encoded(0.214_041) - 0.5).abs() < 1e-4);
    }

    #[test]
    fn things_are_told_apart() {
        let apart = |a: Rgb, b: Rgb| a.iter().zip(b).map(|(a, b)| (i32::from(*a) - i32::from(b)).abs()).sum::<i32>();
        for i in 0..12 {
            for j in 0..i {
                assert!(apart(distinct(i), distinct(j)) > 20, "{i} {:?} and {j} {:?}", distinct(i), distinct(j));
            }
        }
    }

    #[test]
    fn the_ends_go_on() {
        assert_eq!(colour(-1.0), colour(0.0));
        assert_eq!(colour(2.0), colour(1.0));
        assert_ne!(colour(0.0), colour(1.0));
    }
}
