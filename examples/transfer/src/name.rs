//! Which names a file may be received under.
//!
//! A name that some system takes for something else is refused on every system: a folder may
//! move, and what was refused then stays refused.

/// What a file is called while it is not whole.
pub const PART: &str = ".part";

/// Most bytes of a name: as many as file systems take.
const MOST_BYTES: usize = 255;

/// Names of devices on Windows, with whatever extension. See "Naming Files, Paths, and
/// Namespaces" in Microsoft's documentation; COM and LPT take a digit, also a raised one.
const DEVICES: [&str; 7] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];

/// Whether a file may have this name; else why not.
pub fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("the name is empty");
    }
    if name.len() > MOST_BYTES {
        return Err("the name is longer than 255 bytes");
    }
    if name == "." || name == ".." {
        return Err("the name is of a folder");
    }
    if name.starts_with('.') {
        return Err("the name begins with a dot, as names do that a login shell obeys");
    }
    if name.starts_with('-') {
        return Err("the name begins with a dash, which commands take for an option");
    }
    if name.contains(['/', '\\']) {
        return Err("the name has a separator in it");
    }
    if name.chars().any(char::is_control) {
        return Err("the name has a control character in it");
    }
    if name.contains([':', '*', '?', '"', '<', '>', '|']) {
        return Err("the name has a character in it that Windows gives a meaning");
    }
    if name.ends_with(['.', ' ']) {
        return Err("the name ends with a dot or a space, which Windows drops");
    }
    if is_device(name) {
        return Err("the name is of a device");
    }
    if name.to_ascii_lowercase().ends_with(PART) {
        return Err("the name is of a file that is not whole");
    }
    Ok(())
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    let is_numbered = ["COM", "LPT"].iter().any(|port| {
        stem.strip_prefix(port).is_some_and(|number| {
            let mut number = number.chars();
            let digit = number.next();
            digit.is_some_and(|digit| digit.is_ascii_digit() || "¹²³".contains(digit))
                && number.next().is_none()
        })
    });
    is_numbered || DEVICES.contains(&stem.as_str())
}

/// What a file is called while it is not whole. A long name is cut for it, and told from others
/// that begin alike by its checksum.
pub fn part_of(name: &str) -> String {
    if name.len() + PART.len() <= MOST_BYTES {
        return format!("{name}{PART}");
    }
    let mut end = MOST_BYTES - PART.len() - 9;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{:08x}{PART}", &name[..end], crc32fast::hash(name.as_bytes()))
}

/// A name as people see it: what a terminal would obey, or not show, is written out.
pub fn shown(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for char in name.chars() {
        match char {
            '"' | '\'' | '\\' => text.push(char),
            char => text.extend(char.escape_debug()),
        }
    }
    text
}
