//! A part of the cases, for machines that share a job.

use std::str::FromStr;

use crate::error::{Error, Result};

/// Part `index` (from 1) of `of` parts: every `of`th case of the sorted list. The text form is `I/N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Number of the part, from 1 to `of`.
    pub index: usize,
    /// Number of parts.
    pub of: usize,
}

impl Shard {
    /// All cases, as a single part.
    pub const ALL: Self = Self { index: 1, of: 1 };

    pub(super) fn take<T>(self, cases: Vec<T>) -> Vec<T> {
        cases.into_iter().skip(self.index - 1).step_by(self.of).collect()
    }
}

impl FromStr for Shard {
    type Err = Error;

    /// Parses `I/N` with I from 1 to N.
    fn from_str(text: &str) -> Result<Self, Error> {
        let numbers = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Self { index, of }),
            _ => Err(Error::option("shard", format!("'{text}' is not I/N with I from 1 to N"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_every_case_once() {
        let cases: Vec<usize> = (0..7).collect();
        let mut all: Vec<usize> = (1..=3).flat_map(|index| Shard { index, of: 3 }.take(cases.clone())).collect();
        all.sort_unstable();
        assert_eq!(all, cases);
        assert_eq!(Shard::ALL.take(cases.clone()), cases);
        assert_eq!("2/3".parse::<Shard>().expect("a shard"), Shard { index: 2, of: 3 });
        for text in ["", "0/3", "4/3", "1", "1/0", "a/b", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
