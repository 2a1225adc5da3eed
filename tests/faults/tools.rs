//! What every fault needs: how much of it to run, programs of the examples, files, and tables.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How much of a fault to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// A bounded part, for every change.
    Part,
    /// All of it.
    Whole,
}

/// What `tests/faults/run` asks for.
pub(crate) fn scale() -> Scale {
    match std::env::var("WATERWHEEL_FAULTS").as_deref() {
        Ok("whole") => Scale::Whole,
        _ => Scale::Part,
    }
}

/// The file of a program of the examples, built with the same profile as this test.
#[track_caller]
pub(crate) fn program(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("the path of this program");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.push(name);
    assert!(path.is_file(), "{path:?} is not there: `cargo build -p {name}` makes it");
    path
}

/// Where a file of a test is kept while it is needed.
pub(crate) fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Fails without a tool: a fault that cannot be tried has not passed.
#[track_caller]
pub(crate) fn need_tool(name: &str) {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\"", name])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    assert!(found, "{name} is not installed");
}

/// A percentile, of which 100 is the most; nothing, by default, of nothing.
pub(crate) fn percentile<T: Copy + Default + Ord>(figures: &[T], percent: usize) -> T {
    let mut figures = figures.to_vec();
    figures.sort_unstable();
    let at = (figures.len() * percent / 100).min(figures.len().saturating_sub(1));
    figures.get(at).copied().unwrap_or_default()
}

/// Puts a generated table where it can be read afterwards, under `target/faults/`, and prints it.
pub(crate) fn report(name: &str, text: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/faults");
    std::fs::create_dir_all(&folder).expect("target/faults");
    std::fs::write(folder.join(format!("{name}.md")), text).expect("a table");
    println!("{text}");
}
