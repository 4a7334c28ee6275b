//! The blocks after which tokens are taken.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The blocks after which patch tokens are taken, through the final norm. The tokens of L blocks are joined channel by
/// channel: [.., L C].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers(Vec<usize>);

impl Layers {
    /// The last block, whichever it is of a model.
    pub const LAST: Self = Self(Vec::new());

    /// Takes blocks, counted from 0, in ascending order; none for [`Layers::LAST`].
    ///
    /// # Errors
    /// If they do not ascend, because the order of channels follows from them.
    pub fn new(blocks: Vec<usize>) -> Result<Self> {
        if blocks.is_sorted_by(|a, b| a < b) {
            return Ok(Self(blocks));
        }
        let layers = Self(blocks);
        Err(Error::option("layers", format!("expected each block once and in ascending order, such as 2,5,8,11, found {layers}")))
    }

    /// Returns the blocks; none if it is the last one, whichever that is.
    pub fn blocks(&self) -> &[usize] {
        &self.0
    }

    /// Returns the number of blocks, L.
    pub fn count(&self) -> usize {
        self.0.len().max(1)
    }

    /// Returns the blocks in a model of `depth` blocks.
    pub fn of_model(&self, depth: usize) -> Vec<usize> {
        if self.0.is_empty() { vec![depth - 1] } else { self.0.clone() }
    }

    /// Returns the blocks of all of `layers` in a model of `depth` blocks.
    pub fn union<'a>(layers: impl IntoIterator<Item = &'a Self>, depth: usize) -> Self {
        let blocks: BTreeSet<usize> = layers.into_iter().flat_map(|layers| layers.of_model(depth)).collect();
        Self(blocks.into_iter().collect())
    }
}

impl FromStr for Layers {
    type Err = Error;

    /// Parses numbers with commas between them, as they are written; nothing is [`Layers::LAST`].
    fn from_str(text: &str) -> Result<Self> {
        let blocks = text.split(',').filter(|_| !text.is_empty()).map(str::parse).collect::<Result<Vec<usize>, _>>();
        Self::new(blocks.map_err(|_| Error::option("layers", format!("expected numbers of blocks, such as 2,5,8,11, found {text}")))?)
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_what_they_are_written_as() {
        for (text, count, of_model) in [("", 1, vec![11]), ("2,5,8,11", 4, vec![2, 5, 8, 11]), ("3", 1, vec![3])] {
            let layers: Layers = text.parse().expect(text);
            assert_eq!((layers.to_string().as_str(), layers.count(), layers.of_model(12)), (text, count, of_model));
        }
        for text in ["5,2", "2,2", "2,,5", "-1", "two", ","] {
            assert!(text.parse::<Layers>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_union_has_each_block_once() {
        let [four, two] = ["2,5,8,11", "1,5"].map(|text| text.parse::<Layers>().expect(text));
        assert_eq!(Layers::union([&four, &Layers::LAST, &two], 13).to_string(), "1,2,5,8,11,12");
    }
}
