//! No output may replace an input, another output, or a file that meddino did not write. The tests aim every flag that
//! names an output at every file that the command reads.

mod common;
#[path = "common/desk.rs"]
mod desk;
#[path = "common/dicom.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this module")]
mod dicom;
#[path = "common/interrupt.rs"]
mod interrupt;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use desk::{Desk, hu, text};

const MICRO: &str = "-c seeded:0:micro";

/// A folder with inputs of several kinds: `a.npy`, a DICOM series, features, a basis, a checkpoint with
/// its `config.json`, and files of other programs.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.npy("a.npy", &hu(2, 32, 32));
    fs::create_dir(desk.path("dcm")).expect("made");
    for (name, z) in [("IM0.png", 0.0), ("IM1.dcm", 2.0), (".IM2", 4.0)] {
        dicom::save(large(z), &desk.path(&format!("dcm/{name}")));
    }
    desk.succeed(&format!("features a.npy {MICRO} -o f.safetensors"));
    desk.succeed("pca --features f.safetensors --save-basis basis.safetensors -o first.png");
    fs::create_dir(desk.path("hf")).expect("made");
    for file in ["model.safetensors", "config.json"] {
        fs::copy(common::data(&format!("fixtures/micro/hf/{file}")), desk.path(&format!("hf/{file}"))).expect("copied");
    }
    for foreign in ["theirs.safetensors", "theirs.png", "theirs.json", "theirs.npz", "theirs.npy"] {
        fs::write(desk.path(foreign), "somebody else's").expect("written");
    }
    desk
}

/// A slice like [`dicom::ct`], but large enough to hold patches.
fn large(z: f64) -> dicom_object::InMemDicomObject {
    let mut object = dicom::ct(z);
    dicom::put_u16(&mut object, dicom_dictionary_std::tags::ROWS, 32);
    dicom::put_u16(&mut object, dicom_dictionary_std::tags::COLUMNS, 32);
    dicom::put_pixels(&mut object, &vec![1024; 1024]);
    object
}

/// Every file below the folder, and its bytes.
fn state(desk: &Desk) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = meddino::archive::Listing::below(&desk.path("")).expect("listed").files;
    files.into_iter().map(|path| (path.clone(), fs::read(path).expect("read"))).collect()
}

/// Runs each line, which must fail with the given message and change no file.
fn refused(desk: &Desk, cases: &[(&str, &str)]) {
    let before = state(desk);
    let mut wrong = Vec::new();
    for (line, expected) in cases {
        let output = desk.run(line);
        let stderr = text(&output.stderr);
        if output.status.code() != Some(1) || !stderr.contains(expected) || !output.stdout.is_empty() {
            wrong.push(format!("{line}: expected {expected:?}, found {:?}\n{stderr}", output.status.code()));
        }
        let after = state(desk);
        if after != before {
            let changed: Vec<_> = after.keys().filter(|path| after.get(*path) != before.get(*path)).collect();
            panic!("{line}: changed {changed:?} of {} files (now {})", before.len(), after.len());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn outputs_may_not_replace_inputs() {
    let desk = desk();
    let place = "would take the place of";
    refused(
        &desk,
        &[
            ("features a.npy -c seeded:0:micro -o a.npy --pool cls --overwrite", place),
            ("features a.npy -c seeded:0:micro -o dcm/../a.npy --pool cls --overwrite", place),
            ("features dcm -c seeded:0:micro -o dcm/IM1.dcm --overwrite", place),
            ("features dcm -c seeded:0:micro -o dcm/.IM2 --overwrite", place),
            ("features a.npy -c hf/model.safetensors -o hf/model.safetensors --overwrite", place),
            ("features a.npy -c hf/model.safetensors -o hf/config.json --overwrite", place),
            ("features a.npy -c seeded:0:micro --profile-json a.npy --overwrite", place),
            ("features a.npy -c hf/model.safetensors --profile-json hf/config.json --overwrite", place),
            ("pca dcm -c seeded:0:micro -o dcm/IM0.png --overwrite", place),
            ("pca a.npy -c seeded:0:micro --save-basis a.npy --overwrite", place),
            ("pca a.npy -c hf/model.safetensors --save-basis hf/model.safetensors --overwrite", place),
            ("pca --features f.safetensors --save-basis f.safetensors", place),
            ("pca a.npy --features f.safetensors --save-basis a.npy --overwrite", place),
            ("similarity dcm -c seeded:0:micro --point 1,1 -o dcm/IM0.png --overwrite", place),
            ("convert hf/model.safetensors -o hf/model.safetensors --overwrite", place),
            ("convert hf/model.safetensors -o hf/config.json --overwrite", place),
        ],
    );
}

#[test]
fn two_outputs_may_not_have_one_path() {
    let desk = desk();
    refused(
        &desk,
        &[
            ("features a.npy -c seeded:0:micro -o x.safetensors --profile-json x.safetensors", "two names"),
            ("features a.npy -c seeded:0:micro -o x.npy --pool cls --profile-json x.json", "two names"),
            ("pca a.npy -c seeded:0:micro -o b.png --save-basis b.png", "two names"),
            ("pca a.npy -c seeded:0:micro -o b.png --save-basis dcm/../b.png", "two names"),
        ],
    );
}

#[test]
fn outputs_may_not_be_folders_checkpoints_or_manifests() {
    let desk = desk();
    desk.succeed("features a.npy -c seeded:0:micro --out-dir done");
    desk.succeed("convert seeded:1:micro -o weights.safetensors");
    refused(
        &desk,
        &[
            ("features a.npy -c seeded:0:micro -o new/", "is the name of a folder; expected that of a file"),
            ("features a.npy -c seeded:0:micro -o x.safetensors/.", "is the name of a folder; expected that of a file"),
            ("features a.npy -c seeded:0:micro --out-dir theirs.npy", "theirs.npy: is a file, but outputs need a folder"),
            ("features a.npy -c seeded:0:micro -o weights.safetensors", "is a checkpoint; add --overwrite"),
            ("pca a.npy -c seeded:0:micro --save-basis weights.safetensors", "is a checkpoint; add --overwrite"),
            ("features a.npy -c seeded:0:micro -o done/manifest.jsonl --overwrite", "the manifest of a folder of outputs"),
            ("features a.npy -c seeded:0:micro --profile-json done/manifest.jsonl --overwrite", "the manifest of a folder of outputs"),
        ],
    );
}

/// Outputs that an earlier run wrote into a scan's folder do not become part of the scan.
#[test]
fn a_command_that_writes_beside_the_slices_can_be_run_again() {
    let desk = desk();
    let lines =
        ["features dcm --out-dir dcm/out", "features dcm -o dcm/f.safetensors", "pca dcm -o dcm/p.png --save-basis dcm/b.safetensors"];
    for line in lines.iter().chain(&lines) {
        desk.succeed(&format!("{line} {MICRO}"));
    }
    let message = text(&desk.run(&format!("{} {MICRO}", lines[0])).stderr);
    assert!(message.contains("1 of 1 cases are skipped"), "{message}");
}

#[test]
fn foreign_files_are_replaced_only_with_overwrite() {
    let desk = desk();
    let lines = [
        "features a.npy -c seeded:0:micro -o theirs.safetensors",
        "features a.npy -c seeded:0:micro -o theirs.npz",
        "features a.npy -c seeded:0:micro --profile-json theirs.json",
        "pca a.npy -c seeded:0:micro -o theirs.png",
        "pca a.npy -c seeded:0:micro --save-basis theirs.safetensors",
        "similarity a.npy -c seeded:0:micro --point 1,1 -o theirs.png",
        "convert seeded:0:micro -o theirs.safetensors",
    ];
    let cases: Vec<_> = lines.iter().map(|line| (*line, "meddino did not write it; add --overwrite")).collect();
    refused(&desk, &cases);
    // The `.json` beside a `.npy` is an output too.
    fs::remove_file(desk.path("theirs.npy")).expect("removed");
    refused(&desk, &[("features a.npy -c seeded:0:micro -o theirs.npy --pool cls", "theirs.json: is there already")]);
    for line in
        lines.into_iter().chain(["features a.npy -c seeded:0:micro -o theirs.npy --pool cls"]).filter(|line| !line.contains("profile"))
    {
        desk.succeed(&format!("{line} --overwrite"));
        // meddino wrote the file now, so the same command may replace it.
        desk.succeed(line);
        fs::write(desk.path("theirs.safetensors"), "somebody else's").expect("written");
        fs::write(desk.path("theirs.png"), "somebody else's").expect("written");
    }
}

#[test]
#[cfg(unix)]
fn links_to_inputs_and_partial_files_that_are_links_are_refused() {
    use std::os::unix::fs::symlink;
    let desk = desk();
    symlink("a.npy", desk.path("link.npy")).expect("linked");
    symlink("dcm", desk.path("linked")).expect("linked");
    fs::hard_link(desk.path("a.npy"), desk.path("hard.npy")).expect("linked");
    symlink("a.npy", desk.path(".x.safetensors.partial")).expect("linked");
    symlink("a.npy", desk.path(".x.png.new.partial")).expect("linked");
    symlink("nowhere", desk.path("dangling.safetensors")).expect("linked");
    refused(
        &desk,
        &[
            ("features a.npy -c seeded:0:micro -o link.npy --pool cls --overwrite", "would take the place of"),
            ("features a.npy -c seeded:0:micro -o hard.npy --pool cls --overwrite", "would take the place of"),
            ("features link.npy -c seeded:0:micro -o a.npy --pool cls --overwrite", "would take the place of"),
            ("features dcm -c seeded:0:micro -o linked/IM1.dcm --overwrite", "would take the place of"),
            ("features dcm -c seeded:0:micro -o x.safetensors", ".x.safetensors.partial is a link"),
            ("features a.npy -c seeded:0:micro -o x.safetensors", "would take the place of"),
            ("pca dcm -c seeded:0:micro -o x.png", ".x.png.new.partial is a link"),
            ("features a.npy -c seeded:0:micro -o dangling.safetensors", "is a link to nowhere"),
        ],
    );
    // An output that is a link stays a link; the file that it points to is replaced.
    symlink("f.safetensors", desk.path("out.safetensors")).expect("linked");
    desk.succeed(&format!("features a.npy {MICRO} --slices 1 -o out.safetensors"));
    assert!(desk.path("out.safetensors").is_symlink());
    assert_eq!(desk.read("f.safetensors").0["x_norm_clstoken"].shape()[0], 1);
}

#[test]
#[cfg(unix)]
fn a_stream_gets_exactly_the_bytes_of_the_file() {
    let desk = desk();
    let streamed = desk.run(&format!("features a.npy {MICRO} -o /dev/stdout"));
    assert!(streamed.status.success(), "{}", text(&streamed.stderr));
    assert_eq!(streamed.stdout, fs::read(desk.path("f.safetensors")).expect("read"));
    // If stdout is a file, the command writes into it instead of replacing it, so that whoever opened it sees the
    // bytes.
    let mut into = fs::File::options().read(true).write(true).create(true).truncate(true).open(desk.path("into")).expect("opened");
    let status = desk.command(&format!("features a.npy {MICRO} -o /dev/stdout")).stdout(into.try_clone().expect("opened")).status();
    assert!(status.expect("started").success());
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut into).and_then(|()| std::io::Read::read_to_end(&mut into, &mut bytes)).expect("read");
    assert_eq!(bytes, streamed.stdout);
    assert!(Path::new("/dev/stdout").is_symlink(), "the device is still there");
    desk.succeed("convert seeded:0:micro -o /dev/null");
    assert!(!Path::new("/dev/null").is_file());
}

/// All eight cases of a folder finish, although the reader of their printed names has gone.
#[test]
#[cfg(unix)]
fn a_closed_stdout_does_not_stop_the_work() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).expect("made");
    (0..8).for_each(|i| desk.npy(&format!("in/{i}.npy"), &hu(1, 16, 16)));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = desk.command(&format!("features in --out-dir out {MICRO}")).stdout(writer).output().expect("started");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!((0..8).filter(|i| desk.path(&format!("out/{i}.safetensors")).is_file()).count(), 8);
}

/// A later run takes over the partial picture of a killed run.
#[test]
fn unfinished_files_do_not_pile_up() {
    let desk = desk();
    fs::write(desk.path(".p.png.new.partial"), "half a picture").expect("written");
    desk.succeed(&format!("pca a.npy {MICRO} -o p.png"));
    assert!(desk.path("p.png").is_file());
    assert!(!desk.files().iter().any(|name| name.contains("partial")), "{:?}", desk.files());
}

/// Ctrl-C leaves neither an output nor a partial file.
#[test]
fn an_interrupted_conversion_leaves_no_file() {
    use std::process::Stdio;
    let desk = Desk::new();
    let mut child = interrupt::start(desk.command("convert seeded:0 -o out.safetensors").stdout(Stdio::null()).stderr(Stdio::piped()));
    let since = std::time::Instant::now();
    while desk.files().is_empty() {
        assert!(since.elapsed().as_secs() < 60 && child.try_wait().expect("waited").is_none(), "no file was begun");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    if !interrupt::interrupt(&mut child) {
        return;
    }
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert_eq!(desk.files(), Vec::<String>::new());
}
