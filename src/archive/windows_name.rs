//! File names that Windows gives another meaning. Opening such a name would reach a device, or another file.

/// The names of devices. A digit, also a superscript, follows the last two.
const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];

/// Returns what is wrong with `name`, the last part of a path, as the name of a new file on Windows.
pub fn fault(name: &str) -> Option<String> {
    if name.contains(':') {
        return Some("has a colon, after which Windows expects the name of a stream within a file; give another name".into());
    }
    if name.ends_with(['.', ' ']) {
        return Some("ends with a dot or a space, which Windows leaves out; give another name".into());
    }
    // A device keeps its name with any ending: `nul.nii.gz`.
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ');
    is_device(stem).then(|| format!("is the name of a device on Windows ({stem}), with any ending; give another name"))
}

fn is_device(stem: &str) -> bool {
    let is_digit = |rest: &str| matches!(rest, "¹" | "²" | "³") || rest.len() == 1 && rest.as_bytes()[0].is_ascii_digit();
    let is_numbered =
        |device: &str| stem.get(..device.len()).is_some_and(|start| start.eq_ignore_ascii_case(device)) && is_digit(&stem[device.len()..]);
    DEVICES.iter().any(|device| stem.eq_ignore_ascii_case(device)) || NUMBERED_DEVICES.iter().any(|device| is_numbered(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_another_meaning_are_refused() {
        for (name, said) in [
            ("nul", "a device"),
            ("CON.nii.gz", "a device"),
            ("aux .npy", "a device"),
            ("com1.npz", "a device"),
            ("LPT².png", "a device"),
            ("out.npy:x", "a colon"),
            ("out.npy.", "a dot"),
            ("out ", "a space"),
        ] {
            assert!(fault(name).is_some_and(|fault| fault.contains(said)), "{name}: {:?}", fault(name));
        }
    }

    #[test]
    fn other_names_are_free() {
        for name in ["nulls.npy", "con1.nii", "com.npz", "com10.npz", "communal", "a.nul", ".nul", "a b.npy", "Bär.npy", "é"] {
            assert_eq!(fault(name), None, "{name}");
        }
    }
}
