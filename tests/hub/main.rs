//! Fetching the released checkpoint from a local hub: what is requested, what is kept, and every way in which it can
//! fail.
#![cfg(feature = "hub")]

mod cache;
#[cfg(feature = "cli")]
mod command;
mod server;
mod transfer;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meddino::hub::{Event, Hub, RELEASED};
use tempfile::TempDir;

/// 1.6 MB of noise.
fn noise() -> Vec<u8> {
    (0_u32..1_600_001).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A test machine: its own home folder and environment variables.
struct Machine {
    home: TempDir,
    vars: HashMap<&'static str, OsString>,
}

impl Machine {
    fn new(endpoint: &str) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let vars = HashMap::from([("HF_ENDPOINT", endpoint.into()), ("HOME", home.path().into()), ("USERPROFILE", home.path().into())]);
        Self { home, vars }
    }

    fn set(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.vars.insert(name, value.into());
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The repository's folder in the cache.
    fn repository(&self) -> PathBuf {
        self.path(".cache/huggingface/hub/models--ricklisz123--MedDINOv3-ViTB-16-CT-3M")
    }

    /// The partial file.
    fn partial(&self, sha256: &str) -> PathBuf {
        self.repository().join("blobs").join(format!("{sha256}.incomplete"))
    }

    /// Leaves a partial file, as an interrupted attempt does.
    fn leave_partial(&self, sha256: &str, bytes: &[u8]) {
        write(&self.partial(sha256), bytes);
    }

    fn hub(&self) -> Hub {
        let hub = Hub::from_vars(|name| self.vars.get(name).cloned()).expect("sound variables");
        hub.with_pauses(vec![Duration::from_millis(1); 3])
    }

    fn fetch(&self) -> Result<PathBuf, String> {
        self.listen(&mut |_| {})
    }

    fn listen(&self, progress: &mut dyn FnMut(Event)) -> Result<PathBuf, String> {
        self.hub().fetch(&RELEASED, progress).map_err(|e| e.to_string())
    }

    /// Fetches, which must fail. Returns the kind of the I/O error behind the failure.
    fn cause(&self) -> Option<ErrorKind> {
        self.hub().fetch(&RELEASED, &mut |_| {}).expect_err("a failure").io_kind()
    }

    /// Fetches, which must fail. Returns the message.
    fn fail(&self) -> String {
        self.fetch().expect_err("a failure")
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, bytes).expect("written");
}

/// Asserts that `text` contains each of `parts`. Windows has two characters between the names of a path, which count as
/// one here.
#[track_caller]
fn says(text: &str, parts: &[&str]) {
    let same = |text: &str| if cfg!(windows) { text.replace('\\', "/") } else { text.to_owned() };
    for part in parts {
        assert!(same(text).contains(&same(part)), "expected {part:?} in: {text}");
    }
}
