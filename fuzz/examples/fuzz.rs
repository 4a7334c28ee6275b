//! The entry point of the fuzzer: libFuzzer gives bytes to the reader that `MEDDINO_FUZZ_TARGET` names.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use meddino_fuzz::memory::Counted;
use meddino_fuzz::targets::{Desk, TARGETS, Target};

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn target() -> &'static (&'static Target, Desk) {
    static CHOSEN: OnceLock<(&Target, Desk)> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        // libFuzzer's panic hook ends the process at any panic. Readers may catch panics, and `hold` returns the others
        // as errors.
        std::panic::set_hook(Box::new(|_| {}));
        let name = std::env::var("MEDDINO_FUZZ_TARGET").unwrap_or_default();
        let Some(target) = Target::named(&name) else {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            eprintln!("MEDDINO_FUZZ_TARGET is '{name}'; expected one of {}", names.join(", "));
            std::process::exit(2);
        };
        (target, Desk::new())
    })
}

fuzz_target!(|bytes: &[u8]| {
    let (target, desk) = target();
    if let Err(problem) = target.hold(desk, bytes) {
        eprintln!("{problem}");
        std::process::abort();
    }
});
