//! What the GPU tests share: a device, or a visible word that there is none.

use std::io::Write;

use meddino::Error;
use meddino::error::GpuFailure;
use meddino::gpu::{Context, Selection};
use meddino::graph::Limits;

/// What failed on a GPU.
#[allow(dead_code, reason = "not every test file has a GPU fail")]
pub fn kind(error: &Error) -> Option<GpuFailure> {
    if let Error::Gpu { kind, .. } = error { Some(*kind) } else { None }
}

/// The device that `auto` takes among GPUs, software included. Without any, says on stderr that the test did not run; with
/// `MEDDINO_REQUIRE_GPU=1` fails instead.
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
            let test = std::thread::current().name().unwrap_or("test").to_owned();
            // Written past the harness's capture: a test that did not run must not look as if it had.
            let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {problem}");
            None
        }
    }
}
