//! Checkpoints: safetensors, and PyTorch's two containers.

use std::io::{Cursor, Write as _};
use std::path::Path;

use meddino::checkpoint::Checkpoint;
use meddino::nnunet::Network;
use meddino::vit::model::Model;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{Desk, safetensors};

/// The number of parameters that are loaded from a checkpoint.
const LOADED: usize = 64;
/// The number of storages in a zip archive, and the bytes of each.
const STORAGES: usize = 4;
const STORAGE: usize = 1024;

pub fn safetensors(desk: &Desk, bytes: &[u8]) -> bool {
    read(&desk.write("model.safetensors", &safetensors::framed(bytes)))
}

/// Bytes that are no zip are packed into one as its pickle.
pub fn zip(desk: &Desk, bytes: &[u8]) -> bool {
    let archive = if bytes.starts_with(b"PK") { bytes.to_vec() } else { packed(bytes) };
    read(&desk.write("model.pth", &archive))
}

pub fn legacy(desk: &Desk, bytes: &[u8]) -> bool {
    read(&desk.write("model.pth", bytes))
}

fn read(path: &Path) -> bool {
    let Ok(checkpoint) = Checkpoint::open(path) else { return false };
    assert!(!checkpoint.files().is_empty());
    for entry in checkpoint.entries().iter().chain(checkpoint.decoder()).take(LOADED) {
        if let Ok(tensor) = checkpoint.load(&entry.name) {
            assert_eq!(tensor.shape(), entry.shape, "{}", entry.name);
            assert!(tensor.data().iter().all(|v| v.is_finite()), "{}", entry.name);
        }
    }
    let _ = checkpoint.training();
    if let Ok(model) = Model::from_checkpoint(checkpoint) {
        assert!(model.parameters() > 0);
    }
    let _ = Network::open(path);
    true
}

/// An archive in the format of `torch.save`.
fn packed(pickle: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let storage: Vec<u8> = (0..STORAGE).map(|i| if i % 2 == 1 { 0x3C } else { (i * 29) as u8 }).collect();
    let mut entry = |name: &str, bytes: &[u8]| {
        archive.start_file(name, stored).expect("memory takes it");
        archive.write_all(bytes).expect("memory takes it");
    };
    entry("model/data.pkl", pickle);
    entry("model/byteorder", b"little");
    (0..STORAGES).for_each(|number| entry(&format!("model/data/{number}"), &storage));
    entry("model/version", b"3\n");
    archive.finish().expect("memory takes it").into_inner()
}
