//! Which slices of a scan are looked at.

use std::str::FromStr;

use crate::error::{Error, Result};

/// Slices of a scan, by their numbers from 0; negative numbers count from the end. As a text: `all`, `A:B[:STEP]` (from A on, up to B and
/// without it), or a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Slices {
    /// Every slice.
    All,
    /// From one slice on, up to another and without it.
    Range {
        /// The first slice; none for slice 0.
        from: Option<i64>,
        /// The slice before which the range ends; none for the end of the scan.
        to: Option<i64>,
        /// How far each slice is from the next, at least 1.
        step: usize,
    },
    /// These slices, in this order.
    List(Vec<i64>),
}

impl FromStr for Slices {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::option("slices", format!("'{text}' is neither all, nor A:B, nor A:B:STEP with STEP from 1, nor a list such as 0,5,-1"))
        };
        let number = |s: &str| s.trim().parse::<i64>().map_err(|_| wrong());
        let end = |s: &str| if s.trim().is_empty() { Ok(None) } else { number(s).map(Some) };
        match text.split(':').collect::<Vec<_>>()[..] {
            ["all"] => Ok(Self::All),
            [list] => Ok(Self::List(list.split(',').map(number).collect::<Result<_>>()?)),
            [from, to] => Ok(Self::Range { from: end(from)?, to: end(to)?, step: 1 }),
            [from, to, step] => {
                let step = step.trim().parse().ok().filter(|step| *step > 0).ok_or_else(wrong)?;
                Ok(Self::Range { from: end(from)?, to: end(to)?, step })
            }
            _ => Err(wrong()),
        }
    }
}

impl Slices {
    /// The indices that are meant of `count` slices, in the order given.
    ///
    /// # Errors
    /// If one does not exist, or there is none.
    pub fn of(&self, count: usize) -> Result<Vec<usize>> {
        let from_end = |i: i64| if i < 0 { i + count as i64 } else { i };
        let found: Vec<usize> = match self {
            Self::All => (0..count).collect(),
            Self::Range { from, to, step } => {
                let end = |i: i64| from_end(i).clamp(0, count as i64) as usize;
                (from.map_or(0, end)..to.map_or(count, end)).step_by(*step).collect()
            }
            Self::List(list) => {
                let one = |&i: &i64| usize::try_from(from_end(i)).ok().filter(|&i| i < count).ok_or_else(|| missing(i, count));
                list.iter().map(one).collect::<Result<_>>()?
            }
        };
        if found.is_empty() { Err(Error::option("slices", format!("the range holds none of the {count} slices"))) } else { Ok(found) }
    }

    /// Those that are meant of `count` slices and are among `stored`: of all or a range what there is, of a list each.
    ///
    /// # Errors
    /// If a slice of a list is not stored, or there is none.
    pub fn among(&self, stored: &[usize], count: usize) -> Result<Vec<usize>> {
        let (found, others): (Vec<usize>, Vec<usize>) = self.of(count)?.into_iter().partition(|slice| stored.contains(slice));
        match (self, &others[..]) {
            (Self::List(_), &[other, ..]) => Err(Error::option("slices", format!("slice {other} is not among the features in the file"))),
            _ if found.is_empty() => Err(Error::option("slices", "the range holds none of the slices in the file of features")),
            _ => Ok(found),
        }
    }
}

fn missing(index: i64, count: usize) -> Error {
    Error::option("slices", format!("there is no slice {index}: this input has {count}, 0 to {}", count - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_read_as_python_has_them() {
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
    fn of_stored_slices_a_range_takes_what_there_is_and_a_list_all() {
        let among = |text: &str| text.parse::<Slices>().expect("slices").among(&[6, 4, 2], 10).map_err(|e| e.to_string());
        for (text, want) in [("all", &[2, 4, 6][..]), ("3:", &[4, 6]), ("-6:", &[4, 6]), ("6,2", &[6, 2]), ("-4", &[6])] {
            assert_eq!(among(text).as_deref(), Ok(want), "{text}");
        }
        for (text, said) in
            [("5", "slice 5 is not among"), ("2,-1", "slice 9 is not among"), ("7:", "holds none"), ("10", "this input has 10")]
        {
            assert!(among(text).is_err_and(|error| error.contains(said)), "{text}");
        }
    }
}
