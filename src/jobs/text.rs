//! File names as text. File names may be any bytes, but metadata, JSON, patterns and names of outputs must be UTF-8.

use std::ffi::OsStr;

/// Returns the file name or path `name` as text. Each byte that is not UTF-8 becomes `%XX`.
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
    fn bytes_that_are_not_utf_8_are_escaped() {
        assert_eq!(name_text("scans/Bär 1%.nii"), "scans/Bär 1%.nii");
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            assert_eq!(name_text(OsStr::from_bytes(b"B\xe4r\xff.nii")), "B%E4r%FF.nii");
        }
    }
}
