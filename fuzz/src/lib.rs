//! What every reader of the library must do with any bytes at all.
//!
//! `targets` names the readers; `cargo test` in the root replays what is kept under `seeds` and `regressions`, and the engine in `bin/fuzz.rs` looks for more.

pub mod memory;
pub mod targets;
