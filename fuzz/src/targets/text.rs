//! The texts of flags.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use meddino::ct::{Orient, Size, Window};
use meddino::gpu::Selection;
use meddino::graph::{Elem, Tier};
use meddino::output::Format;

use super::Desk;

pub fn read(_: &Desk, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let understood = [
        shown_alike::<Size>(&text),
        shown_alike::<Window>(&text),
        shown_alike::<Orient>(&text),
        shown_alike::<Format>(&text),
        shown_alike::<Tier>(&text),
        text.parse::<Elem>().is_ok(),
        text.parse::<Selection>().is_ok(),
    ];
    if let Ok(size) = text.parse::<Size>() {
        let (height, width) = size.of(3, 5);
        assert!(height > 0 && width > 0, "{size}");
    }
    if let Ok(window) = text.parse::<Window>() {
        assert!(window.lo < window.hi && window.std > 0.0, "{window}");
    }
    understood.contains(&true)
}

/// Parses `text`, and checks that the value's display parses to the same value. Returns whether `text` was accepted.
fn shown_alike<T: FromStr + Display + PartialEq + Debug>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else { return false };
    assert_eq!(value.to_string().parse::<T>().ok(), Some(value), "{text}");
    true
}
