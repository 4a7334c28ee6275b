//! The command under limits of the machine: it exits with 1 and one line that names the limit, leaves no partial
//! output, and neither panics nor dies by a signal.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod common;
#[path = "common/desk.rs"]
mod desk;

use std::collections::HashMap;
use std::process::{Command, Output};

use common::data;
use desk::{Desk, hu, text};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

/// Runs `line` in a shell after the commands `limits`.
fn under(desk: &Desk, limits: &str, line: &str) -> Output {
    let command = desk.command(line);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]).arg(command.get_program()).args(command.get_args());
    shell.current_dir(desk.path(""));
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.output().expect("the shell starts")
}

/// Runs `line` under `limits`. It must fail with one line that contains every one of `expected`, and change no file.
fn refused(desk: &Desk, limits: &str, line: &str, expected: &[&str]) {
    let before = desk.files();
    let output = under(desk, limits, line);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{limits}; {line}: {}\n{stderr}", output.status);
    let errors: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("warning: ")).collect();
    let error = errors.last().copied().unwrap_or_default();
    assert!(
        error.starts_with("error: ") && expected.iter().all(|part| error.contains(part)),
        "{limits}; {line}: {expected:?} not in: {stderr}"
    );
    assert!(!stderr.contains("panicked") && !stderr.contains("memory allocation of"), "{stderr}");
    assert_eq!(desk.files(), before, "{limits}; {line}: a file was left");
}

const FEATURES: &str = "features phantom -c seeded:0:tiny -o out.safetensors";

#[test]
fn too_few_threads_are_an_error_or_a_warning() {
    let desk = Desk::new();
    // A stack larger than the address space: no thread starts. `ulimit -u` would do the same, but does not bind root.
    let no_thread = "ulimit -v 4000000; export RUST_MIN_STACK=17179869184";
    refused(&desk, no_thread, &format!("{FEATURES} --size 32"), &["cannot start a thread", "ulimit -u"]);
    // Three stacks of 1 GiB fit, eight do not: the pool gets fewer threads, and the stages of the work get none.
    let three_stacks = "ulimit -v 4000000; export RUST_MIN_STACK=1073741824 RAYON_NUM_THREADS=8";
    refused(&desk, three_stacks, &format!("{FEATURES} --size 32"), &["cannot start another thread", "ulimit -u"]);
    // The pool takes one or two threads and the watch for Ctrl-C another, so the stages get none, or only the first
    // gets one.
    for threads in ["THREADS=2", "THREADS=1"] {
        refused(
            &desk,
            &three_stacks.replace("THREADS=8", threads),
            &format!("{FEATURES} --size 32"),
            &["cannot start another thread", "ulimit -u"],
        );
    }
    let output = under(&desk, three_stacks, "convert seeded:0:micro -o out.safetensors");
    let stderr = text(&output.stderr);
    assert!(output.status.success() && stderr.contains("warning: only 3 of 8 threads could be started"), "{stderr}");
}

/// The pool has the requested number of threads, and results do not depend on it.
#[test]
fn a_pool_has_the_requested_threads() {
    let desk = Desk::new();
    let features = |threads: usize| {
        let output = under(&desk, &format!("export RAYON_NUM_THREADS={threads}"), &format!("{FEATURES} --size 48"));
        let stderr = text(&output.stderr);
        assert!(output.status.success() && stderr.contains(&format!("CPU ({threads} thread")), "{stderr}");
        let tokens = desk.read("out.safetensors").0["x_norm_patchtokens"].data().to_vec();
        std::fs::remove_file(desk.path("out.safetensors")).expect("removed");
        tokens
    };
    assert_eq!(features(1), features(3));
}

/// Limits memory to `kib` KiB. Threads take part of it, so their number is fixed at two on every machine.
fn memory(kib: usize) -> String {
    format!("ulimit -v {kib}; export RAYON_NUM_THREADS=2 MALLOC_ARENA_MAX=2")
}

#[test]
fn too_little_memory_is_an_error() {
    let desk = Desk::new();
    let weights = "features phantom --size 32 -c seeded:0 -o out.safetensors";
    refused(&desk, &memory(300_000), weights, &["memory: ", "ulimit -v", "85641984 parameters need 327 MiB"]);
    refused(&desk, &memory(1_200_000), &format!("{FEATURES} --size 8192"), &["memory: ", "ulimit -v", "one image of 8192 x 8192 needs"]);
}

/// The header of a feature file tells the size of a fit.
#[test]
fn a_fit_that_needs_too_much_memory_is_refused_before_it_begins() {
    let desk = Desk::new();
    let (values, about) = (vec![0; 80_000], HashMap::from([("slices".to_owned(), "[0]".to_owned())]));
    for case in ["a", "b"] {
        let cls = TensorView::new(Dtype::F32, vec![1, 20_000], &values).expect("a tensor");
        serialize_to_file([("x_norm_clstoken", cls)], Some(about.clone()), &desk.path(&format!("{case}.safetensors"))).expect("written");
    }
    std::fs::write(desk.path("labels.csv"), "case,label,split\na,ill,train\nb,well,train\n").expect("written");
    let fit = "probe fit a.safetensors b.safetensors --labels labels.csv -o head.safetensors";
    let problem = "the fit of 2 vectors of 20000 channels to 2 classes takes up to";
    refused(&desk, &memory(1_200_000), fit, &["memory: only", "ulimit -v", problem, "give fewer files"]);
}

/// A scan of one slice takes 400 MB, which no check before the allocation covers. The command must report the failed
/// allocation, and its unfinished file must not hinder the next run.
#[test]
fn a_failed_allocation_is_an_error_and_no_abort() {
    let desk = Desk::new();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (10000, 10000), }\n";
    desk.npy_of("scan.npy", header, &[]);
    let file = std::fs::File::options().append(true).open(desk.path("scan.npy")).expect("opened");
    file.set_len(10 + header.len() as u64 + 100_000_000).expect("a file of zeros");
    let output = under(&desk, &memory(450_000), "features scan.npy --size 32 -c seeded:0:micro -o out.safetensors");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}: {stderr}", output.status);
    assert!(stderr.lines().last().is_some_and(|line| line.starts_with("error: out of memory") && line.contains("ulimit -v")), "{stderr}");
    assert!(!desk.path("out.safetensors").exists());
    desk.npy("scan.npy", &hu(1, 32, 32));
    desk.succeed("features scan.npy --size 32 -c seeded:0:micro -o out.safetensors");
    assert_eq!(desk.files(), ["out.safetensors", "scan.npy"]);
}

#[test]
fn a_file_size_limit_is_an_error() {
    let desk = Desk::new();
    desk.npy("scan.npy", &hu(1, 32, 32));
    for line in [
        &format!("{FEATURES} --size 224"),
        "features scan.npy -c seeded:0:tiny -o out.npz",
        "convert seeded:0:tiny -o out.safetensors",
        "similarity phantom --point 100,100 --size 64 -c seeded:0:tiny --backend cpu -o out.png",
    ] {
        refused(&desk, "ulimit -f 1", line, &["ulimit -f", "out."]);
    }
    let (model, scan) = (
        data("fixtures/nnunet/results/dinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d_small"),
        data("fixtures/nnunet/imagesTs/thin_0000.nii.gz"),
    );
    let line = format!("segment -m {} -i {} -o labels.nii.gz --backend cpu --disable-tta -f 0", model.display(), scan.display());
    refused(&desk, "ulimit -f 0", &line, &["ulimit -f"]);
}

/// Wherever file descriptors run out, the message says so.
#[test]
fn too_few_descriptors_are_named() {
    let desk = Desk::new();
    let (model, scan) = (
        data("fixtures/nnunet/results/dinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d_small"),
        data("fixtures/nnunet/imagesTs/thin_0000.nii.gz"),
    );
    let line = format!("segment -m {} -i {} -o labels.nii.gz --backend cpu --disable-tta -f 0", model.display(), scan.display());
    for descriptors in 4..=7 {
        refused(&desk, &format!("ulimit -n {descriptors}"), &line, &["Too many open files", "ulimit -n"]);
    }
    let line = format!("features {} -c {} --size 32 -o out.safetensors", scan.display(), data("fixtures/micro/flat.pth").display());
    for descriptors in 4..=6 {
        refused(&desk, &format!("ulimit -n {descriptors}"), &line, &["Too many open files", "ulimit -n"]);
    }
}
