//! Text in the character set of the images, so that a patient's name is copied byte by byte.

use dicom_core::{Tag, VR};
use dicom_encoding::text::{SpecificCharacterSet, TextCodec};
use dicom_object::mem::InMemElement;

use super::elements::{ascii, bytes};
use crate::ct::StoredText;

/// The character set of UTF-8.
const UTF_8: &str = "ISO_IR 192";

/// The character set of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Charset(String);

impl Charset {
    /// Returns the character set for a data set that holds `copied`: the one that they state; or UTF-8, if they state
    /// none and are ASCII.
    pub fn of(copied: &[StoredText], stated: Option<&str>) -> Self {
        let is_plain = matches!(stated.unwrap_or_default(), "" | "ISO_IR 6");
        let is_ascii = copied.iter().all(|text| text.bytes.is_ascii());
        Self(if is_plain && is_ascii { UTF_8 } else { stated.unwrap_or_default() }.to_owned())
    }

    /// Returns the value of SpecificCharacterSet.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Creates an element of `text`, cut to as many characters as `vr` allows. A backslash, which separates values,
    /// becomes a slash, and control characters become spaces.
    ///
    /// # Errors
    /// If the character set lacks a character.
    pub fn element(&self, tag: Tag, vr: VR, text: &str) -> Result<InMemElement, String> {
        let most = if vr == VR::ST { 1024 } else { 64 };
        let clean = |c: char| {
            if c == '\\' {
                '/'
            } else if c.is_control() {
                ' '
            } else {
                c
            }
        };
        let text: String = text.trim().chars().map(clean).take(most).collect();
        if text.is_ascii() {
            return Ok(ascii(tag, vr, &text));
        }
        let encoded = SpecificCharacterSet::from_code(&self.0).and_then(|charset| charset.encode(&text).ok());
        let encoded = encoded.filter(|_| !self.0.is_empty());
        encoded.map(|encoded| bytes(tag, vr, encoded)).ok_or_else(|| {
            let name = if self.0.is_empty() { "the default one" } else { &self.0 };
            format!("its character set ({name}) lacks letters of '{text}', which a DICOM SEG would hold; give an ASCII text with `seg_codes`, or leave out `seg`")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_dictionary_std::tags::SEGMENT_LABEL;

    #[test]
    fn texts_are_written_in_the_images_character_set_or_refused() {
        let name = |bytes: &[u8]| vec![StoredText { tag: (0x10, 0x10), vr: "PN", bytes: bytes.into() }];
        let (latin, ascii) = (name(b"M\xfcller"), name(b"Miller"));
        for (copied, stated, expected, umlaut) in [
            (&ascii, None, "ISO_IR 192", Some("Drüse".as_bytes())),
            (&ascii, Some("ISO_IR 100"), "ISO_IR 100", Some(b"Dr\xfcse")),
            (&latin, Some("ISO_IR 100"), "ISO_IR 100", Some(b"Dr\xfcse")),
            (&latin, None, "", None),
            (&ascii, Some("ISO_IR 144"), "ISO_IR 144", None),
            (&ascii, Some("\\ISO 2022 IR 87"), "\\ISO 2022 IR 87", None),
        ] {
            let charset = Charset::of(copied, stated);
            assert_eq!(charset.name(), expected);
            let element = charset.element(SEGMENT_LABEL, VR::LO, "Drüse");
            let found = element.as_ref().ok().map(|element| element.to_bytes().expect("bytes").trim_ascii_end().to_vec());
            assert_eq!(found.as_deref(), umlaut, "{stated:?}: {element:?}");
            assert!(charset.element(SEGMENT_LABEL, VR::LO, "liver").is_ok());
        }
        let charset = Charset::of(&ascii, None);
        let long = charset.element(SEGMENT_LABEL, VR::LO, &format!("a\\b\n{}", "x".repeat(100))).expect("cut");
        assert_eq!(long.to_str().expect("text"), format!("a/b {}", "x".repeat(60)));
    }
}
