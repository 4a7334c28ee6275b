//! Recognises files that this program wrote, by a mark that every kind of output contains.

use std::fs::{self, File};
use std::io::Read;
#[cfg(feature = "readers")]
use std::io::{BufReader, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use super::statistics;
use crate::archive::{Archive, open_plain};

/// The start of the gzip comment of a label map. A program that saves the map again drops the comment, because it
/// compresses the map anew. By contrast, many programs keep `descrip` in the NIfTI header.
#[cfg(feature = "readers")]
pub(super) const COMMENT: &str = "written by meddino ";

/// The text in `descrip` of an uncompressed label map that precedes the CRC-32 of its voxels.
#[cfg(feature = "readers")]
pub(super) const CRC: &str = " crc32 ";

/// The start of the preamble of a DICOM SEG.
pub(super) const DICOM_MARK: &str = "meddino ";

/// The length of a DICOM file's preamble, after which "DICM" stands.
const PREAMBLE: usize = 128;

/// The key under which outputs store the version of the program that wrote them: in the metadata of safetensors, in
/// JSON, and in the metadata of `.npz`.
pub const WRITTEN_BY: &str = "meddino";

/// Of a single file of NIfTI-1 and NIfTI-2: the magic and its offset, the byte range of `descrip`, and the offset of
/// the voxels that follow the header.
const NIFTI: [(&[u8], usize, Range<usize>, u64); 2] = [(b"n+1\0", 344, 148..228, 352), (b"n+2\0", 4, 240..320, 544)];

/// The offset of the attribute's name in an HDF5 file: after the superblock, the group's header, and of the dataset's header
/// all but the data of the last message.
const HDF5: usize = 96 + 40 + 16 + (8 + 16) + (8 + 24) + (8 + 8) + (8 + 24) + 8 + 8;

/// Number of bytes read of every file at first: enough for the header of a label map in any format.
const GLANCE: u64 = 1024;

/// Number of bytes read of a file in which other texts may precede the mark.
const HEAD: u64 = 64 << 10;

/// The longest JSON that is read, in bytes.
const MAX_JSON: u64 = 16 << 20;

/// The origin of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Somebody else wrote the file, or the file cannot be read.
    Others,
    /// This program converted a checkpoint into this file, and the original may be gone.
    Checkpoint,
    /// This program wrote the label map or DICOM SEG, and somebody has saved other labels in it since.
    Changed,
    /// This program computed the file from a scan, and nobody has changed it since. Only label maps and DICOM
    /// SEGs are checked for changes, because only they are corrected by hand. An empty file counts as well, because
    /// replacing it loses nothing.
    AsWritten,
}

impl Origin {
    /// Returns the origin of the file at `path`. Reads an uncompressed label map or a DICOM SEG completely.
    pub fn of(path: &Path) -> Self {
        match Kind::of(path) {
            None => Self::Others,
            Some(Kind::Checkpoint) => Self::Checkpoint,
            Some(Kind::Labels(head)) if !bears_mark(path, &head) => Self::Changed,
            Some(_) => Self::AsWritten,
        }
    }
}

/// Returns whether this program wrote the file at `path`: features, a basis, a converted checkpoint, a label map, a
/// DICOM SEG, probabilities, a table of statistics, a picture or a profile. An empty file counts as well, because
/// replacing it loses nothing. A file that cannot be read does not count.
pub fn is_ours(path: impl AsRef<Path>) -> bool {
    Kind::of(path.as_ref()).is_some()
}

/// The kind of output in a file, as the file's contents show it.
enum Kind {
    Checkpoint,
    /// A label map or a DICOM SEG, with the first bytes of its file.
    Labels(Vec<u8>),
    Other,
}

impl Kind {
    /// Returns the kind of the file at `path`, or `None` if this program did not write it.
    fn of(path: &Path) -> Option<Self> {
        let head = head(path, GLANCE)?;
        let other = |is_ours: bool| is_ours.then_some(Self::Other);
        match &head[..] {
            [] => other(true),
            [0x1f, 0x8b, ..] => self::head(path, HEAD).filter(|head| nifti_mark(&inflated(head)).is_some()).map(Self::Labels),
            [b'P', b'K', 3, 4, ..] => other(is_npz(path)),
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => other(is_json(&path.with_extension("json"))),
            [0x89, b'P', b'N', b'G', ..] => other(is_picture(&self::head(path, HEAD)?)),
            [0x89, b'H', b'D', b'F', ..] => other(is_hdf5_of_ours(&head)),
            [b'c', b'a', b's', b'e', ..] => other(head.starts_with(statistics::HEADER.as_bytes())),
            [b'{', ..] => other(is_json(path)),
            [_, _, _, _, _, _, _, _, b'{', ..] => Self::of_archive(&Archive::open(path).ok()?),
            _ => (nifti_mark(&head).is_some() || is_seg(&head) || text_mark(&head).is_some()).then_some(Self::Labels(head)),
        }
    }

    /// Returns the kind of a safetensors file. A converted checkpoint has its configuration under `meddino.config`.
    fn of_archive(archive: &Archive) -> Option<Self> {
        let is_config = |key: &String| key.strip_prefix(WRITTEN_BY).is_some_and(|rest| rest.starts_with('.'));
        if archive.metadata().keys().any(is_config) {
            return Some(Self::Checkpoint);
        }
        archive.metadata().contains_key(WRITTEN_BY).then_some(Self::Other)
    }
}

/// Returns whether `name` is the name of an output folder's manifest, or of one of the manifest's shards.
pub fn is_manifest_name(name: &str) -> bool {
    let middle = name.strip_prefix("manifest").and_then(|rest| rest.strip_suffix(".jsonl"));
    middle.is_some_and(|middle| middle.is_empty() || middle.starts_with('.'))
}

/// Reads the first `most` bytes of a plain file, or fewer if the file is shorter.
fn head(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    open_plain(path).ok()?.take(most).read_to_end(&mut head).ok()?;
    Some(head)
}

/// Returns whether nobody has saved the labels at `path`, which begin with `head`, since this program wrote them.
fn bears_mark(path: &Path, head: &[u8]) -> bool {
    if let Some((mark, length)) = text_mark(head) {
        return has_crc(path, mark, length);
    }
    if let Some((field, voxels)) = nifti_mark(head) {
        return has_crc(path, &head[field], voxels);
    }
    if is_seg(head) { has_crc(path, &head[..PREAMBLE], PREAMBLE as u64 + 4) } else { has_comment(head) }
}

/// Returns the comment in the header of an NRRD or MetaImage file that names this program, and the header's length.
fn text_mark(head: &[u8]) -> Option<(&[u8], u64)> {
    let (comment, end): (&[u8], &[u8]) = match head {
        [b'N', b'R', b'R', b'D', ..] => (b"# meddino ", b"\n\n"),
        [b'O', b'b', b'j', b'e', b'c', b't', ..] => (b"Comment = meddino ", b"ElementDataFile = LOCAL\n"),
        _ => return None,
    };
    let find = |text: &[u8]| head.windows(text.len()).position(|window| window == text);
    let (line, length) = (find(comment)?, find(end)? + end.len());
    let mark = head[line..].split(|byte| *byte == b'\n').next()?;
    Some((mark, length as u64))
}

/// Returns whether the preamble of a DICOM file names this program.
fn is_seg(head: &[u8]) -> bool {
    head.starts_with(DICOM_MARK.as_bytes()) && head.get(PREAMBLE..PREAMBLE + 4).is_some_and(|magic| magic == b"DICM")
}

/// Returns the byte range of the field `descrip` of a NIfTI file and the offset of its voxels, if the field names this
/// program.
pub(super) fn nifti_mark(head: &[u8]) -> Option<(Range<usize>, u64)> {
    let (.., field, voxels) = NIFTI.into_iter().find(|(magic, at, ..)| head.get(*at..).is_some_and(|head| head.starts_with(magic)))?;
    head.get(field.clone())?.starts_with(b"meddino ").then_some((field, voxels))
}

/// Returns whether the `Software` text of a PNG picture names this program. The text is in an `iTXt` chunk that is
/// neither compressed nor translated.
fn is_picture(head: &[u8]) -> bool {
    let text = b"iTXtSoftware\0\0\0\0\0meddino ";
    head.windows(text.len()).any(|window| window == text)
}

/// Returns whether an HDF5 file has this program's attribute where `hdf5.rs` writes it.
fn is_hdf5_of_ours(head: &[u8]) -> bool {
    head.get(HDF5..).is_some_and(|rest| rest.starts_with(b"meddino\0"))
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

/// Returns whether the bytes from `start` on have the checksum that `about` states.
#[cfg(feature = "readers")]
fn has_crc(path: &Path, about: &[u8], start: u64) -> bool {
    let about = String::from_utf8_lossy(about);
    let stated = about.trim_end_matches('\0').split_once(CRC).and_then(|(_, crc)| u32::from_str_radix(crc, 16).ok());
    let found = || -> std::io::Result<u32> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = flate2::CrcReader::new(BufReader::new(file));
        std::io::copy(&mut bytes, &mut std::io::sink())?;
        Ok(bytes.crc().sum())
    };
    stated.is_some() && stated == found().ok()
}

#[cfg(not(feature = "readers"))]
fn has_comment(_: &[u8]) -> bool {
    false
}

#[cfg(not(feature = "readers"))]
fn has_crc(_: &Path, _: &[u8], _: u64) -> bool {
    false
}

#[cfg(feature = "readers")]
fn inflated(head: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The end of `head` may be missing. An error is ignored, because the header is at the start.
    let _ = flate2::read::MultiGzDecoder::new(head).take(GLANCE).read_to_end(&mut bytes);
    bytes
}

#[cfg(not(feature = "readers"))]
fn inflated(_: &[u8]) -> Vec<u8> {
    Vec::new()
}

/// Returns whether the metadata of an `.npz` file name this program. The metadata are an array of one text in UTF-32,
/// which becomes readable when its zero bytes are removed.
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
    use crate::archive::{ArchiveWriter, Dtype, TensorHeader};

    #[test]
    fn what_others_wrote_is_not_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let safetensors = |name: &str, metadata: &[(&str, &str)]| {
            let metadata: BTreeMap<_, _> = metadata.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect();
            let stored = [("x".to_string(), TensorHeader { shape: vec![1], dtype: Dtype::F32 })];
            ArchiveWriter::create(&at(name), &stored, &metadata).and_then(ArchiveWriter::finish).expect("written");
        };
        safetensors("ours", &[("meddino", "0.1.0")]);
        safetensors("converted", &[("meddino.config", "{}")]);
        safetensors("other", &[("meddinoid", "pt"), ("format", "pt")]);
        let nifti = |version: usize, descrip: &str| {
            let (magic, at, field, voxels) = &NIFTI[version - 1];
            let mut bytes = vec![0; *voxels as usize];
            bytes[field.clone()][..descrip.len()].copy_from_slice(descrip.as_bytes());
            bytes[*at..][..magic.len()].copy_from_slice(magic);
            bytes
        };
        for (name, bytes) in [
            ("empty", Vec::new()),
            ("labels.nii", nifti(1, "meddino 0.1.0")),
            ("labels_2.nii", nifti(2, "meddino 0.1.0")),
            ("fsl.nii", nifti(1, "FSL5.0")),
            ("fsl_2.nii", nifti(2, "FSL5.0")),
            ("short.nii", nifti(1, "meddino 0.1.0")[..200].to_vec()),
            ("short_2.nii", nifti(2, "meddino 0.1.0")[..200].to_vec()),
            ("ours.json", br#"{"meddino": "0.1.0"}"#.to_vec()),
            ("other.json", br#"{"a": {"meddino": 1}}"#.to_vec()),
            ("cut.json", br#"{"meddino": "0"#.to_vec()),
            ("ours.csv", statistics::HEADER.as_bytes().to_vec()),
            ("other.csv", b"case,label,name,voxels,remarks\n".to_vec()),
            ("ours.nrrd", b"NRRD0004\n# meddino 0.1.0 crc32 0\ntype: uchar\n\n".to_vec()),
            ("other.nrrd", b"NRRD0004\n# 3D Slicer\ntype: uchar\n\n".to_vec()),
            ("ours.mha", b"ObjectType = Image\nComment = meddino 0.1.0 crc32 0\nElementDataFile = LOCAL\n".to_vec()),
            ("cut.mha", b"ObjectType = Image\nComment = meddino 0.1.0 crc32 0\n".to_vec()),
            ("text", b"meddino 0.1.0".to_vec()),
            ("x.npy", b"\x93NUMPY\x01\0".to_vec()),
            ("ours.npy", b"\x93NUMPY\x01\0".to_vec()),
            ("cut.png", b"\x89PNG\r\n\x1a\n".to_vec()),
            ("cut.zip", b"PK\x03\x04".to_vec()),
            ("cut.gz", b"\x1f\x8b".to_vec()),
        ] {
            fs::write(at(name), bytes).expect("written");
        }
        for ours in
            ["ours", "converted", "empty", "labels.nii", "labels_2.nii", "ours.json", "ours.npy", "ours.csv", "ours.nrrd", "ours.mha"]
        {
            assert!(is_ours(at(ours)), "{ours}");
        }
        let others = [
            "other",
            "fsl.nii",
            "fsl_2.nii",
            "short.nii",
            "short_2.nii",
            "other.json",
            "other.csv",
            "other.nrrd",
            "cut.mha",
            "cut.json",
            "text",
            "x.npy",
            "cut.png",
            "cut.zip",
            "cut.gz",
            "missing",
            ".",
        ];
        for other in others {
            assert!(!is_ours(at(other)), "{other}");
        }
    }
}
