//! Reading the JSON files of a results folder, with errors that name the key and the value.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::Value;

use crate::archive::open_plain;
use crate::error::{Error, Problem, Result};

/// The largest file that is read, in bytes. A `dataset.json` may list tens of thousands of training cases.
const MAX_LENGTH: u64 = 64 << 20;

/// Reads the JSON object in the file at `path` as a `T`, and returns `understand` of it. An error of either step names
/// the file.
pub(super) fn read<T: DeserializeOwned, U>(path: &Path, understand: impl FnOnce(T) -> Result<U, String>) -> Result<U> {
    let read = || -> Result<U, Problem> {
        let mut text = String::new();
        let missing =
            "an nnU-Net results folder (TRAINER__PLANS__CONFIGURATION) holds plans.json, dataset.json and fold_K/checkpoint_final.pth";
        let file = open_plain(path).map_err(|e| Problem::caused_by(format!("{e}; {missing}"), e))?;
        file.take(MAX_LENGTH).read_to_string(&mut text)?;
        // Parse into a map first, because it keeps the last of two equal keys, as Python does. A struct would refuse
        // the second.
        let damaged = |e: serde_json::Error| Problem::from(e).within("is damaged");
        let object: serde_json::Map<String, Value> = serde_json::from_str(&text).map_err(damaged)?;
        Ok(understand(T::deserialize(Value::Object(object)).map_err(damaged)?)?)
    };
    read().map_err(|problem| Error::checkpoint(path.display(), problem))
}

/// The value of a key: the raw JSON, and the `T` parsed from it, if it is one. A file with values of the wrong type is
/// still read, so that the error can name the key and show the value.
#[derive(Clone, Debug)]
pub(super) struct Stated<T> {
    /// The raw value; null if the key is missing.
    pub found: Value,
    /// The parsed value; none if `found` is not a `T`.
    pub meaning: Option<T>,
}

impl<T> Default for Stated<T> {
    fn default() -> Self {
        Self { found: Value::Null, meaning: None }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Stated<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = Value::deserialize(deserializer)?;
        let meaning = T::deserialize(&found).ok();
        Ok(Self { found, meaning })
    }
}

impl<T> Stated<T> {
    /// Returns the parsed value of `key`, or an error that says what was `expected`.
    pub fn required(&self, key: &str, expected: &str) -> Result<&T, String> {
        self.meaning.as_ref().ok_or_else(|| self.unlike(key, expected))
    }

    /// Returns an error message: the value of `key` is not as `expected` describes it.
    pub fn unlike(&self, key: &str, expected: &str) -> String {
        match &self.found {
            Value::Null => format!("holds no {key}; expected {expected}"),
            found => format!("says {key} {}; expected {expected}", short(found)),
        }
    }

    /// Returns the raw value as text that is safe to print to a terminal, shortened to 120 characters.
    pub fn shown(&self) -> String {
        short(&self.found)
    }
}

/// Returns a value as text that is safe to print to a terminal, shortened to 120 characters.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().nth(120).is_some() { text.chars().take(120).collect::<String>() + "..." } else { text }
}
