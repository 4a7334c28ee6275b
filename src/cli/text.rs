//! File names as texts, for metadata, JSON, patterns and the names of outputs. A file's name need not be UTF-8; these must be.

use std::ffi::OsStr;

/// `name` as it is; what is no UTF-8 in it becomes `%XX` for each byte.
pub fn text(name: impl AsRef<OsStr>) -> String {
    let mut text = String::new();
    for chunk in name.as_ref().as_encoded_bytes().utf8_chunks() {
        text += chunk.valid();
        chunk.invalid().iter().for_each(|byte| text += &format!("%{byte:02X}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_utf_8_is_told_by_its_bytes() {
        assert_eq!(text("scans/Bär 1%.nii"), "scans/Bär 1%.nii");
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            assert_eq!(text(OsStr::from_bytes(b"B\xe4r\xff.nii")), "B%E4r%FF.nii");
        }
    }
}
