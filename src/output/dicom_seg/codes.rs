//! What each label means, in codes: from a JSON file as dcmqi's `itkimage2segimage` reads it, or by the label's name.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::names::{self, Sct};
use crate::archive::{open_plain, sha256};
use crate::error::{Error, Problem, Result};

/// The largest file that is read, in bytes.
const MAX_LENGTH: u64 = 4 << 20;

/// Codes and names of labels, and what else the file says about the SEG.
///
/// Of dcmqi's metadata these keys are read: in `segmentAttributes` `labelID`, `SegmentLabel`, `SegmentDescription`, the
/// code sequences and `recommendedDisplayRGBValue`; beside it `SeriesDescription`, `SeriesNumber` and
/// `ContentCreatorName`. Other keys are ignored.
#[derive(Clone, Debug, Default)]
pub struct SegCodes {
    pub(super) file: CodesFile,
    segments: BTreeMap<u16, SegmentCodes>,
    sha256: String,
}

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct CodesFile {
    #[serde(rename = "segmentAttributes")]
    attributes: Vec<Vec<SegmentCodes>>,
    #[serde(rename = "SeriesDescription")]
    pub series_description: Option<String>,
    #[serde(rename = "SeriesNumber")]
    series_number: Option<Value>,
    #[serde(rename = "ContentCreatorName")]
    pub creator: Option<String>,
}

/// What the file says about one label, or what its name says.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SegmentCodes {
    #[serde(rename = "labelID")]
    label: u16,
    #[serde(rename = "SegmentLabel")]
    pub name: Option<String>,
    #[serde(rename = "SegmentDescription")]
    pub description: Option<String>,
    #[serde(rename = "SegmentedPropertyCategoryCodeSequence")]
    pub category: Code,
    #[serde(rename = "SegmentedPropertyTypeCodeSequence")]
    pub kind: Code,
    #[serde(rename = "SegmentedPropertyTypeModifierCodeSequence")]
    pub modifier: Option<Code>,
    #[serde(rename = "AnatomicRegionSequence")]
    pub region: Option<Code>,
    #[serde(rename = "AnatomicRegionModifierSequence")]
    pub region_modifier: Option<Code>,
    #[serde(rename = "recommendedDisplayRGBValue")]
    pub colour: Option<[u8; 3]>,
}

/// A code of a coding scheme (PS3.3 8.8).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Code {
    #[serde(rename = "CodeValue")]
    pub value: String,
    #[serde(rename = "CodingSchemeDesignator")]
    pub scheme: String,
    #[serde(rename = "CodeMeaning")]
    pub meaning: String,
}

impl Code {
    pub fn sct((value, meaning): Sct) -> Self {
        Self { value: value.into(), scheme: "SCT".into(), meaning: meaning.into() }
    }

    fn check(&self) -> Result<(), String> {
        let is_ok = |text: &str, most: usize| (1..=most).contains(&text.chars().count()) && !text.contains('\\');
        if is_ok(&self.value, 64) && is_ok(&self.scheme, 16) && is_ok(&self.meaning, 64) && self.value.is_ascii() && self.scheme.is_ascii()
        {
            return Ok(());
        }
        Err(format!(
            "has the code ({}, {}, {}); expected an ASCII CodeValue of 1 to 64 letters, a CodingSchemeDesignator of 1 to 16, and a CodeMeaning of 1 to 64",
            self.value, self.scheme, self.meaning
        ))
    }
}

impl SegCodes {
    /// Reads the JSON file at `path`.
    ///
    /// # Errors
    /// If the file cannot be read, is not such JSON, or describes a label twice.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let read = || -> Result<Self, Problem> {
            let mut text = String::new();
            open_plain(path)?.take(MAX_LENGTH + 1).read_to_string(&mut text)?;
            if text.len() as u64 > MAX_LENGTH {
                return Err(format!("is beyond {MAX_LENGTH} bytes").into());
            }
            Ok(Self::parse(&text)?)
        };
        read().map_err(|problem| Error::input(path.display(), problem))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut json = serde_json::Deserializer::from_str(text);
        let mut file: CodesFile = serde_path_to_error::deserialize(&mut json)
            .map_err(|e| format!("is not the metadata of segments as dcmqi writes them: {}: {}", e.path(), e.inner()))?;
        let mut segments = BTreeMap::new();
        for attributes in std::mem::take(&mut file.attributes).into_iter().flatten() {
            let label = attributes.label;
            for code in attributes.codes() {
                code.check().map_err(|problem| format!("labelID {label} {problem}"))?;
            }
            if label == 0 {
                return Err("describes labelID 0, the background; expected labels from 1 on".into());
            }
            if segments.insert(label, attributes).is_some() {
                return Err(format!("describes labelID {label} twice; expected each label once"));
            }
        }
        let codes = Self { file, segments, sha256: sha256(text.as_bytes()) };
        codes.series_number().map(|_| codes)
    }

    /// Returns SeriesNumber, if the file states it.
    pub(super) fn series_number(&self) -> Result<Option<i32>, String> {
        let Some(value) = &self.file.series_number else { return Ok(None) };
        let number = value.as_str().map_or_else(|| value.as_i64(), |text| text.trim().parse().ok());
        let number = number.and_then(|number| i32::try_from(number).ok());
        number.map(Some).ok_or_else(|| format!("says SeriesNumber {value}; expected a whole number of 32 bits"))
    }

    /// Checks that every label of the file is one of `labels`, of which 0 is the background.
    ///
    /// # Errors
    /// If the file describes another label.
    pub fn check(&self, labels: &[String]) -> Result<()> {
        match self.segments.keys().find(|label| usize::from(**label) >= labels.len()) {
            None => Ok(()),
            Some(label) => Err(Error::option(
                "seg_codes",
                format!(
                    "describes labelID {label}, but the network has the labels 1 to {}; give the file of this network",
                    labels.len() - 1
                ),
            )),
        }
    }

    /// Returns the text that settings are told apart by.
    pub(super) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Returns the codes of `label`, which the network calls `name`: those of the file, or those of the name, or else
    /// those of any tissue.
    pub(super) fn of(&self, label: u16, name: &str) -> SegmentCodes {
        if let Some(codes) = self.segments.get(&label) {
            return codes.clone();
        }
        let named = names::named(name);
        let (category, kind) = named.map_or((names::TISSUE, names::TISSUE), |named| (named.category, named.kind));
        SegmentCodes {
            label,
            name: None,
            description: None,
            category: Code::sct(category),
            kind: Code::sct(kind),
            modifier: named.and_then(|named| named.side).map(Code::sct),
            region: None,
            region_modifier: None,
            colour: None,
        }
    }

    /// Returns the names of `labels` without a code in the file or in the table, which are coded as any tissue.
    pub fn without_code<'a>(&self, labels: &'a [String]) -> Vec<&'a str> {
        let lacks = |(label, name): &(usize, &String)| {
            !name.is_empty() && !self.segments.contains_key(&(*label as u16)) && names::named(name).is_none()
        };
        labels.iter().enumerate().skip(1).filter(lacks).map(|(_, name)| name.as_str()).collect()
    }
}

impl SegmentCodes {
    fn codes(&self) -> impl Iterator<Item = &Code> {
        [Some(&self.category), Some(&self.kind), self.modifier.as_ref(), self.region.as_ref(), self.region_modifier.as_ref()]
            .into_iter()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "SeriesDescription": "Organs", "SeriesNumber": "300", "ContentCreatorName": "Reader^A", "@schema": "ignored",
        "segmentAttributes": [[{
            "labelID": 2, "SegmentLabel": "Tumour of the kidney", "SegmentAlgorithmType": "MANUAL",
            "SegmentedPropertyCategoryCodeSequence": {"CodeValue": "49755003", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Abnormal"},
            "SegmentedPropertyTypeCodeSequence": {"CodeValue": "86049000", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Primary"},
            "recommendedDisplayRGBValue": [255, 0, 0]
        }]]
    }"#;

    #[test]
    fn a_file_takes_the_place_of_names() {
        let codes = SegCodes::parse(FILE).expect("codes");
        let labels = ["background", "left kidney", "tumor", "thing"].map(str::to_owned);
        assert_eq!(codes.of(2, "tumor").kind.value, "86049000");
        assert_eq!(codes.of(2, "tumor").colour, Some([255, 0, 0]));
        let kidney = codes.of(1, "left kidney");
        assert_eq!((kidney.kind.value.as_str(), kidney.modifier), ("64033007", Some(Code::sct(("7771000", "Left")))));
        assert_eq!((codes.of(3, "thing").kind, codes.without_code(&labels)), (Code::sct(names::TISSUE), vec!["thing"]));
        assert_eq!((codes.series_number(), codes.file.creator.as_deref()), (Ok(Some(300)), Some("Reader^A")));
        assert!(codes.check(&labels).is_ok());
        let error = codes.check(&labels[..2]).expect_err("no label 2").to_string();
        assert!(error.contains("labelID 2, but the network has the labels 1 to 1"), "{error}");
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (from, to, expected) in [
            ("\"labelID\": 2", "\"labelID\": 0", "labelID 0, the background"),
            ("\"labelID\": 2", "\"labelID\": -2", "segmentAttributes[0][0].labelID: invalid value: integer `-2`"),
            ("\"86049000\"", "\"\"", "labelID 2 has the code (, SCT, Primary); expected"),
            ("[255, 0, 0]", "[255, 0]", "segmentAttributes[0][0].recommendedDisplayRGBValue: invalid length 2"),
            ("\"CodeMeaning\": \"Primary\"", "\"x\": 1", "SegmentedPropertyTypeCodeSequence: missing field `CodeMeaning`"),
            ("\"300\"", "\"three\"", "SeriesNumber \"three\"; expected a whole number"),
            ("}]]", "}, {\"labelID\": 3}]]", "segmentAttributes[0][1]: missing field `SegmentedPropertyCategoryCodeSequence`"),
            ("segmentAttributes", "segments", "missing field `segmentAttributes`"),
        ] {
            let error = SegCodes::parse(&FILE.replace(from, to)).expect_err(to);
            assert!(error.contains(expected), "{error}");
        }
        let twice = FILE.replace("[[{", "[[{\"labelID\": 2, \"SegmentedPropertyCategoryCodeSequence\": {\"CodeValue\": \"1\", \"CodingSchemeDesignator\": \"SCT\", \"CodeMeaning\": \"x\"}, \"SegmentedPropertyTypeCodeSequence\": {\"CodeValue\": \"1\", \"CodingSchemeDesignator\": \"SCT\", \"CodeMeaning\": \"x\"}}, {");
        assert!(SegCodes::parse(&twice).expect_err("twice").contains("labelID 2 twice"));
    }
}
