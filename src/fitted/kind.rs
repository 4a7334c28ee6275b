//! What features a head may be applied to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use crate::ct::{Orient, Size, Window};
use crate::error::{Error, Result};
use crate::vit::layers::Layers;

/// Metadata that must be the same for all features that a head is fitted or applied to.
const SHARED: [&str; 4] = ["checkpoint_sha256", "rope", "norm_eps", "preprocessing"];
/// The key of the blocks whose patch tokens are joined. Tokens after the last block have none.
const LAYERS: &str = "layers";

/// Checks that features of the kind `found` are of the kind `want`.
///
/// # Errors
/// The first difference, if there is one. `whose` tells what has the kind `want`.
pub fn agree(found: &BTreeMap<String, String>, want: &BTreeMap<String, String>, whose: &str) -> Result<(), String> {
    let keys: BTreeSet<&String> = found.keys().chain(want.keys()).collect();
    match keys.into_iter().find(|key| found.get(*key) != want.get(*key)) {
        None => Ok(()),
        Some(key) => {
            let text = |kind: &BTreeMap<String, String>| kind.get(key).cloned().unwrap_or_else(|| "nothing".into());
            Err(format!("has {key} {}, but {whose} have {}; compute all features alike", text(found), text(want)))
        }
    }
}

/// Returns what a head is bound to that is fitted to features with these metadata.
pub fn kind_of(metadata: &BTreeMap<String, String>, vector: &str, rows: String) -> BTreeMap<String, String> {
    // Seeded weights have no hash, so their name counts.
    let by_name = (!metadata.contains_key("checkpoint_sha256")).then_some("checkpoint");
    let known = SHARED.into_iter().chain(by_name).filter_map(|key| Some((key.to_owned(), metadata.get(key)?.clone())));
    known.chain([("vector".into(), vector.into()), ("rows".into(), rows)]).collect()
}

/// Returns the kind of patch tokens of `layers` with these metadata.
pub fn patch_kind(metadata: &BTreeMap<String, String>, layers: &Layers) -> BTreeMap<String, String> {
    let mut kind = kind_of(metadata, "patch token", "patch".into());
    if *layers != Layers::LAST {
        kind.insert(LAYERS.into(), layers.to_string());
    }
    kind
}

/// Returns the blocks of patch tokens of the kind `kind`.
///
/// # Errors
/// If the kind names something else than blocks.
pub(super) fn layers(kind: &BTreeMap<String, String>) -> Result<Layers> {
    kind.get(LAYERS).map_or(Ok(Layers::LAST), |text| text.parse())
}

/// Returns the preprocessing of features of the kind `kind`. Messages call their head `name`.
///
/// # Errors
/// If they were no features of scans.
pub(super) fn preprocessing(kind: &BTreeMap<String, String>, name: impl Display) -> Result<(Size, Window, Orient)> {
    let text = kind.get("preprocessing").map(String::as_str).unwrap_or_default();
    let stored: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let part = |key: &str| stored.get(key).and_then(serde_json::Value::as_str);
    let (Some(size), Some(window), Some(orient)) = (part("size"), part("window"), part("orient")) else {
        let problem = "was not fitted to features of scans, so it cannot be applied to one; fit it to such features";
        return Err(Error::input(name, problem));
    };
    Ok((size.parse()?, window.parse()?, orient.parse()?))
}
