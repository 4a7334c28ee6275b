//! Which file of the hub is meant, and what the cache has of it.

/// A file of a repository of models.
#[derive(Clone, Copy, Debug)]
pub struct HubFile {
    /// OWNER/NAME.
    pub repository: &'static str,
    /// The file's name in it; no folders.
    pub file: &'static str,
    /// The commit whose file is meant, 40 hexadecimal digits; without one, that of the branch `main`.
    pub revision: Option<&'static str>,
}

/// The weights that the authors of MedDINOv3 released: ViT-B/16, trained on CT-3M. It is not known which commit the
/// paper used, so `main` is taken; [`super::Hub::identify`] tells what that was.
pub const RELEASED: HubFile = HubFile { repository: "ricklisz123/MedDINOv3-ViTB-16-CT-3M", file: "MedDINOv3-B-CT3M.pth", revision: None };

/// What a cached file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The commit of the repository that it is of.
    pub commit: String,
    /// The SHA-256 of its bytes, in lower-case hexadecimal.
    pub sha256: String,
    /// Whether that is the SHA-256 that is kept beside it; none if none is kept, as on systems without links where
    /// `huggingface_hub` fetched it.
    pub is_sound: Option<bool>,
}
