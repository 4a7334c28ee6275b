//! The file formats of label maps.

use std::path::Path;

/// A file format in which label maps are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelFormat {
    /// Compressed NIfTI.
    NiftiGz,
    /// Uncompressed NIfTI.
    Nifti,
    /// Compressed NRRD.
    Nrrd,
    /// Compressed MetaImage.
    MetaImage,
}

impl LabelFormat {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::NiftiGz, Self::Nifti, Self::Nrrd, Self::MetaImage];
    /// The endings of their files' names, in the order of [`LabelFormat::ALL`].
    pub const ENDINGS: [&str; 4] = [".nii.gz", ".nii", ".nrrd", ".mha"];

    /// Returns the format that the name of the file at `path` ends with, in small or capital letters.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.to_string_lossy().to_lowercase();
        Self::ALL.into_iter().zip(Self::ENDINGS).find(|(_, ending)| name.ends_with(ending)).map(|(format, _)| format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_known_by_the_end_of_a_name() {
        for (name, format) in [
            ("a/b.nii.gz", Some(LabelFormat::NiftiGz)),
            ("a.NII", Some(LabelFormat::Nifti)),
            ("a.b.nrrd", Some(LabelFormat::Nrrd)),
            ("a.mha", Some(LabelFormat::MetaImage)),
            ("a.gz", None),
            ("nii", None),
            ("a.mhd", None),
        ] {
            assert_eq!(LabelFormat::of(Path::new(name)), format, "{name}");
        }
    }
}
