//! A synthetic thorax: one axial slice at the level of the heart, drawn from ellipses, in Hounsfield units.
//!
//! It lets users try meddino on machines without data. The code uses only additions, multiplications, divisions and
//! square roots, so its values are bit-identical on every machine.

use crate::tensor::Tensor;

/// Rows and columns of the slice. A pixel represents about 0.75 mm.
pub const SIDE: usize = 512;

/// Standard deviation of the noise in HU, about that of a thin-slice chest CT.
const NOISE: f32 = 18.0;

/// A filled ellipse with a soft edge, one pixel wide.
#[derive(Clone, Copy)]
struct Ellipse {
    /// Column and row of the centre, in pixels.
    center: (f32, f32),
    /// Half axes in pixels.
    radii: (f32, f32),
    /// Direction of the first half axis, as (cos, sin).
    axis: (f32, f32),
    /// The fill value, in HU.
    hu: f32,
}

impl Ellipse {
    /// Returns how much of the pixel at (`x`, `y`) the ellipse covers, 0 to 1.
    fn cover(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.center.0, y - self.center.1);
        let along = (dx * self.axis.0 + dy * self.axis.1) / self.radii.0;
        let across = (dy * self.axis.0 - dx * self.axis.1) / self.radii.1;
        let r = (along * along + across * across).sqrt();
        // Near the edge, (1 - r) times the smaller radius approximates the distance from the edge.
        ((1.0 - r) * self.radii.0.min(self.radii.1) + 0.5).clamp(0.0, 1.0)
    }
}

fn upright(center: (f32, f32), radii: (f32, f32), hu: f32) -> Ellipse {
    Ellipse { center, radii, axis: (1.0, 0.0), hu }
}

fn tilted(center: (f32, f32), radii: (f32, f32), axis: (f32, f32), hu: f32) -> Ellipse {
    Ellipse { center, radii, axis, hu }
}

/// Returns the slice in HU, [SIDE, SIDE]. Values are whole numbers, -1024 or above.
pub fn thorax() -> Tensor {
    let shapes = shapes();
    let mut hu = vec![-1000.0_f32; SIDE * SIDE];
    for shape in &shapes {
        let reach = shape.radii.0.max(shape.radii.1) + 2.0;
        let span = |c: f32| (c - reach).max(0.0) as usize..((c + reach).max(0.0) as usize).min(SIDE);
        for y in span(shape.center.1) {
            for x in span(shape.center.0) {
                let value = &mut hu[y * SIDE + x];
                *value += (shape.hu - *value) * shape.cover(x as f32, y as f32);
            }
        }
    }
    for (i, value) in hu.iter_mut().enumerate() {
        *value = (*value + NOISE * noise(i as u64)).round().max(-1024.0);
    }
    Tensor::new([SIDE, SIDE], hu)
}

/// Returns the shapes in drawing order: later shapes cover earlier ones.
fn shapes() -> Vec<Ellipse> {
    let mut shapes = vec![
        // the table: a shell and its foam
        upright((256.0, 440.0), (205.0, 20.0), -150.0),
        upright((256.0, 440.0), (201.0, 16.0), -900.0),
        // skin, fat, muscle, and the fat inside the chest
        upright((256.0, 262.0), (226.0, 160.0), 20.0),
        upright((256.0, 262.0), (223.0, 157.0), -100.0),
        upright((256.0, 262.0), (208.0, 143.0), 55.0),
        upright((256.0, 258.0), (188.0, 122.0), -80.0),
        // the muscles of the back
        upright((212.0, 388.0), (36.0, 20.0), 55.0),
        upright((300.0, 388.0), (36.0, 20.0), 55.0),
        // the lungs: the patient's right is on the left of the picture
        tilted((160.0, 254.0), (108.0, 80.0), (0.28, 0.96), -860.0),
        tilted((354.0, 258.0), (106.0, 76.0), (-0.28, 0.96), -860.0),
    ];
    shapes.extend(vessels((160.0, 254.0), (62.0, 88.0), (222.0, 262.0), 0x51));
    shapes.extend(vessels((358.0, 262.0), (58.0, 86.0), (300.0, 268.0), 0xA7));
    shapes.extend(ribs());
    shapes.extend(mediastinum());
    shapes.extend(spine());
    shapes
}

/// Returns the vessels and airways of a lung. Each runs from the hilum outwards and gets thinner.
fn vessels(center: (f32, f32), radii: (f32, f32), hilum: (f32, f32), seed: u64) -> Vec<Ellipse> {
    (0..70_u64)
        .map(|i| {
            let draw = |k: u64| uniform(seed * 1_000_003 + i * 7 + k);
            let at = (center.0 + radii.0 * (2.0 * draw(0) - 1.0), center.1 + radii.1 * (2.0 * draw(1) - 1.0));
            let (dx, dy) = (at.0 - hilum.0, at.1 - hilum.1);
            let far = (dx * dx + dy * dy).sqrt().max(1.0);
            let width = (6.0 - far * 0.045).max(1.1) * (0.6 + 0.6 * draw(2));
            // Most vessels run within the slice, some across it.
            let length = if draw(3) < 0.65 { width * (2.0 + 5.0 * draw(4)) } else { width };
            tilted(at, (length, width), (dx / far, dy / far), 35.0)
        })
        .collect()
}

/// Returns the ribs along the chest wall: for each the cortex, then the marrow.
fn ribs() -> Vec<Ellipse> {
    // Points of the upper half circle by their half-angle tangent t: ((1 - t^2) / (1 + t^2), 2 t / (1 + t^2)).
    let tangents = [0.12_f32, 0.36, 0.62];
    let mut ribs = Vec::new();
    for t in tangents {
        let (u, v) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        for (u, v) in [(u, v), (-u, v), (u, -v), (-u, -v)] {
            let center = (256.0 + 197.0 * u, 260.0 + 131.0 * v);
            // The tangent of the ellipse at this point.
            let (tx, ty) = (-197.0 * v, 131.0 * u);
            let norm = (tx * tx + ty * ty).sqrt();
            ribs.push(tilted(center, (21.0, 7.0), (tx / norm, ty / norm), 620.0));
            ribs.push(tilted(center, (18.0, 4.0), (tx / norm, ty / norm), 240.0));
        }
    }
    ribs
}

/// Returns the heart, great vessels, oesophagus, main bronchi and sternum, with contrast medium in the blood.
fn mediastinum() -> Vec<Ellipse> {
    vec![
        tilted((290.0, 226.0), (76.0, 57.0), (0.8, 0.6), -70.0),   // pericardial fat
        tilted((290.0, 226.0), (71.0, 52.0), (0.8, 0.6), 95.0),    // myocardium
        tilted((316.0, 246.0), (38.0, 23.0), (0.8, 0.6), 230.0),   // left ventricle
        tilted((286.0, 198.0), (40.0, 19.0), (0.8, 0.6), 190.0),   // right ventricle
        tilted((236.0, 218.0), (21.0, 29.0), (0.96, 0.28), 185.0), // right atrium
        tilted((266.0, 270.0), (35.0, 20.0), (0.96, 0.28), 225.0), // left atrium
        upright((262.0, 222.0), (15.0, 15.0), 240.0),              // aortic root
        upright((304.0, 318.0), (16.0, 16.0), 240.0),              // descending aorta
        upright((264.0, 308.0), (8.0, 6.0), 35.0),                 // oesophagus
        upright((264.0, 307.0), (2.5, 1.5), -700.0),               // the air in it
        upright((214.0, 282.0), (9.0, 8.0), 30.0),                 // right lower bronchus: wall
        upright((214.0, 282.0), (7.0, 6.0), -980.0),               // and lumen
        upright((322.0, 290.0), (8.5, 8.0), 30.0),                 // left lower bronchus
        upright((322.0, 290.0), (6.5, 6.0), -980.0),
        upright((256.0, 127.0), (26.0, 9.0), 500.0), // sternum
        upright((256.0, 127.0), (23.0, 6.0), 160.0),
    ]
}

/// Returns a thoracic vertebra: body, arch, canal and processes.
fn spine() -> Vec<Ellipse> {
    vec![
        tilted((216.0, 378.0), (26.0, 7.0), (0.96, -0.28), 480.0), // transverse processes
        tilted((296.0, 378.0), (26.0, 7.0), (0.96, 0.28), 480.0),
        upright((256.0, 374.0), (21.0, 17.0), 560.0), // arch
        upright((256.0, 398.0), (5.0, 20.0), 480.0),  // spinous process
        upright((256.0, 344.0), (31.0, 23.0), 540.0), // body: cortex
        upright((256.0, 344.0), (28.0, 20.0), 210.0), // and marrow
        upright((256.0, 373.0), (13.0, 11.0), 15.0),  // canal
        upright((256.0, 373.0), (7.0, 6.0), 40.0),    // cord
    ]
}

/// Returns an approximately normal value of mean 0 and standard deviation 1: the sum of four uniforms, centred and
/// scaled (their variance is 4/12).
fn noise(i: u64) -> f32 {
    let sum: f32 = (0..4).map(|k| uniform((1 << 40) + i * 4 + k)).sum();
    (sum - 2.0) * 1.732_050_8
}

/// Returns element `i` of a sequence of uniforms in [0, 1), generated by splitmix64.
fn uniform(i: u64) -> f32 {
    let x = i.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 40) as f32 / 16_777_216.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slice_is_a_chest_in_hu() {
        let slice = thorax();
        let mean = |x: usize, y: usize| {
            let patch = (0..64).map(|i| slice.data()[(y + i / 8) * SIDE + x + i % 8]);
            patch.sum::<f32>() / 64.0
        };
        let cases = [
            ("air", (10, 10), -1000.0),
            ("right marrow of the spine", (252, 340), 210.0),
            ("aorta", (300, 314), 240.0),
            ("left ventricle", (312, 242), 230.0),
            ("foam of the table", (252, 448), -900.0),
        ];
        for (what, (x, y), hu) in cases {
            assert!((mean(x, y) - hu).abs() < 4.0 * NOISE / 8.0, "{what}: {} for {hu}", mean(x, y));
        }
        assert!(slice.data().iter().all(|v| v.fract() == 0.0 && (-1024.0..2000.0).contains(v)));
    }

    #[test]
    fn the_slice_is_the_same_on_every_machine() {
        // FNV-1a over the values as i16.
        let hash = thorax()
            .data()
            .iter()
            .flat_map(|&v| (v as i16).to_le_bytes())
            .fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
        assert_eq!(format!("{hash:016x}"), "f8d28901a98866e9");
    }
}
