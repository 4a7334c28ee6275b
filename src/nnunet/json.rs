//! The JSON files of a results folder, and values in them that must be there.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::archive::open_plain;
use crate::error::{Error, Result};

/// The longest file that is read. A `dataset.json` may list tens of thousands of training cases.
const MAX_LENGTH: u64 = 64 << 20;

/// What `parse` makes of the JSON file at `path`; a problem of either is an error that names the file.
pub(super) fn read<T>(path: &Path, parse: impl FnOnce(&Value) -> Result<T, String>) -> Result<T> {
    let read = || {
        let mut text = String::new();
        let missing =
            "an nnU-Net results folder (TRAINER__PLANS__CONFIGURATION) holds plans.json, dataset.json and fold_K/checkpoint_final.pth";
        let file = open_plain(path).map_err(|e| format!("{e}; {missing}"))?;
        file.take(MAX_LENGTH).read_to_string(&mut text).map_err(|e| e.to_string())?;
        let json = serde_json::from_str(&text).map_err(|e| format!("is damaged: {e}"))?;
        parse(&json)
    };
    read().map_err(|problem| Error::checkpoint(path.display(), problem))
}

/// The text under `key`.
pub(super) fn text<'a>(json: &'a Value, key: &str) -> Result<&'a str, String> {
    json[key].as_str().ok_or_else(|| unlike(json, key, "a text"))
}

/// The finite number under `key`.
pub(super) fn number(json: &Value, key: &str) -> Result<f64, String> {
    json[key].as_f64().filter(|v| v.is_finite()).ok_or_else(|| unlike(json, key, "a number"))
}

/// The `N` values under `key`, each of which `of` understands.
pub(super) fn list<const N: usize, T>(json: &Value, key: &str, what: &str, of: impl Fn(&Value) -> Option<T>) -> Result<[T; N], String> {
    let items = json[key].as_array().and_then(|items| items.iter().map(of).collect::<Option<Vec<T>>>());
    items.and_then(|items| items.try_into().ok()).ok_or_else(|| unlike(json, key, what))
}

/// That `key` is not what was expected.
pub(super) fn unlike(json: &Value, key: &str, expected: &str) -> String {
    match &json[key] {
        Value::Null => format!("holds no {key}; expected {expected}"),
        found => format!("says {key} {}; expected {expected}", short(found)),
    }
}

/// A value for people, harmless for a terminal.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().nth(120).is_some() { text.chars().take(120).collect::<String>() + "..." } else { text }
}
