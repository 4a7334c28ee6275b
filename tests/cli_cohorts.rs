//! Cohorts on the command line: which cases are found, how they are named, when they are computed again, and unusual
//! paths.
#![cfg(feature = "cli")]

mod common;
#[path = "common/desk.rs"]
mod desk;
#[path = "common/dicom.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this module")]
mod dicom;
#[path = "common/interrupt.rs"]
mod interrupt;
#[path = "nifti/file.rs"]
#[allow(dead_code, reason = "of the file's helpers, those that write are used here")]
mod nifti;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use desk::{Desk, text};
use dicom_dictionary_std::tags;
use nifti::Nifti;

const MICRO: &str = "-c seeded:0:micro";

/// Writes a scan of one slice under each name. All scans differ.
fn scans(desk: &Desk, names: &[&str]) {
    for (index, name) in names.iter().enumerate() {
        fs::create_dir_all(desk.path(name).parent().expect("a folder")).expect("made");
        let volume = Nifti::i16([1, 32, 32], (0..1024).map(|i| i + index as i16));
        let bytes = volume.bytes();
        fs::write(desk.path(name), if Path::new(name).extension().is_some_and(|e| e == "gz") { nifti::gzip(&bytes) } else { bytes })
            .expect("written");
    }
}

/// Writes a DICOM slice of 16 x 16 at `z` mm, of series `uid` and acquisition 1.
fn slice(desk: &Desk, name: &str, z: f64, uid: &str) {
    acquired(desk, name, z, uid, 1);
}

fn acquired(desk: &Desk, name: &str, z: f64, uid: &str, acquisition: u32) {
    fs::create_dir_all(desk.path(name).parent().expect("a folder")).expect("made");
    let mut object = dicom::ct(z);
    dicom::put_u16(&mut object, tags::ROWS, 16);
    dicom::put_u16(&mut object, tags::COLUMNS, 16);
    dicom::put_pixels(&mut object, &[1024 + z as u16; 256]);
    object.put_str(tags::SERIES_INSTANCE_UID, dicom_core::VR::UI, uid);
    object.put_str(tags::ACQUISITION_NUMBER, dicom_core::VR::IS, acquisition.to_string());
    object.put_str(tags::SOP_INSTANCE_UID, dicom_core::VR::UI, format!("{uid}.{acquisition}.{}", z as i64));
    dicom::save(object, &desk.path(name));
}

/// The sorted names in a folder.
fn names(desk: &Desk, folder: &str) -> Vec<String> {
    let name = |e: std::io::Result<fs::DirEntry>| e.expect("an entry").file_name().to_string_lossy().to_string();
    let mut names: Vec<String> = fs::read_dir(desk.path(folder)).expect("listed").map(name).collect();
    names.sort();
    names
}

/// Runs `line` over a cohort, which must succeed. Returns the text of stderr.
fn done(desk: &Desk, line: &str) -> String {
    let output = desk.run(&format!("{line} {MICRO}"));
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stderr)
}

#[test]
fn names_keep_the_folders_that_tell_cases_apart() {
    let desk = Desk::new();
    let layout = ["t/s0000/ct.nii.gz", "t/s0001/ct.nii.gz", "t/s0000/segmentations/liver.nii.gz", "t/s0001/segmentations/liver.nii.gz"];
    scans(&desk, &layout);
    fs::write(desk.path("t/meta.csv"), "a,b").expect("written");
    let messages = done(&desk, "features t --out-dir o");
    assert_eq!(names(&desk, "o"), ["manifest.jsonl", "s0000_ct.safetensors", "s0001_ct.safetensors"]);
    let labels: Vec<&str> = messages.lines().filter(|line| line.contains("labels")).collect();
    assert!(labels.len() == 1 && labels[0].starts_with("warning: t: 2 files in folders of labels"), "{messages}");
    assert!(labels[0].ends_with("to use a file, give its path: --include './s0000/segmentations/liver.nii.gz'"), "{messages}");
    assert!(messages.contains("warning: t: 1 file is not a scan that meddino can read: 1 .csv"), "{messages}");
    // The option is copied from the warning.
    done(&desk, "features t --out-dir labels --include ./s0000/segmentations/liver.nii.gz");
    assert_eq!(names(&desk, "labels"), ["liver.safetensors", "manifest.jsonl"]);

    for (z, file) in [(0.0, "a/CT/0.dcm"), (2.0, "a/CT/1.dcm"), (0.0, "b/CT/0.dcm")] {
        slice(&desk, &format!("d/{file}"), z, "1.2.3");
    }
    done(&desk, "features d --out-dir p -q");
    assert_eq!(names(&desk, "p"), ["a_CT.safetensors", "b_CT.safetensors", "manifest.jsonl"]);
    done(&desk, "features d --out-dir q -q --names path --exclude b");
    assert_eq!(names(&desk, "q"), ["a_CT.safetensors", "manifest.jsonl"]);
}

#[test]
fn a_name_that_changes_when_a_cohort_grows_is_reported_once() {
    let desk = Desk::new();
    scans(&desk, &["t/s0/ct.nii"]);
    done(&desk, "features t --out-dir o");
    scans(&desk, &["t/s0/ct.nii", "t/s1/ct.nii"]);
    let messages = done(&desk, "features t --out-dir o");
    assert!(
        messages.contains("1 cases have an older output of another name, such as ct.safetensors, now s0_ct.safetensors, which stays"),
        "{messages}"
    );
    let messages = done(&desk, "features t --out-dir o");
    assert!(!messages.contains("another name") && messages.contains("2 of 2 cases are skipped"), "reported once: {messages}");

    // Names chosen by `--names` do not change.
    fs::remove_dir_all(desk.path("t/s1")).expect("removed");
    done(&desk, "features t --out-dir p --names parent");
    scans(&desk, &["t/s0/ct.nii", "t/s1/ct.nii"]);
    let messages = done(&desk, "features t --out-dir p --names parent");
    assert!(messages.contains("1 of 2 cases are skipped"), "{messages}");
}

#[test]
#[cfg(unix)]
fn links_are_followed_and_skipped_files_are_reported() {
    use std::os::unix::fs::symlink;
    let desk = Desk::new();
    slice(&desk, "real/P1/0", 0.0, "1.2.3");
    slice(&desk, "cohort/P2/0", 0.0, "1.2.3");
    scans(&desk, &["real/x.nii"]);
    symlink("../real/P1", desk.path("cohort/P1")).expect("linked");
    symlink("../real/x.nii", desk.path("cohort/y.nii")).expect("linked");
    symlink("gone", desk.path("cohort/lost.nii")).expect("linked");
    symlink(".", desk.path("cohort/again")).expect("linked");
    fs::write(desk.path("cohort/scan.gipl"), "ObjectType = Image").expect("written");
    fs::write(desk.path("cohort/other.mnc"), "NRRD0004").expect("written");
    let messages = done(&desk, "features cohort --out-dir o");
    assert_eq!(names(&desk, "o"), ["P1.safetensors", "P2.safetensors", "manifest.jsonl", "y.safetensors"]);
    for line in [
        "warning: cohort/lost.nii: a dangling link; it is skipped",
        "warning: cohort/again: a link back to a folder that contains it; it is skipped",
        "warning: cohort: 2 files are not scans that meddino can read: 1 .gipl, 1 .mnc",
    ] {
        assert!(messages.contains(line), "{messages}");
    }

    fs::create_dir(desk.path("links")).expect("made");
    symlink("../real/P1", desk.path("links/P1")).expect("linked");
    done(&desk, "features links --out-dir o2");
    done(&desk, "features links -o one.safetensors");
    assert_eq!(names(&desk, "o2"), ["P1.safetensors", "manifest.jsonl"]);
    // A folder without a scan is an error that lists its other files.
    fs::create_dir(desk.path("none")).expect("made");
    symlink("gone", desk.path("none/lost")).expect("linked");
    fs::copy(desk.path("o/y.safetensors"), desk.path("none/y.safetensors")).expect("copied");
    let error = text(&desk.run(&format!("features none --out-dir o3 {MICRO}")).stderr);
    assert!(error.contains("; 1 file that meddino wrote, for example none/y.safetensors; none/lost is a dangling link"), "{error}");
}

/// Runs `command` and fails if it takes longer than 20 seconds.
fn run_promptly(mut command: Command) -> Output {
    let mut child: Child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let since = Instant::now();
    while child.try_wait().expect("waited").is_none() {
        if since.elapsed() > Duration::from_secs(20) {
            child.kill().expect("killed");
            panic!("{command:?} waits");
        }
        sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("ended")
}

#[test]
#[cfg(unix)]
fn pipes_and_devices_are_refused_as_inputs() {
    let desk = Desk::new();
    scans(&desk, &["x.nii"]);
    fs::create_dir(desk.path("model")).expect("made");
    for pipe in ["p", "p.nii", "p.npy", "p.hdr", "p.safetensors", "p.dcm", "model/dataset.json", "pair.hdr"] {
        assert!(Command::new("mkfifo").arg(desk.path(pipe)).status().expect("started").success());
    }
    fs::write(desk.path("pair.img"), "").expect("written");
    for (line, expected) in [
        ("features p", "input p: is a named pipe"),
        ("features p.nii", "is a named pipe"),
        ("features p.npy", "is a named pipe"),
        ("features p.safetensors", "is a named pipe"),
        ("features p.dcm", "is a named pipe"),
        ("features pair.img", "pair.hdr is missing"),
        ("features /dev/zero", "input /dev/zero: is a device"),
        ("features p.nii --out-dir o", "is a named pipe"),
        ("features x.nii -c p.safetensors", "checkpoint p.safetensors: is a named pipe"),
        ("inspect /dev/zero", "checkpoint /dev/zero: is a device"),
        ("verify --golden p.safetensors", "is a named pipe"),
        ("pca --features p.safetensors", "is a named pipe"),
        ("pca x.nii --basis p.safetensors", "is a named pipe"),
        ("segment -m model -i x.nii -o y.nii", "is a named pipe"),
    ] {
        let seeded =
            line.contains(" -c ") || ["inspect", "verify", "segment", "pca --features"].iter().any(|start| line.starts_with(start));
        let output = run_promptly(desk.command(&if seeded { line.to_string() } else { format!("{line} {MICRO}") }));
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn cases_with_missing_or_changed_files_are_computed_again() {
    let desk = Desk::new();
    let volume = Nifti::i16([2, 16, 16], 0..512).with(|n| n.magic = *b"ni1\0").with(|n| n.vox_offset = 0.0);
    fs::create_dir(desk.path("in")).expect("made");
    fs::write(desk.path("in/a.hdr"), volume.header()).expect("written");
    fs::write(desk.path("in/a.img"), &volume.voxels).expect("written");
    slice(&desk, "in/d/0", 0.0, "1.2.3");
    slice(&desk, "in/d/.1", 2.0, "1.2.3");
    let line = "features in --out-dir o --pool cls --format npy";
    done(&desk, line);
    let check_repeated = |change_name: &str, change: &dyn Fn()| {
        change();
        let messages = done(&desk, line);
        assert!(messages.contains("1 of 2 cases are skipped"), "{change_name}: {messages}");
        let messages = done(&desk, line);
        assert!(messages.contains("2 of 2 cases are skipped"), "{change_name}, then: {messages}");
    };
    let output = desk.path("o/a.npy");
    let original_bytes = fs::read(&output).expect("read");
    fs::write(&output, vec![0; original_bytes.len()]).expect("written");
    let error = text(&desk.run(&format!("{line} {MICRO}")).stderr);
    assert!(error.contains("output o/a.npy: is not as meddino wrote it: it was changed or damaged since; add --overwrite"), "{error}");
    assert_eq!(fs::read(&output).expect("read"), vec![0; original_bytes.len()]);
    let messages = done(&desk, &format!("{line} --overwrite"));
    assert!(messages.contains("1 of 2 cases are skipped"), "{messages}");
    assert_eq!(fs::read(&output).expect("read"), original_bytes);
    check_repeated("a file beside an output is gone", &|| fs::remove_file(desk.path("o/a.json")).expect("removed"));
    check_repeated("a file beside an output is another", &|| fs::write(desk.path("o/d.json"), "{\"meddino\":\"\"}").expect("written"));
    let mut voxels = volume.voxels.clone();
    voxels[7] ^= 64;
    check_repeated("the other half of a pair", &|| fs::write(desk.path("in/a.img"), &voxels).expect("written"));
    assert_ne!(fs::read(&output).expect("read"), original_bytes);
    check_repeated("a slice with a hidden name", &|| slice(&desk, "in/d/.1", 3.0, "1.2.3"));
}

/// Two cohorts with a scan of the same name go into one folder.
#[test]
fn the_output_of_another_scan_is_replaced_only_with_overwrite() {
    let desk = Desk::new();
    scans(&desk, &["one/a.nii", "two/a.nii", "two/b.nii"]);
    done(&desk, "features one --out-dir o");
    let before = fs::read(desk.path("o/a.safetensors")).expect("read");
    let output = desk.run(&format!("features two --out-dir o {MICRO}"));
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(
        error.contains("output o/a.safetensors: was made from another scan, one/a.nii, and the output of two/a.nii would replace it"),
        "{error}"
    );
    assert_eq!(fs::read(desk.path("o/a.safetensors")).expect("read"), before);
    assert!(desk.path("o/b.safetensors").is_file(), "the others are done");
    done(&desk, "features two --out-dir o --overwrite");
    assert_ne!(fs::read(desk.path("o/a.safetensors")).expect("read"), before);
    // The first cohort is refused now, because the output belongs to the second.
    assert!(!desk.run(&format!("features one --out-dir o {MICRO}")).status.success());

    // A scan that was copied, renamed or changed is the same case.
    fs::create_dir(desk.path("three")).expect("made");
    fs::copy(desk.path("two/a.nii"), desk.path("three/a.nii")).expect("copied");
    assert!(done(&desk, "features three --out-dir o").contains("1 of 1 cases are skipped"));
    done(&desk, "features three --out-dir o --pool cls");
    fs::remove_dir_all(desk.path("three")).expect("removed");
    done(&desk, "features two/a.nii --out-dir o");
    scans(&desk, &["x.nii", "two/a.nii"]);
    done(&desk, "features two/a.nii --out-dir o");
    fs::rename(desk.path("two"), desk.path("four")).expect("renamed");
    scans(&desk, &["x.nii", "x.nii", "four/a.nii"]);
    done(&desk, "features four/a.nii --out-dir o");
}

#[test]
fn a_changed_config_beside_a_checkpoint_invalidates_outputs() {
    let desk = Desk::new();
    scans(&desk, &["in/x.nii"]);
    fs::create_dir(desk.path("hf")).expect("made");
    for file in ["model.safetensors", "config.json"] {
        fs::copy(common::data(&format!("fixtures/micro/hf/{file}")), desk.path(&format!("hf/{file}"))).expect("copied");
    }
    let line = "features in --out-dir o -c hf/model.safetensors";
    let hash = || desk.read("o/x.safetensors").1["checkpoint_sha256"].clone();
    desk.succeed(line);
    let before = hash();
    let config = fs::read_to_string(desk.path("hf/config.json")).expect("read");
    fs::write(desk.path("hf/config.json"), config.replacen('{', "{\"note\": 1, ", 1)).expect("written");
    let messages = text(&desk.run(line).stderr);
    assert!(!messages.contains("an earlier run finished") && hash() != before, "{messages}");
}

/// Starts `line`, kills it once its partial file counts an image, and returns the partial file's bytes.
fn killed(desk: &Desk, line: &str, name: &str) -> Vec<u8> {
    let mut child = desk.command(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let partial = desk.path(&format!(".{name}.partial"));
    let since = Instant::now();
    loop {
        let bytes = fs::read(&partial).unwrap_or_default();
        let tail = bytes.len().saturating_sub(32);
        if bytes[tail..].starts_with(b"meddino") && bytes[tail + 16..tail + 24] != [0; 8] {
            break;
        }
        let ended = child.try_wait().expect("waited");
        assert!(ended.is_none() && since.elapsed() < Duration::from_mins(1), "{line}: {ended:?} before an image was counted");
        sleep(Duration::from_millis(3));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    fs::read(&partial).expect("read")
}

/// Ctrl-C keeps the finished cases, leaves no half of the case that it interrupts, and another run goes on.
#[test]
fn an_interrupted_cohort_goes_on() {
    let desk = Desk::new();
    scans(&desk, &["in/a.nii"]);
    desk.npy("in/b.npy", &desk::hu(100, 16, 16));
    let line = format!("features in --out-dir out {MICRO} --size 224 --batch 1 --pool cls");
    let mut child = interrupt::start(desk.command(&line).stdout(Stdio::null()).stderr(Stdio::piped()));
    let since = Instant::now();
    while !desk.path("out/.b.safetensors.partial").exists() {
        let ended = child.try_wait().expect("waited");
        assert!(ended.is_none() && since.elapsed() < Duration::from_mins(1), "{ended:?} before the second case began");
        sleep(Duration::from_millis(1));
    }
    if !interrupt::interrupt(&mut child) {
        return;
    }
    let output = child.wait_with_output().expect("ended");
    let messages = text(&output.stderr);
    assert!(output.status.code() == Some(130) && messages.contains("error: interrupted"), "{}: {messages}", output.status);
    assert_eq!(names(&desk, "out"), ["a.safetensors", "manifest.jsonl"]);
    let first = fs::read(desk.path("out/a.safetensors")).expect("read");

    let messages = text(&desk.run(&line).stderr);
    assert!(messages.contains("1 of 2 cases are skipped"), "{messages}");
    assert_eq!(names(&desk, "out"), ["a.safetensors", "b.safetensors", "manifest.jsonl"]);
    assert!(fs::read(desk.path("out/a.safetensors")).expect("read") == first);
    assert_eq!(desk.read("out/b.safetensors").0["x_norm_clstoken"].shape(), [100, 64]);
}

/// Replaces every `from` by `to`, which must have the same length.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = bytes.windows(from.len()).enumerate().filter(|(_, window)| *window == from).map(|(i, _)| i).collect();
    assert!(!places.is_empty(), "{} is in the file", String::from_utf8_lossy(from));
    places.into_iter().for_each(|i| bytes[i..i + to.len()].copy_from_slice(to));
    bytes
}

#[test]
fn a_killed_run_resumes_to_the_same_bits_or_starts_again() {
    let desk = Desk::new();
    let volume =
        Nifti::i16([50, 16, 16], (0..50 * 256).map(|i| (i % 1000) as i16)).with(|n| n.magic = *b"ni1\0").with(|n| n.vox_offset = 0.0);
    fs::write(desk.path("x.hdr"), volume.header()).expect("written");
    fs::write(desk.path("x.img"), &volume.voxels).expect("written");
    let line = "features x.hdr -c seeded:0:tiny --size 224 --batch 1 --tokens cls";
    desk.succeed(&format!("{line} -o whole.safetensors"));
    let complete_file = fs::read(desk.path("whole.safetensors")).expect("read");
    let resumable = format!("{line} -o out.safetensors");

    // The partial file claims that its slices were computed with another order of sums, so the run starts again.
    let partial_bytes = killed(&desk, &resumable, "out.safetensors");
    fs::write(desk.path(".out.safetensors.partial"), replaced(&partial_bytes, b"; sums ", b"; SUMS ")).expect("written");
    let output = desk.run(&resumable);
    let messages = text(&output.stderr);
    assert!(
        messages.contains("starting again instead of resuming")
            && messages.contains("that run used SUMS ")
            && messages.contains("this run uses sums "),
        "{messages}"
    );
    assert!(!messages.contains("resuming an interrupted run") && fs::read(desk.path("out.safetensors")).expect("read") == complete_file);
    assert!(!desk.path(".out.safetensors.partial").exists());

    // The image file of the pair changes, so the run starts again.
    fs::remove_file(desk.path("out.safetensors")).expect("removed");
    killed(&desk, &resumable, "out.safetensors");
    let mut voxels = volume.voxels.clone();
    voxels.rotate_left(2);
    fs::write(desk.path("x.img"), voxels).expect("written");
    let output = desk.run(&resumable);
    assert!(!text(&output.stderr).contains("resuming an interrupted run"), "{}", text(&output.stderr));
    desk.succeed(&format!("{line} -o other.safetensors"));
    let (got, fresh) = (fs::read(desk.path("out.safetensors")).expect("read"), fs::read(desk.path("other.safetensors")).expect("read"));
    assert!(got == fresh && got != complete_file);
}

#[test]
fn every_series_can_be_a_case() {
    let desk = Desk::new();
    for (z, file, uid) in [(0.0, "0", "1.2.3"), (2.0, "1", "1.2.3"), (0.0, "2", "1.2.4")] {
        slice(&desk, &format!("in/d/{file}"), z, uid);
    }
    acquired(&desk, "in/d/3", 0.0, "1.2.4", 2);
    scans(&desk, &["in/x.nii"]);
    let messages = done(&desk, "features in --out-dir o --series all");
    let want = ["d_series1.safetensors", "d_series2.1.safetensors", "d_series2.2.safetensors", "manifest.jsonl", "x.safetensors"];
    assert_eq!(names(&desk, "o"), want, "{messages}");
    let slices = |name: &str| desk.read(&format!("o/{name}.safetensors")).0["x_norm_clstoken"].shape()[0];
    assert_eq!((slices("d_series1"), slices("d_series2.1"), slices("d_series2.2")), (2, 1, 1));
    assert!(done(&desk, "features in --out-dir o --series all").contains("4 of 4 cases are skipped"));
    let messages = done(&desk, "features in --out-dir o --series largest");
    assert!(!messages.contains("another name"), "the folder is another case now: {messages}");
    let error = text(&desk.run(&format!("features in --out-dir o --slices 9 --series largest {MICRO}")).stderr);
    assert!(
        error.contains("2 of 2 cases failed:\n  in/d: --slices: there is no slice 9") && error.contains("in/x.nii: --slices: "),
        "{error}"
    );
    // `--series largest` applies to folders of series and has no effect on a volume.
    done(&desk, "features in --out-dir p --series largest");
    assert_eq!(names(&desk, "p"), ["d.safetensors", "manifest.jsonl", "x.safetensors"]);
    assert!(!done(&desk, "features in --out-dir p --series 2.1").contains("2 of 2"), "another series is another work");
    for (line, expected) in [
        ("features in/d --series all", "--out-dir: the inputs hold 3 cases"),
        ("pca in/d --series all", "series: all selects 3 series, but this job takes one; choose one of them"),
    ] {
        let error = text(&desk.run(&format!("{line} {MICRO}")).stderr);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn messages_name_flags_that_the_command_has() {
    let desk = Desk::new();
    scans(&desk, &["in/a.nii", "in/a.nii.gz"]);
    let model = common::data("fixtures/nnunet/results/meddinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d_small");
    let segment = format!("segment -f 0 -m {}", model.display());
    for (line, expected) in [
        (format!("{segment} -i in -o in"), "error: --output: is the same folder as the input in"),
        (format!("{segment} -i in -o out"), "error: --output: in/a.nii and in/a.nii.gz would both be written as a"),
        (format!("{segment} -i in -o out.nii"), "error: --output: out.nii is a file, but the inputs hold 2 cases"),
        (format!("features in --out-dir in {MICRO}"), "error: --out-dir: is the same folder as the input in"),
        (format!("features in --include b {MICRO} --out-dir o"), "no scan in this folder that passes --include and --exclude"),
        (format!("features in --include [ {MICRO} --out-dir o"), "'[' is not a pattern of file names"),
    ] {
        let output = desk.run(&line);
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains(expected), "{line}: {error}");
    }
    assert_eq!(desk.files(), ["in"]);
}

/// File systems of macOS and Windows have no such names.
#[test]
#[cfg(target_os = "linux")]
fn paths_that_are_not_utf_8_work() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let desk = Desk::new();
    let odd = |name: &[u8]| desk.path("").join(OsStr::from_bytes(name));
    fs::create_dir(odd(b"in\xff")).expect("made");
    scans(&desk, &["plain.nii"]);
    fs::copy(desk.path("plain.nii"), odd(b"in\xff/sc\xe4n.nii")).expect("copied");
    desk.succeed("convert seeded:0:micro -o micro.safetensors");
    fs::rename(desk.path("micro.safetensors"), odd(b"w\xfe.safetensors")).expect("renamed");
    let run = |line: &str, paths: &[(&str, &[u8])]| {
        let mut command = desk.command(line);
        paths.iter().for_each(|(flag, path)| {
            command.args([flag].iter().filter(|flag| !flag.is_empty())).arg(OsStr::from_bytes(path));
        });
        let output = command.output().expect("started");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).to_string()
    };
    let is_there = |path: &[u8]| assert!(odd(path).is_file(), "{}", odd(path).display());
    let weights: (&str, &[u8]) = ("-c", b"w\xfe.safetensors");

    run("features", &[("", b"in\xff/sc\xe4n.nii"), weights, ("-o", b"out\xfd.safetensors")]);
    is_there(b"out\xfd.safetensors");
    run("features", &[("", b"in\xff"), weights, ("--out-dir", b"o\xff")]);
    is_there(b"o\xff/sc%E4n.safetensors");
    assert!(run("features", &[("", b"in\xff"), weights, ("--out-dir", b"o\xff")]).contains("1 of 1 cases are skipped"));
    let (_, metadata) = common::read_safetensors(&odd(b"o\xff/sc%E4n.safetensors"));
    assert_eq!((metadata["input"].as_str(), metadata["checkpoint"].as_str()), ("in%FF/sc%E4n.nii", "w%FE.safetensors"));
    let record = fs::read_to_string(odd(b"o\xff/manifest.jsonl")).expect("UTF-8");
    assert!(record.contains("\"output\":\"sc%E4n.safetensors\""), "{record}");
    run("pca", &[("--features", b"out\xfd.safetensors"), ("-o", b"p\xff.png"), ("--save-basis", b"b\xff.safetensors")]);
    is_there(b"p\xff.png");
    run("pca", &[("--basis", b"b\xff.safetensors"), ("", b"in\xff/sc\xe4n.nii"), weights, ("-o", b"q\xff_{}.png")]);
    is_there(b"q\xff_000.png");
    run("inspect", &[("", b"w\xfe.safetensors")]);
    run("convert", &[("", b"w\xfe.safetensors"), ("-o", b"v\xfe.safetensors")]);
    is_there(b"v\xfe.safetensors");
    assert!(Path::new(&odd(b"in\xff")).is_dir());
}
