//! Paths, names and files as Windows has them. `tests/windows/run.sh` runs this on Linux, under wine.
#![cfg(windows)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/desk.rs"]
mod desk;

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::windows::ffi::OsStringExt;
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use desk::{Desk, hu, text};

/// `features SCAN -o OUTPUT`, with any paths.
fn features(desk: &Desk, scan: &Path, output: &Path) -> Command {
    let mut command = desk.command("features -c seeded:0:micro");
    command.arg(scan).arg("-o").arg(output);
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("the command starts")
}

/// Runs a command that must fail, and returns what it says.
fn refused(command: Command) -> String {
    let output = run(command);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    text(&output.stderr)
}

fn succeed(command: Command) {
    let output = run(command);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn paths_have_drives_backslashes_and_spaces() {
    let desk = Desk::new();
    fs::create_dir(desk.path("two words")).expect("made");
    desk.npy("two words/a scan.npy", &hu(1, 32, 32));
    let absolute = desk.path("two words").canonicalize().expect("there");
    assert!(absolute.to_string_lossy().starts_with(r"\\?\"), "{}", absolute.display());
    let with_drive = PathBuf::from(absolute.to_string_lossy().trim_start_matches(r"\\?\"));
    assert_eq!(with_drive.to_string_lossy().as_bytes()[1], b':');
    for (folder, name) in
        [(absolute, "1.npz"), (with_drive, "2.npz"), (PathBuf::from(r".\two words"), "3.npz"), ("two words/.".into(), "4.npz")]
    {
        succeed(features(&desk, &folder.join("a scan.npy"), &folder.join(name)));
    }
    assert!((1..5).all(|n| desk.path(&format!("two words/{n}.npz")).is_file()));
}

#[test]
fn a_path_may_be_longer_than_260_characters() {
    let desk = Desk::new();
    let mut folder = desk.path("").canonicalize().expect("there");
    for _ in 0..4 {
        folder.push("d".repeat(80));
    }
    fs::create_dir_all(&folder).expect("made");
    desk.npy("a.npy", &hu(1, 32, 32));
    let scan = folder.join("a.npy");
    fs::copy(desk.path("a.npy"), &scan).expect("copied");
    // Programs give long paths with and without the prefix.
    let plain = PathBuf::from(folder.to_string_lossy().trim_start_matches(r"\\?\"));
    succeed(features(&desk, &scan, &folder.join("1.safetensors")));
    succeed(features(&desk, &plain.join("a.npy"), &plain.join("2.safetensors")));
    assert!(folder.join("1.safetensors").is_file() && folder.join("2.safetensors").is_file());
}

#[test]
fn names_of_devices_and_streams_are_refused() {
    let desk = Desk::new();
    desk.npy("a.npy", &hu(1, 32, 32));
    let before = desk.files();
    for (name, said) in [
        ("nul", "a device"),
        ("CON.safetensors", "a device"),
        ("com1.safetensors", "a device"),
        ("a.npy:x.safetensors", "a colon"),
        ("out.safetensors.", "a dot"),
    ] {
        let error = refused(features(&desk, Path::new("a.npy"), Path::new(name)));
        assert!(error.contains(said), "{name}: {error}");
        assert_eq!(desk.files(), before, "{name}");
    }
}

#[test]
fn an_input_is_known_in_upper_case() {
    let desk = Desk::new();
    desk.npy("a.npy", &hu(1, 32, 32));
    let bytes = fs::read(desk.path("a.npy")).expect("read");
    let mut command = features(&desk, Path::new("a.npy"), Path::new("A.NPY"));
    command.args(["--pool", "cls", "--overwrite"]);
    let error = refused(command);
    assert!(error.contains("would take the place of"), "{error}");
    assert_eq!(fs::read(desk.path("a.npy")).expect("read"), bytes);
}

/// Names are any 16-bit units, also halves of pairs, which are no text.
#[test]
fn a_name_may_be_no_unicode() {
    let desk = Desk::new();
    desk.npy("a.npy", &hu(1, 32, 32));
    let name = OsString::from_wide(&[u16::from(b'B'), 0xD800, u16::from(b'.'), u16::from(b'n'), u16::from(b'p'), u16::from(b'y')]);
    fs::create_dir(desk.path("scans")).expect("made");
    let scan = desk.path("scans").join(&name);
    if let Err(problem) = fs::copy(desk.path("a.npy"), &scan) {
        eprintln!("SKIPPED: no file can have such a name here: {problem}");
        return;
    }
    succeed(features(&desk, &scan, Path::new("one.safetensors")));
    desk.succeed("features scans --out-dir out -c seeded:0:micro");
    desk.succeed("features scans --out-dir out -c seeded:0:micro");
    let names: Vec<_> = fs::read_dir(desk.path("out")).expect("listed").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_file_is_replaced_at_once_unless_somebody_holds_it() {
    let desk = Desk::new();
    desk.npy("a.npy", &hu(1, 32, 32));
    let (scan, output) = (Path::new("a.npy"), Path::new("x.safetensors"));
    succeed(features(&desk, scan, output));
    let first = fs::read(desk.path("x.safetensors")).expect("written");
    desk.npy("a.npy", &hu(2, 32, 32));
    succeed(features(&desk, scan, output));
    let second = fs::read(desk.path("x.safetensors")).expect("written");
    assert!(second.len() > first.len());
    // FILE_SHARE_READ: others may read the file, but not replace it.
    let holder = File::options().read(true).share_mode(1).open(desk.path("x.safetensors")).expect("opened");
    desk.npy("a.npy", &hu(3, 32, 32));
    let error = refused(features(&desk, scan, output));
    assert!(error.contains("error: output x.safetensors: cannot be replaced") && error.contains("close the program"), "{error}");
    assert_eq!(fs::read(desk.path("x.safetensors")).expect("there"), second);
    drop(holder);
    succeed(features(&desk, scan, output));
    assert!(fs::read(desk.path("x.safetensors")).expect("written").len() > second.len());
    assert_eq!(desk.files(), ["a.npy", "x.safetensors"]);
}

#[test]
fn two_runs_do_not_write_one_file() {
    let desk = Desk::new();
    desk.npy("a.npy", &hu(1, 32, 32));
    let hidden = File::options().create(true).append(true).open(desk.path(".x.safetensors.partial")).expect("made");
    hidden.lock().expect("locked");
    let error = refused(features(&desk, Path::new("a.npy"), Path::new("x.safetensors")));
    assert!(error.contains("another run is writing it"), "{error}");
    drop(hidden);
    succeed(features(&desk, Path::new("a.npy"), Path::new("x.safetensors")));
    assert_eq!(desk.files(), ["a.npy", "x.safetensors"]);
}

#[test]
fn a_user_may_have_no_folder() {
    let desk = Desk::new();
    desk.npy("a.npy", &hu(1, 32, 32));
    let homeless = |mut command: Command| {
        for name in ["HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA", "HOMEDRIVE", "HOMEPATH", "HF_HUB_CACHE", "MEDDINO_CACHE"] {
            command.env_remove(name);
        }
        command
    };
    succeed(homeless(features(&desk, Path::new("a.npy"), Path::new("x.safetensors"))));
    // Without weights, and without a network.
    let mut command = homeless(desk.command("features a.npy -o y.safetensors"));
    command.env("HF_HUB_OFFLINE", "1");
    let error = refused(command);
    assert!(error.starts_with("error: "), "{error}");
}
