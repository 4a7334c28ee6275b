//! The DICOM files of a folder: found by what they hold, sorted into CT slices and what is left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dicom_dictionary_std::{tags, uids};

use super::frame::{self, Frame};
use super::header::{Header, is_dicom};
use super::sheltered;

/// How many folders deep is looked.
const MAX_DEPTH: usize = 16;

/// Everything found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub frames: Vec<Frame>,
    pub broken: Vec<Broken>,
    in_folder: bool,
    /// What is left out, and why: the reason, how many files, the first one's name.
    left_out: BTreeMap<String, (usize, String)>,
}

/// A file that should be CT and cannot be used.
#[derive(Debug)]
pub(super) struct Broken {
    pub path: PathBuf,
    /// The UID of its series, if it got so far.
    pub series: Option<String>,
    pub problem: String,
}

/// What a file turned out to be.
enum Kind {
    Ct(Vec<Frame>),
    /// No CT slice, and why.
    Other(String),
    /// The list of a medium's files.
    Directory,
}

impl Found {
    /// Looks through `path`, a file or a folder and those in it.
    ///
    /// # Errors
    /// If `path` itself cannot be read.
    pub fn in_path(path: &Path) -> Result<Self, String> {
        let mut found = Self::default();
        if path.is_dir() {
            let mut entries = Vec::new();
            list(path, 0, &mut entries, &mut found)?;
            entries.sort();
            found.in_folder = true;
            entries.iter().for_each(|path| found.add(path));
        } else {
            found.add(path);
        }
        Ok(found)
    }

    fn add(&mut self, path: &Path) {
        match is_dicom(path) {
            Err(problem) => return self.leave_out(format!("cannot be read ({problem})"), path),
            Ok(false) => return self.leave_out("no DICOM".into(), path),
            Ok(true) => {}
        }
        let mut broken = |series, problem| self.broken.push(Broken { path: path.to_owned(), series, problem });
        match sheltered(|| Header::read(path)) {
            Err(problem) => broken(None, problem),
            Ok(header) => match kind(path, &header) {
                Ok(Kind::Ct(frames)) => self.frames.extend(frames),
                Ok(Kind::Other(why)) => self.leave_out(why, path),
                // Its files are found without it.
                Ok(Kind::Directory) if self.in_folder => {}
                Ok(Kind::Directory) => self.leave_out("DICOMDIR, a list of files: give the folder that it is in".into(), path),
                Err(problem) => broken(header.text(tags::SERIES_INSTANCE_UID).map(str::to_string), problem),
            },
        }
    }

    fn leave_out(&mut self, why: String, path: &Path) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.left_out.entry(why).or_insert((0, name)).0 += 1;
    }

    /// What is left out, in words; none if nothing is.
    pub fn left_out(&self) -> Option<String> {
        let word = |(why, (count, first)): (&String, &(usize, String))| match count {
            1 => format!("1 file: {why} ({first})"),
            _ => format!("{count} files: {why} (first {first})"),
        };
        let words: Vec<String> = self.left_out.iter().map(word).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// The files under `folder`; a link to a folder is not followed.
fn list(folder: &Path, depth: usize, files: &mut Vec<PathBuf>, found: &mut Found) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(|e| format!("the folder cannot be read: {e}"))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        let kind = fs::symlink_metadata(&path).map_err(|e| e.to_string())?.file_type();
        if kind.is_dir() && depth == MAX_DEPTH {
            found.leave_out(format!("folder deeper than {MAX_DEPTH}"), &path);
        } else if kind.is_dir() {
            if let Err(problem) = list(&path, depth + 1, files, found) {
                found.leave_out(problem, &path);
            }
        } else if path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// What a file is.
fn kind(path: &Path, header: &Header) -> Result<Kind, String> {
    let class = header.text(tags::SOP_CLASS_UID).or(header.text(tags::MEDIA_STORAGE_SOP_CLASS_UID)).unwrap_or_default();
    let is_ct_class =
        [uids::CT_IMAGE_STORAGE, uids::ENHANCED_CT_IMAGE_STORAGE, uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE].contains(&class);
    if class == uids::MEDIA_STORAGE_DIRECTORY_STORAGE {
        return Ok(Kind::Directory);
    }
    let other = |why: &str| Ok(Kind::Other(why.to_string()));
    match header.text(tags::MODALITY) {
        Some("CT") => {}
        Some(modality) => return Ok(Kind::Other(format!("modality {modality}, no CT"))),
        None if is_ct_class => {}
        None => return other("DICOM without a modality"),
    }
    let image_type = header.frame_text(0, tags::IMAGE_TYPE).unwrap_or_default();
    if image_type.split('\\').any(|word| matches!(word.trim(), "LOCALIZER" | "SCOUT")) {
        return other("localizer");
    }
    if header.pixels.is_none() && !is_ct_class {
        return other("no image");
    }
    let is_gray = matches!(header.text(tags::PHOTOMETRIC_INTERPRETATION), Some("MONOCHROME1" | "MONOCHROME2") | None);
    if header.pixels.is_some() && (!is_gray || header.text(tags::SAMPLES_PER_PIXEL).is_some_and(|n| n != "1")) {
        return other("colour picture");
    }
    // A screenshot of a CT workstation is of modality CT too.
    if class == uids::SECONDARY_CAPTURE_IMAGE_STORAGE && header.frame_text(0, tags::RESCALE_SLOPE).is_none() {
        return other("secondary capture");
    }
    frame::frames(path, header).map(Kind::Ct)
}
