//! Makes unique identifiers of DICOM.

use crate::archive::sha256;

/// Returns a new UID: 2.25 and a UUID as a decimal number (PS3.5 B.2). The UUID, of version 8, is a hash of `seed` and
/// `purpose`; equal texts give equal UIDs.
pub(super) fn uid(seed: &str, purpose: &str) -> String {
    let hash = sha256(format!("{seed}\n{purpose}").as_bytes());
    let hash = u128::from_str_radix(&hash[..32], 16).expect("hexadecimal");
    let version = 0xF << 76;
    let variant = 0b11 << 62;
    format!("2.25.{}", hash & !version & !variant | 8 << 76 | 0b10 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_uuids_of_version_8_and_fit_dicom() {
        for seed in 0..100 {
            let uid = uid(&seed.to_string(), "series");
            let number: u128 = uid.strip_prefix("2.25.").expect("a UUID").parse().expect("a number");
            assert_eq!((number >> 76 & 0xF, number >> 62 & 0b11), (8, 0b10), "{uid}");
            assert!(uid.len() <= 64);
        }
        assert_ne!(uid("a", "series"), uid("a", "instance"));
        assert_ne!(uid("a", "series"), uid("b", "series"));
    }
}
