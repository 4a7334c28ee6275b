//! `meddino verify` and `meddino devices` as their users meet them.
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
    // Without the user's tile geometries.
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
    for said in [
        "f32 RoPE: relative L2 <= 1e-5",
        "bf16 RoPE: relative L2 <= 5e-4",
        "patch_embed",
        "blocks.2",
        "x_norm_patchtokens",
        "all 8 taps agree",
    ] {
        assert!(table.contains(said), "{said} is missing in\n{table}");
    }
}

/// Our own features as a golden, with `x_prenorm` scaled: 1 agrees, anything else does not. With or without a GPU.
#[test]
fn a_golden_passes_or_names_the_tap_that_is_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = meddino(
        folder.path(),
        "features phantom -c seeded:0:tiny --size 64 --tokens prenorm,patch --layers 1 --backend cpu -o own.safetensors",
    );
    assert!(made.status.success(), "{}", stderr(&made));
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
        let (table, said) = (stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{table}{said}");
        assert!(table.contains("against PyTorch, bf16 RoPE") && table.contains("layers.1"), "{table}");
        assert_eq!(said.contains("against PyTorch, bf16 RoPE, first at x_prenorm"), code == 1, "{said}");
    }
}

#[test]
fn a_golden_of_something_else_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = [0_u8; 4];
    for (name, shape, said) in [
        ("layers.7", vec![1, 1, 1], "there is no block 7"),
        ("weight", vec![1], "weight is no tap of this model"),
        ("x_norm_clstoken", vec![1, 1], "this model and image give [1, 64]"),
        ("image", vec![1, 1, 1, 1], "holds no outputs"),
    ] {
        let view = TensorView::new(Dtype::F32, shape, &one).expect("a tensor");
        serialize_to_file([(name, view)], None, &folder.path().join("golden.safetensors")).expect("written");
        let output = meddino(folder.path(), "verify -c seeded:0:micro --size 32 --golden golden.safetensors");
        assert_eq!(output.status.code(), Some(1), "{name}: {}", stdout(&output));
        assert!(stderr(&output).contains(said), "{name}: {}", stderr(&output));
    }
}

#[test]
fn devices_says_what_auto_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = meddino(folder.path(), "devices");
    assert!(output.status.success() && stdout(&output).contains("--backend auto takes"), "{}{}", stdout(&output), stderr(&output));
    let output = meddino(folder.path(), "verify -c seeded:0:micro --device no-such-device");
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("no adapter answers to") || said.contains("no adapter found"), "{said}");
}

#[test]
fn a_device_contradicts_the_cpu_backend() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = meddino(folder.path(), "features phantom -c seeded:0:micro --backend cpu --device 0");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--device"), "{}", stderr(&output));
}
