//! Whole volumes and many scans on the command line: slices, formats, memory, interruption, reruns.
#![cfg(feature = "cli")]

mod common;
#[path = "common/desk.rs"]
mod desk;
#[path = "common/interrupt.rs"]
mod interrupt;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use desk::{Desk, hu, text};
use half::f16;
use meddino::Tensor;

const MICRO: &str = "-c seeded:0:micro";

/// Row `index` of the outermost axis.
fn row(x: &Tensor, index: usize) -> &[f32] {
    let len = x.data().len() / x.shape()[0];
    &x.data()[index * len..][..len]
}

#[test]
fn slices_are_those_requested_in_any_batch() {
    let desk = Desk::new();
    desk.npy("scan.npy", &hu(7, 32, 48));
    desk.succeed(&format!("features scan.npy {MICRO} -o all.safetensors"));
    let (every_slice, metadata) = desk.read("all.safetensors");
    assert_eq!(metadata["slices"], "[0,1,2,3,4,5,6]");
    for (slices, want) in [("1:6:2", vec![1, 3, 5]), ("-2:", vec![5, 6]), ("6,0,-1", vec![6, 0, 6]), ("3", vec![3])] {
        desk.succeed(&format!("features scan.npy {MICRO} --slices {slices} -o some.safetensors"));
        let (some, metadata) = desk.read("some.safetensors");
        assert_eq!(metadata["slices"], serde_json::json!(want).to_string());
        for (name, tensor) in &some {
            assert_eq!(tensor.shape()[0], want.len());
            for (i, &slice) in want.iter().enumerate() {
                assert_eq!(row(tensor, i), row(&every_slice[name], slice), "{slices}: {name}");
            }
        }
    }
    let one_batch = fs::read(desk.path("all.safetensors")).expect("read");
    for batch in ["--batch 1", "--batch 3", "--batch 16", "--max-memory 64MiB"] {
        desk.succeed(&format!("features scan.npy {MICRO} {batch} -o batch.safetensors"));
        assert!(fs::read(desk.path("batch.safetensors")).expect("read") == one_batch, "{batch}");
    }
}

#[test]
fn metadata_hold_the_input_hash_and_the_preprocessing() {
    use sha2::{Digest, Sha256};
    let desk = Desk::new();
    desk.npy("scan.npy", &hu(1, 32, 48));
    desk.succeed(&format!("features scan.npy {MICRO} --window none --size 32 --orient stored -o out.safetensors"));
    let (_, metadata) = desk.read("out.safetensors");
    assert_eq!(metadata["input_sha256"], format!("{:x}", Sha256::digest(fs::read(desk.path("scan.npy")).expect("read"))));
    let preprocessing: serde_json::Value = serde_json::from_str(&metadata["preprocessing"]).expect("JSON");
    assert_eq!(preprocessing["clamp_hu"], serde_json::json!([null, null]));
    assert_eq!(
        (preprocessing["window"].as_str(), preprocessing["size"].as_str(), preprocessing["orient"].as_str()),
        (Some("none"), Some("32"), Some("stored"))
    );
    assert!(!metadata.contains_key("patch_affine"), "a .npy does not say where it lies");
}

#[test]
fn pooling_gives_one_vector_an_image() {
    let desk = Desk::new();
    desk.npy("scan.npy", &hu(3, 32, 48));
    desk.succeed(&format!("features scan.npy {MICRO} -o tokens.safetensors"));
    desk.succeed(&format!("features scan.npy {MICRO} --pool cls -o cls.safetensors"));
    desk.succeed(&format!("features scan.npy {MICRO} --pool mean -o mean.safetensors"));
    let ((tokens, _), (cls, _), (mean, _)) = (desk.read("tokens.safetensors"), desk.read("cls.safetensors"), desk.read("mean.safetensors"));
    assert_eq!(cls.keys().collect::<Vec<_>>(), ["x_norm_clstoken"]);
    assert!(cls["x_norm_clstoken"] == tokens["x_norm_clstoken"]);
    assert_eq!(mean.keys().collect::<Vec<_>>(), ["x_norm_patchtokens_mean"]);
    let mean = &mean["x_norm_patchtokens_mean"];
    assert_eq!(mean.shape(), [3, 64]);
    for image in 0..3 {
        let patches = row(&tokens["x_norm_patchtokens"], image);
        for (channel, &got) in row(mean, image).iter().enumerate() {
            let want = patches.iter().skip(channel).step_by(64).map(|&v| f64::from(v)).sum::<f64>() / 6.0;
            assert!((f64::from(got) - want).abs() <= want.abs() * 1e-7, "{got} is not {want}");
        }
    }
}

/// The shape and values of an array in NumPy's format.
fn array(bytes: &[u8]) -> (Vec<u64>, Vec<f32>) {
    let npy = npyz::NpyFile::new(bytes).expect("an array");
    let shape = npy.shape().to_vec();
    let values = match npy.dtype().descr().as_str() {
        "'<f4'" => npy.into_vec::<f32>().expect("f32"),
        "'<f2'" => npy.into_vec::<f16>().expect("f16").into_iter().map(f16::to_f32).collect(),
        dtype => panic!("{dtype}"),
    };
    (shape, values)
}

#[test]
fn every_format_holds_the_same_tensors() {
    let desk = Desk::new();
    desk.npy("scan.npy", &hu(3, 32, 48));
    desk.succeed(&format!("features scan.npy {MICRO} --layers 1 -o out.safetensors"));
    let (tensors, metadata) = desk.read("out.safetensors");

    desk.succeed(&format!("features scan.npy {MICRO} --layers 1 -o out.npz"));
    let bytes = fs::read(desk.path("out.npz")).expect("read");
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).expect("a zip archive");
    let mut found = Vec::new();
    for i in 0..zip.len() {
        let mut entry = zip.by_index(i).expect("an entry");
        let name = entry.name().expect("a name").strip_suffix(".npy").expect("an array").to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("read");
        if name == "metadata" {
            let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
            let letters = bytes[start..].chunks_exact(4).map(|b| char::from_u32(u32::from_le_bytes(b.try_into().expect("four bytes"))));
            let stored: HashMap<String, String> =
                serde_json::from_str(&letters.map(|c| c.expect("a letter")).collect::<String>()).expect("JSON");
            assert_eq!(stored, metadata);
            continue;
        }
        let (shape, values) = array(&bytes);
        assert_eq!(shape, tensors[&name].shape().iter().map(|&n| n as u64).collect::<Vec<_>>(), "{name}");
        assert_eq!(values, tensors[&name].data(), "{name}");
        found.push(name);
    }
    found.sort();
    assert_eq!(found, ["layers.1", "x_norm_clstoken", "x_norm_patchtokens", "x_storage_tokens"]);
    desk.succeed(&format!("features scan.npy {MICRO} --layers 1 -o again.npz"));
    assert!(fs::read(desk.path("again.npz")).expect("read") == bytes, "the same input gives the same file");

    desk.succeed(&format!("features scan.npy {MICRO} --tokens patch --dtype f16 -o patch.npy"));
    let (shape, values) = array(&fs::read(desk.path("patch.npy")).expect("read"));
    assert_eq!(shape, [3, 6, 64]);
    let rounded: Vec<f32> = tensors["x_norm_patchtokens"].data().iter().map(|&v| f16::from_f32(v).to_f32()).collect();
    assert_eq!(values, rounded);
    let stored: HashMap<String, String> = serde_json::from_slice(&fs::read(desk.path("patch.json")).expect("read")).expect("JSON");
    assert_eq!(stored, metadata);
    assert_eq!(desk.files(), ["again.npz", "out.npz", "out.safetensors", "patch.json", "patch.npy", "scan.npy"], "nothing else is left");
}

/// Writes a scan that takes seconds. Returns the start of a command for it.
fn long(desk: &Desk) -> String {
    desk.npy("long.npy", &hu(300, 16, 16));
    "features long.npy -c seeded:0:tiny --size 224 --batch 1 --tokens cls,patch".into()
}

/// Starts `line` and waits until `name`'s partial file counts an image.
fn started(desk: &Desk, line: &str, name: &str) -> Child {
    let mut child = interrupt::start(desk.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let partial = desk.path(&format!(".{name}.partial"));
    let since = Instant::now();
    loop {
        let bytes = fs::read(&partial).unwrap_or_default();
        let counted =
            bytes.len() > 32 && bytes[bytes.len() - 16..bytes.len() - 8] != [0; 8] && bytes[bytes.len() - 32..].starts_with(b"meddino");
        if counted {
            return child;
        }
        let ended = child.try_wait().expect("waited");
        assert!(ended.is_none() && since.elapsed() < Duration::from_mins(1), "{line}: {ended:?} before an image was counted");
        sleep(Duration::from_millis(3));
    }
}

#[test]
fn a_killed_run_resumes_to_the_same_file() {
    let desk = Desk::new();
    let line = long(&desk);
    for ending in ["safetensors", "npz"] {
        let (name, whole) = (format!("out.{ending}"), format!("whole.{ending}"));
        desk.succeed(&format!("{line} -o {whole}"));
        let mut child = started(&desk, &format!("{line} -o {name}"), &name);
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(!desk.path(&name).exists(), "half a file has no name");

        let output = desk.run(&format!("{line} -o {name}"));
        let messages = text(&output.stderr);
        assert!(output.status.success() && messages.contains("resuming an interrupted run that wrote"), "{messages}");
        let (resumed, whole) = (fs::read(desk.path(&name)).expect("read"), fs::read(desk.path(&whole)).expect("read"));
        assert!(resumed == whole, "{ending}: the resumed file differs");
        assert!(!desk.path(&format!(".{name}.partial")).exists());
    }
}

#[test]
fn a_partial_file_of_another_input_is_not_resumed() {
    let desk = Desk::new();
    let line = long(&desk);
    let mut child = started(&desk, &format!("{line} -o out.safetensors"), "out.safetensors");
    child.kill().expect("killed");
    child.wait().expect("ended");
    // Another input of the same shape.
    let mut changed = hu(300, 16, 16);
    changed.data_mut()[0] += 1.0;
    desk.npy("long.npy", &changed);
    desk.succeed(&format!("{line} -o whole.safetensors"));
    let output = desk.run(&format!("{line} -o out.safetensors"));
    assert!(!text(&output.stderr).contains("resuming an interrupted run"), "{}", text(&output.stderr));
    assert!(fs::read(desk.path("out.safetensors")).expect("read") == fs::read(desk.path("whole.safetensors")).expect("read"));
}

#[test]
fn ctrl_c_removes_the_partial_file() {
    let desk = Desk::new();
    let mut child = started(&desk, &format!("{} -o out.safetensors", long(&desk)), "out.safetensors");
    if !interrupt::interrupt(&mut child) {
        return;
    }
    let interrupted = child.wait_with_output().expect("ended");
    assert_eq!(interrupted.status.code(), Some(130), "{}", text(&interrupted.stderr));
    assert!(text(&interrupted.stderr).contains("error: interrupted"), "{}", text(&interrupted.stderr));
    assert_eq!(desk.files(), ["long.npy"]);
}

#[test]
#[cfg(unix)]
fn sigterm_keeps_the_partial_file() {
    use std::os::unix::process::ExitStatusExt;
    let desk = Desk::new();
    let line = format!("{} -o out.safetensors", long(&desk));
    let mut child = started(&desk, &line, "out.safetensors");
    let sent = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("sent");
    assert!(sent.success());
    assert_eq!(child.wait().expect("ended").signal(), Some(15));
    assert_eq!(desk.files(), [".out.safetensors.partial", "long.npy"]);
    assert!(text(&desk.run(&line).stderr).contains("resuming an interrupted run"));
    assert_eq!(desk.files(), ["long.npy", "out.safetensors"]);
}

#[test]
fn two_runs_do_not_write_one_file() {
    let desk = Desk::new();
    let line = format!("{} -o out.safetensors", long(&desk));
    let first = started(&desk, &line, "out.safetensors");
    let second = desk.run(&line);
    assert_eq!(second.status.code(), Some(1));
    // Only Linux tells which process has a lock.
    let holder = if cfg!(target_os = "linux") { "another run (process " } else { "another run is writing it" };
    assert!(text(&second.stderr).contains(&format!("error: output out.safetensors: {holder}")), "{}", text(&second.stderr));
    assert!(first.wait_with_output().expect("ended").status.success());
    assert_eq!(desk.files(), ["long.npy", "out.safetensors"]);
}

/// Runs `line` over many cases. Returns the exit code, the printed lines and the messages.
fn many(desk: &Desk, line: &str) -> (Option<i32>, Vec<String>, String) {
    let output = desk.run(line);
    (output.status.code(), text(&output.stdout).lines().map(ToString::to_string).collect(), text(&output.stderr))
}

#[test]
fn each_of_many_cases_is_done_once_even_if_others_fail() {
    let desk = Desk::new();
    fs::create_dir_all(desk.path("scans/more")).expect("made");
    desk.npy("scans/a_0000.npy", &hu(2, 32, 32));
    desk.npy("scans/more/b_0000.npy", &hu(1, 32, 48));
    desk.npy_of("scans/bad.npy", "nonsense", &[]);
    desk.images("single.safetensors", &Tensor::zeros([1, 1, 32, 32]));
    fs::write(desk.path("scans/notes.txt"), "no scan").expect("written");
    let line = format!("features scans single.safetensors {MICRO} --out-dir out");
    let names = ["out/a_0000.safetensors", "out/b_0000.safetensors", "out/single.safetensors"];
    let changed = |name: &str| fs::metadata(desk.path(name)).and_then(|m| m.modified()).expect("there");

    let (code, printed, messages) = many(&desk, &line);
    assert_eq!((code, &printed[..]), (Some(3), &names.map(String::from)[..]), "{messages}");
    let lines: Vec<&str> = messages.lines().collect();
    let first = lines.iter().position(|l| l.starts_with("error: input scans/bad.npy: ")).expect("reported at once");
    assert!(lines[first + 1..].iter().any(|l| l.contains("more/b_0000.npy")), "the next case comes after it: {messages}");
    assert_eq!(lines[lines.len() - 2], "error: 1 of 4 cases failed:");
    assert!(lines[lines.len() - 1].starts_with("  input scans/bad.npy: "), "{messages}");
    // The file records the path as the search writes it.
    let scan = std::path::Path::new("scans").join("a_0000.npy");
    let alone = format!("features {} {MICRO} -o alone.safetensors", scan.display());
    desk.succeed(&alone);
    assert!(fs::read(desk.path("alone.safetensors")).expect("read") == fs::read(desk.path(names[0])).expect("read"));

    // A second run computes nothing.
    fs::remove_file(desk.path("scans/bad.npy")).expect("removed");
    let before = names.map(changed);
    let (code, printed, messages) = many(&desk, &line);
    assert_eq!((code, &printed[..]), (Some(0), &names.map(String::from)[..]), "{messages}");
    assert!(messages.contains("3 of 3 cases are skipped"), "{messages}");
    assert_eq!(names.map(changed), before);

    // A third run computes what is missing or changed.
    fs::remove_file(desk.path(names[0])).expect("removed");
    desk.npy("scans/more/b_0000.npy", &hu(2, 32, 48));
    let (_, _, messages) = many(&desk, &line);
    assert!(messages.contains("1 of 3 cases are skipped"), "{messages}");
    assert_eq!(desk.read(names[1]).0["x_norm_clstoken"].shape(), [2, 64]);
    assert!(fs::read(desk.path("alone.safetensors")).expect("read") == fs::read(desk.path(names[0])).expect("read"));

    // Other settings or weights compute every case again. A broken line of the manifest is ignored with a warning.
    let manifest = desk.path("out/manifest.jsonl");
    let complete = fs::read_to_string(&manifest).expect("read");
    fs::write(&manifest, format!("{complete}{{\"half")).expect("written");
    for line in [format!("{line} --size 16"), line.replace("seeded:0", "seeded:1")] {
        let (code, _, messages) = many(&desk, &line);
        assert!(code == Some(0) && !messages.contains("an earlier run finished"), "{messages}");
        assert!(messages.contains("manifest.jsonl: line 6 cannot be read and is ignored"), "{messages}");
    }
}

#[test]
fn shards_share_a_folder() {
    let desk = Desk::new();
    fs::create_dir(desk.path("scans")).expect("made");
    for i in 0..5 {
        desk.npy(&format!("scans/case_{i}.npy"), &hu(2, 32, 32));
    }
    let line = format!("features scans {MICRO} --out-dir out");
    let start = |shard: usize| {
        desk.command(&format!("{line} --shard {shard}/2 -q")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
    };
    let outputs = [start(1), start(2)].map(|child| child.wait_with_output().expect("ended"));
    assert!(outputs.iter().all(|output| output.status.success()));
    let printed = outputs.map(|output| text(&output.stdout).lines().count());
    assert_eq!(printed, [3, 2]);
    let (code, printed, messages) = many(&desk, &line);
    assert!(code == Some(0) && printed.len() == 5 && messages.contains("5 of 5 cases are skipped"), "{messages}");
}

#[test]
#[cfg(unix)]
fn a_full_disk_is_an_error_and_leaves_no_file() {
    let desk = Desk::new();
    desk.npy("scan.npy", &hu(8, 32, 32));
    // A limit on file sizes simulates a full disk. Its signal is ignored, because a full disk sends none.
    let limited = format!(
        "trap '' XFSZ; ulimit -f 8; exec {} features scan.npy {MICRO} --backend cpu -o out.safetensors",
        env!("CARGO_BIN_EXE_meddino")
    );
    let output = std::process::Command::new("sh").current_dir(desk.path("")).args(["-c", &limited]).output().expect("started");
    let message = text(&output.stderr);
    assert!(output.status.code() == Some(1) && message.contains("error: output out.safetensors: File too large"), "{message}");
    assert_eq!(desk.files(), ["scan.npy"]);
}

/// Each case: the command line, the exit code, and a part of the message. No file is left behind.
#[test]
fn invalid_requests_are_errors() {
    let desk = Desk::new();
    for folder in ["scans", "twin", "empty"] {
        fs::create_dir(desk.path(folder)).expect("made");
    }
    for name in ["scans/a.npy", "scans/b.npy", "twin/a.npy"] {
        desk.npy(name, &hu(2, 32, 32));
    }
    desk.images("huge.safetensors", &Tensor::new([1, 1, 32, 32], vec![1e9; 1024]));
    fs::write(desk.path("theirs.json"), "{}").expect("written");
    File::create(desk.path("file")).expect("made");
    let before = desk.files();
    let cases = [
        ("features scans", 1, "--out-dir: the inputs hold 2 cases"),
        ("features scans twin -o out.safetensors", 1, "--out-dir: the inputs hold 3 cases"),
        ("features scans -o out.safetensors --out-dir out", 2, "cannot be used with"),
        ("features scans --shard 1/2", 2, "--out-dir"),
        ("features scans --out-dir out --shard 3/2", 2, "'3/2' is not I/N"),
        ("features scans twin --out-dir out --names file", 1, "scans/a.npy and twin/a.npy would both be written as a"),
        ("features scans --out-dir scans", 1, "is the same folder as the input scans"),
        ("features scans --out-dir file", 1, "output file: is a file, but outputs need a folder"),
        ("features empty --out-dir out", 1, "input empty: there is no scan in this folder"),
        ("features scans/a.npy --slices 2", 1, "slices: there is no slice 2"),
        ("features scans/a.npy --slices 1:1", 1, "the range holds none of the 2 slices"),
        ("features scans/a.npy --slices x", 2, "'x' is not a selection of slices"),
        ("features scans/a.npy --max-memory 1MiB", 1, "max-memory: 1 MiB are too few: one image of 32 x 32 needs 25 MiB with the weights"),
        ("features scans/a.npy --max-memory much", 2, "'much' is not an amount of memory"),
        ("features scans/a.npy --max-memory 1GiB --batch 2", 2, "cannot be used with"),
        ("features scans/a.npy -o out.npy", 1, "a .npy file holds one tensor, and these are asked for: x_norm_clstoken, x_storage_tokens"),
        ("features scans/a.npy -o theirs.npy --pool cls", 1, "output theirs.json: is there already, and meddino did not write it"),
        ("features scans/a.npy -o out.npz --format npy", 1, "--format: is npy, but the output's name ends in .npz"),
        ("features scans/a.npy --format hdf5", 2, "'hdf5' is none of safetensors, npz, npy"),
        ("features scans/a.npy --pool mean --tokens cls", 2, "cannot be used with"),
        ("features huge.safetensors --tokens prenorm --dtype f16", 1, "tensor x_prenorm: "),
    ];
    let mut wrong = Vec::new();
    for (line, code, expected) in cases {
        let output = desk.run(&format!("{line} {MICRO}"));
        let stderr = text(&output.stderr);
        let errors = stderr.lines().filter(|l| l.starts_with("error: ")).count();
        if output.status.code() != Some(code) || !stderr.contains(expected) || errors != 1 {
            wrong.push(format!("{line}: expected {code} and {expected:?}, found {:?}\n{stderr}", output.status.code()));
        }
        if desk.files() != before {
            wrong.push(format!("{line}: left {:?}", desk.files()));
            break;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
