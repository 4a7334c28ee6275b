//! Files and folders whose names are not UTF-8, which Linux allows, are read and written like any others.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use meddino::archive::Dtype;
use meddino::ct::{Images, Turn, Volume, files_of, series};
use meddino::nnunet::{Folds, Results};
use meddino::output::{Contents, FeatureFile, Format, LabelFile, Output, ProbabilityFile, StoredFeatures, Targets, is_ours};
use meddino::picture::{Canvas, write_png};
use meddino::vit::config::{Config, Grid};
use meddino::vit::features::Features;
use meddino::{Result, Tensor};

use crate::desk::Desk;
use crate::nifti::{Nifti, gzip, read};
use crate::{MULTISCALE, copied, dicom};

/// The name of `before`, a byte that is invalid in UTF-8, and `after`.
fn name(before: &str, after: &str) -> PathBuf {
    Path::new(OsStr::from_bytes(&[before.as_bytes(), &[0xff], after.as_bytes()].concat())).to_path_buf()
}

#[test]
fn scans_are_read() {
    let desk = Desk::new();
    let at = |before: &str, after: &str| desk.path(".").join(name(before, after));
    let scan = Nifti::numbered();
    fs::write(at("scan", ".nii.gz"), gzip(&scan.bytes())).expect("written");
    // A pair, and an image file whose name differs in bytes but looks the same as text.
    let pair = scan.clone().with(|n| (n.magic, n.vox_offset) = (*b"ni1\0", 0.0));
    fs::write(at("pair", ".hdr"), pair.header()).expect("written");
    fs::write(at("pair", ".img.gz"), gzip(&pair.voxels)).expect("written");
    fs::write(desk.path("pair\u{fffd}.img"), [0; 48]).expect("written");
    let folder = at("series", "");
    fs::create_dir(&folder).expect("made");
    for z in 0..2_u8 {
        dicom::save(dicom::ct(f64::from(z)), &folder.join(name(&z.to_string(), ".dcm")));
    }
    for path in [at("scan", ".nii.gz"), at("pair", ".hdr"), at("pair", ".img.gz")] {
        let values = read(&mut Volume::open(&path).unwrap_or_else(|e| panic!("{e}")));
        assert_eq!((values[0], values[23]), (-20.0, 103.0), "{}", path.display());
    }
    assert_eq!(files_of(at("pair", ".hdr")).expect("found"), [at("pair", ".hdr"), at("pair", ".img.gz")]);
    assert_eq!(Volume::open(&folder).expect("a series").slices(), 2);
    assert_eq!(series(&folder).expect("listed").iter().map(|series| series.slices).collect::<Vec<_>>(), [2]);
    assert_eq!(files_of(&folder).expect("listed").len(), 2);
    fs::remove_file(at("pair", ".img.gz")).expect("removed");
    let error = Volume::open(at("pair", ".hdr")).expect_err("refused").to_string();
    assert!(error.contains(".img is missing"), "{error}");
}

#[test]
fn outputs_are_written_and_recognised() -> Result<()> {
    let desk = Desk::new();
    let at = |before: &str, after: &str| desk.path(".").join(name(before, after));
    fs::write(at("scan", ".nii"), Nifti::numbered().bytes()).expect("written");
    let geometry = Volume::open(at("scan", ".nii"))?.geometry()?;
    let mut labels = LabelFile::create(at("labels", ".nii.gz"), &geometry, 2, Turn::NONE)?;
    (0..2).try_for_each(|_| labels.push(&[1; 12]))?;
    labels.finish()?;
    assert_eq!(read(&mut Volume::open(at("labels", ".nii.gz"))?), [1.0; 24]);
    let mut probabilities = ProbabilityFile::create(&at("labels", ".npz"), 1, geometry.shape(), Turn::NONE, BTreeMap::new())?;
    (0..2).try_for_each(|_| probabilities.push(&Tensor::zeros([1, 3, 4])))?;
    probabilities.finish()?;
    let (config, grid) = (Config::micro(), Grid { rows: 1, cols: 1 });
    for format in Format::ALL {
        let path = at("features", &format!(".{format}"));
        assert_eq!(Format::of(&path), Some(*format));
        let contents = Contents { images: 1, grid, outputs: vec![Output::Patch], dtype: Dtype::F32 };
        let metadata = BTreeMap::from(
            [("meddino", "0"), ("slices", "[0]"), ("grid", "[1,1]"), ("image", "[16,16]"), ("patch_size", "16")]
                .map(|(key, text)| (key.to_string(), text.to_string())),
        );
        let mut file = FeatureFile::create(&path, *format, &config, &contents, metadata, "")?;
        let x_norm = Tensor::zeros([1, config.prefix_tokens() + 1, config.embed_dim]);
        file.push(&Features { grid, x_norm, x_prenorm: None, layers: Vec::new(), taps: Vec::new() })?;
        file.finish()?;
        assert!(format.files(&path).iter().all(|file| file.is_file()) && is_ours(&path), "{}", path.display());
    }
    assert_eq!(StoredFeatures::open(at("features", ".safetensors"))?.patches(0)?.shape(), [1, config.embed_dim]);
    let error = Images::open(at("features", ".safetensors")).expect_err("no image").to_string();
    assert!(error.contains("expected a tensor named image"), "{error}");
    write_png(&Canvas::new(1, 1, [0; 3]), at("picture", ".png"), &[("Software", "meddino 0")])?;
    assert!(is_ours(at("picture", ".png")));
    // Two names that look the same as text are two files, and an input is protected under its exact name.
    let mut targets = Targets::new(true);
    targets.reads("the scan", [at("scan", ".nii")]);
    assert!(targets.writes(at("scan", ".nii")).is_err());
    targets.writes(desk.path("scan\u{fffd}.nii"))?;
    targets.writes(at("new", ".nii"))
}

#[test]
fn results_folders_are_opened() {
    let desk = Desk::new();
    let (model, folder) = (copied(&desk, MULTISCALE), desk.path(".").join(name("model", "")));
    fs::rename(model, &folder).expect("renamed");
    let results = Results::open(&folder, &Folds::These(vec![0]), "checkpoint_final.pth").expect("results");
    let hash = results.sha256().expect("readable");
    let checkpoint = folder.join("fold_0").join(name("best", ".pth"));
    fs::rename(folder.join("fold_0/checkpoint_final.pth"), &checkpoint).expect("renamed");
    let renamed = Results::open(&folder, &Folds::Found, name("best", ".pth")).expect("results");
    assert!(renamed.files().contains(&checkpoint));
    assert_ne!(renamed.sha256().expect("readable"), hash, "a file's name counts");
}
