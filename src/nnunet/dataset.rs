//! `dataset.json`: the labels or regions that a network was trained on, and the file extension of label maps.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::json::{Stated, keys_in_order, read, short};
use crate::ct::LabelFormat;
use crate::error::Result;

/// The most labels. Label maps are written as u16 at most.
const MAX_LABELS: usize = 65_535;

/// The labels that a network was trained on, and the file extension of its data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The name of each label, indexed by its value. Label 0 is the background. If there are regions, values that no
    /// label map holds have an empty name.
    pub labels: Vec<String>,
    /// The regions, in the order of the network's outputs. Empty if the network has one output a label.
    pub regions: Vec<Region>,
    /// `file_ending`: `.nii.gz`, `.nii`, `.nrrd` or `.mha`.
    pub file_ending: String,
}

/// A part of the body that consists of one or more labels. Regions may overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// The labels that it consists of, in ascending order.
    pub labels: Vec<u16>,
    /// The label that its voxels get, unless they are also in a later region (`regions_class_order`).
    pub label: u16,
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
    regions_class_order: Stated<Vec<u16>>,
}

/// The value of a label, or the values of a region.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum LabelValue {
    One(Number),
    Several(Vec<Number>),
    Other(Value),
}

/// A number, or a number in a string, as Python writes some numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u16),
    Text(String),
}

impl Number {
    fn value(&self) -> Result<u16, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => text.parse().map_err(|_| short(&Value::from(text.as_str()))),
        }
    }
}

impl LabelValue {
    /// Returns the values, or, as an error, the text of what is no whole number from 0 to 65535.
    fn numbers(&self) -> Result<Vec<u16>, String> {
        match self {
            Self::One(number) => Ok(vec![number.value()?]),
            Self::Several(numbers) if !numbers.is_empty() => numbers.iter().map(Number::value).collect(),
            Self::Several(_) => Err("[]".into()),
            Self::Other(value) => Err(short(value)),
        }
    }

    /// Returns whether nnU-Net takes the value for a region: a list of more than one value.
    fn is_region(&self) -> bool {
        matches!(self, Self::Several(numbers) if numbers.len() > 1)
    }
}

impl Dataset {
    /// Reads the `dataset.json` at `path`.
    ///
    /// # Errors
    /// If the file cannot be read, or describes several channels, files of an unsupported format, or labels or regions
    /// that nnU-Net refuses.
    pub fn open(path: &Path) -> Result<Self> {
        read(path, |file: DatasetFile, text| Self::of(&file, text))
    }

    fn of(file: &DatasetFile, text: &str) -> Result<Self, String> {
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
        if !LabelFormat::ENDINGS.contains(&file_ending.as_str()) {
            return Err(format!("says file_ending {}; only {} are supported", file.file_ending.shown(), LabelFormat::ENDINGS.join(", ")));
        }
        let entries = entries(file, &keys_in_order(text, "labels"))?;
        let is_region = |name: &String| file.labels.meaning.as_ref().is_some_and(|labels| labels[name].is_region());
        let (labels, regions) = if entries.iter().any(|(name, _)| is_region(name)) {
            let regions = regions(file, entries)?;
            (labels_of(&regions), regions)
        } else {
            (labels(file, entries)?, Vec::new())
        };
        Ok(Self { labels, regions, file_ending: file_ending.clone() })
    }

    /// Returns the number of the network's outputs: of its regions, or of its labels if it has no regions.
    pub fn outputs(&self) -> usize {
        if self.regions.is_empty() { self.labels.len() } else { self.regions.len() }
    }
}

/// Returns the names in the order of `names`, with their values. The label `ignore` is left out.
fn entries(file: &DatasetFile, names: &[String]) -> Result<Vec<(String, Vec<u16>)>, String> {
    let expected = "names with their values";
    let labels = file.labels.required("labels", expected)?;
    if labels.is_empty() {
        return Err(file.labels.unlike("labels", expected));
    }
    let numbers = |name: &String| {
        let numbers = labels[name].numbers();
        let numbers = numbers
            .map_err(|found| format!("says label {name} {found}; expected whole numbers from 0 to {MAX_LABELS}, alone or in a list"));
        numbers.map(|numbers| (name.clone(), numbers))
    };
    let entries: Vec<_> = names.iter().filter(|name| *name != "ignore").map(numbers).collect::<Result<_, _>>()?;
    if labels.contains_key("ignore") {
        let ignored = numbers(&"ignore".to_string())?.1;
        let highest = entries.iter().flat_map(|(_, numbers)| numbers).max().copied().unwrap_or(0);
        if ignored.iter().any(|label| *label <= highest) {
            return Err(format!("says labels {}; expected ignore to be the highest label", file.labels.shown()));
        }
    }
    Ok(entries)
}

/// Returns the labels' names in the order of their values, which must be 0, 1, 2 and so on.
fn labels(file: &DatasetFile, entries: Vec<(String, Vec<u16>)>) -> Result<Vec<String>, String> {
    let mut names: Vec<(u16, String)> = entries.into_iter().map(|(name, numbers)| (numbers[0], name)).collect();
    names.sort();
    let consecutive = names.iter().enumerate().all(|(i, (value, _))| usize::from(*value) == i);
    if !consecutive || names.len() < 2 || names.len() > MAX_LABELS {
        let found = file.labels.shown();
        return Err(format!("says labels {found}; expected background 0, then 1, 2 and so on, each once"));
    }
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

/// Returns the regions in the order of the file, which is the order of the network's outputs. An entry of 0 alone is the
/// background and has no output.
fn regions(file: &DatasetFile, entries: Vec<(String, Vec<u16>)>) -> Result<Vec<Region>, String> {
    let foreground: Vec<_> = entries.into_iter().filter(|(_, numbers)| numbers.iter().any(|n| *n != 0)).collect();
    let order = file.regions_class_order.required("regions_class_order", "a label for each region, because labels are lists")?;
    if order.len() != foreground.len() || order.contains(&0) {
        let found = file.regions_class_order.shown();
        return Err(format!("says regions_class_order {found} for {} regions; expected a label above 0 for each", foreground.len()));
    }
    let region = |((name, mut labels), label): ((String, Vec<u16>), &u16)| {
        labels.sort_unstable();
        labels.dedup();
        Region { name, labels, label: *label }
    };
    Ok(foreground.into_iter().zip(order).map(region).collect())
}

/// Returns the name of each label that `regions` give to voxels, indexed by label. A region of this label alone names it.
/// Else the label is the part of a region that is in no later one.
fn labels_of(regions: &[Region]) -> Vec<String> {
    let count = 1 + regions.iter().map(|region| usize::from(region.label)).max().unwrap_or(0);
    let mut names = vec![String::new(); count];
    for Region { name, labels, label } in regions {
        names[usize::from(*label)] = if labels == &[*label] { name.clone() } else { format!("{name} only") };
    }
    names[0] = "background".into();
    names
}
