//! File names as texts. A file's name need not be UTF-8, but metadata, JSON, patterns and the names of outputs must be.

use std::ffi::OsStr;

/// The file name or path `name` as a text: each byte that is no UTF-8 becomes `%XX`.
pub fn name_text(name: impl AsRef<OsStr>) -> String {
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
        assert_eq!(name_text("scans/Bär 1%.nii"), "scans/Bär 1%.nii");
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            assert_eq!(name_text(OsStr::from_bytes(b"B\xe4r\xff.nii")), "B%E4r%FF.nii");
        }
    }
}
