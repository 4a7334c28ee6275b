//! Positions of voxels: sform, qform, or neither; units, and invalid headers. The expected numbers are nibabel's.

use meddino::ct::Volume;

use super::file::{Folder, Nifti};

/// Opens the file, and checks that NIfTI-2 with the same fields says the same.
fn open(file: &Nifti) -> Volume {
    // The folder is removed, but the file stays open.
    let open = |bytes: &[u8]| Folder::new().open("a.nii", bytes);
    let (scan, twin) = (open(&file.bytes()), open(&file.as_2().bytes()));
    assert_eq!(twin.about()[0], ("format", "NIfTI-2".to_owned()));
    assert_eq!((twin.about().last(), twin.affine(), twin.warnings()), (scan.about().last(), scan.affine(), scan.warnings()));
    scan
}

fn rows(scan: &Volume) -> [[f64; 4]; 3] {
    scan.affine().expect("an affine").rows
}

fn warned(scan: &Volume, of: &str) -> bool {
    scan.warnings().iter().any(|w| w.contains(of))
}

const SROW: [f32; 12] = [-0.5, 0.0, 0.25, 7.0, 0.0, 0.75, 0.0, -3.0, 0.125, 0.0, 2.0, 11.0];

fn qform() -> Nifti {
    Nifti::numbered().with(|f| {
        (f.sform_code, f.qform_code, f.srow) = (0, 1, [f32::NAN; 12]);
        f.pixdim = [1.0, 0.5, 0.75, 2.0, 0.0, 0.0, 0.0, 0.0];
        f.quatern = [0.0, 0.0, 0.0, 10.0, 20.0, 30.0];
    })
}

#[test]
fn the_sform_takes_precedence_over_the_qform() {
    let both = qform().with(|f| (f.sform_code, f.srow) = (2, SROW));
    let want = [[-0.5, 0.0, 0.25, 7.0], [0.0, 0.75, 0.0, -3.0], [0.125, 0.0, 2.0, 11.0]];
    for file in [both.clone(), both.with(|f| f.qform_code = 0)] {
        let scan = open(&file);
        assert_eq!(rows(&scan), want);
        assert_eq!(scan.about()[1], ("affine_from", "sform".to_owned()));
    }
}

/// Voxels of 0.5 x 0.75 x 2 mm from [10, 20, 30] on, by sform, qform and pixdim.
fn agreeing() -> Nifti {
    qform().with(|f| (f.sform_code, f.srow) = (1, [0.5, 0.0, 0.0, 10.0, 0.0, 0.75, 0.0, 20.0, 0.0, 0.0, 2.0, 30.0]))
}

/// A header may give voxel sizes twice, in pixdim and in the sform.
#[test]
fn contradicting_sizes_get_a_warning() {
    let unit = |f: &mut Nifti| (f.srow[0], f.srow[5], f.srow[10]) = (1.0, 1.0, 1.0);
    let ones = |f: &mut Nifti| f.pixdim[1..4].fill(1.0);
    let alone = |f: &mut Nifti| f.qform_code = 0;
    let cases: [(&str, Nifti, Option<[&str; 2]>); 10] = [
        ("they agree", agreeing(), None),
        ("an sform of unit vectors", agreeing().with(unit), Some(["0.5 x 0.75 x 2 by pixdim", "1 x 1 x 1 by its sform"])),
        ("the same without a qform", agreeing().with(unit).with(alone), Some(["0.5 x 0.75 x 2 by pixdim", "1 x 1 x 1 by its sform"])),
        ("a pixdim of ones", agreeing().with(ones), Some(["1 x 1 x 1 by pixdim", "0.5 x 0.75 x 2 by its sform"])),
        ("the same without a qform", agreeing().with(ones).with(alone), Some(["1 x 1 x 1 by pixdim", "0.5 x 0.75 x 2 by its sform"])),
        ("one axis", agreeing().with(|f| f.pixdim[3] = 2.5), Some(["0.5 x 0.75 x 2.5 by pixdim", "0.5 x 0.75 x 2 by its sform"])),
        ("rounded", agreeing().with(|f| f.pixdim[3] = 2.001), None),
        (
            "not quite",
            agreeing().with(|f| f.pixdim[3] = 2.003),
            Some(["0.5 x 0.75 x 2.003 by pixdim", "positions are the sform's, and volumes those of pixdim"]),
        ),
        // A single slice has no distance to a next one.
        ("a slice", agreeing().with(|f| (f.dim[0], f.pixdim[3]) = (2, 0.0)), None),
        // Rotated and mirrored axes: only the lengths of columns and the absolute values of pixdim count.
        (
            "turned",
            agreeing().with(|f| (f.qform_code, f.srow) = (0, [0.0, 0.75, 0.0, 1.0, -0.5, 0.0, 0.0, 2.0, 0.0, 0.0, -2.0, 3.0])),
            None,
        ),
    ];
    for (name, file, expected) in cases {
        let scan = open(&file);
        assert_eq!(warned(&scan, "two sizes of voxels"), expected.is_some(), "{name}: {:?}", scan.warnings());
        assert!(expected.iter().flatten().all(|part| warned(&scan, part)), "{name}: {:?}", scan.warnings());
        assert_eq!(scan.affine().expect("an affine").rows[0][3], f64::from(file.srow[3]), "{name}: the sform says where it lies");
    }
    let none = open(&agreeing().with(|f| f.pixdim[2] = f32::NAN));
    assert!(warned(&none, "no size (pixdim[2] is NaN); its sform's was taken"), "{:?}", none.warnings());
}

/// A header may give the position twice, in the sform and in the qform. The form that SimpleITK takes was determined
/// with SimpleITK 2.5.
#[test]
fn contradicting_positions_get_a_warning() {
    let aside = |f: &mut Nifti| f.srow[3] = 60.0;
    let flipped = |f: &mut Nifti| f.srow[0] = -0.5;
    let tilt = 0.25_f32;
    let sheared = |f: &mut Nifti| (f.srow[6], f.srow[10]) = (2.0 * tilt.sin(), 2.0 * tilt.cos());
    let codes = |q: i16, s: i16| move |f: &mut Nifti| (f.qform_code, f.sform_code) = (q, s);
    let (both, itk) = ("as nibabel and SimpleITK do", "where SimpleITK takes the qform");
    let cases: [(&str, Nifti, Option<&str>); 11] = [
        ("they agree", agreeing(), None),
        ("the scanner's", agreeing().with(aside), Some(both)),
        ("the scanner's beside an aligned one", agreeing().with(aside).with(codes(2, 1)), Some(both)),
        ("aligned", agreeing().with(aside).with(codes(1, 2)), Some(itk)),
        ("a template's", agreeing().with(flipped).with(codes(1, 4)), Some(itk)),
        ("flipped", agreeing().with(flipped), Some(both)),
        ("a little aside", agreeing().with(|f| f.srow[3] += 0.004), None),
        ("more than that", agreeing().with(|f| f.srow[3] += 0.006), Some(both)),
        ("0.3 degrees", agreeing().with(|f| (f.srow[1], f.srow[4]) = (-0.75 * 0.005, 0.5 * 0.005)), Some(both)),
        ("sheared, and elsewhere", agreeing().with(sheared).with(aside), Some(itk)),
        ("no qform", agreeing().with(aside).with(codes(0, 1)), None),
    ];
    for (name, file, expected) in cases {
        let scan = open(&file);
        assert_eq!(warned(&scan, "two positions"), expected.is_some(), "{name}: {:?}", scan.warnings());
        let affines = [format!("{}", scan.affine().expect("an affine")), "[0.0, 0.0, 2.0, 30.0]".into()];
        assert!(
            expected.iter().all(|part| warned(&scan, part) && affines.iter().all(|a| warned(&scan, a))),
            "{name}: {:?}",
            scan.warnings()
        );
    }
    // A qform cannot hold a shear. One that equals the sform without its shear contradicts nothing; the numbers are
    // nibabel's for this sform.
    let stripped = agreeing().with(sheared).with(|f| f.quatern[0] = -0.062_459_317);
    assert!(!warned(&open(&stripped), "two positions"), "{:?}", open(&stripped).warnings());
}

#[test]
fn an_invalid_sform_gives_way_to_the_qform() {
    type Change = fn(&mut Nifti);
    let sforms: [(&str, Change); 6] = [
        ("zeros", |f| f.srow = [0.0; 12]),
        ("NaN", |f| f.srow = [f32::NAN; 12]),
        ("one NaN", |f| f.srow[1] = f32::NAN),
        ("an origin of NaN", |f| f.srow[7] = f32::NAN),
        ("a column of zeros", |f| f.srow[10] = 0.0),
        ("flat", |f| f.srow = [1.0, 1.0, 0.0, 10.0, 1.0, 1.0, 0.0, 20.0, 0.0, 0.0, 1.0, 30.0]),
    ];
    for (name, change) in sforms {
        let scan = open(&agreeing().with(change));
        assert_eq!(rows(&scan), rows(&open(&qform())), "{name}");
        assert_eq!(scan.about()[1], ("affine_from", "qform".to_owned()), "{name}");
        assert!(warned(&scan, "its sform makes no sense: [[") && warned(&scan, "its qform was taken"), "{name}: {:?}", scan.warnings());
        assert_eq!(scan.warnings().len(), 1, "{name}: {:?}", scan.warnings());
        // With an invalid qform there is no affine, as with none.
        for lost in [|f: &mut Nifti| f.qform_code = 0, |f: &mut Nifti| f.quatern[1] = f32::NAN] {
            assert_eq!(open(&agreeing().with(change).with(lost)).affine(), None, "{name}");
        }
    }
}

/// SimpleITK reads these files as one volume, nibabel as no volume.
#[test]
fn zero_volumes_are_read_as_one() {
    for dim in
        [[4, 4, 3, 2, 0, 0, 0, 0], [5, 4, 3, 2, 0, 0, 0, 0], [5, 4, 3, 2, 1, 0, 0, 0], [6, 4, 3, 2, 0, 1, 0, 9], [7, 4, 3, 2, 0, 0, 0, 0]]
    {
        let mut scan = open(&Nifti::numbered().with(|f| f.dim = dim));
        assert_eq!([scan.slices(), scan.height(), scan.width()], [2, 3, 4], "{dim:?}");
        assert!(warned(&scan, "is 0, of") && warned(&scan, "one was taken"), "{dim:?}: {:?}", scan.warnings());
        assert_eq!(scan.read_slice(1).expect("a slice").data()[0], 80.0);
    }
    // Sizes beyond the number of axes are ignored.
    assert!(open(&Nifti::numbered().with(|f| f.dim = [3, 4, 3, 2, 0, 0, 0, 0])).warnings().is_empty());
}

#[test]
fn a_qform_is_a_quaternion_sizes_and_an_offset() {
    let straight = [[0.5, 0.0, 0.0, 10.0], [0.0, 0.75, 0.0, 20.0], [0.0, 0.0, 2.0, 30.0]];
    assert_eq!(rows(&open(&qform())), straight);
    let mirrored = [straight[0], straight[1], [0.0, 0.0, -2.0, 30.0]];
    assert_eq!(rows(&open(&qform().with(|f| f.pixdim[0] = -1.0))), mirrored);
    // Half a turn about z gives DICOM's axes.
    let half = [[-0.5, 0.0, 0.0, 10.0], [0.0, -0.75, 0.0, 20.0], [0.0, 0.0, 2.0, 30.0]];
    assert_eq!(rows(&open(&qform().with(|f| f.quatern[2] = 1.0))), half);
    // The numbers are nibabel's, for b, c, d = 0.1, -0.2, 0.3 in f32.
    let any = rows(&open(&qform().with(|f| f.quatern[..3].copy_from_slice(&[0.1, -0.2, 0.3]))));
    let want = [
        [0.369_999_991_655, -0.447_312_847_677, -0.621_889_480_410, 10.0],
        [0.258_208_563_926, 0.599_999_988_824, -0.610_944_756_596, 20.0],
        [0.215_472_373_381, 0.049_104_273_889, 1.799_999_994_04, 30.0],
    ];
    for (got, want) in any.iter().flatten().zip(want.iter().flatten()) {
        assert!((got - want).abs() < 1e-11, "{any:?}");
    }
}

#[test]
fn an_invalid_qform_is_corrected_with_a_warning() {
    let straight = rows(&open(&qform()));
    for qfac in [0.0, 0.3, f32::NAN] {
        assert_eq!(rows(&open(&qform().with(|f| f.pixdim[0] = qfac))), straight, "{qfac}");
    }
    let negative = open(&qform().with(|f| f.pixdim[2] = -0.75));
    assert_eq!(rows(&negative), straight);
    assert!(warned(&negative, "-0.75 (pixdim[2]); 0.75 was taken"), "{:?}", negative.warnings());
    let zero = open(&qform().with(|f| f.pixdim[3] = 0.0));
    assert_eq!(rows(&zero)[2], [0.0, 0.0, 1.0, 30.0]);
    assert!(warned(&zero, "(pixdim[3] is 0); 1 was taken, so distances are wrong"), "{:?}", zero.warnings());
    let long = open(&qform().with(|f| f.quatern[2] = 3.0));
    assert_eq!(rows(&long)[0], [-0.5, 0.0, 0.0, 10.0]);
    assert!(warned(&long, "of length 3.000"), "{:?}", long.warnings());
    // In f32 the quaternion of a half turn may be a little longer than 1, which needs no warning.
    let scan = open(&qform().with(|f| f.quatern[2] = 1.000_000_1));
    assert!(scan.warnings().is_empty(), "{:?}", scan.warnings());
}

#[test]
fn without_sform_and_qform_a_warning_states_the_assumption() {
    let scan = open(&qform().with(|f| f.qform_code = 0));
    assert_eq!(rows(&scan), [[-0.5, 0.0, 0.0, 0.75], [0.0, 0.75, 0.0, -0.75], [0.0, 0.0, 2.0, -1.0]]);
    assert!(warned(&scan, "does not state its orientation"), "{:?}", scan.warnings());
    assert_eq!(scan.about()[1], ("affine_from", "assumption".to_owned()));
}

#[test]
fn distances_are_in_millimetres() {
    let want = [[-0.5, 0.0, 0.25, 7.0], [0.0, 0.75, 0.0, -3.0], [0.125, 0.0, 2.0, 11.0]];
    for (units, factor) in [(0, 1.0), (2, 1.0), (2 + 8, 1.0), (1, 1e-3), (3 + 16, 1e3)] {
        let scan = open(&Nifti::numbered().with(|f| (f.units, f.srow) = (units, SROW.map(|v| v * factor))));
        for (got, want) in rows(&scan).iter().flatten().zip(want.iter().flatten()) {
            assert!((got - want).abs() < 1e-6, "{units}: {got} for {want}");
        }
        assert_eq!(warned(&scan, "converted to millimetres"), units % 8 % 2 == 1, "{units}: {:?}", scan.warnings());
    }
}

/// From one patch to the next, the centre moves by 16 pixels of the image, which are 32 of the slice, to the patient's
/// left or back.
#[cfg(feature = "cli")]
#[test]
fn features_hold_the_affine_of_patches() {
    let folder = Folder::new();
    // Stored in RAS, 64 x 96 x 3 voxels of 0.5 x 0.75 x 2 mm.
    let file = Nifti::i16([3, 96, 64], (0..64 * 96 * 3).map(|n| n as i16))
        .with(|f| f.srow = [0.5, 0.0, 0.0, 7.0, 0.0, 0.75, 0.0, -3.0, 0.0, 0.0, 2.0, 11.0]);
    let path = folder.write("ras.nii", &file.bytes());
    let out = folder.path().join("out.safetensors");
    let line = "-c seeded:0:micro --backend cpu --size 48x32 --slices 2,1,0 -q -o";
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_meddino"))
        .args(["features", path.to_str().expect("UTF-8")])
        .args(line.split(' '))
        .arg(&out)
        .output()
        .expect("started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(&out).expect("written");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("safetensors");
    let metadata = header.metadata().as_ref().expect("metadata");
    let affine: Vec<Vec<f64>> = serde_json::from_str(&metadata["patch_affine"]).expect("JSON");
    // The first patch is at the upper left of the picture, the patient's right and front, where x and y are greatest.
    let [right, anterior] = [7.0 + 0.5 * (63.0 - 15.5), -3.0 + 0.75 * (95.0 - 15.5)];
    let want = [[-16.0, 0.0, 0.0, right], [0.0, -24.0, 0.0, anterior], [0.0, 0.0, -2.0, 15.0], [0.0, 0.0, 0.0, 1.0]];
    for (got, want) in affine.iter().flatten().zip(want.iter().flatten()) {
        assert!((got - want).abs() < 1e-4, "{affine:?}");
    }
}
