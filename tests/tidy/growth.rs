//! What may be added without breaking a program: a public enum is `non_exhaustive`, and so is a
//! struct whose fields are all public.

use std::fs;

use super::{read_sources, root};

/// Enums that are complete: a program matches all of their variants, and where one is added it must
/// not compile until that one is thought of. What became of a write and of a borrower wants another
/// answer in each case; directions and kinds of WebSocket messages come from a standard.
const COMPLETE: &[&str] = &["Acquired", "IdleKind", "Kind", "Message", "Written"];

/// Names of items that cannot grow, in one file. An item's attributes stand right above it, and its
/// last line is the first that begins with a closing brace.
fn rigid(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let (is_enum, name) =
            match (line.strip_prefix("pub enum "), line.strip_prefix("pub struct ")) {
                (Some(rest), _) => (true, rest),
                (_, Some(rest)) => (false, rest),
                _ => continue,
            };
        let name = name.split(|char: char| !char.is_alphanumeric()).next().unwrap_or_default();
        let may_grow = lines[..at]
            .iter()
            .rev()
            .take_while(|above| above.starts_with('#') || above.starts_with("///"))
            .any(|above| above.contains("non_exhaustive"));
        let has_body = !line.ends_with(';') && !line.ends_with('}');
        let fields: Vec<&str> = lines[at + 1..]
            .iter()
            .take_while(|line| has_body && !line.starts_with('}'))
            .filter_map(|line| line.strip_prefix("    "))
            .filter(|line| line.starts_with(char::is_alphabetic) && line.contains(':'))
            .collect();
        let in_brackets = line.split_once('(').map(|(_, fields)| fields);
        let is_open = match in_brackets {
            Some(fields) if !is_enum => fields.split(", ").all(|field| field.starts_with("pub ")),
            _ => !fields.is_empty() && fields.iter().all(|field| field.starts_with("pub ")),
        };
        if !may_grow && (is_enum || is_open) {
            found.push(name);
        }
    }
    found
}

#[test]
fn what_is_public_may_grow_or_is_complete() {
    let (mut sources, mut complaints) = (Vec::new(), Vec::new());
    read_sources("src", &mut sources);
    assert!(sources.len() > 100, "{} files", sources.len());
    for path in sources.into_iter().map(|source| source.path) {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let names = rigid(&text).into_iter().filter(|name| !COMPLETE.contains(name));
        complaints.extend(names.map(|name| format!("{path}: {name} is not non_exhaustive")));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn what_cannot_grow_is_found() {
    let open = "/// Words.\n#[derive(Debug)]\npub struct Open {\n    /// A.\n    pub a: u8,\n}\n";
    assert_eq!(rigid(open), ["Open"]);
    assert_eq!(rigid(&open.replace("#[derive", "#[non_exhaustive]\n#[derive")), [""; 0]);
    assert_eq!(rigid(&open.replace("pub a", "b: u8,\n    pub a")), [""; 0]);
    assert_eq!(rigid(&open.replace("pub a", "pub(crate) a")), [""; 0]);
    assert_eq!(rigid("pub struct Pair(pub u8, pub u8);\npub struct Id(u8);"), ["Pair"]);
    assert_eq!(rigid("pub struct Unit;\npub enum Way {\n    Up,\n    Down,\n}\n"), ["Way"]);
    assert_eq!(rigid("#[non_exhaustive]\npub enum Way {\n    Up,\n}\nenum Own {\n}\n"), [""; 0]);
}
