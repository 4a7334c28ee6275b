//! Types that several files of `checkpoint` share: tensor names, and reasons why a tensor is left out.

use std::collections::BTreeMap;

use crate::archive::TensorHeader;

/// Maps a name without wrapping to the name in the file and the tensor.
pub(super) type Names<'a> = BTreeMap<String, (&'a String, &'a TensorHeader)>;

/// A tensor of the file that is not a parameter of the backbone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The tensor's name in the file.
    pub name: String,
    /// Why the tensor is left out.
    pub reason: &'static str,
}

/// Makes a name from a file safe to print on a terminal: cuts it to 80 characters and replaces control characters.
pub(crate) fn printable(name: &str) -> String {
    let short: String = name.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.chars().nth(80).is_some() { short + "..." } else { short }
}
