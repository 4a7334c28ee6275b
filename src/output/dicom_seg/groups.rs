//! The functional groups of frames (PS3.3 C.7.6.16): where each frame lies, which segment it shows, and which image it
//! comes from.

use std::collections::BTreeSet;

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use super::birth::Birth;
use super::codes::Code;
use super::elements::{ascii, decimals, item, longs, sequence, shorts};
use super::frames::Kept;
use super::header::SegHeader;
use super::segment::code;
use super::settings::SegKind;
use crate::ct::{DicomImages, SliceImage};

/// How far distances between slices may differ, in mm, to count as equal.
const EQUAL: f64 = 0.01;

/// Puts the functional groups of `frames`, and the dimensions that order them.
pub(super) fn put(
    object: &mut InMemDicomObject,
    header: &SegHeader,
    birth: &Birth,
    frames: &[Kept],
    present: &BTreeSet<u16>,
) -> Result<(), String> {
    let organization = birth.uid("dimensions");
    let of_organization = || ascii(tags::DIMENSION_ORGANIZATION_UID, VR::UI, &organization);
    object.put(sequence(tags::DIMENSION_ORGANIZATION_SEQUENCE, vec![item([of_organization()])]));
    let dimension = |group: Tag, element: Tag| {
        item([of_organization(), pointer(tags::DIMENSION_INDEX_POINTER, element), pointer(tags::FUNCTIONAL_GROUP_POINTER, group)])
    };
    let mut dimensions = vec![dimension(tags::PLANE_POSITION_SEQUENCE, tags::IMAGE_POSITION_PATIENT)];
    if header.kind == SegKind::Binary {
        dimensions.insert(0, dimension(tags::SEGMENT_IDENTIFICATION_SEQUENCE, tags::REFERENCED_SEGMENT_NUMBER));
    }
    object.put(sequence(tags::DIMENSION_INDEX_SEQUENCE, dimensions));
    object.put(sequence(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared(&header.images)]));
    let slices: BTreeSet<usize> = frames.iter().map(|frame| frame.slice).collect();
    let per_frame = |frame: &Kept| {
        let number = header.number(frame.label, present);
        let mut group = of_frame(header, &header.images.slices[frame.slice])?;
        let place = slices.range(..=frame.slice).count() as u32;
        let mut indices = vec![place];
        if header.kind == SegKind::Binary {
            indices.insert(0, number.into());
            let segment = item([shorts(tags::REFERENCED_SEGMENT_NUMBER, &[number])]);
            group.put(sequence(tags::SEGMENT_IDENTIFICATION_SEQUENCE, vec![segment]));
        }
        group.put(sequence(tags::FRAME_CONTENT_SEQUENCE, vec![item([longs(tags::DIMENSION_INDEX_VALUES, &indices)])]));
        Ok(group)
    };
    let groups = frames.iter().map(per_frame).collect::<Result<Vec<_>, String>>()?;
    object.put(sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, groups));
    Ok(())
}

fn pointer(tag: Tag, to: Tag) -> InMemElement {
    DataElement::new(tag, VR::AT, PrimitiveValue::from(to))
}

/// Returns what all frames share: the directions and the sizes of pixels.
fn shared(images: &DicomImages) -> InMemDicomObject {
    let distance = distance(images);
    let mut measures = item([decimals(tags::PIXEL_SPACING, &images.spacing)]);
    // Of a single slice without a thickness, a millimetre is assumed, as in the affine.
    measures.put(decimals(tags::SLICE_THICKNESS, &[images.thickness.or(distance).unwrap_or(1.0)]));
    if let Some(distance) = distance {
        measures.put(decimals(tags::SPACING_BETWEEN_SLICES, &[distance]));
    }
    let orientation = item([decimals(tags::IMAGE_ORIENTATION_PATIENT, &images.directions.concat())]);
    item([sequence(tags::PIXEL_MEASURES_SEQUENCE, vec![measures]), sequence(tags::PLANE_ORIENTATION_SEQUENCE, vec![orientation])])
}

/// Returns the distance of neighbours along the normal of the slices, if it is the same everywhere.
fn distance(images: &DicomImages) -> Option<f64> {
    let [a, b] = images.directions;
    let normal = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let depth = |image: &SliceImage| image.position.iter().zip(normal).map(|(x, n)| x * n).sum::<f64>();
    let depths: Vec<f64> = images.slices.iter().map(depth).collect();
    let ([first, .., last], steps) = (&depths[..], depths.len() - 1) else { return None };
    let mean = (last - first) / steps as f64;
    depths.windows(2).all(|pair| (pair[1] - pair[0] - mean).abs() <= EQUAL).then_some(mean)
}

/// Returns the place of a frame, and the image that it comes from.
fn of_frame(header: &SegHeader, image: &SliceImage) -> Result<InMemDicomObject, String> {
    let dcm = |value: &str, meaning: &str| Code { value: value.into(), scheme: "DCM".into(), meaning: meaning.into() };
    let purpose = dcm("121322", "Source image for image processing operation");
    let mut source = item([
        ascii(tags::REFERENCED_SOP_CLASS_UID, VR::UI, &image.class),
        ascii(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &image.uid),
        ascii(tags::SPATIAL_LOCATIONS_PRESERVED, VR::CS, "YES"),
        code(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, &purpose, None, &header.charset)?,
    ]);
    if let Some(frame) = image.frame {
        source.put(ascii(tags::REFERENCED_FRAME_NUMBER, VR::IS, &frame.to_string()));
    }
    let derivation = item([
        sequence(tags::SOURCE_IMAGE_SEQUENCE, vec![source]),
        code(tags::DERIVATION_CODE_SEQUENCE, &dcm("113076", "Segmentation"), None, &header.charset)?,
    ]);
    let position = item([decimals(tags::IMAGE_POSITION_PATIENT, &image.position)]);
    Ok(item([sequence(tags::DERIVATION_IMAGE_SEQUENCE, vec![derivation]), sequence(tags::PLANE_POSITION_SEQUENCE, vec![position])]))
}
