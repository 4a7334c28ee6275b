//! The description of one segment (PS3.3 C.8.20.4), and codes as sequences.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use super::codes::{Code, SegmentCodes};
use super::elements::{ascii, item, sequence, shorts};
use super::text::Charset;

/// The longest CodeValue. A longer value is a LongCodeValue.
const SHORT_CODE: usize = 16;

/// Returns the description of the label that the network calls `name`, with the segment number `number`.
///
/// # Errors
/// If the character set lacks a letter.
pub(super) fn segment(number: u16, name: &str, codes: &SegmentCodes, network: &str, charset: &Charset) -> Result<InMemDicomObject, String> {
    let version = concat!("meddino ", env!("CARGO_PKG_VERSION"));
    let family = Code { value: "123110".into(), scheme: "DCM".into(), meaning: "Artificial Intelligence".into() };
    let algorithm = item([
        code(tags::ALGORITHM_FAMILY_CODE_SEQUENCE, &family, None, charset)?,
        charset.element(tags::ALGORITHM_NAME, VR::LO, network)?,
        ascii(tags::ALGORITHM_VERSION, VR::LO, version),
    ]);
    let modifier = modifier(tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE, codes.modifier.as_ref(), charset)?;
    let mut segment = item([
        shorts(tags::SEGMENT_NUMBER, &[number]),
        charset.element(tags::SEGMENT_LABEL, VR::LO, codes.name.as_deref().unwrap_or(name))?,
        ascii(tags::SEGMENT_ALGORITHM_TYPE, VR::CS, "AUTOMATIC"),
        charset.element(tags::SEGMENT_ALGORITHM_NAME, VR::LO, &format!("{version}, {network}"))?,
        sequence(tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE, vec![algorithm]),
        code(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, &codes.category, None, charset)?,
        code(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, &codes.kind, modifier, charset)?,
    ]);
    if let Some(description) = &codes.description {
        segment.put(charset.element(tags::SEGMENT_DESCRIPTION, VR::ST, description)?);
    }
    if let Some(region) = &codes.region {
        let modifier = self::modifier(tags::ANATOMIC_REGION_MODIFIER_SEQUENCE, codes.region_modifier.as_ref(), charset)?;
        segment.put(code(tags::ANATOMIC_REGION_SEQUENCE, region, modifier, charset)?);
    }
    if let Some(colour) = codes.colour {
        segment.put(shorts(tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE, &lab(colour)));
    }
    Ok(segment)
}

fn modifier(tag: Tag, modifier: Option<&Code>, charset: &Charset) -> Result<Option<InMemElement>, String> {
    modifier.map(|modifier| code(tag, modifier, None, charset)).transpose()
}

/// Returns a sequence with one code, and the sequence `modifier` in its item.
pub(super) fn code(tag: Tag, code: &Code, modifier: Option<InMemElement>, charset: &Charset) -> Result<InMemElement, String> {
    let value = if code.value.len() > SHORT_CODE { (tags::LONG_CODE_VALUE, VR::UC) } else { (tags::CODE_VALUE, VR::SH) };
    let elements = [
        ascii(value.0, value.1, &code.value),
        ascii(tags::CODING_SCHEME_DESIGNATOR, VR::SH, &code.scheme),
        charset.element(tags::CODE_MEANING, VR::LO, &code.meaning)?,
    ];
    Ok(sequence(tag, vec![item(elements.into_iter().chain(modifier))]))
}

/// Converts an sRGB colour to CIELab as DICOM scales it (PS3.3 C.10.7.1.1): L* of 0 to 100, a* and b* of -128 to 127,
/// each over 16 bits, relative to the white of D50. The matrix is that of sRGB, adapted from D65 to D50 by Bradford's
/// method (IEC 61966-2-1, ICC.1).
fn lab(colour: [u8; 3]) -> [u16; 3] {
    const TO_XYZ: [[f64; 3]; 3] =
        [[0.436_074_7, 0.385_064_9, 0.143_080_4], [0.222_504_5, 0.716_878_6, 0.060_616_9], [0.013_932_2, 0.097_104_5, 0.714_173_3]];
    const WHITE: [f64; 3] = [0.964_22, 1.0, 0.825_21];
    let linear = colour.map(|v| {
        let v = f64::from(v) / 255.0;
        if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    });
    let [x, y, z] = [0, 1, 2].map(|row| {
        let t = TO_XYZ[row].iter().zip(linear).map(|(a, v)| a * v).sum::<f64>() / WHITE[row];
        if t > 216.0 / 24_389.0 { t.cbrt() } else { (24_389.0 / 27.0 * t + 16.0) / 116.0 }
    });
    let scaled = |v: f64, span: f64| (v / span * 65_535.0).round().clamp(0.0, 65_535.0) as u16;
    [scaled(116.0 * y - 16.0, 100.0), scaled(500.0 * (x - y) + 128.0, 255.0), scaled(200.0 * (y - z) + 128.0, 255.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L*, a* and b* of sRGB's corners relative to D50, as tables of colour science list them.
    #[test]
    fn colours_become_cielab() {
        for (colour, expected) in [
            ([255, 255, 255], [100.0, 0.0, 0.0]),
            ([0, 0, 0], [0.0, 0.0, 0.0]),
            ([255, 0, 0], [54.29, 80.81, 69.89]),
            ([0, 255, 0], [87.82, -79.29, 80.99]),
            ([0, 0, 255], [29.57, 68.30, -112.03]),
        ] {
            let [l, a, b] = lab(colour).map(f64::from);
            let found = [l / 655.35, a / 257.0 - 128.0, b / 257.0 - 128.0];
            assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 0.02), "{colour:?}: {found:?}");
        }
    }
}
