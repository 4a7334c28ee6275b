//! `dataset.json`: the names of the labels, and the file extension of label maps.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::json::{Stated, read, short};
use crate::error::Result;

/// The most labels. Label maps are written as u16 at most.
const MAX_LABELS: usize = 65_535;

/// The supported file extensions of label maps.
const ENDINGS: [&str; 2] = [".nii.gz", ".nii"];

/// The labels that a network was trained on, and the file extension of its data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The name of each label, indexed by its value. Label 0 is the background.
    pub labels: Vec<String>,
    /// `file_ending`: `.nii.gz` or `.nii`.
    pub file_ending: String,
}

/// The keys of `dataset.json` that are read. Other keys are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DatasetFile {
    channel_names: Stated<BTreeMap<String, Value>>,
    /// The key that older files have instead of `channel_names`.
    modality: Stated<BTreeMap<String, Value>>,
    file_ending: Stated<String>,
    labels: Stated<BTreeMap<String, LabelValue>>,
    regions_class_order: Value,
}

/// The value of a label.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum LabelValue {
    Number(u64),
    /// A number in a string, as Python writes some numbers.
    Text(String),
    Other(Value),
}

impl LabelValue {
    fn number(&self) -> Result<u64, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => text.parse().map_err(|_| short(&Value::from(text.as_str()))),
            Self::Other(value) => Err(short(value)),
        }
    }

    /// Returns whether the value belongs to a region. Regions (labels that overlap) have lists of values.
    fn is_region(&self) -> bool {
        matches!(self, Self::Other(Value::Array(_)))
    }
}

impl Dataset {
    /// Reads the `dataset.json` at `path`.
    ///
    /// # Errors
    /// If the file cannot be read, or describes regions, several channels, or files that are not NIfTI.
    pub fn open(path: &Path) -> Result<Self> {
        read(path, |file: DatasetFile| Self::of(&file))
    }

    fn of(file: &DatasetFile) -> Result<Self, String> {
        let channels = file.channel_names.meaning.as_ref().or(file.modality.meaning.as_ref());
        match channels.map(BTreeMap::len) {
            Some(1) => {}
            Some(several) => {
                let names = if file.channel_names.found.is_null() { &file.modality } else { &file.channel_names };
                return Err(format!("says channel_names {}: {several} channels; only one, CT, is supported", names.shown()));
            }
            None => return Err(file.channel_names.unlike("channel_names", "{\"0\": \"CT\"}")),
        }
        let file_ending = file.file_ending.required("file_ending", "a text")?;
        if !ENDINGS.contains(&file_ending.as_str()) {
            return Err(format!("says file_ending {}; only {} are supported", file.file_ending.shown(), ENDINGS.join(" and ")));
        }
        Ok(Self { labels: labels(file)?, file_ending: file_ending.clone() })
    }
}

/// Returns the labels' names in the order of their values, which must be 0, 1, 2 and so on. The label `ignore` is left
/// out.
fn labels(file: &DatasetFile) -> Result<Vec<String>, String> {
    let expected = "names with their values";
    let labels = file.labels.required("labels", expected)?;
    if labels.is_empty() {
        return Err(file.labels.unlike("labels", expected));
    }
    if !file.regions_class_order.is_null() || labels.values().any(LabelValue::is_region) {
        return Err("is trained on regions (labels that overlap), which are not supported".into());
    }
    let mut names: Vec<(u64, &String)> = Vec::new();
    for (name, value) in labels.iter().filter(|(name, _)| *name != "ignore") {
        let number = value.number().map_err(|found| format!("says label {name} {found}; expected a whole number"))?;
        names.push((number, name));
    }
    names.sort();
    let consecutive = names.iter().enumerate().all(|(i, (value, _))| *value == i as u64);
    if !consecutive || names.len() < 2 || names.len() > MAX_LABELS {
        let found = file.labels.shown();
        return Err(format!("says labels {found}; expected background 0, then 1, 2 and so on, each once"));
    }
    Ok(names.into_iter().map(|(_, name)| name.clone()).collect())
}
