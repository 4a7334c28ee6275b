//! The network's input slices, against scikit-image's.

use meddino::ct::Volume;
use meddino::nnunet::{Configuration, Prepared};

use crate::common::{data, max_abs, read_safetensors};
use crate::{MULTISCALE, results};

fn prepared(path: &str) -> Prepared {
    let volume = Volume::open(data(path)).expect("a scan");
    let geometry = volume.geometry().expect("it lies somewhere");
    let configuration = Configuration::open(&results(MULTISCALE).join("plans.json"), "2d_small").expect("plans");
    Prepared::new(volume, &geometry, &configuration).expect("prepared")
}

/// Splines overshoot at steps, so values are clamped to the range of the slice or of the whole scan.
#[test]
fn slices_are_cropped_normalised_resampled_and_padded() {
    for name in ["by_slice", "whole", "above"] {
        let mut scan = prepared(&format!("fixtures/nnunet/prepare/{name}.nii.gz"));
        let (golden, _) = read_safetensors(&data(&format!("fixtures/nnunet/prepare/{name}.safetensors")));
        let (_, want) = &golden[0];
        let frame = scan.frame().clone();
        assert_eq!(frame.shape, [3, 31, 37]);
        assert_eq!(frame.cropped, [0..3, 3..31, 0..30]);
        assert_eq!((frame.resized, frame.padded), ([25, 24], [64, 80]));
        assert_eq!(want.shape(), [3, 64, 80]);
        for (index, want) in want.data().chunks_exact(64 * 80).enumerate() {
            let got = scan.slice(index).expect("read").expect("in the box");
            let apart = max_abs(got.data(), want);
            assert!(apart < 1e-6, "{name}, slice {index}: {apart:e}");
        }
    }
}

#[test]
fn slices_of_zeros_are_left_out() {
    // The last slice is all 0.
    let mut scan = prepared("fixtures/nnunet/imagesTs/thick_0000.nii.gz");
    assert_eq!(scan.frame().cropped, [0..4, 7..94, 0..103]);
    assert!(scan.slice(3).expect("read").is_some());
    assert!(scan.slice(4).expect("read").is_none());
}

#[test]
fn configurations_inherit() {
    let plans = results(MULTISCALE).join("plans.json");
    let small = Configuration::open(&plans, "2d_small").expect("plans");
    let middle = Configuration::open(&plans, "2d_middle").expect("plans");
    let first = Configuration::open(&plans, "2d").expect("plans");
    assert_eq!((small.tile, middle.tile, first.tile), ([64, 80], [512, 512], [512, 512]));
    assert_eq!((small.spacing, middle.spacing, first.spacing), ([0.9, 1.0], [0.9, 1.0], [0.7, 0.7]));
}
