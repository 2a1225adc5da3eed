//! What the documents promise: that the README says the same in both languages, that links lead
//! somewhere, that the commands name what there is.

use std::fs;
use std::path::{Path, PathBuf};

mod commands;
mod limits;
mod markdown;
mod packages;

use markdown::{Section, anchor, sections};

const ENGLISH: &str = "README.md";
const CHINESE: &str = "README.zh-CN.md";

/// Where readers find commands, but for the documents in the root.
const FOLDERS: &[&str] = &["src", "examples", "tests", "benches", "checks", ".github"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    let path = root().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// The documents in the root.
fn documents() -> Vec<String> {
    let names = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let names: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
    assert!(names.len() > 2, "{names:?}");
    names
}

/// Fails with all complaints at once.
#[track_caller]
fn report(complaints: &[String]) {
    assert!(complaints.is_empty(), "the documents are wrong:\n{}", complaints.join("\n"));
}

#[test]
fn the_readme_says_the_same_in_both_languages() {
    report(&compare(&sections(&read(ENGLISH)), &sections(&read(CHINESE))));
}

#[test]
fn the_readme_counts_the_deliberate_bugs() {
    let files = fs::read_dir(root().join("tests/seeded_bugs")).unwrap();
    let bugs =
        files.filter(|file| file.as_ref().unwrap().path().extension() == Some("bug".as_ref()));
    let words = format!("| {} deliberate bugs", bugs.count());
    assert!(read(ENGLISH).contains(&words), "{ENGLISH} does not say {words:?}");
}

#[test]
fn links_lead_somewhere() {
    let documents = documents();
    report(&documents.iter().flat_map(|name| broken_links(name, &read(name))).collect::<Vec<_>>());
}

#[test]
fn paths_between_backticks_are_there() {
    let complaints = texts().into_iter().flat_map(|(name, text)| lost_paths(&name, &text));
    report(&complaints.collect::<Vec<_>>());
}

#[test]
fn each_example_is_in_the_readme() {
    let readme = read(ENGLISH);
    let names = fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let names: Vec<String> =
        names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(names.len() > 10, "{names:?}");
    let lost = names.iter().filter(|name| !readme.contains(&format!("`{name}`")));
    // What the others share is no program.
    let lost = lost.filter(|name| *name != "support");
    let complaints = lost.map(|name| format!("{ENGLISH} does not name the example {name}"));
    report(&complaints.collect::<Vec<_>>());
}

#[test]
fn commands_name_what_there_is() {
    let packages = packages::packages();
    let mut count = 0;
    let mut complaints = Vec::new();
    for (name, text) in &texts() {
        for command in commands::commands(text) {
            count += 1;
            let wrong = commands::check(&command, &packages);
            complaints.extend(wrong.iter().map(|wrong| format!("{name}: `{command}`: {wrong}")));
        }
    }
    report(&complaints);
    assert!(count > 100, "only {count} commands were found");
}

/// All that may have commands in it, by path.
fn texts() -> Vec<(String, String)> {
    let mut texts: Vec<(String, String)> =
        documents().into_iter().map(|name| (name.clone(), read(&name))).collect();
    for folder in FOLDERS {
        read_texts(&root().join(folder), &mut texts);
    }
    texts
}

/// Adds what stands in the documents, programs and scripts under a directory.
fn read_texts(directory: &Path, texts: &mut Vec<(String, String)>) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        // Here stand commands that are wrong on purpose.
        if path == root().join("tests/docs") {
            continue;
        }
        let is_text = |extension| ["rs", "md", "yml"].iter().any(|known| extension == *known);
        if path.is_dir() {
            read_texts(&path, texts);
        } else if path.extension().is_none_or(is_text) {
            // What is no text has no commands.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            texts.push((path.strip_prefix(root()).unwrap().display().to_string(), text));
        }
    }
}

/// How a translation differs: in its headings, code, figures or links.
fn compare(one: &[Section], other: &[Section]) -> Vec<String> {
    let outline = |sections: &[Section]| -> Vec<String> {
        sections.iter().map(|section| "#".repeat(section.level) + " " + &section.title).collect()
    };
    let levels = |sections: &[Section]| -> Vec<usize> {
        sections.iter().map(|section| section.level).collect()
    };
    if levels(one) != levels(other) {
        return vec![format!("headings: {:#?}\nand {:#?}", outline(one), outline(other))];
    }
    let mut complaints = Vec::new();
    for (one, other) in one.iter().zip(other) {
        let place = if one.title.is_empty() { "the top" } else { &one.title };
        let is_same = |target: &&str| !target.starts_with('#') && !target.starts_with("README");
        let links = |section: &Section| {
            section.links().into_iter().filter(is_same).map(str::to_owned).collect()
        };
        let pairs: [(&str, Vec<String>, Vec<String>); 4] = [
            ("code block", one.blocks.clone(), other.blocks.clone()),
            ("code", one.code(), other.code()),
            ("figure", one.numbers(), other.numbers()),
            ("link", links(one), links(other)),
        ];
        for (what, one, other) in pairs {
            let lacks = missing(&one, &other);
            let lacks = lacks.iter().map(|it| format!("{place}: {CHINESE} lacks the {what} {it}"));
            complaints.extend(lacks);
            let lacks = missing(&other, &one);
            let lacks = lacks.iter().map(|it| format!("{place}: {ENGLISH} lacks the {what} {it}"));
            complaints.extend(lacks);
        }
    }
    complaints
}

/// What is in a list more often than in another.
fn missing<'a>(list: &'a [String], other: &[String]) -> Vec<&'a String> {
    let mut other: Vec<&String> = other.iter().collect();
    let mut missing = Vec::new();
    for item in list {
        match other.iter().position(|it| *it == item) {
            Some(at) => drop(other.swap_remove(at)),
            None => missing.push(item),
        }
    }
    missing
}

/// Links to files that are not there, and to headings that are not in them.
fn broken_links(name: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for target in sections(text).iter().flat_map(Section::links) {
        if target.contains("://") || target.contains(' ') {
            continue;
        }
        let (path, heading) = target.split_once('#').unwrap_or((target, ""));
        let is_there = path.is_empty() || root().join(path).exists();
        let linked = match path {
            "" => text.to_owned(),
            _ => fs::read_to_string(root().join(path)).unwrap_or_default(),
        };
        let has_heading = heading.is_empty()
            || sections(&linked).iter().any(|section| anchor(&section.title) == heading);
        if !is_there || !has_heading {
            broken.push(format!("{name}: the link to {target} leads nowhere"));
        }
    }
    broken
}

/// Paths of the repository between backticks that are not there. An example may be named without
/// the ending of its file.
fn lost_paths(name: &str, text: &str) -> Vec<String> {
    let spans = text.split('`').filter(|span| !span.contains([' ', '\n', '{', '*', '<', '"']));
    let is_path =
        |span: &&str| FOLDERS.iter().any(|folder| span.starts_with(&format!("{folder}/")));
    let is_there =
        |path: &str| root().join(path).exists() || root().join(format!("{path}.rs")).exists();
    // A word in capitals stands for a name.
    let lost = spans.filter(is_path).filter(|path| !path.contains("NAME") && !is_there(path));
    lost.map(|path| format!("{name}: there is no {path}")).collect()
}

// Each check, against what it should catch and what it should let pass.

#[test]
fn a_translation_that_lags_behind_is_caught() {
    let text = "# A\nOf 1,000 in 2 s: `a` [b](c.md)\n\n    run\n\n```rust\nx\n```\n## B\n";
    let compare = |other: &str| compare(&sections(text), &sections(other)).len();
    let good = "# 甲\n用 2 秒, 1,000 个:`a` [乙](c.md)\n\n    run\n\n```rust\nx\n```\n## 乙\n";
    assert_eq!(compare(good), 0);
    let broken = ["1,000", "`a`", "c.md", "run", "x\n", "## 乙"];
    for part in broken {
        assert!(compare(&good.replace(part, "")) > 0, "without {part:?}");
    }
    assert!(compare(&good.replace("1,000", "1,001")) == 2);
    assert!(compare(&good.replace("## 乙", "# 乙")) == 1);
}

#[test]
fn a_link_that_leads_nowhere_is_caught() {
    let links = |text| broken_links("x.md", text).len();
    assert_eq!(links("[a](Cargo.toml) [b](#what-is-it) [c](https://tokio.rs)\n# What is it?\n"), 0);
    assert_eq!(links("[a](Cargo.tom) [b](#what-is)\n# What is it?\n"), 2);
}

#[test]
fn a_path_that_is_lost_is_caught() {
    let text =
        "`src/lib.rs` `examples/chat` `examples/NAME` `src/lost.rs` `x` src/no `tests/docs/`";
    assert_eq!(lost_paths("x.md", text), ["x.md: there is no src/lost.rs"]);
}

#[test]
fn a_command_that_names_what_is_not_there_is_caught() {
    let packages = packages::packages();
    let check = |command: &str| commands::check(command, &packages).len();
    for good in [
        "cargo run --release -p load -- storm --tls --resume",
        "cargo run --example tiny_echo",
        "cargo run --features http,ws --example chat_web",
        "cargo run --release -p transfer --bin recv_file -- --dir /tmp",
        "cargo test --test tidy",
        "cargo run --release -p NAME",
        "cargo add waterwheel",
    ] {
        assert_eq!(check(good), 0, "{good}: {:?}", commands::check(good, &packages));
    }
    for wrong in [
        "cargo run --release -p loads",
        "cargo run --release -p load -- storm --tsl",
        "cargo run --release -p load -- strom",
        "cargo run --release -p load --features tsl",
        "cargo run --example tcpstat",
        "cargo run --example http_hello",
        "cargo run -p transfer",
        "cargo run -p transfer --bin recv_files",
        "cargo test --test tidier",
    ] {
        assert_eq!(check(wrong), 1, "{wrong}");
    }
    let text = "//! $ A=1 cargo run -p \\\n//!   load\n/// say `cargo test` and\n    cargo bench\n";
    let found = ["cargo run -p  load", "cargo test", "cargo bench"];
    assert_eq!(commands::commands(text), found);
}
