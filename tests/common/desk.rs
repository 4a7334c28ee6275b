//! A temporary folder in which tests run the command, and the files that tests put there.
#![allow(dead_code, reason = "each test file uses its own part of this module")]

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use meddino::Tensor;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use tempfile::TempDir;

use super::common::{read_safetensors, uniform};

/// A temporary folder in which tests run the command.
pub struct Desk(TempDir);

impl Desk {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The command on the CPU backend, so that results are the same on every machine and no GPU driver writes to
    /// stderr.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meddino"));
        command.current_dir(self.0.path()).args(line.split_whitespace());
        // Without weights from the network or from the user's cache.
        command.env("HF_HUB_OFFLINE", "1").env("HF_HUB_CACHE", self.path("hub"));
        // Without tuning tile geometries on a real GPU, and without storing them.
        command.env("MEDDINO_CACHE", "");
        if line.starts_with("features") {
            command.args(["--backend", "cpu"]);
        }
        command
    }

    pub fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("the command starts")
    }

    /// Runs `line`, which must succeed. Returns the text of stdout.
    pub fn succeed(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}\n{}", output.status, text(&output.stderr));
        text(&output.stdout)
    }

    /// The tensors by name and the metadata of a safetensors file.
    pub fn read(&self, name: &str) -> (HashMap<String, Tensor>, HashMap<String, String>) {
        let (tensors, metadata) = read_safetensors(&self.path(name));
        (tensors.into_iter().collect(), metadata)
    }

    pub fn npy(&self, name: &str, hu: &Tensor) {
        let shape = hu.shape().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let values: Vec<u8> = hu.data().iter().flat_map(|v| v.to_le_bytes()).collect();
        self.npy_of(name, &format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}\n"), &values);
    }

    pub fn npy_of(&self, name: &str, header: &str, values: &[u8]) {
        let bytes = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), values].concat();
        fs::write(self.path(name), bytes).expect("written");
    }

    pub fn images(&self, name: &str, image: &Tensor) {
        let bytes: Vec<u8> = image.data().iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, image.shape().to_vec(), &bytes).expect("a tensor");
        serialize_to_file([("image", view)], None, &self.path(name)).expect("written");
    }

    pub fn files(&self) -> Vec<String> {
        let name = |e: std::io::Result<fs::DirEntry>| e.expect("an entry").file_name().to_string_lossy().to_string();
        let mut names: Vec<String> = fs::read_dir(self.0.path()).expect("listed").map(name).collect();
        names.sort();
        names
    }
}

/// The text of an output stream, with `/` between the names of a path on every system.
pub fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    if cfg!(windows) { text.replace('\\', "/") } else { text }
}

/// S different slices of H x W whole HU.
pub fn hu(s: usize, h: usize, w: usize) -> Tensor {
    Tensor::new([s, h, w], uniform("hu", s * h * w, 7).iter().map(|v| (v * 1200.0).trunc()).collect())
}
