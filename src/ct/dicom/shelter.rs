//! Protects against panics in the crates that parse and decode.

use crate::error::Problem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work` and turns a panic into an error. A damaged file of a kind that nobody has tried yet may still make a
/// crate that parses or decodes panic.
pub(super) fn sheltered<T>(work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("damaged, so that its decoder gave up".into()))
}
