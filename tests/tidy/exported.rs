//! What stands on top of the loop names what a program could name: the items that `lib.rs` exports.

use super::{Kind, Source, read_sources, report, root};

/// Rooms that are made of what `lib.rs` exports.
const ON_TOP: &[&str] = &["pool", "offload", "http", "ws", "inspect"];

/// Rooms of which everything that they name is public.
const PUBLIC: &[&str] = &["fleet", "http", "inspect", "offload", "pool", "tcp", "tls", "ws"];

/// What they name besides, and why a program needs none of it: all of it is small, knows neither
/// loop nor socket, and would be written twice otherwise.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("base::json::Quoted", "text in JSON, for pages that the simulated world writes too"),
    ("base::memory::GiveBack", "memory of a burst is given back by one rule"),
    ("base::panics", "a panic of the program is caught by one function"),
    ("options::MAX_LIMIT", "bounds of options, and the texts of errors about them"),
    ("options::at_least_1ms", "likewise"),
    ("options::at_most", "likewise"),
    ("options::out_of_range", "likewise"),
    ("options::within", "likewise"),
    ("options::setters", "a macro for the setters of options"),
    ("sys::FileKind", "what differs from system to system stands in `sys` alone"),
    ("sys::Folder", "likewise"),
    ("sys::Shortage", "likewise"),
    ("sys::file_id", "likewise"),
    ("sys::range_of", "likewise"),
    ("sys::read_of", "likewise"),
];

/// The paths that a tree of names in braces stands for.
fn paths(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, rest)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default();
        return vec![name.trim().to_owned()];
    };
    let inner = rest.strip_suffix('}').expect("the tree is closed");
    let (mut found, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, char) in inner.char_indices().chain([(inner.len(), ',')]) {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inner[start..at].trim();
                let below = if part.is_empty() { Vec::new() } else { paths(part) };
                found.extend(below.iter().map(|path| format!("{before}{path}")));
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// The trees behind each `prefix` in the code, with their lines.
fn trees<'a>(code: &'a str, prefix: &str) -> Vec<(usize, &'a str)> {
    let places = code.match_indices(prefix).map(|(at, _)| at + prefix.len());
    let tree = |at: usize| {
        let mut depth = 0;
        let end = code[at..].find(|char: char| {
            depth += i32::from(char == '{') - i32::from(char == '}');
            depth <= 0 && !(char.is_alphanumeric() || "_:}".contains(char)) || depth < 0
        });
        &code[at..end.map_or(code.len(), |end| at + end)]
    };
    places.map(|at| (1 + code[..at].matches('\n').count(), tree(at))).collect()
}

/// The last names of all that `lib.rs` exports.
fn exported(lib: &str) -> Vec<String> {
    let code = Source::new("src/lib.rs", lib).keep(&[Kind::Code]);
    let trees = trees(&code, "pub use ");
    let names = trees.into_iter().flat_map(|(_, tree)| paths(tree));
    names.filter_map(|path| path.rsplit("::").next().map(str::to_owned)).collect()
}

fn check(source: &Source, exported: &[String]) -> Vec<String> {
    let room = source.room().unwrap_or_default();
    let code = source.keep(&[Kind::Code]);
    let mut complaints = Vec::new();
    for (line, tree) in trees(&code, "crate::") {
        for path in paths(tree).iter().map(|path| path.trim_end_matches("::self")) {
            let mut names = path.split("::");
            let is_own = names.next().is_some_and(|it| it == room || PUBLIC.contains(&it));
            let is_exported = names.any(|name| exported.iter().any(|it| it == name));
            let is_room = !path.contains("::");
            let is_excepted = EXCEPTIONS.iter().any(|(it, _)| *it == path);
            if !(is_own || is_exported || is_room || is_excepted) {
                let rule = format!("`{path}` is not exported by lib.rs: `{room}` may not name it");
                complaints.push(source.complaint(line, &rule));
            }
        }
    }
    complaints
}

#[test]
fn what_stands_on_top_names_what_is_exported() {
    let exported = exported(&std::fs::read_to_string(root().join("src/lib.rs")).unwrap());
    assert!(exported.len() > 60, "{exported:?}");
    let mut sources = Vec::new();
    ON_TOP.iter().for_each(|room| read_sources(&format!("src/{room}"), &mut sources));
    assert!(sources.len() > 80, "{} files", sources.len());
    report(sources.iter().flat_map(|source| check(source, &exported)).collect());
    for (path, _) in EXCEPTIONS {
        let name = path.rsplit("::").next().unwrap_or_default();
        let is_used = sources.iter().any(|source| source.text.contains(name));
        assert!(is_used, "{path} is named by none of them: it is no exception");
    }
}

#[test]
fn an_item_that_is_not_exported_is_caught() {
    let lib = "pub use base::id::{ConnId, Timer};\npub use options::Limits as L;\nmod x;";
    let exported = exported(lib);
    assert_eq!(exported, ["ConnId", "Timer", "Limits"]);
    let lines = |text: &str| -> Vec<String> {
        let complaints = check(&Source::new("src/http/a.rs", text), &exported);
        complaints.iter().map(|line| line.split('`').nth(1).unwrap().to_owned()).collect()
    };
    let text =
        "use crate::base::{id::{ConnId, SlotId}, tick::after};\nuse crate::options::Limits;\n";
    assert_eq!(lines(text), ["base::id::SlotId", "base::tick::after"]);
    let text = "use crate::http::own;\nuse crate::pool::Pool;\nuse crate::handler::{self};\n\
                fn f() -> crate::base::id::Timer { crate::engine::wake(); }\n// crate::engine\n";
    assert_eq!(lines(text), ["engine::wake"]);
    assert_eq!(lines("use crate::sys::Folder;"), [""; 0]);
}
