//! SHA-256 checksums of bytes and files.

use std::fmt::Write;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::plain::open_plain;

/// Returns the SHA-256 of `bytes` in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Returns the SHA-256 of a whole file in lower-case hexadecimal.
///
/// # Errors
/// If the file cannot be read, or is not a plain file.
pub fn sha256_of_file(path: &Path) -> io::Result<String> {
    sha256_of(&mut open_plain(path)?)
}

/// Returns the SHA-256 of the bytes that remain in `bytes`, in lower-case hexadecimal.
pub(super) fn sha256_of(bytes: &mut impl io::Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(bytes, &mut hasher)?;
    Ok(hexadecimal(&hasher.finalize()))
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "abc").expect("written");
        assert_eq!(sha256(b"abc"), abc);
        assert_eq!(sha256_of_file(file.path()).expect("read"), abc);
    }
}
