//! Finds the DICOM files of a folder by their content, and sorts them into CT slices and files that are left out.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use dicom_dictionary_std::{tags, uids};

use super::frame::{self, Frame};
use super::geometry::Stack;
use super::header::{Header, is_dicom};
use super::shelter::sheltered;
use crate::archive::{Listing, is_folder};
use crate::error::Problem;

/// The CT slices found under a path, and the files that are not used.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub frames: Vec<Frame>,
    pub broken: Vec<Broken>,
    in_folder: bool,
    /// The folders that contain CT slices.
    folders: HashSet<PathBuf>,
    /// The files that are left out: the reason, their number and the name of the first one.
    left_out: BTreeMap<String, (usize, String)>,
}

/// A file that should be CT but cannot be used, or a path that cannot be read, so that its content is unknown.
#[derive(Debug)]
pub(super) struct Broken {
    pub path: PathBuf,
    /// The UID of its series, if that could be read.
    pub series: Option<String>,
    pub problem: Problem,
}

/// The kind of a DICOM file.
enum Kind {
    Ct(Vec<Frame>),
    /// Not a CT slice, with the reason.
    Other(String),
    /// A DICOMDIR, which lists the files of a medium.
    Directory,
}

impl Found {
    /// Searches `path`, which is a file, or a folder with its subfolders.
    ///
    /// # Errors
    /// If `path` itself cannot be read.
    pub fn in_path(path: &Path) -> Result<Self, Problem> {
        let mut found = Self::default();
        if is_folder(path) {
            let listing = Listing::below(path).map_err(|e| Problem::from(e).within("the folder cannot be read"))?;
            found.in_folder = true;
            listing.files.iter().for_each(|path| found.add(path));
            found.broken.extend(listing.others.into_iter().map(|other| Broken {
                path: other.path,
                series: None,
                problem: other.why.into(),
            }));
        } else {
            found.add(path);
        }
        let folder_of = |frame: &Frame| frame.image.path.parent().map(Path::to_owned);
        found.folders = found.frames.iter().filter_map(folder_of).collect();
        Ok(found)
    }

    /// Takes out the unusable files that may be slices of `stack`, of the series `uid`, and then the other unusable
    /// files of unknown series. The caller must not leave out the first group, because the rest would pass for a whole scan.
    pub fn missing(&mut self, stack: &Stack, uid: &str) -> (Vec<Broken>, Vec<Broken>) {
        let files = StackFiles::of(stack);
        let (of_series, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.broken).into_iter().partition(|broken| match &broken.series {
            Some(series) => series == uid,
            None => files.may_include(&broken.path, &self.folders),
        });
        (of_series, others.into_iter().filter(|broken| broken.series.is_none()).collect())
    }

    fn add(&mut self, path: &Path) {
        let mut broken = |series, problem| self.broken.push(Broken { path: path.to_owned(), series, problem });
        match is_dicom(path) {
            Err(problem) => {
                let text = format!("it cannot be read ({problem})");
                return broken(None, problem.reworded(text));
            }
            Ok(false) if path.metadata().is_ok_and(|about| about.len() == 0) => return broken(None, "it is empty".into()),
            Ok(false) => return self.leave_out("no DICOM".into(), path),
            Ok(true) => {}
        }
        match sheltered(|| Header::read(path)) {
            Err(problem) => broken(None, problem),
            Ok(mut header) => match kind(path, &mut header) {
                Ok(Kind::Ct(frames)) => self.frames.extend(frames),
                Ok(Kind::Other(why)) => self.leave_out(why, path),
                // The search of the folder finds the listed files anyway.
                Ok(Kind::Directory) if self.in_folder => {}
                Ok(Kind::Directory) => self.leave_out("DICOMDIR, a list of files: give the folder that it is in".into(), path),
                Err(problem) => broken(header.text(tags::SERIES_INSTANCE_UID).map(str::to_string), problem),
            },
        }
    }

    fn leave_out(&mut self, why: String, path: &Path) {
        self.left_out.entry(why).or_insert((0, name(path))).0 += 1;
    }

    /// Describes what is left out. Returns `None` if nothing is.
    pub fn left_out(&self) -> Option<String> {
        let word = |(why, (count, first)): (&String, &(usize, String))| match count {
            1 => format!("1 file: {why} ({first})"),
            _ => format!("{count} files: {why} (first {first})"),
        };
        let words: Vec<String> = self.left_out.iter().map(word).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// The names of a stack's files, used to tell whether another file may be a slice of the stack.
struct StackFiles {
    folders: HashSet<PathBuf>,
    patterns: HashSet<String>,
    endings: HashSet<String>,
    /// Whether the names have so little in common that any other file may belong to the stack.
    are_named_anyhow: bool,
    has_gap: bool,
}

impl StackFiles {
    fn of(stack: &Stack) -> Self {
        let paths: HashSet<&PathBuf> = stack.frames.iter().map(|frame| &frame.image.path).collect();
        let patterns: HashSet<String> = paths.iter().map(|path| pattern(path)).collect();
        Self {
            folders: paths.iter().filter_map(|path| path.parent()).map(Path::to_owned).collect(),
            endings: paths.iter().map(|path| ending(path)).collect(),
            are_named_anyhow: paths.len() > 1 && 2 * patterns.len() > paths.len(),
            patterns,
            has_gap: stack.has_gap,
        }
    }

    /// Returns whether `path` may be a slice of the stack, judged by its name: the name is like those of the stack's
    /// files, or the file could fill a gap. A folder that contains other slices (one of `folders`) belongs to another
    /// stack.
    fn may_include(&self, path: &Path, folders: &HashSet<PathBuf>) -> bool {
        let Some(folder) = path.parent() else { return false };
        let is_here = self.folders.contains(folder);
        let has_ending = self.endings.contains(&ending(path));
        let is_named_so = self.patterns.contains(&pattern(path)) || (self.are_named_anyhow && has_ending);
        (is_here || !folders.contains(folder)) && is_named_so || is_here && self.has_gap && has_ending
    }
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Returns the letters after the last dot, in lower case.
fn ending(path: &Path) -> String {
    let name = name(path);
    let ending = name.rsplit_once('.').map(|(_, ending)| ending).unwrap_or_default();
    if ending.chars().all(char::is_alphabetic) { ending.to_lowercase() } else { String::new() }
}

/// Returns the file name with # in place of everything that counts up: numbers, UIDs and words of hexadecimal digits.
fn pattern(path: &Path) -> String {
    let mut pattern = String::new();
    for word in name(path).split_inclusive(|c: char| !c.is_alphanumeric()) {
        let bare = word.trim_end_matches(|c: char| !c.is_alphanumeric());
        if bare.len() >= 8 && bare.chars().all(|c| c.is_ascii_hexdigit()) && bare.contains(|c: char| c.is_ascii_digit()) {
            pattern += &word.replace(bare, "0");
        } else {
            pattern += word;
        }
    }
    let mut short = String::new();
    for c in pattern.chars() {
        match c {
            '0'..='9' if short.ends_with('#') => {}
            '0'..='9' if short.ends_with("#.") => drop(short.pop()),
            '0'..='9' => short.push('#'),
            c => short.push(c),
        }
    }
    short
}

/// Returns the kind of a file.
fn kind(path: &Path, header: &mut Header) -> Result<Kind, Problem> {
    let damage = header.damage.take();
    let class = header.text(tags::SOP_CLASS_UID).or(header.text(tags::MEDIA_STORAGE_SOP_CLASS_UID)).unwrap_or_default();
    let is_ct_class =
        [uids::CT_IMAGE_STORAGE, uids::ENHANCED_CT_IMAGE_STORAGE, uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE].contains(&class);
    if class == uids::MEDIA_STORAGE_DIRECTORY_STORAGE || header.is_directory {
        return Ok(Kind::Directory);
    }
    let other = |why: &str| Ok(Kind::Other(why.to_string()));
    match header.text(tags::MODALITY) {
        Some("CT") => {}
        Some(modality) => return Ok(Kind::Other(format!("modality {modality}, no CT"))),
        None if is_ct_class || damage.is_some() => {}
        None => return other("DICOM without a modality"),
    }
    if let Some(damage) = damage {
        return Err(damage);
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
    // A screenshot from a CT workstation also has the modality CT.
    if class == uids::SECONDARY_CAPTURE_IMAGE_STORAGE && header.frame_text(0, tags::RESCALE_SLOPE).is_none() {
        return other("secondary capture");
    }
    Ok(Kind::Ct(frame::frames(path, header)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_count_up_have_one_pattern() {
        for (names, expected) in [
            (&["IM0001.dcm", "IM12.dcm"][..], "IM#.dcm"),
            (&["1.2.840.7", "1.2.840.113619.2"], "#"),
            (&["CT.1.2.840.7.dcm", "CT.1.2.3.4.dcm"], "CT.#.dcm"),
            (&["0a1b2c3d4e5f", "9dead8beef0123"], "#"),
            (&["1-001.dcm", "1-2.dcm"], "#-#.dcm"),
            (&["notes.txt"], "notes.txt"),
        ] {
            names.iter().for_each(|name| assert_eq!(pattern(Path::new(name)), expected, "{name}"));
        }
        assert_eq!(["a.DCM", "1.2.3", "IM1", ".x"].map(|name| ending(Path::new(name))), ["dcm", "", "", "x"]);
    }
}
