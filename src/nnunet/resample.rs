//! Image resampling that matches scikit-image's `resize` (mode edge, no antialiasing): by cubic B-splines or linearly,
//! in f64.
//!
//! Pixel centres keep their position in the image (`grid_mode` of SciPy's `zoom`, which scikit-image calls). Both
//! methods are separable: they run along rows first and then, on the transposed image, along columns.

use crate::parallel;

/// The number of pixels that SciPy adds at each end, as copies of the last pixel, before it filters for cubic splines.
const PAD: usize = 12;

/// The pole of the cubic B-spline's filter, `sqrt(3) - 2` (Unser 1999).
const POLE: f64 = -0.267_949_192_431_122_7;

/// Resamples values [H, W] to `size` [H', W'] with cubic B-splines.
pub(super) fn cubic(values: Vec<f64>, [height, width]: [usize; 2], size: [usize; 2]) -> Vec<f64> {
    let values = if size[1] == width { values } else { cubic_rows(&values, width, size[1]) };
    if size[0] == height {
        return values;
    }
    transposed(&cubic_rows(&transposed(&values, size[1]), height, size[0]), size[0])
}

/// Resamples every row from length `from` to length `to`.
fn cubic_rows(values: &[f64], from: usize, to: usize) -> Vec<f64> {
    let taps: Vec<_> = (0..to).map(|i| Tap::of(i, from, to)).collect();
    let mut out = vec![0.0; values.len() / from * to];
    parallel::for_each_chunk(&mut out, to, |y, out| {
        let row = &values[y * from..][..from];
        let before = std::iter::repeat_n(row[0], PAD);
        let after = std::iter::repeat_n(row[from - 1], PAD);
        let mut padded: Vec<f64> = before.chain(row.iter().copied()).chain(after).collect();
        to_coefficients(&mut padded);
        for (out, Tap { first, weights }) in out.iter_mut().zip(&taps) {
            *out = weights.iter().zip(&padded[*first..]).map(|(w, c)| w * c).sum();
        }
    });
    out
}

/// The four consecutive coefficients of a padded row that contribute to a pixel of the result, and their weights.
struct Tap {
    first: usize,
    weights: [f64; 4],
}

impl Tap {
    fn of(i: usize, from: usize, to: usize) -> Self {
        let at = centre(i, from, to) + PAD as f64;
        let y = at - at.floor();
        let z = 1.0 - y;
        let near = |d: f64| (d * d * (d - 2.0) * 3.0 + 4.0) / 6.0;
        let (before, here, next) = (z * z * z / 6.0, near(y), near(z));
        Self { first: at.floor() as usize - 1, weights: [before, here, next, 1.0 - before - here - next] }
    }
}

/// Returns the position of the centre of pixel `i` of `to`, in the pixel coordinates of `from`.
fn centre(i: usize, from: usize, to: usize) -> f64 {
    (i as f64 + 0.5) * (from as f64 / to as f64) - 0.5
}

/// Replaces samples by their B-spline coefficients, in place, with two recursive filters, one in each direction.
/// Samples are mirrored at the ends (the last one repeated).
fn to_coefficients(row: &mut [f64]) {
    let n = row.len();
    row.iter_mut().for_each(|v| *v *= (1.0 - POLE) * (1.0 - 1.0 / POLE));
    let whole = POLE.powi(n as i32);
    let mut power = POLE;
    let mut sum = row[0] + whole * row[n - 1];
    for i in 1..n {
        sum += power * (row[i] + whole * row[n - 1 - i]);
        power *= POLE;
    }
    row[0] += sum * POLE / (1.0 - whole * whole);
    for i in 1..n {
        row[i] += POLE * row[i - 1];
    }
    row[n - 1] *= POLE / (POLE - 1.0);
    for i in (0..n - 1).rev() {
        row[i] = POLE * (row[i + 1] - row[i]);
    }
}

fn transposed(values: &[f64], width: usize) -> Vec<f64> {
    let height = values.len() / width;
    let mut out = vec![0.0; values.len()];
    parallel::for_each_chunk(&mut out, height, |x, column| {
        column.iter_mut().zip(values[x..].iter().step_by(width)).for_each(|(to, from)| *to = *from);
    });
    out
}

/// Returns the pixel of `from` that is nearest to pixel `i` of `to`, as SciPy's `map_coordinates` of order 0 takes it.
pub(super) fn nearest(i: usize, from: usize, to: usize) -> usize {
    ((centre(i, from, to).max(0.0) + 0.5) as usize).min(from - 1)
}

/// Returns the linear interpolation of pixel `i` of `to` among `from` pixels: the pixels before and after it, and the
/// weight of the pixel after it. Beyond the ends, the last pixel is repeated.
pub(super) fn between(i: usize, from: usize, to: usize) -> (usize, usize, f64) {
    let at = centre(i, from, to).clamp(0.0, (from - 1) as f64);
    let before = at as usize;
    (before, (before + 1).min(from - 1), at - before as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Archive;

    /// Compares with scikit-image's results for noise, at sizes that grow, shrink and are one pixel.
    #[test]
    fn images_are_resized_as_scikit_image_does() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/nnunet/prepare/resized.safetensors");
        let golden = Archive::open(golden.as_ref()).expect("a golden");
        let mut checked = 0;
        for name in golden.tensors().keys() {
            let [from, to, order] = name.split('.').collect::<Vec<_>>()[..] else { continue };
            let size = |text: &str| text.split_once('x').map(|(h, w)| [h, w].map(|n| n.parse::<usize>().expect("a side"))).expect("HxW");
            let ([from, to], image) = ([from, to].map(size), golden.read(from).expect("values"));
            let wide: Vec<f64> = image.data().iter().copied().map(f64::from).collect();
            let got = if order == "3" { cubic(wide, from, to) } else { linear(&wide, from, to) };
            let want = golden.read(name).expect("values");
            assert_eq!(got.len(), want.data().len(), "{name}");
            for (i, (got, want)) in got.iter().zip(want.data()).enumerate() {
                assert!((got - f64::from(*want)).abs() < 1e-6, "{name}: {got} for {want} at {i}");
            }
            checked += 1;
        }
        assert_eq!(checked, 14);
    }

    /// Resamples whole images with [`between`].
    fn linear(values: &[f64], from: [usize; 2], to: [usize; 2]) -> Vec<f64> {
        let mut out = Vec::new();
        for y in 0..to[0] {
            let (above, below, down) = between(y, from[0], to[0]);
            for x in 0..to[1] {
                let (before, after, across) = between(x, from[1], to[1]);
                let row = |row: usize| values[row * from[1] + before] * (1.0 - across) + values[row * from[1] + after] * across;
                out.push(row(above) * (1.0 - down) + row(below) * down);
            }
        }
        out
    }
}
