//! A selection of a scan's slices.

use std::str::FromStr;

use crate::error::{Error, Result};

/// A selection of slices by their numbers from 0; negative numbers count from the end. The text form is `all`,
/// `A:B[:STEP]` (B is excluded), or a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Slices {
    /// Every slice.
    All,
    /// Slices from `from` up to, but not including, `to`.
    Range {
        /// The first slice; none for slice 0.
        from: Option<i64>,
        /// The slice after the last one; none for the end of the scan.
        to: Option<i64>,
        /// Step from one slice to the next, at least 1.
        step: usize,
    },
    /// These slices, in this order.
    List(Vec<i64>),
}

impl FromStr for Slices {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let error = || {
            Error::option(
                "slices",
                format!("'{text}' is not a selection of slices; expected all, A:B, A:B:STEP with STEP from 1, or a list such as 0,5,-1"),
            )
        };
        let number = |s: &str| s.trim().parse::<i64>().map_err(|_| error());
        let end = |s: &str| if s.trim().is_empty() { Ok(None) } else { number(s).map(Some) };
        match text.split(':').collect::<Vec<_>>()[..] {
            ["all"] => Ok(Self::All),
            [list] => Ok(Self::List(list.split(',').map(number).collect::<Result<_>>()?)),
            [from, to] => Ok(Self::Range { from: end(from)?, to: end(to)?, step: 1 }),
            [from, to, step] => {
                let step = step.trim().parse().ok().filter(|step| *step > 0).ok_or_else(error)?;
                Ok(Self::Range { from: end(from)?, to: end(to)?, step })
            }
            _ => Err(error()),
        }
    }
}

impl Slices {
    /// Returns the indices of the selected slices of a scan with `count` slices, in the order of the selection.
    ///
    /// # Errors
    /// If a slice of a list does not exist, or the selection is empty.
    pub fn of(&self, count: usize) -> Result<Vec<usize>> {
        let from_end = |i: i64| if i < 0 { i + count as i64 } else { i };
        let found: Vec<usize> = match self {
            Self::All => (0..count).collect(),
            Self::Range { from, to, step } => {
                let end = |i: i64| from_end(i).clamp(0, count as i64) as usize;
                (from.map_or(0, end)..to.map_or(count, end)).step_by(*step).collect()
            }
            Self::List(list) => {
                let index = |&i: &i64| usize::try_from(from_end(i)).ok().filter(|&i| i < count).ok_or_else(|| missing(i, count));
                list.iter().map(index).collect::<Result<_>>()?
            }
        };
        if found.is_empty() { Err(Error::option("slices", format!("the range holds none of the {count} slices"))) } else { Ok(found) }
    }

    /// Returns the selected slices that are in `stored`. `All` and a range skip missing slices; every slice of a list
    /// must be stored.
    ///
    /// # Errors
    /// If a slice of a list is not stored, or no selected slice is stored.
    pub fn among(&self, stored: &[usize], count: usize) -> Result<Vec<usize>> {
        let (found, absent): (Vec<usize>, Vec<usize>) = self.of(count)?.into_iter().partition(|slice| stored.contains(slice));
        match (self, &absent[..]) {
            (Self::List(_), &[missing, ..]) => {
                Err(Error::option("slices", format!("slice {missing} is not among the features in the file")))
            }
            _ if found.is_empty() => Err(Error::option("slices", "the range holds none of the slices in the file of features")),
            _ => Ok(found),
        }
    }
}

fn missing(index: i64, count: usize) -> Error {
    Error::option("slices", format!("there is no slice {index}; this input has {count} slices, 0 to {}", count - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_parsed_as_in_python() {
        let of = |text: &str| text.parse::<Slices>().and_then(|slices| slices.of(10)).map_err(|e| e.to_string());
        let cases: [(&str, &[usize]); 9] = [
            ("all", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            ("2:5", &[2, 3, 4]),
            (":3", &[0, 1, 2]),
            ("7:", &[7, 8, 9]),
            ("1:8:3", &[1, 4, 7]),
            ("-3:", &[7, 8, 9]),
            ("8:99", &[8, 9]),
            ("4,2,-1", &[4, 2, 9]),
            ("5", &[5]),
        ];
        for (text, want) in cases {
            assert_eq!(of(text).as_deref(), Ok(want), "{text}");
        }
        for text in ["", "x", "1:2:0", "1:2:-1", "1:2:3:4", "10", "-11", "5:5", "6:2", "1,,2"] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_skips_slices_that_are_not_stored_and_a_list_needs_all() {
        let among = |text: &str| text.parse::<Slices>().expect("slices").among(&[6, 4, 2], 10).map_err(|e| e.to_string());
        for (text, want) in [("all", &[2, 4, 6][..]), ("3:", &[4, 6]), ("-6:", &[4, 6]), ("6,2", &[6, 2]), ("-4", &[6])] {
            assert_eq!(among(text).as_deref(), Ok(want), "{text}");
        }
        for (text, message) in
            [("5", "slice 5 is not among"), ("2,-1", "slice 9 is not among"), ("7:", "holds none"), ("10", "this input has 10 slices")]
        {
            assert!(among(text).is_err_and(|error| error.contains(message)), "{text}");
        }
    }
}
