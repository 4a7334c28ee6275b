//! `dataset.json`: what the labels are called, and what the files end in.

use std::path::Path;

use serde_json::Value;

use super::json::{read, short, text, unlike};
use crate::error::Result;

/// The most labels: they are written as u16 at most.
const MAX_LABELS: usize = 65_535;

/// The endings that labels are written with.
const ENDINGS: [&str; 2] = [".nii.gz", ".nii"];

/// What a network was trained to tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The name of each label, by its value: label 0 is the background.
    pub labels: Vec<String>,
    /// `file_ending`: `.nii.gz` or `.nii`.
    pub file_ending: String,
}

impl Dataset {
    /// Reads the `dataset.json` at `path`.
    ///
    /// # Errors
    /// If the file cannot be read, or is of regions, of several channels, or of files that are not NIfTI.
    pub fn open(path: &Path) -> Result<Self> {
        read(path, Self::of)
    }

    fn of(json: &Value) -> Result<Self, String> {
        let channels = json["channel_names"].as_object().or(json["modality"].as_object());
        match channels.map(serde_json::Map::len) {
            Some(1) => {}
            Some(several) => {
                return Err(format!("says channel_names {}: {several} channels; only one, CT, is supported", channel_names(json)));
            }
            None => return Err(unlike(json, "channel_names", "{\"0\": \"CT\"}")),
        }
        let file_ending = text(json, "file_ending")?;
        if !ENDINGS.contains(&file_ending) {
            return Err(format!("says file_ending {}; only {} are supported", short(&json["file_ending"]), ENDINGS.join(" and ")));
        }
        Ok(Self { labels: labels(json)?, file_ending: file_ending.into() })
    }
}

fn channel_names(json: &Value) -> String {
    short(if json["channel_names"].is_null() { &json["modality"] } else { &json["channel_names"] })
}

/// The labels' names in the order of their values, which must be 0, 1, 2 and so on. A label to be ignored is none.
fn labels(json: &Value) -> Result<Vec<String>, String> {
    let Some(labels) = json["labels"].as_object().filter(|labels| !labels.is_empty()) else {
        return Err(unlike(json, "labels", "names with their values"));
    };
    if json.get("regions_class_order").is_some_and(|v| !v.is_null()) || labels.values().any(Value::is_array) {
        return Err("is trained on regions (labels that overlap), which are not supported".into());
    }
    let mut names: Vec<(u64, &String)> = Vec::new();
    for (name, value) in labels.iter().filter(|(name, _)| *name != "ignore") {
        // Python writes some as texts.
        let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        names.push((number.ok_or_else(|| format!("says label {name} {}; expected a whole number", short(value)))?, name));
    }
    names.sort();
    let consecutive = names.iter().enumerate().all(|(i, (value, _))| *value == i as u64);
    if !consecutive || names.len() < 2 || names.len() > MAX_LABELS {
        return Err(format!("says labels {}; expected background 0, then 1, 2 and so on, each once", short(&json["labels"])));
    }
    Ok(names.into_iter().map(|(_, name)| name.clone()).collect())
}
