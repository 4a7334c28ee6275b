//! Advice on errors that system limits cause.

/// Returns advice if a system limit caused the error. Finds the error number, which the standard library puts into the
/// text of every system error.
#[cfg(unix)]
pub fn advice(error: &str) -> Option<&'static str> {
    const ADVICE: [(&str, &str); 3] = [
        ("(os error 24)", "this process has too many files open; raise the limit on descriptors (`ulimit -n`)"),
        ("(os error 23)", "the whole system has too many files open; close some, or raise its limit (`fs.file-max`)"),
        ("(os error 27)", "the file exceeds the limit on file sizes; raise it (`ulimit -f`), or write to another disk"),
    ];
    ADVICE.iter().find(|(number, _)| error.contains(number)).map(|(_, advice)| *advice)
}

/// Returns none, because the error numbers are those of Unix.
#[cfg(not(unix))]
pub fn advice(_: &str) -> Option<&'static str> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_system_limits_get_advice() {
        let error = |code| std::io::Error::from_raw_os_error(code).to_string();
        assert!(advice(&error(24)).is_some_and(|advice| advice.contains("ulimit -n")));
        assert!(advice(&error(27)).is_some_and(|advice| advice.contains("ulimit -f")));
        assert_eq!(advice(&error(2)), None);
    }
}
