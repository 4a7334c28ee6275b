//! The requirements that every reader of the library meets for any bytes.
//!
//! `targets` names the readers. `cargo test` in the root replays the files under `seeds` and `regressions`, and the
//! fuzzer in `examples/fuzz.rs` looks for more.

pub mod memory;
pub mod targets;
