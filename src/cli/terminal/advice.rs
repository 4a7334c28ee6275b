//! What to do about errors that a limit of the system is behind.

/// What to do about an error that a limit of the system is behind. The number is how the standard library shows every error of the system.
#[cfg(unix)]
pub fn advice(error: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 3] = [
        ("(os error 24)", "this process may not open so many files at once; raise the limit on descriptors (`ulimit -n`)"),
        ("(os error 23)", "the whole system has too many files open; close some, or raise its limit (`fs.file-max`)"),
        ("(os error 27)", "the file would be longer than files may be here; raise the limit (`ulimit -f`), or write to another disk"),
    ];
    KNOWN.iter().find(|(number, _)| error.contains(number)).map(|(_, advice)| *advice)
}

/// Only Unix numbers its errors so.
#[cfg(not(unix))]
pub fn advice(_: &str) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn errors_of_the_system_are_told_from_others() {
        let error = |code| std::io::Error::from_raw_os_error(code).to_string();
        assert!(advice(&error(24)).is_some_and(|advice| advice.contains("ulimit -n")));
        assert!(advice(&error(27)).is_some_and(|advice| advice.contains("ulimit -f")));
        assert_eq!(advice(&error(2)), None);
    }
}
