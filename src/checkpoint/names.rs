//! What several files of this room call the same: names of tensors, and why one is left out.

use std::collections::BTreeMap;

use crate::archive::Stored;

/// Name without wrapping -> the file's name and tensor.
pub(super) type Names<'a> = BTreeMap<String, (&'a String, &'a Stored)>;

/// A tensor of the file that is no parameter of the backbone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The file's name for it.
    pub name: String,
    /// Why it is left out.
    pub reason: &'static str,
}

/// A name from a file, made harmless for a terminal and short.
pub(super) fn printable(name: &str) -> String {
    let short: String = name.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.chars().nth(80).is_some() { short + "..." } else { short }
}
