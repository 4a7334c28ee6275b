//! Which hub file to use, and what the cached copy of it is.

/// A file in a model repository of the hub.
#[derive(Clone, Copy, Debug)]
pub struct HubFile {
    /// OWNER/NAME.
    pub repository: &'static str,
    /// The file's name in the repository, without folders.
    pub file: &'static str,
    /// The commit whose file to use, 40 hexadecimal digits. Without a commit, the head of the branch `main` is used.
    pub revision: Option<&'static str>,
}

/// The weights that the authors of MedDINOv3 released: ViT-B/16, trained on CT-3M. Nobody knows which commit the paper
/// used, so `main` is taken. [`super::Hub::identify`] reports the commit of the cached file.
pub const RELEASED: HubFile = HubFile { repository: "ricklisz123/MedDINOv3-ViTB-16-CT-3M", file: "MedDINOv3-B-CT3M.pth", revision: None };

/// Identifies a cached file.
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
