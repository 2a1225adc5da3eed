//! Deliberate bugs of the kinds that event loops have had: each can still be put into the library,
//! and the simulated world finds each.
//!
//! `cargo test --test tidy seeded_bugs` sees that each bug fits the sources, in no time.
//! `tests/seeded_bugs/run [NAME...]` puts all bugs into a copy of the library and looks for them.
//! The library itself has none, and no place for one.
//!
//! # A bug
//! `NAME.bug` is text: what the bug is, in a line, and then one edit or more.
//!
//! ```text
//! Output drains, and the handler is not told.
//! path: src/reactor/dispatch.rs
//!          let drained = self.engine.flush(id);
//! +        let drained = drained && !crate::seeded::is("drain_missed");
//! ```
//! The lines after `path:` begin with a space, `-` or `+` as in a diff, and no line numbers stand
//! there: lines with a space or `-` must stand in the file, in one piece, exactly once. The copy
//! has the lines with a space or `+` instead. `seeded::is("NAME")` says whether the bug is on;
//! while it is off, the new lines do what the old ones did. One build so serves all bugs.
//!
//! # How to refresh a bug
//! When its lines were rewritten, the quick test names the bug and the line that is missing. Look
//! for the place that does the same work now, take as few of its lines as are unique, and run
//! `tests/seeded_bugs/run NAME`. If no place can have the bug any more, delete the file.

mod bug;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use bug::{Bug, apply};

/// The folder of the bugs.
const FOLDER: &str = "tests/seeded_bugs";

/// The program in which the simulated world looks for the bugs.
const WORKLOAD: &str = "examples/simulate/src/workload/mod.rs";

/// The same for bugs of HTTP, whose names begin with `http_`.
const HTTP_WORKLOAD: &str = "tests/sim/http.rs";

/// The same for bugs of WebSocket, whose names begin with `ws_`.
const WS_WORKLOAD: &str = "tests/sim/ws.rs";

/// Directories at the root of the package that a build of the library does not want.
const NOT_COPIED: &[&str] = &["target", "fuzz"];

#[test]
fn each_bug_fits_the_library() {
    with_bugs(&bugs());
    for workload in [WORKLOAD, HTTP_WORKLOAD, WS_WORKLOAD] {
        assert!(root().join(workload).is_file(), "{workload} has moved");
    }
}

#[test]
#[ignore = "builds the library again, and takes a minute: tests/seeded_bugs/run"]
fn each_bug_is_found() {
    let bugs = bugs();
    let texts = with_bugs(&bugs);
    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seeded_bugs");
    let copy = work.join("waterwheel");
    copy_package(&copy, &texts, &bugs);
    let status = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["test", "--release", "--features=sim,http,ws", "--test=seeded_bugs", "--target-dir"])
        .arg(work.join("target"))
        .args(["--", "--nocapture"])
        .current_dir(&copy)
        .status();
    assert!(status.expect("cargo runs").success(), "see above; the copy is {}", copy.display());
}

// The bugs and the library.

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All bugs, by name.
fn bugs() -> Vec<Bug> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join(FOLDER)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "bug"));
    files.sort();
    assert!(!files.is_empty(), "{FOLDER} has no bug");
    let parse = |file: &PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap();
        Bug::parse(name, &fs::read_to_string(file).unwrap())
    };
    all_or_complain(files.iter().map(parse).collect())
}

/// The files that the bugs change, by path, with all bugs in them.
#[track_caller]
fn with_bugs(bugs: &[Bug]) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for path in bugs.iter().flat_map(Bug::paths) {
        let text = fs::read_to_string(root().join(path)).unwrap_or_default();
        texts.insert(path.to_owned(), text);
    }
    let results = texts.iter().map(|(path, text)| Ok((path.clone(), apply(bugs, path, text)?)));
    all_or_complain(results.collect()).into_iter().collect()
}

/// What is in the results, unless there are complaints.
#[track_caller]
fn all_or_complain<T>(results: Vec<Result<T, String>>) -> Vec<T> {
    let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let complaints: Vec<String> = bad.into_iter().filter_map(Result::err).collect();
    assert!(
        complaints.is_empty(),
        "bugs do not fit (the top of {FOLDER}/mod.rs says how to refresh one):\n\n{}\n",
        complaints.join("\n\n")
    );
    good.into_iter().filter_map(Result::ok).collect()
}

// The copy.

/// Copies the package, puts these texts into it, and the switches and the test in.
fn copy_package(copy: &Path, texts: &BTreeMap<String, String>, bugs: &[Bug]) {
    if copy.exists() {
        fs::remove_dir_all(copy).unwrap();
    }
    copy_directory(root(), copy, NOT_COPIED);
    for (path, text) in texts {
        fs::write(copy.join(path), text).unwrap();
    }
    let switches = fs::read_to_string(copy.join(FOLDER).join("switches.rs")).unwrap();
    let names: Vec<&str> = bugs.iter().map(|bug| bug.name.as_str()).collect();
    let all = format!("\n/// The names of all bugs.\npub const ALL: &[&str] = &{names:?};\n");
    fs::write(copy.join("src/seeded.rs"), switches + &all).unwrap();
    let face = copy.join("src/lib.rs");
    let text = fs::read_to_string(&face).unwrap();
    fs::write(&face, text + "\npub mod seeded;\n").unwrap();
    let test = fs::read_to_string(copy.join(FOLDER).join("finds.rs")).unwrap();
    let test = test.replace("@workload@", &format!("../{WORKLOAD}"));
    let test = test.replace("@http_workload@", &format!("../{HTTP_WORKLOAD}"));
    let test = test.replace("@ws_workload@", &format!("../{WS_WORKLOAD}"));
    fs::write(copy.join("tests/seeded_bugs.rs"), test).unwrap();
}

fn copy_directory(from: &Path, to: &Path, without: &[&str]) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let is_left_out = without.iter().any(|other| name == *other);
        if is_left_out || name.to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &to.join(name), &["target"]);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}
