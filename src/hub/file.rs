//! The files of the hub, and their identity in the cache.

/// A file in a model repository of the hub.
#[derive(Clone, Copy, Debug)]
pub struct HubFile {
    /// OWNER/NAME.
    pub repository: &'static str,
    /// The file's name in the repository, without folders.
    pub file: &'static str,
    /// The commit from which the file is taken, 40 hexadecimal digits. `None` means the head of the branch `main`.
    pub revision: Option<&'static str>,
}

/// The weights that the authors of MedDINOv3 released: ViT-B/16, trained on CT-3M. It is not known which commit the
/// paper used, so `main` is taken. [`super::Hub::identify`] reports the commit of the cached file.
pub const RELEASED: HubFile = HubFile { repository: "ricklisz123/MedDINOv3-ViTB-16-CT-3M", file: "MedDINOv3-B-CT3M.pth", revision: None };

/// The identity of a cached file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The repository's commit to which the file belongs.
    pub commit: String,
    /// The SHA-256 of the file's bytes, in lower-case hexadecimal.
    pub sha256: String,
    /// Whether `sha256` equals the SHA-256 that the cache records for the file. `None` if the cache records none, as on
    /// systems without symlinks where `huggingface_hub` fetched the file.
    pub is_sound: Option<bool>,
}
