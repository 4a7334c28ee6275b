//! `meddino verify` and `meddino devices` as users run them.
#![cfg(feature = "cli")]

mod common;
mod device;

use std::path::Path;
use std::process::{Command, Output};

use common::read_safetensors;
use meddino::Tensor;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

fn meddino(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meddino"));
    // Ignores the user's cached tile geometries.
    command.current_dir(folder).env("MEDDINO_CACHE", "").args(line.split_whitespace()).output().expect("the command starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn backends_are_compared_under_both_arithmetics() {
    if device::context().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let output = meddino(folder.path(), "verify -c seeded:0:tiny --size 64x80");
    let table = stdout(&output);
    assert!(output.status.success(), "{table}{}", stderr(&output));
    for expected in [
        "f32 RoPE: relative L2 <= 1e-5",
        "bf16 RoPE: relative L2 <= 5e-4",
        "patch_embed",
        "blocks.2",
        "x_norm_patchtokens",
        "all 8 taps agree",
    ] {
        assert!(table.contains(expected), "{expected} is missing in\n{table}");
    }
}

/// Uses our own features as a golden and scales `x_prenorm`: a factor of 1 must agree, any other must not. Runs with
/// and without a GPU.
#[test]
fn a_golden_passes_or_names_the_tap_that_is_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let features = meddino(
        folder.path(),
        "features phantom -c seeded:0:tiny --size 64 --tokens prenorm,patch --layers 1 --backend cpu -o own.safetensors",
    );
    assert!(features.status.success(), "{}", stderr(&features));
    let (tensors, _) = read_safetensors(&folder.path().join("own.safetensors"));
    for (scale, code) in [(1.0, 0), (1.001, 1)] {
        let scaled = |name: &str, v: f32| if name == "x_prenorm" { v * scale } else { v };
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|(n, t)| t.data().iter().flat_map(|&v| scaled(n, v).to_le_bytes()).collect()).collect();
        let view = |((name, tensor), bytes)| (name, TensorView::new(Dtype::F32, Tensor::shape(tensor).to_vec(), bytes).expect("a tensor"));
        serialize_to_file(
            tensors.iter().map(|(n, t)| (n, t)).zip(bytes.iter().map(Vec::as_slice)).map(view),
            None,
            &folder.path().join("golden.safetensors"),
        )
        .expect("written");
        let output = meddino(folder.path(), "verify -c seeded:0:tiny phantom --size 64 --golden golden.safetensors");
        let (table, message) = (stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{table}{message}");
        assert!(table.contains("against PyTorch, bf16 RoPE") && table.contains("layers.1"), "{table}");
        assert_eq!(message.contains("against PyTorch, bf16 RoPE, first at x_prenorm"), code == 1, "{message}");
    }
}

#[test]
fn a_golden_that_does_not_fit_the_model_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let zeros = [0_u8; 4];
    for (name, shape, expected) in [
        ("layers.7", vec![1, 1, 1], "there is no block 7"),
        ("weight", vec![1], "weight is no tap of this model"),
        ("x_norm_clstoken", vec![1, 1], "this model and image give [1, 64]"),
        ("image", vec![1, 1, 1, 1], "holds no outputs"),
    ] {
        let view = TensorView::new(Dtype::F32, shape, &zeros).expect("a tensor");
        serialize_to_file([(name, view)], None, &folder.path().join("golden.safetensors")).expect("written");
        let output = meddino(folder.path(), "verify -c seeded:0:micro --size 32 --golden golden.safetensors");
        assert_eq!(output.status.code(), Some(1), "{name}: {}", stdout(&output));
        assert!(stderr(&output).contains(expected), "{name}: {}", stderr(&output));
    }
}

#[test]
fn devices_names_the_adapter_that_auto_chooses() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = meddino(folder.path(), "devices");
    assert!(output.status.success() && stdout(&output).contains("--backend auto takes"), "{}{}", stdout(&output), stderr(&output));
    let none = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meddino"));
        command.current_dir(&folder).env("VK_DRIVER_FILES", "/dev/null").env("WGPU_BACKEND", "vulkan");
        command
    };
    let output = none().arg("devices").output().expect("started");
    assert!(stdout(&output).ends_with("--backend auto takes the CPU, because no GPU was found\n"), "{}", stderr(&output));
    let features = ["features", "phantom", "-c", "seeded:0:micro", "--size", "32", "-o", "x.safetensors", "--backend"];
    let output = none().args(features).arg("auto").output().expect("started");
    assert!(output.status.success(), "{}", stderr(&output));
    let output = none().args(features).arg("gpu").output().expect("started");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no adapter found"), "{}", stderr(&output));
    let output = meddino(folder.path(), "verify -c seeded:0:micro --device no-such-device");
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(message.contains("no adapter matches") || message.contains("no adapter found"), "{message}");
}

#[test]
fn a_device_with_the_cpu_backend_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = meddino(folder.path(), "features phantom -c seeded:0:micro --backend cpu --device 0");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--device"), "{}", stderr(&output));
}
