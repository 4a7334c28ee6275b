//! Whether this program wrote a file. Every kind of output holds a mark that says so.

use std::fs::{self, File};
use std::io::Read;
#[cfg(feature = "readers")]
use std::io::{BufReader, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use crate::archive::{Archive, open_plain};

/// The beginning of the gzip comment of a label map. A program that saves the map again drops the comment, because it
/// compresses the map anew; many programs keep `descrip` in the NIfTI header.
#[cfg(feature = "readers")]
pub(super) const COMMENT: &str = "written by meddino ";

/// What stands in `descrip` of a label map that is not compressed, before the CRC-32 of its voxels.
#[cfg(feature = "readers")]
pub(super) const CRC: &str = " crc32 ";

/// The key under which outputs name the version that wrote them: in safetensors' metadata, in JSON, and in the metadata
/// of `.npz`.
pub const WRITTEN_BY: &str = "meddino";

/// Where `descrip` stands in a NIfTI-1 header.
pub(super) const DESCRIP: Range<usize> = 148..228;

/// Where the voxels of a label map begin.
#[cfg(feature = "readers")]
const VOXELS: u64 = 352;

/// How much of a file is looked at first: enough for a NIfTI header.
const GLANCE: u64 = 512;

/// How much is looked at of a file whose mark may stand behind other texts.
const HEAD: u64 = 64 << 10;

/// The longest JSON that is read.
const MAX_JSON: u64 = 16 << 20;

/// Where a file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Somebody else wrote it, or it cannot be read.
    Others,
    /// This program converted a checkpoint into it, and the original may be gone.
    Checkpoint,
    /// A label map of this program's, in which somebody has saved other labels since.
    Changed,
    /// This program computed it from a scan, and nobody has changed it since. Only label maps are checked for changes,
    /// because only label maps are corrected by hand. An empty file counts as well, because nothing is lost with it.
    AsWritten,
}

impl Origin {
    /// Where the file at `path` comes from. Of a label map that is not compressed, all is read.
    pub fn of(path: &Path) -> Self {
        match Kind::of(path) {
            None => Self::Others,
            Some(Kind::Checkpoint) => Self::Checkpoint,
            Some(Kind::Labels(head)) if !bears_mark(path, &head) => Self::Changed,
            Some(_) => Self::AsWritten,
        }
    }
}

/// Whether the file at `path` was written by this program: features, a basis, a converted checkpoint, a label map,
/// probabilities, a picture, a profile. An empty file counts, too, as nothing is lost with it; what cannot be read does
/// not.
pub fn is_ours(path: impl AsRef<Path>) -> bool {
    Kind::of(path.as_ref()).is_some()
}

/// What this program wrote into a file, as the file itself says.
enum Kind {
    Checkpoint,
    /// A label map, and how its file begins.
    Labels(Vec<u8>),
    Other,
}

impl Kind {
    /// None of a file that this program did not write.
    fn of(path: &Path) -> Option<Self> {
        let head = head(path, GLANCE)?;
        let other = |is_ours: bool| is_ours.then_some(Self::Other);
        match &head[..] {
            [] => other(true),
            [0x1f, 0x8b, ..] => self::head(path, HEAD).filter(|head| is_label_map(&inflated(head))).map(Self::Labels),
            [b'P', b'K', 3, 4, ..] => other(is_npz(path)),
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => other(is_json(&path.with_extension("json"))),
            [0x89, b'P', b'N', b'G', ..] => other(is_picture(&self::head(path, HEAD)?)),
            [b'{', ..] => other(is_json(path)),
            [_, _, _, _, _, _, _, _, b'{', ..] => Self::of_archive(&Archive::open(path).ok()?),
            _ => is_label_map(&head).then_some(Self::Labels(head)),
        }
    }

    /// A converted checkpoint has its configuration under `meddino.config`.
    fn of_archive(archive: &Archive) -> Option<Self> {
        let is_config = |key: &String| key.strip_prefix(WRITTEN_BY).is_some_and(|rest| rest.starts_with('.'));
        if archive.metadata().keys().any(is_config) {
            return Some(Self::Checkpoint);
        }
        archive.metadata().contains_key(WRITTEN_BY).then_some(Self::Other)
    }
}

/// Whether `name` is the name of the manifest of a folder of outputs, or of one of its shards.
pub fn is_manifest_name(name: &str) -> bool {
    let middle = name.strip_prefix("manifest").and_then(|rest| rest.strip_suffix(".jsonl"));
    middle.is_some_and(|middle| middle.is_empty() || middle.starts_with('.'))
}

/// The first bytes of a plain file, up to `most`.
fn head(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    open_plain(path).ok()?.take(most).read_to_end(&mut head).ok()?;
    Some(head)
}

/// Whether nobody has saved the label map at `path`, which begins with `head`, since this program wrote it.
fn bears_mark(path: &Path, head: &[u8]) -> bool {
    if head.starts_with(&[0x1f, 0x8b]) { has_comment(head) } else { has_crc(path, head) }
}

/// The field `descrip` of a NIfTI-1 header says what wrote it.
fn is_label_map(head: &[u8]) -> bool {
    let is_nifti = head.get(344..347).is_some_and(|magic| magic == b"n+1");
    is_nifti && head[DESCRIP].starts_with(b"meddino ")
}

/// The `Software` of a picture, in a chunk `iTXt` that is neither compressed nor translated.
fn is_picture(head: &[u8]) -> bool {
    let text = b"iTXtSoftware\0\0\0\0\0meddino ";
    head.windows(text.len()).any(|window| window == text)
}

fn is_json(path: &Path) -> bool {
    let is_short = fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() <= MAX_JSON);
    let json = if is_short { fs::read(path).ok() } else { None };
    let json: Option<serde_json::Value> = json.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    json.is_some_and(|json| json.get(WRITTEN_BY).is_some())
}

#[cfg(feature = "readers")]
fn has_comment(head: &[u8]) -> bool {
    let gzip = flate2::bufread::GzDecoder::new(head);
    gzip.header().and_then(flate2::GzHeader::comment).is_some_and(|comment| comment.starts_with(COMMENT.as_bytes()))
}

/// Whether the voxels have the checksum that the header names.
#[cfg(feature = "readers")]
fn has_crc(path: &Path, head: &[u8]) -> bool {
    let about = String::from_utf8_lossy(&head[DESCRIP]);
    let stated = about.trim_end_matches('\0').split_once(CRC).and_then(|(_, crc)| u32::from_str_radix(crc, 16).ok());
    let found = || -> std::io::Result<u32> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(VOXELS))?;
        let mut voxels = flate2::CrcReader::new(BufReader::new(file));
        std::io::copy(&mut voxels, &mut std::io::sink())?;
        Ok(voxels.crc().sum())
    };
    stated.is_some() && stated == found().ok()
}

#[cfg(not(feature = "readers"))]
fn has_comment(_: &[u8]) -> bool {
    false
}

#[cfg(not(feature = "readers"))]
fn has_crc(_: &Path, _: &[u8]) -> bool {
    false
}

#[cfg(feature = "readers")]
fn inflated(head: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The end of `head` may be cut off, which does not matter, because the header stands at the beginning.
    let _ = flate2::read::MultiGzDecoder::new(head).take(352).read_to_end(&mut bytes);
    bytes
}

#[cfg(not(feature = "readers"))]
fn inflated(_: &[u8]) -> Vec<u8> {
    Vec::new()
}

/// The metadata of an `.npz` are an array of one text, in UTF-32: without its zeros it is readable.
fn is_npz(path: &Path) -> bool {
    let metadata = || -> Option<Vec<u8>> {
        let mut zip = zip::ZipArchive::new(File::open(path).ok()?).ok()?;
        let mut bytes = Vec::new();
        zip.by_name("metadata.npy").ok()?.take(MAX_JSON).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let text: Vec<u8> = metadata().unwrap_or_default().into_iter().filter(|byte| *byte != 0).collect();
    let key = format!("\"{WRITTEN_BY}\":");
    text.windows(key.len()).any(|window| window == key.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::archive::{ArchiveWriter, Dtype, Stored};

    #[test]
    fn what_others_wrote_is_not_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let safetensors = |name: &str, metadata: &[(&str, &str)]| {
            let metadata: BTreeMap<_, _> = metadata.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect();
            let stored = [("x".to_string(), Stored { shape: vec![1], dtype: Dtype::F32 })];
            ArchiveWriter::create(&at(name), &stored, &metadata).and_then(ArchiveWriter::finish).expect("written");
        };
        safetensors("ours", &[("meddino", "0.1.0")]);
        safetensors("converted", &[("meddino.config", "{}")]);
        safetensors("other", &[("meddinoid", "pt"), ("format", "pt")]);
        let nifti = |descrip: &str| {
            let mut bytes = vec![0; 352];
            bytes[DESCRIP][..descrip.len()].copy_from_slice(descrip.as_bytes());
            bytes[344..348].copy_from_slice(b"n+1\0");
            bytes
        };
        for (name, bytes) in [
            ("empty", Vec::new()),
            ("labels.nii", nifti("meddino 0.1.0")),
            ("fsl.nii", nifti("FSL5.0")),
            ("short.nii", nifti("meddino 0.1.0")[..200].to_vec()),
            ("ours.json", br#"{"meddino": "0.1.0"}"#.to_vec()),
            ("other.json", br#"{"a": {"meddino": 1}}"#.to_vec()),
            ("cut.json", br#"{"meddino": "0"#.to_vec()),
            ("text", b"meddino 0.1.0".to_vec()),
            ("x.npy", b"\x93NUMPY\x01\0".to_vec()),
            ("ours.npy", b"\x93NUMPY\x01\0".to_vec()),
            ("cut.png", b"\x89PNG\r\n\x1a\n".to_vec()),
            ("cut.zip", b"PK\x03\x04".to_vec()),
            ("cut.gz", b"\x1f\x8b".to_vec()),
        ] {
            fs::write(at(name), bytes).expect("written");
        }
        for ours in ["ours", "converted", "empty", "labels.nii", "ours.json", "ours.npy"] {
            assert!(is_ours(at(ours)), "{ours}");
        }
        let others =
            ["other", "fsl.nii", "short.nii", "other.json", "cut.json", "text", "x.npy", "cut.png", "cut.zip", "cut.gz", "missing", "."];
        for other in others {
            assert!(!is_ours(at(other)), "{other}");
        }
    }
}
