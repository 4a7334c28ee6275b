//! Searches a folder recursively for scans, and reports everything that it skips.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::pattern::Pattern;
use crate::archive::{Listing, Other, enter, unreadable};
use crate::ct;
use crate::error::{Error, Result};
use crate::jobs::name::ENDINGS;
use crate::jobs::observer::{Observer, warn};
use crate::jobs::reads::{is_output, is_own};
use crate::jobs::text::name_text;

/// Names of label folders in nnU-Net, TotalSegmentator's data set and others, in lower case.
const LABELS: [&str; 7] = ["labels", "labelstr", "labelsts", "labelsval", "segmentations", "gt_segmentations", "masks"];

/// Messages name at most this many skipped entries, and count the rest.
const NAMED: usize = 5;

fn name(path: &Path) -> String {
    path.file_name().map(name_text).unwrap_or_default()
}

/// The filters of a search.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted<'a> {
    /// If not empty, entries are skipped unless they match one of these patterns.
    pub include: &'a [Pattern],
    /// Files, and whole folders, are skipped if they match one of these patterns.
    pub exclude: &'a [Pattern],
    /// The output folder, which is not searched for scans.
    pub except: Option<&'a Path>,
}

/// The result of a search.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Volumes, and folders that hold DICOM files.
    pub scans: Vec<PathBuf>,
    /// Pipes, devices, dangling links, cyclic links, and entries that cannot be read.
    unusable: Vec<Other>,
    /// Number of files that are not scans, by their endings.
    others: BTreeMap<String, usize>,
    /// Scans in folders of labels.
    labels: Vec<PathBuf>,
    /// Outputs of this program.
    ours: Vec<PathBuf>,
    /// Scans in the output folder.
    in_except: Vec<PathBuf>,
}

/// A folder during the search.
struct Place<'a> {
    path: &'a Path,
    /// The real paths of this folder and of its parents in the search.
    above: &'a [PathBuf],
    /// Whether this folder or a parent in the search is a label folder.
    of_labels: bool,
    /// The verdict of the patterns on this folder and its parents.
    verdict: Verdict,
}

/// Searches `folder` for scans. A volume file is a scan, and so is a folder with DICOM files, including everything
/// below it. Follows links.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn search(folder: &Path, wanted: Wanted) -> Result<Found> {
    let fail = |e: std::io::Error| Error::input(folder.display(), e);
    let except = wanted.except.and_then(|path| path.canonicalize().ok());
    let mut search = Search { root: folder, wanted, except, voxels: Vec::new(), found: Found::default() };
    let above = [folder.canonicalize().map_err(fail)?];
    let verdict = if wanted.include.is_empty() { Verdict::Wanted } else { Verdict::Unwanted };
    search.search(&Place { path: folder, above: &above, of_labels: false, verdict }).map_err(fail)?;
    search.found.scans.sort();
    Ok(search.found)
}

struct Search<'a> {
    root: &'a Path,
    wanted: Wanted<'a>,
    except: Option<PathBuf>,
    /// The files in which the headers so far say that their voxels are.
    voxels: Vec<PathBuf>,
    found: Found,
}

/// The verdict of the patterns on a file or a folder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// Skipped.
    Unwanted,
    /// Taken if it is a scan and neither a label nor an output.
    Wanted,
    /// Taken in any case, because a pattern matches its path.
    Named,
}

impl Search<'_> {
    fn search(&mut self, place: &Place) -> std::io::Result<()> {
        let Listing { files, folders, others } = Listing::of(place.path)?;
        self.found.unusable.extend(others.into_iter().filter(|other| !is_hidden(&other.path)));
        let mut dicom = None;
        let mut rest = Vec::new();
        for path in files.iter().filter(|path| !is_hidden(path)) {
            match if self.excludes(path) { Verdict::Unwanted } else { self.verdict(path).max(place.verdict) } {
                Verdict::Unwanted => {}
                verdict if is_scan(path) => self.scan(path, verdict, place.of_labels),
                verdict => match is_dicom(path) {
                    Ok(true) => dicom = dicom.max(Some(verdict)),
                    Ok(false) => rest.push(path),
                    Err(why) => self.found.unusable.push(Other { path: path.clone(), why }),
                },
            }
        }
        if let Some(verdict) = dicom {
            let is_label = place.of_labels && verdict < Verdict::Named;
            if is_label { &mut self.found.labels } else { &mut self.found.scans }.push(place.path.into());
            // The reader of the slices reports other files beside and below them.
            return Ok(());
        }
        self.voxels.extend(voxel_files(&files));
        rest.into_iter().for_each(|path| self.other(path, &files));
        for path in folders.iter().filter(|path| !is_hidden(path)) {
            if !self.excludes(path) {
                self.descend(path, place);
            }
        }
        Ok(())
    }

    /// Searches a folder in `place`.
    fn descend(&mut self, path: &Path, place: &Place) {
        if self.except.is_some() && path.canonicalize().ok() == self.except {
            return self.search_except(path, place);
        }
        let searched = enter(path, place.above).and_then(|real| {
            let above = [place.above, &[real]].concat();
            let of_labels = place.of_labels || LABELS.contains(&name(path).to_lowercase().as_str());
            let verdict = place.verdict.max(self.verdict(path));
            self.search(&Place { path, above: &above, of_labels, verdict }).map_err(|e| unreadable(&e))
        });
        self.found.unusable.extend(searched.err().map(|why| Other { path: path.into(), why }));
    }

    /// Collects the scans in the output folder, which are skipped.
    fn search_except(&mut self, path: &Path, place: &Place) {
        let outer = std::mem::take(&mut self.found);
        self.except = None;
        self.descend(path, place);
        self.except = path.canonicalize().ok();
        let found = std::mem::replace(&mut self.found, outer);
        // Links may lead to the same scans again.
        let real = |path: &PathBuf| path.canonicalize().ok();
        let collected: Vec<_> = self.found.in_except.iter().map(real).collect();
        self.found.in_except.extend(found.scans.into_iter().filter(|path| !collected.contains(&real(path))));
    }

    /// Collects a file that has the name of a volume.
    fn scan(&mut self, path: &Path, verdict: Verdict, of_labels: bool) {
        let kind = match verdict {
            Verdict::Named => &mut self.found.scans,
            _ if of_labels => &mut self.found.labels,
            _ if is_output(path) => &mut self.found.ours,
            _ => &mut self.found.scans,
        };
        kind.push(path.into());
    }

    /// Collects a file that is not a scan; `files` are all files of its folder.
    fn other(&mut self, path: &Path, files: &[PathBuf]) {
        if is_own(path) {
            self.found.ours.push(path.into());
        } else if !is_half(path, files) && !self.voxels.iter().any(|voxels| voxels == path) {
            *self.found.others.entry(ending(path)).or_default() += 1;
        }
    }

    fn below<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(self.root).unwrap_or(path)
    }

    fn excludes(&self, path: &Path) -> bool {
        let below = self.below(path);
        self.wanted.exclude.iter().any(|pattern| pattern.matches(below))
    }

    fn verdict(&self, path: &Path) -> Verdict {
        let (include, below) = (self.wanted.include, self.below(path));
        match () {
            () if include.iter().any(|pattern| pattern.is_of_paths() && pattern.matches(below)) => Verdict::Named,
            () if include.is_empty() || include.iter().any(|pattern| pattern.matches(below)) => Verdict::Wanted,
            () => Verdict::Unwanted,
        }
    }
}

impl Found {
    /// Warns `observer` of everything in `folder` that was skipped, once for each kind.
    pub fn report(&self, folder: &Path, observer: &dyn Observer) {
        let unusable = self.unusable.iter().map(|other| format!("{}: {}", other.path.display(), other.why));
        unusable.take(NAMED).for_each(|text| warn(observer, &format!("{text}; it is skipped")));
        let more = self.unusable.len().saturating_sub(NAMED);
        if more > 0 {
            warn(observer, &format!("{}: {more} more such entries are skipped", folder.display()));
        }
        if !self.others.is_empty() {
            warn(observer, &format!("{}: {}", folder.display(), self.describe_others()));
        }
        if let Some(first) = self.in_except.first() {
            let (count, is) = (self.in_except.len(), if self.in_except.len() == 1 { "scan is" } else { "scans are" });
            warn(
                observer,
                &format!(
                    "{}: {count} {is} in the output folder and skipped, for example {}; give another output folder, or move the scans",
                    folder.display(),
                    first.display()
                ),
            );
        }
        // As a pattern has it on every system.
        let below = |first: &Path| first.strip_prefix(folder).unwrap_or(first).iter().map(name_text).collect::<Vec<_>>().join("/");
        for (paths, what) in [(&self.labels, "in folders of labels"), (&self.ours, "that meddino wrote")] {
            if let Some(first) = paths.first() {
                let (count, first) = (counted(paths.len()), below(first));
                warn(
                    observer,
                    &format!(
                        "{}: {count} {what} {} skipped, for example {first}; to use a file, give its path: `include` './{first}'",
                        folder.display(),
                        if paths.len() == 1 { "is" } else { "are" }
                    ),
                );
            }
        }
    }

    fn describe_others(&self) -> String {
        let total: usize = self.others.values().sum();
        let list: Vec<String> = self.others.iter().map(|(ending, count)| format!("{count} {ending}")).collect();
        let verb = if total == 1 { "is not a scan" } else { "are not scans" };
        format!("{} {verb} that meddino can read: {}", counted(total), list.join(", "))
    }
}

impl fmt::Display for Found {
    /// Formats what the folder holds instead of scans: an empty text, or such as `; 12 files are not scans that meddino
    /// can read: 10 .png, 2 .txt`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.others.is_empty() {
            write!(f, "; {}", self.describe_others())?;
        }
        for (paths, what) in [(&self.labels, "in folders of labels"), (&self.ours, "that meddino wrote")] {
            if let Some(first) = paths.first() {
                write!(f, "; {} {what}, for example {}", counted(paths.len()), first.display())?;
            }
        }
        if let Some(first) = self.in_except.first() {
            write!(f, "; {} in the output folder, for example {}", counted(self.in_except.len()), first.display())?;
        }
        self.unusable.iter().take(NAMED).try_for_each(|other| write!(f, "; {} is {}", other.path.display(), other.why))
    }
}

fn counted(files: usize) -> String {
    format!("{files} file{}", if files == 1 { "" } else { "s" })
}

fn is_hidden(path: &Path) -> bool {
    name(path).starts_with('.')
}

fn is_scan(path: &Path) -> bool {
    let name = name(path).to_lowercase();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn is_dicom(path: &Path) -> Result<bool, String> {
    // A DICOMDIR is a table of contents in DICOM format, not an image.
    if name(path).eq_ignore_ascii_case("dicomdir") {
        return Ok(false);
    }
    ct::is_dicom(path).map_err(|e| match e {
        Error::Input { problem, .. } => format!("cannot be read ({problem})"),
        other => other.to_string(),
    })
}

/// Returns the files in which headers among `files` (.nhdr and .mhd) say that their voxels are.
fn voxel_files(files: &[PathBuf]) -> Vec<PathBuf> {
    let is_header = |path: &&PathBuf| [".nhdr", ".mhd"].iter().any(|ending| name(path).to_lowercase().ends_with(ending));
    files.iter().filter(is_header).filter_map(|header| ct::files_of(header).ok()).flatten().collect()
}

/// Returns whether `path` is the .img file of a .hdr file in `files`.
fn is_half(path: &Path, files: &[PathBuf]) -> bool {
    let name = name(path).to_lowercase();
    let stem = [".img.gz", ".img"].iter().find_map(|ending| name.strip_suffix(ending));
    stem.is_some_and(|stem| {
        files.iter().any(|other| [".hdr", ".hdr.gz"].iter().any(|ending| self::name(other).to_lowercase() == format!("{stem}{ending}")))
    })
}

fn ending(path: &Path) -> String {
    path.extension().map_or_else(|| "without an ending".into(), |ending| format!(".{}", name_text(ending).to_lowercase()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::pattern::tests::glob;
    use super::*;

    const DICOM: &[u8] = b"\x08\0\x05\0CS\x0a\0ISO_IR 100";

    struct Desk(tempfile::TempDir);

    impl Desk {
        fn new(files: &[(&str, &[u8])]) -> Self {
            let desk = Self(tempfile::tempdir().expect("a folder"));
            for (name, bytes) in files {
                fs::create_dir_all(desk.at(name).parent().expect("a folder")).expect("made");
                fs::write(desk.at(name), bytes).expect("written");
            }
            desk
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn names(&self, paths: &[PathBuf]) -> Vec<String> {
            let name =
                |path: &PathBuf| path.strip_prefix(self.0.path()).expect("below").iter().map(name_text).collect::<Vec<_>>().join("/");
            paths.iter().map(name).collect()
        }

        fn scans(&self, include: &[&str], exclude: &[&str]) -> Vec<String> {
            let globs = |texts: &[&str]| texts.iter().map(|text| glob(text)).collect::<Vec<Pattern>>();
            let choice = Wanted { include: &globs(include), exclude: &globs(exclude), except: None };
            self.names(&search(self.0.path(), choice).expect("searched").scans)
        }
    }

    #[test]
    fn folders_are_searched_and_dicom_is_recognised_by_its_content() {
        let whole = [&[0; 128][..], b"DICM"].concat();
        let desk = Desk::new(&[
            ("b.nii.gz", b""),
            ("a.npy", b""),
            ("pair.hdr", b""),
            ("pair.img", b""),
            ("notes.txt", b"notes"),
            (".hidden.npy", b""),
            ("DICOMDIR", &whole),
            ("deep/er/c.nii", b""),
            ("deep/scan.GIPL", b"ObjectType = Image"),
            ("series/0", &whole),
            ("series/1", &whole),
            ("series/notes.doc", b"reported by the reader"),
            ("bare/0", DICOM),
            ("series/second/0", &whole),
            ("out/d.npy", b""),
        ]);
        let out = desk.at("out");
        let found = search(desk.0.path(), Wanted { except: Some(&out), ..Wanted::default() }).expect("searched");
        assert_eq!(desk.names(&found.scans), ["a.npy", "b.nii.gz", "bare", "deep/er/c.nii", "pair.hdr", "series"]);
        let others: Vec<_> = found.others.iter().map(|(ending, count)| (ending.as_str(), *count)).collect();
        assert_eq!(others, [(".gipl", 1), (".txt", 1), ("without an ending", 1)]);
        assert_eq!(found.describe_others(), "3 files are not scans that meddino can read: 1 .gipl, 1 .txt, 1 without an ending");
    }

    /// Files that hold the voxels of a header are part of its scan. Others with such names are reported, and so are
    /// those of a header that is not read.
    #[test]
    fn data_files_of_headers_are_not_reported() {
        let nrrd = |file: &str| format!("NRRD0004\ntype: short\ndata file: {file}\n\n").into_bytes();
        let meta = |file: &str| format!("ObjectType = Image\nElementDataFile = {file}\n").into_bytes();
        let desk = Desk::new(&[
            ("a.nhdr", &nrrd("a.raw.gz")),
            ("a.raw.gz", b"voxels"),
            ("B.MHD", &meta("b of B.zraw")),
            ("b of B.zraw", b"voxels"),
            ("c.mhd", &meta("./below/c.raw")),
            ("below/c.raw", b"voxels"),
            ("list.mhd", &meta("LIST")),
            ("list_1.dat", b"voxels"),
            ("pattern.nhdr", &nrrd("p%03d.bin 1 2 1")),
            ("p001.bin", b"voxels"),
            ("whole.mha", &meta("LOCAL")),
            ("case.mhd", &meta("CASE.img")),
            ("case.img", b"voxels"),
            ("lost.raw", b"voxels"),
        ]);
        let found = search(desk.0.path(), Wanted::default()).expect("searched");
        let scans = ["B.MHD", "a.nhdr", "c.mhd", "case.mhd", "list.mhd", "pattern.nhdr", "whole.mha"];
        assert_eq!(desk.names(&found.scans), scans);
        let others: Vec<_> = found.others.iter().map(|(ending, count)| (ending.as_str(), *count)).collect();
        assert_eq!(others, [(".bin", 1), (".dat", 1), (".img", 1), (".raw", 1)]);
    }

    #[test]
    #[cfg(unix)]
    fn links_are_followed_and_unusable_entries_are_named() {
        use std::os::unix::fs::symlink;
        let desk = Desk::new(&[("elsewhere/P1/0", DICOM), ("elsewhere/x.npy", b""), ("in/P2/0", DICOM)]);
        symlink("../elsewhere/P1", desk.at("in/P1")).expect("linked");
        symlink("../elsewhere/x.npy", desk.at("in/x.npy")).expect("linked");
        symlink("gone.nii", desk.at("in/lost.nii")).expect("linked");
        symlink("..", desk.at("in/loop")).expect("linked");
        let status = std::process::Command::new("mkfifo").arg(desk.at("in/pipe.nii")).status().expect("started");
        assert!(status.success());
        let found = search(&desk.at("in"), Wanted::default()).expect("searched");
        // The link `loop` leads to the parent folder, which is searched, but this folder is not searched again.
        let want = ["in/P1", "in/P2", "in/loop/elsewhere/P1", "in/loop/elsewhere/x.npy", "in/x.npy"];
        assert_eq!(desk.names(&found.scans), want);
        let unusable: Vec<_> = found.unusable.iter().map(|other| (name(&other.path), other.why.as_str())).collect();
        let back = "a link back to a folder that contains it";
        for other in [("lost.nii", "a dangling link"), ("pipe.nii", "a named pipe"), ("in", back)] {
            assert!(unusable.contains(&(other.0.into(), other.1)), "{unusable:?}");
        }
    }

    #[test]
    fn patterns_choose_scans() {
        let desk = Desk::new(&[
            ("s0/ct.nii.gz", b""),
            ("s0/pet.nii.gz", b""),
            ("s1/ct.nii.gz", b""),
            ("s1/masks/ct.nii.gz", b""),
            ("s2/CT/0.dcm", DICOM),
            ("s2/SR/0.dcm", DICOM),
            ("top.npy", b""),
        ]);
        let all = ["s0/ct.nii.gz", "s0/pet.nii.gz", "s1/ct.nii.gz", "s2/CT", "s2/SR", "top.npy"];
        assert_eq!(desk.scans(&[], &[]), all);
        for (include, exclude, want) in [
            (&["ct.nii.gz"][..], &[][..], &["s0/ct.nii.gz", "s1/ct.nii.gz"][..]),
            (&["*/ct.nii.gz"], &[], &["s0/ct.nii.gz", "s1/ct.nii.gz"]),
            (&["**/ct.nii.gz"], &[], &["s0/ct.nii.gz", "s1/ct.nii.gz", "s1/masks/ct.nii.gz"]),
            (&["*.npy", "CT"], &[], &["s2/CT", "top.npy"]),
            (&["*.dcm"], &["SR"], &["s2/CT"]),
            (&["s0"], &[], &["s0/ct.nii.gz", "s0/pet.nii.gz"]),
            (&["./s1"], &[], &["s1/ct.nii.gz", "s1/masks/ct.nii.gz"]),
            (&[], &["s?"], &["top.npy"]),
            (&[], &["s2/*", "pet*"], &["s0/ct.nii.gz", "s1/ct.nii.gz", "top.npy"]),
            (&["nothing"], &[], &[]),
        ] {
            assert_eq!(desk.scans(include, exclude), want, "{include:?} {exclude:?}");
        }
    }

    #[test]
    fn labels_and_own_outputs_are_not_scans() {
        let ours = |text: &str| {
            let header = format!("{{\"__metadata__\":{{{text}}}}}");
            [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
        };
        let mut labels = vec![0; 352];
        labels[148..155].copy_from_slice(b"meddino");
        labels[155] = b' ';
        labels[344..348].copy_from_slice(b"n+1\0");
        let desk = Desk::new(&[
            ("imagesTr/x_0000.nii.gz", b""),
            ("labelsTr/x.nii.gz", b""),
            ("s/Segmentations/liver.nii.gz", b""),
            ("theirs.safetensors", &ours("\"format\":\"pt\"")),
            ("old/x.safetensors", &ours("\"meddino\":\"0.1.0\"")),
            ("old/y.nii", &labels),
            ("old/manifest.jsonl", b"{}\n"),
        ]);
        let found = search(desk.0.path(), Wanted::default()).expect("searched");
        assert_eq!(desk.names(&found.scans), ["imagesTr/x_0000.nii.gz", "theirs.safetensors"]);
        assert_eq!(desk.names(&found.labels), ["labelsTr/x.nii.gz", "s/Segmentations/liver.nii.gz"]);
        assert_eq!(desk.names(&found.ours), ["old/x.safetensors", "old/y.nii", "old/manifest.jsonl"]);
        assert!(found.others.is_empty());
        // A pattern of names does not select labels and outputs; a pattern of paths does.
        assert_eq!(desk.scans(&["*.nii.gz", "y.nii"], &[]), ["imagesTr/x_0000.nii.gz"]);
        assert_eq!(desk.scans(&["labelsTr/*", "./old/y.nii"], &[]), ["labelsTr/x.nii.gz", "old/y.nii"]);
        // A label folder that is itself the input is searched.
        let named = search(&desk.at("labelsTr"), Wanted::default()).expect("searched");
        assert_eq!(desk.names(&named.scans), ["labelsTr/x.nii.gz"]);
    }
}
