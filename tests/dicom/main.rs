//! DICOM files and folders, valid and defective: their values, warnings and errors.
#![cfg(feature = "readers")]

mod file;
mod folder;
mod frames;
mod hostile;
#[path = "../common/dicom.rs"]
mod make;
mod odd;
mod order;
mod seg;
mod series;
mod stacks;

use std::fs::File;
use std::path::Path;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use meddino::ct::Volume;

use make::{ct, put_u16};

/// The HU of each slice and the warnings of a file or folder.
fn read(path: &Path, choice: Option<&str>) -> Result<(Vec<Vec<f32>>, String), String> {
    let mut scan = Volume::open_series(path, choice).map_err(|e| e.to_string())?;
    let slices = (0..scan.slices()).map(|i| scan.read_slice(i).map(|slice| slice.data().to_vec())).collect::<Result<_, _>>();
    slices.map(|slices| (slices, scan.warnings().join(" | "))).map_err(|e| e.to_string())
}

/// `object` with another text in `tag`.
fn with(mut object: InMemDicomObject, tag: Tag, vr: VR, text: &str) -> InMemDicomObject {
    object.put_str(tag, vr, text);
    object
}

fn without(mut object: InMemDicomObject, tag: Tag) -> InMemDicomObject {
    object.remove_element(tag);
    object
}

fn with_u16(mut object: InMemDicomObject, tag: Tag, value: u16) -> InMemDicomObject {
    put_u16(&mut object, tag, value);
    object
}

/// A CT slice of another series.
fn other(z: f64) -> InMemDicomObject {
    let object = with(ct(z), tags::SERIES_INSTANCE_UID, VR::UI, "1.2.840.99.22");
    with(with(object, tags::SERIES_NUMBER, VR::IS, "2"), tags::SERIES_DESCRIPTION, VR::LO, "Lung")
}

fn of_modality(modality: &str) -> InMemDicomObject {
    with(with(ct(0.0), tags::SOP_CLASS_UID, VR::UI, uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE), tags::MODALITY, VR::CS, modality)
}

/// Removes the last `bytes` bytes of a file.
fn cut(path: &Path, bytes: u64) {
    let file = File::options().write(true).open(path).expect("opened");
    file.set_len(file.metadata().expect("metadata").len() - bytes).expect("cut");
}
