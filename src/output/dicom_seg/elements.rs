//! Builds elements of a DICOM data set.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

/// The most characters of a decimal string (DS).
const DECIMAL: usize = 16;

/// An element of ASCII text.
pub(super) fn ascii(tag: Tag, vr: VR, text: &str) -> InMemElement {
    debug_assert!(text.is_ascii(), "{text}");
    DataElement::new(tag, vr, PrimitiveValue::from(text))
}

/// An element of bytes that are encoded already. The writer pads text with a space.
pub(super) fn bytes(tag: Tag, vr: VR, mut bytes: Vec<u8>) -> InMemElement {
    if !bytes.len().is_multiple_of(2) {
        bytes.push(if vr == VR::UI { 0 } else { b' ' });
    }
    DataElement::new(tag, vr, PrimitiveValue::U8(bytes.into()))
}

/// An element of 16-bit numbers (US).
pub(super) fn shorts(tag: Tag, values: &[u16]) -> InMemElement {
    DataElement::new(tag, VR::US, PrimitiveValue::U16(values.into()))
}

/// An element of 32-bit numbers (UL).
pub(super) fn longs(tag: Tag, values: &[u32]) -> InMemElement {
    DataElement::new(tag, VR::UL, PrimitiveValue::U32(values.into()))
}

/// An element of decimal strings (DS).
pub(super) fn decimals(tag: Tag, values: &[f64]) -> InMemElement {
    let texts: Vec<String> = values.iter().map(|value| decimal(*value)).collect();
    ascii(tag, VR::DS, &texts.join("\\"))
}

/// A sequence of items.
pub(super) fn sequence(tag: Tag, items: Vec<InMemDicomObject>) -> InMemElement {
    DataElement::new(tag, VR::SQ, DataSetSequence::from(items))
}

/// A data set of elements.
pub(super) fn item(elements: impl IntoIterator<Item = InMemElement>) -> InMemDicomObject {
    InMemDicomObject::from_element_iter(elements)
}

/// Returns `value` with as many digits as a decimal string may have.
fn decimal(value: f64) -> String {
    let shortest = value.to_string();
    if shortest.len() <= DECIMAL {
        return shortest;
    }
    let fits = (0..DECIMAL).rev().map(|digits| format!("{value:.digits$}")).find(|text| text.len() <= DECIMAL);
    let text = fits.unwrap_or_else(|| format!("{value:.8e}"));
    if text.contains('.') && !text.contains('e') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_strings_keep_as_many_digits_as_fit() {
        for (value, expected) in [
            (0.0, "0"),
            (-1.5, "-1.5"),
            (1.0 / 3.0, "0.33333333333333"),
            (-123.456_789_012_345_67, "-123.45678901235"),
            (-1e-20, "-0"),
            (-2.0_f64.sqrt() / 20.0, "-0.0707106781187"),
            (1e20, "1.00000000e20"),
        ] {
            assert_eq!(decimal(value), expected);
            assert!(decimal(value).len() <= DECIMAL);
        }
    }
}
