//! The turn to LPS: nibabel's results on affines of every kind, and one scan in all 48 storage orders.

use meddino::ct::{Affine, Orient, Volume};

use super::file::{Folder, Nifti, gzip, read};

/// The value of the stored voxel [i, j, k] of 5 x 4 x 3.
fn value(i: usize, j: usize, k: usize) -> f32 {
    (i + 10 * j + 100 * k) as f32
}

/// 5 x 4 x 3 voxels, each worth [`value`], with `affine` as sform.
fn file(affine: [f32; 12]) -> Nifti {
    let values = (0..60).map(|n| value(n % 5, n / 5 % 4, n / 20) as i16);
    Nifti::i16([3, 4, 5], values).with(|f| f.srow = affine)
}

/// Every voxel's value and position in mm.
fn voxels(scan: &mut Volume) -> Vec<(f32, [f64; 3])> {
    let affine = *scan.affine().expect("an affine");
    let (h, w) = (scan.height(), scan.width());
    let place = |n: usize| affine.apply([n % w, n / w % h, n / (h * w)].map(|i| i as f64));
    read(scan).into_iter().enumerate().map(|(n, v)| (v, place(n))).collect()
}

fn assert_near(got: &[f64], want: &[f64], subject: &str) {
    assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-9), "{subject}: {got:?} for {want:?}");
}

#[test]
fn affines_of_every_kind_turn_as_nibabel_turns_them() {
    let text = include_str!("../golden/orient.txt");
    let folder = Folder::new();
    for (n, line) in text.lines().enumerate() {
        let numbers: Vec<f64> = line.split(' ').map(|n| n.parse().expect("a number")).collect();
        let stored: [f32; 12] = std::array::from_fn(|i| numbers[i] as f32);
        let mut scan = folder.open("a.nii", &file(stored).bytes()).oriented(Orient::Lps).unwrap_or_else(|e| panic!("{e}"));
        let shape = [scan.width(), scan.height(), scan.slices()].map(|n| n as f64);
        assert_near(&shape, &numbers[12..15], &format!("shape of line {n}"));
        assert_near(scan.affine().expect("an affine").rows.as_flattened(), &numbers[15..], &format!("line {n}"));
        // A voxel keeps its value and its place in the patient.
        let before = Affine { rows: std::array::from_fn(|i| std::array::from_fn(|j| numbers[4 * i + j])) };
        let turned = voxels(&mut scan);
        assert_eq!(turned.len(), 60);
        let mut seen = [false; 60];
        for (v, place) in turned {
            let [i, j, k] = [v as usize % 10, v as usize / 10 % 10, v as usize / 100];
            assert_near(&place, &before.apply([i, j, k].map(|i| i as f64)), &format!("voxel {v} of line {n}"));
            seen[i + 5 * j + 20 * k] = true;
        }
        assert!(seen.iter().all(|&s| s), "line {n} loses voxels");
    }
    assert_eq!(text.lines().count(), 258);
}

#[test]
fn stored_stays_stored() {
    let folder = Folder::new();
    for line in include_str!("../golden/orient.txt").lines() {
        let numbers: Vec<f64> = line.split(' ').map(|n| n.parse().expect("a number")).collect();
        let mut scan =
            folder.open("a.nii", &file(std::array::from_fn(|i| numbers[i] as f32)).bytes()).oriented(Orient::Stored).expect("a scan");
        assert_near(scan.affine().expect("an affine").rows.as_flattened(), &numbers[..12], "stored");
        assert_eq!(read(&mut scan), (0..60).map(|n| value(n % 5, n / 5 % 4, n / 20)).collect::<Vec<_>>());
    }
}

/// The slices are large enough that the temporary file is written in parts: 64 MiB of f32 hold 16 of them.
#[test]
fn one_scan_in_storage_orders_larger_than_the_buffer() {
    let [w, h, s] = [1024, 1000, 40_usize];
    let patient = |i: usize, j: usize, k: usize| ((i * 31 + j * 17 + k * 1009) % 4001) as i16;
    let folder = Folder::new();
    // [i, j, k] run to posterior, superior, left, and to inferior, left, anterior.
    let coronal = (0..w * h * s).map(|n| patient(n / (h * s), n % h, n / h % s));
    let coronal = Nifti::i16([w as i16, s as i16, h as i16], coronal).with(|f| f.srow = [0., 0., -1., 0., -1., 0., 0., 0., 0., 1., 0., 0.]);
    let upright = (0..w * h * s).map(|n| patient(n / s % w, h - 1 - n / (s * w), s - 1 - n % s));
    let upright = Nifti::i16([h as i16, w as i16, s as i16], upright).with(|f| f.srow = [0., -1., 0., 0., 0., 0., 1., 0., -1., 0., 0., 0.]);
    for (name, file) in [("coronal.nii", coronal), ("upright.nii", upright)] {
        let mut scan = folder.open(name, &file.bytes()).oriented(Orient::Lps).expect("turned");
        assert_eq!((scan.slices(), scan.height(), scan.width()), (s, h, w), "{name}");
        for k in [39, 0, 15, 16, 17] {
            let slice = scan.read_slice(k).expect("a slice");
            let right = slice.data().iter().enumerate().all(|(n, &v)| v == f32::from(patient(n % w, n / w, k)));
            assert!(right, "{name}, slice {k}");
        }
    }
}

/// The same scan, stored along every permutation of the axes in every direction, plain and compressed, gives the same
/// slices and the same affine.
#[test]
fn one_scan_in_all_48_storage_orders() {
    let folder = Folder::new();
    // In LPS: 5 columns of 0.75 mm, 4 rows of 1.5 mm, 3 slices of 3 mm.
    let (shape, spacing) = ([5, 4, 3], [-0.75, -1.5, 3.0]);
    let mut cases = 0;
    for axes in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for flips in 0..8 {
            let flipped = |patient: usize| flips >> patient & 1 == 1;
            // Stored axis n runs along the patient's axis `axes[n]`.
            let dim = axes.map(|patient| shape[patient]);
            let values = (0..60).map(|n| {
                let stored = [n % dim[0], n / dim[0] % dim[1], n / (dim[0] * dim[1])];
                let at = |patient: usize| {
                    let index = stored[axes.iter().position(|&a| a == patient).expect("a permutation")];
                    if flipped(patient) { shape[patient] - 1 - index } else { index }
                };
                value(at(0), at(1), at(2)) as i16
            });
            let mut srow = [0.0; 12];
            for (n, &patient) in axes.iter().enumerate() {
                srow[patient * 4 + n] = if flipped(patient) { -spacing[patient] } else { spacing[patient] };
                srow[patient * 4 + 3] = if flipped(patient) { (shape[patient] - 1) as f32 * spacing[patient] } else { 0.0 };
            }
            let file = Nifti::i16([dim[2] as i16, dim[1] as i16, dim[0] as i16], values).with(|f| f.srow = srow).bytes();
            for (name, bytes) in [("a.nii", file.clone()), ("a.nii.gz", gzip(&file))] {
                let mut scan = folder.open(name, &bytes).oriented(Orient::Lps).unwrap_or_else(|e| panic!("{e}"));
                let case = format!("{axes:?} {flips:03b} {name}");
                assert_eq!((scan.slices(), scan.height(), scan.width()), (3, 4, 5), "{case}");
                assert_eq!(read(&mut scan), (0..60).map(|n| value(n % 5, n / 5 % 4, n / 20)).collect::<Vec<_>>(), "{case}");
                let affine = scan.affine().expect("an affine").to_string();
                let want = "[[-0.75, 0.0, 0.0, 0.0], [0.0, -1.5, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0, 1.0]]";
                assert_eq!(affine, want, "{case}");
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 96);
}
