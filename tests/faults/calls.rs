//! Every call to the system that concerns the command's files fails once: the command ends with an error that says so, and nothing is lost.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::desk::{Desk, text};
use crate::{COMMANDS, Case, desk};

/// How many of a command's calls fail, evenly spread; all of them with `MEDDINO_FAULTS=all`.
const SAMPLE: usize = 10;

/// The library that makes calls fail, built into `folder`; none without a C compiler.
fn shim(folder: &Desk) -> Option<PathBuf> {
    let (source, library) = (crate::common::data("faults/calls.c"), folder.path("calls.so"));
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl").status();
    let Ok(status) = built else {
        eprintln!("SKIPPED: no C compiler (cc) for the calls that fail");
        return None;
    };
    assert!(status.success(), "calls.c compiles");
    Some(library)
}

/// Runs the command with its call number `at` failing.
fn run(desk: &Desk, case: &Case, shim: &PathBuf, at: usize) -> (std::process::Output, usize) {
    let count = shim.with_extension("count");
    let root = desk.path("").canonicalize().expect("a folder");
    let mut command = desk.command(case.line);
    command
        .env("LD_PRELOAD", shim)
        .env("MEDDINO_FAIL_BELOW", root)
        .env("MEDDINO_FAIL_COUNT", &count)
        .env("MEDDINO_FAIL_AT", at.to_string());
    let output = command.output().expect("started");
    let calls = fs::read_to_string(count).expect("counted").parse().expect("a number");
    (output, calls)
}

#[test]
fn each_call_fails_once() {
    let (tools, desk) = (Desk::new(), desk());
    let Some(shim) = shim(&tools) else { return };
    let all = std::env::var("MEDDINO_FAULTS").is_ok_and(|value| value == "all");
    let mut failed = 0;
    for &line in COMMANDS {
        let case = Case::new(&desk, line);
        let (undisturbed, calls) = run(&desk, &case, &shim, 0);
        assert!(undisturbed.status.success() && calls > 10, "{line}: {calls} calls: {}", text(&undisturbed.stderr));
        case.clear(&desk);
        let step = if all { 1 } else { calls.div_ceil(SAMPLE) };
        for at in (1..=calls).step_by(step) {
            let what = format!("call {at} of {calls} failed");
            let (output, _) = run(&desk, &case, &shim, at);
            let stderr = text(&output.stderr);
            // Some calls are not needed: a lock where there are none, a second look at a folder.
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 1 | 3)), "{line}: {what}: {code:?}: {stderr}");
            assert_eq!(stderr.contains("error: "), code != Some(0), "{line}: {what}: {stderr}");
            assert!(!stderr.contains("panicked"), "{line}: {what}: {stderr}");
            case.check_disturbed(&desk, &what, false);
            case.check_redone(&desk, &what);
            case.clear(&desk);
            failed += 1;
        }
        println!("{line}: {calls} calls");
    }
    println!("{failed} calls failed, and nothing was lost");
}
