//! Which paths can lead to a file at all.

/// Names of devices on Windows, where they are devices in every directory and with every ending.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Such names with a digit behind them, of which three may be superscript.
const NUMBERED_DEVICES: [&str; 2] = ["com", "lpt"];

/// Whether a name in a path may be looked for. What another system would understand differently is
/// refused on every system, so that a program does not become unsafe by being moved.
pub(super) fn is_allowed(name: &str, hidden_files: bool) -> bool {
    let is_hidden = name.starts_with('.');
    let is_dots = matches!(name, "" | "." | "..");
    // A separator that was escaped once, or twice, is `%2F` here.
    let has_escape = name.as_bytes().windows(3).any(|three| three.eq_ignore_ascii_case(b"%2f"));
    !is_dots
        && (hidden_files || !is_hidden)
        && !has_escape
        && !name.ends_with(['.', ' '])
        && !name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control())
        && !is_device(name)
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ');
    let is = |device: &&str| stem.eq_ignore_ascii_case(device);
    if DEVICES.iter().any(is) {
        return true;
    }
    let Some((start, end)) = stem.split_at_checked(3) else { return false };
    let mut digits = end.chars();
    let is_digit = |c: char| c.is_ascii_digit() || matches!(c, '\u{b9}' | '\u{b2}' | '\u{b3}');
    NUMBERED_DEVICES.iter().any(|device| start.eq_ignore_ascii_case(device))
        && digits.next().is_some_and(is_digit)
        && digits.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_52_names_that_another_system_reads_differently() {
        for name in [
            "",
            ".",
            "..",
            "...",
            "a.",
            "a ",
            "a. .",
            ".git",
            "a\\b",
            "..\\x",
            "c:",
            "a:b",
            "a\0",
            "a\n",
            "a/b",
            "..%2F",
            "..%2f",
            "%2Fetc",
            "con",
            "CON.txt",
            "Aux.js",
            "nul",
            "PRN ",
            "com1",
            "LPT9.tar.gz",
            "com\u{b9}",
            "conin$",
            "nul .txt",
            "a\u{7f}",
            "a\u{85}",
        ] {
            assert!(!is_allowed(name, false), "{name:?}");
            assert!(!is_allowed(name, true) || name.starts_with('.'), "{name:?}");
        }
        for name in ["a", "a.b", "a b", "console", "com", "com10", "lpt", "a..b", "ä", "%2e", "-"]
        {
            assert!(is_allowed(name, false), "{name:?}");
        }
        assert!(is_allowed(".well-known", true));
    }
}
