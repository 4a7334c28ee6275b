//! Each system call that touches the command's files fails once. The command must report an error, and no file may be
//! lost.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::desk::{Desk, text};
use crate::{COMMANDS, Case, desk};

/// How many of a command's calls fail, evenly spread. `MEDDINO_FAULTS=all` makes every call fail in turn.
const SAMPLE: usize = 10;

/// Builds the library that makes calls fail into `folder`. Returns `None` without a C compiler.
fn shim(folder: &Desk) -> Option<PathBuf> {
    let (source, library) = (crate::common::data("faults/calls.c"), folder.path("calls.so"));
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl").status();
    let Ok(status) = built else {
        eprintln!("SKIPPED: failing system calls need a C compiler (cc)");
        return None;
    };
    assert!(status.success(), "calls.c compiles");
    Some(library)
}

/// Runs the command with its call number `at` failing. Returns the output and the number of calls.
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
    let every_call = std::env::var("MEDDINO_FAULTS").is_ok_and(|value| value == "all");
    let mut failed = 0;
    for &line in COMMANDS {
        let case = Case::new(&desk, line);
        let (undisturbed, calls) = run(&desk, &case, &shim, 0);
        assert!(undisturbed.status.success() && calls > 10, "{line}: {calls} calls: {}", text(&undisturbed.stderr));
        case.clear(&desk);
        let step = if every_call { 1 } else { calls.div_ceil(SAMPLE) };
        for at in (1..=calls).step_by(step) {
            let failure = format!("call {at} of {calls} failed");
            let (output, _) = run(&desk, &case, &shim, at);
            let stderr = text(&output.stderr);
            // The command may do without some calls, such as a lock on a file system without locks.
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 1 | 3)), "{line}: {failure}: {code:?}: {stderr}");
            assert_eq!(stderr.contains("error: "), code != Some(0), "{line}: {failure}: {stderr}");
            assert!(!stderr.contains("panicked"), "{line}: {failure}: {stderr}");
            case.check_disturbed(&desk, &failure, false);
            case.check_redone(&desk, &failure);
            case.clear(&desk);
            failed += 1;
        }
        println!("{line}: {calls} calls");
    }
    println!("{failed} calls failed, and nothing was lost");
}
