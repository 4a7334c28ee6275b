//! A scan in memory with a geometry gives the same results as the same values in a file.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use meddino::backbone::{Choice, Tuning};
use meddino::ct::{Affine, Geometry, Orient, PatientAxes, Size, SliceReader, Volume, Window, prepare};
use meddino::error::Problem;
use meddino::nnunet::{Folds, Prepared, Results, Tiling};
use meddino::output::LabelFile;
use meddino::segmenter::Segmenter;

use crate::desk::Desk;
use crate::geometry::inflated;
use crate::nifti::{Nifti, read};
use crate::{MULTISCALE, results};

const SHAPE: [usize; 3] = [3, 20, 24];

fn values() -> Vec<i16> {
    let [slices, rows, columns] = SHAPE;
    (0..slices * rows * columns).map(|i| (i * 7919 % 523) as i16 - 200).collect()
}

fn hu() -> Vec<f32> {
    values().into_iter().map(f32::from).collect()
}

/// The scan as a NIfTI file whose sform is `rows` in RAS+.
fn file(rows: [[f32; 4]; 3], sizes: [f32; 3]) -> Nifti {
    Nifti::i16(SHAPE.map(|n| n as i16), values()).with(|n| {
        n.srow.copy_from_slice(rows.as_flattened());
        n.pixdim[1..4].copy_from_slice(&sizes);
    })
}

/// Storage of an embedding program: integers that become HU when a slice is read.
struct Integers(Vec<i16>);

impl SliceReader for Integers {
    fn read_slice(&mut self, index: usize) -> Result<Vec<f32>, Problem> {
        let pixels = SHAPE[1] * SHAPE[2];
        let slice = self.0.get(index * pixels..(index + 1) * pixels).ok_or("no such slice")?;
        Ok(slice.iter().map(|v| f32::from(*v)).collect())
    }
}

/// The labels of `volume`, and the decompressed bytes of their file.
fn segmented(volume: Volume, network: &(Results, Segmenter), target: &Path) -> (Vec<u16>, Vec<u8>) {
    let (results, segmenter) = network;
    let geometry = volume.geometry().expect("it lies somewhere");
    let mut prepared = Prepared::new(volume, &geometry, &results.configuration).expect("prepared");
    let (frame, turn) = (prepared.frame().clone(), prepared.turn());
    let tiling = Tiling::new(results.configuration.tile, 0.5, &[]);
    let mut file = LabelFile::create(target, &geometry, segmenter.classes(), turn).expect("created");
    let mut labels = Vec::new();
    for index in 0..frame.shape[0] {
        let slice = prepared.slice(index).expect("read");
        let scores = slice.map(|slice| segmenter.slice(&slice, &tiling, 1, || Ok(())).expect("scores"));
        let restored = frame.restore(scores.as_ref(), &results.dataset, false);
        file.push(&restored.labels).expect("written");
        labels.extend(restored.labels);
    }
    file.finish().expect("written");
    (labels, inflated(target))
}

#[test]
fn a_scan_in_memory_gives_the_results_of_the_same_scan_in_a_file() {
    let desk = Desk::new();
    let found = Results::open(results(MULTISCALE), &Folds::These(vec![0]), "checkpoint_final.pth").expect("results");
    let segmenter = Segmenter::new(&found, &Choice::Cpu, Tuning::default()).expect("a backend");
    let network = (found, segmenter);
    let (c, s) = (0.9 * 20_f32.to_radians().cos(), 0.9 * 20_f32.to_radians().sin());
    let cases = [
        ("RAS", [[0.9, 0.0, 0.0, -1.5], [0.0, 0.9, 0.0, 7.25], [0.0, 0.0, 3.0, 0.5]], [0.9, 0.9, 3.0]),
        ("LPS", [[-0.9, 0.0, 0.0, 90.1], [0.0, -0.8, 0.0, 80.2], [0.0, 0.0, 3.0, -70.3]], [0.9, 0.8, 3.0]),
        ("upside down", [[-0.9, 0.0, 0.0, 9.0], [0.0, -0.9, 0.0, 8.0], [0.0, 0.0, -3.0, 7.0]], [0.9, 0.9, 3.0]),
        ("permuted", [[0.0, 0.0, 3.0, 5.0], [0.9, 0.0, 0.0, 6.0], [0.0, -0.9, 0.0, 7.0]], [0.9, 0.9, 3.0]),
        ("oblique", [[c, -s, 0.0, -1.5], [s, c, 0.0, 7.25], [0.0, 0.0, 3.0, 33.0]], [0.9, 0.9, 3.0]),
    ];
    for (name, rows, sizes) in cases {
        fs::write(desk.path("scan.nii"), file(rows, sizes).bytes()).expect("written");
        let open = || Volume::open(desk.path("scan.nii")).expect("a scan");
        let [x, y, z] = rows.map(|row| row.map(f64::from));
        let affine = Affine::from_matrix(PatientAxes::Ras, [x, y, z, [0.0, 0.0, 0.0, 1.0]]).expect("an affine");
        let geometry = Geometry::new(SHAPE, affine).expect("a geometry");
        let array = || Volume::from_array("array", hu(), &geometry).expect("a scan");
        let shared: Arc<[f32]> = hu().into();
        let scans = [
            ("a Vec", array()),
            ("an Arc", Volume::from_array("array", shared, &geometry).expect("a scan")),
            ("slices", Volume::from_slices("array", Integers(values()), &geometry)),
        ];
        for (kind, scan) in scans {
            assert_eq!(scan.affine(), open().affine(), "{name}, {kind}");
            let (mut want, mut got) = (open().oriented(Orient::Lps).expect("turned"), scan.oriented(Orient::Lps).expect("turned"));
            assert_eq!(got.affine(), want.affine(), "{name}, {kind}");
            assert_eq!(got.warnings(), want.warnings(), "{name}, {kind}");
            let image = |scan: &mut Volume| prepare(&scan.read_slice(1).expect("a slice"), &Window::DEMO, Size::Square(32));
            assert_eq!((image(&mut got), read(&mut got)), (image(&mut want), read(&mut want)), "{name}, {kind}");
        }
        let (want, in_file) = segmented(open(), &network, &desk.path("want.nii.gz"));
        let (got, from_array) = segmented(array(), &network, &desk.path("got.nii.gz"));
        assert!(want.iter().any(|label| *label != want[0]), "{name}: labels differ within the scan");
        assert_eq!(got, want, "{name}");
        assert_eq!(from_array[352..], in_file[352..], "{name}");
        // Sizes, offset and sform equal the file's. The labels of the array have a qform as well.
        for fields in [40..56, 80..92, 123..124, 254..256, 280..328] {
            assert_eq!(from_array[fields.clone()], in_file[fields], "{name}");
        }
        // An array with the file's geometry makes labels whose header equals the file's bit for bit.
        let same = Volume::from_array("array", hu(), &open().geometry().expect("a geometry")).expect("a scan");
        assert_eq!(segmented(same, &network, &desk.path("same.nii.gz")).1, in_file, "{name}");
    }
}

#[test]
fn invalid_geometries_are_refused_by_name() {
    let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let new = |spacing, origin, direction| Affine::new(PatientAxes::Lps, spacing, origin, direction);
    let turned = new([1.0, 2.0, 3.0], [10.0, -20.0, 30.0], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).expect("an affine");
    assert_eq!(turned.rows, [[0.0, -2.0, 0.0, -10.0], [-1.0, 0.0, 0.0, 20.0], [0.0, 0.0, 3.0, 30.0]]);
    let double = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let flat = [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]];
    let matrix =
        |last: [f64; 4]| Affine::from_matrix(PatientAxes::Ras, [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], last]);
    let (usable, infinite) = (new([1.0; 3], [0.0; 3], identity).expect("an affine"), Affine { rows: [[f64::INFINITY; 4]; 3] });
    let cases = [
        (new([1.0, 0.0, 1.0], [0.0; 3], identity).err(), "spacing: expected three distances above 0 in mm, found [1.0, 0.0, 1.0]"),
        (new([1.0, f64::NAN, 1.0], [0.0; 3], identity).err(), "spacing: "),
        (new([1.0; 3], [0.0, f64::INFINITY, 0.0], identity).err(), "origin: expected three finite numbers"),
        (new([1.0; 3], [0.0; 3], double).err(), "direction: expected a matrix whose columns are of length 1"),
        (new([1.0; 3], [0.0; 3], flat).err(), "direction: expected three independent directions"),
        (matrix([0.0, 0.0, 0.0, 2.0]).err(), "affine: expected finite numbers"),
        (Geometry::new([3, 4, 5], infinite).err(), "affine: expected finite numbers"),
        (
            Geometry::new([3, 0, 5], usable).err(),
            "shape: expected 1 to 16777216 slices, rows and columns, and at most 16384 x 16384 pixels in a slice, found 3 x 0 x 5",
        ),
        (Geometry::new([16_777_217, 1, 1], usable).err(), "shape: "),
        (Geometry::new([1, 16_384, 16_385], usable).err(), "shape: "),
    ];
    for (error, start) in cases {
        let text = error.unwrap_or_else(|| panic!("taken: {start}")).to_string();
        assert!(text.starts_with(start), "{text}");
    }
    let geometry = Geometry::new([3, 4, 5], usable).expect("a geometry");
    let error = Volume::from_array("array", vec![0.0; 59], &geometry).expect_err("refused").to_string();
    assert_eq!(error, "input array: expected 3 x 4 x 5 values (slices, rows, columns), found 59");
    // `SliceReader`s of a wrong size are an error.
    let error = Volume::from_slices("guest", Integers(values()), &geometry).read_slice(0).expect_err("refused").to_string();
    assert_eq!(error, "input guest: slice 0 came with 480 values, expected 4 x 5");
    let error = Volume::from_slices("guest", Integers(Vec::new()), &geometry).read_slice(2).expect_err("refused").to_string();
    assert_eq!(error, "input guest: no such slice");
}
