//! Reading the JSON files of a results folder, with errors that name the key and the value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::archive::open_plain;
use crate::error::{Error, Problem, Result};

/// The largest file that is read, in bytes. A `dataset.json` may list tens of thousands of training cases.
const MAX_LENGTH: u64 = 64 << 20;

/// Reads the JSON object in the file at `path` as a `T`, and returns `understand` of it and of the file's text. An error
/// of either step names the file.
pub(super) fn read<T: DeserializeOwned, U>(path: &Path, understand: impl FnOnce(T, &str) -> Result<U, String>) -> Result<U> {
    let read = || -> Result<U, Problem> {
        let mut text = String::new();
        let missing =
            "an nnU-Net results folder (TRAINER__PLANS__CONFIGURATION) holds plans.json, dataset.json and fold_K/checkpoint_final.pth";
        let file = open_plain(path).map_err(|e| Problem::caused_by(format!("{e}; {missing}"), e))?;
        file.take(MAX_LENGTH).read_to_string(&mut text)?;
        let text = without_nan(&text);
        // Parse into a map first, because it keeps the last of two equal keys, as Python does. A struct would refuse
        // the second.
        let damaged = |e: serde_json::Error| Problem::from(e).within("is damaged");
        let object: serde_json::Map<String, Value> = serde_json::from_str(&text).map_err(damaged)?;
        Ok(understand(T::deserialize(Value::Object(object)).map_err(damaged)?, &text)?)
    };
    read().map_err(|problem| Error::checkpoint(path.display(), problem))
}

/// Replaces the values `NaN`, `Infinity` and `-Infinity`, which Python writes and JSON does not know, by null.
fn without_nan(text: &str) -> String {
    // Every second part is within quotation marks, so the other parts hold no text. A backslash quotes the next
    // character.
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('"') {
        let bytes = rest.as_bytes();
        let mut end = start + 1;
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let end = (end + 1).min(rest.len());
        // A backslash before a character of several bytes is no JSON; the parser reports it.
        let Some(quoted) = rest.get(start..end) else { break };
        out += &nulled(&rest[..start]);
        out += quoted;
        rest = &rest[end..];
    }
    out + &nulled(rest)
}

fn nulled(outside: &str) -> String {
    outside.replace("-Infinity", "null").replace("Infinity", "null").replace("NaN", "null")
}

/// Returns the keys of the object at `key` in the object `text`, in the order of the text. A map of `serde_json` sorts
/// them. As in Python, a key that occurs twice keeps its first place.
pub(super) fn keys_in_order(text: &str, key: &str) -> Vec<String> {
    let parsed: Option<BTreeMap<String, Keys>> = serde_json::from_str(text).ok();
    match parsed.and_then(|mut parsed| parsed.remove(key)) {
        Some(Keys::Object(names)) => names.0,
        _ => Vec::new(),
    }
}

/// The keys of a value that is an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Keys {
    Object(InOrder),
    Other(IgnoredAny),
}

/// The keys of an object, each once, in order.
struct InOrder(Vec<String>);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = InOrder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder, A::Error> {
                let mut names = Vec::new();
                let mut known = BTreeSet::new();
                while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
                    if known.insert(name.clone()) {
                        names.push(name);
                    }
                }
                Ok(InOrder(names))
            }
        }
        deserializer.deserialize_map(Object)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_does_not_know_become_null() {
        let text = r#"{"a": NaN, "NaN\"NaN": [-Infinity, "Infinity", Infinity, 1], "\\": NaN}"#;
        let want = r#"{"a": null, "NaN\"NaN": [null, "Infinity", null, 1], "\\": null}"#;
        assert_eq!(without_nan(text), want);
        for text in ["", "\"", "\"\\", "NaN\"NaN", "\"\\ä\" NaN"] {
            without_nan(text);
        }
    }

    #[test]
    fn keys_keep_their_order() {
        let text = r#"{"x": 1, "labels": {"z": 0, "a": [1, 2], "m": {"k": 1}, "z": 2}, "y": [NaN]}"#;
        assert_eq!(keys_in_order(&without_nan(text), "labels"), ["z", "a", "m"]);
        assert!(keys_in_order(&without_nan(text), "x").is_empty() && keys_in_order("[]", "labels").is_empty());
    }
}
