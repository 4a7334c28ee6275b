//! The JSON files of a results folder, and the values that they must hold.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::Value;

use crate::archive::open_plain;
use crate::error::{Error, Problem, Result};

/// The longest file that is read. A `dataset.json` may list tens of thousands of training cases.
const MAX_LENGTH: u64 = 64 << 20;

/// Reads the JSON object in the file at `path` as a `T`, and gives what `understand` makes of the object. A problem of
/// either is an error that names the file.
pub(super) fn read<T: DeserializeOwned, U>(path: &Path, understand: impl FnOnce(T) -> Result<U, String>) -> Result<U> {
    let read = || -> Result<U, Problem> {
        let mut text = String::new();
        let missing =
            "an nnU-Net results folder (TRAINER__PLANS__CONFIGURATION) holds plans.json, dataset.json and fold_K/checkpoint_final.pth";
        let file = open_plain(path).map_err(|e| Problem::caused_by(format!("{e}; {missing}"), e))?;
        file.take(MAX_LENGTH).read_to_string(&mut text)?;
        // A map keeps the last of two equal keys, as Python does; a struct would refuse the second.
        let damaged = |e: serde_json::Error| Problem::from(e).within("is damaged");
        let object: serde_json::Map<String, Value> = serde_json::from_str(&text).map_err(damaged)?;
        Ok(understand(T::deserialize(Value::Object(object)).map_err(damaged)?)?)
    };
    read().map_err(|problem| Error::checkpoint(path.display(), problem))
}

/// What a file says under a key: the value as it stands there, and what the value means, if it means anything. A file
/// with values of other kinds is read all the same, so that the error can name the key and show the value.
#[derive(Clone, Debug)]
pub(super) struct Stated<T> {
    /// Null where the key is missing.
    pub found: Value,
    /// None where `found` is no `T`.
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
    /// The meaning of the value under `key`, or an error that says what was `expected`.
    pub fn required(&self, key: &str, expected: &str) -> Result<&T, String> {
        self.meaning.as_ref().ok_or_else(|| self.unlike(key, expected))
    }

    /// An error that says that the value under `key` is not as `expected` describes it.
    pub fn unlike(&self, key: &str, expected: &str) -> String {
        match &self.found {
            Value::Null => format!("holds no {key}; expected {expected}"),
            found => format!("says {key} {}; expected {expected}", short(found)),
        }
    }

    /// The value for people, harmless for a terminal.
    pub fn shown(&self) -> String {
        short(&self.found)
    }
}

/// A value for people, harmless for a terminal.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().nth(120).is_some() { text.chars().take(120).collect::<String>() + "..." } else { text }
}
