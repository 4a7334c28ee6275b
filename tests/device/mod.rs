//! A device for the GPU tests, or a visible message that there is none.

use std::io::Write;

use meddino::Error;
use meddino::error::GpuFailure;
use meddino::gpu::{Context, Selection};
use meddino::graph::Limits;

/// The kind of a GPU error.
#[allow(dead_code, reason = "not every test file has a GPU fail")]
pub fn kind(error: &Error) -> Option<GpuFailure> {
    if let Error::Gpu { kind, .. } = error { Some(*kind) } else { None }
}

/// The device that `auto` chooses among GPUs, software included. Without one, says on stderr that the test did not run,
/// or fails with `MEDDINO_REQUIRE_GPU=1`.
pub fn context() -> Option<Context> {
    or_skip(Context::new(&Selection::Auto))
}

/// The same device with narrower limits.
#[allow(dead_code, reason = "not every test file narrows")]
pub fn narrow_context(limits: Limits) -> Option<Context> {
    or_skip(Context::with_limits(&Selection::Auto, limits))
}

fn or_skip(opened: meddino::Result<Context>) -> Option<Context> {
    match opened {
        Ok(context) => Some(context),
        Err(problem) => {
            assert!(std::env::var_os("MEDDINO_REQUIRE_GPU").is_none_or(|v| v != "1"), "MEDDINO_REQUIRE_GPU=1, but {problem}");
            say_skipped(&problem.to_string());
            None
        }
    }
}

/// Says why the test that runs is skipped: past the harness's capture, so that it does not look like a passed one.
pub fn say_skipped(problem: &str) {
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {problem}");
}
