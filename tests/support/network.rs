//! A network of its own for each test (unshare(1)), with nobody else's connections in its table:
//! other tests may use the same port, and may fill that of the machine, when TIME_WAIT is skipped.
#![allow(dead_code)] // Each test file uses a part of it.

use std::process::{Command, Stdio};

/// Set in a network of its own.
const INSIDE: &str = "WATERWHEEL_TEST_ALONE";

const UNSHARE: [&str; 4] = ["--user", "--map-root-user", "--net", "--"];

/// Runs a test in a network of its own where that may be had, else in the machine's.
#[track_caller]
pub(crate) fn alone<F: FnOnce()>(run: F) {
    if is_inside() {
        run_inside(run);
    } else if can("ip link set lo mtu 1500 up") {
        move_into_a_network(test_of::<F>());
    } else {
        run();
    }
}

/// Runs a test in a network of its own where a line of shell succeeds; where that cannot be had,
/// it is skipped with a word why.
#[track_caller]
pub(crate) fn alone_or_skipped<F: FnOnce()>(shell: &str, run: F) {
    if is_inside() {
        run_inside(run);
    } else if can(shell) {
        move_into_a_network(test_of::<F>());
    } else {
        println!("skipped: no network of its own here in which one may {shell:?}");
    }
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

fn can(script: &str) -> bool {
    let mut command = Command::new("unshare");
    command.args(UNSHARE).args(["sh", "-c", script]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The test that a closure is written in, as the test harness knows it.
pub(crate) fn test_of<F>() -> &'static str {
    let name = std::any::type_name::<F>();
    let (_, name) = name.split_once("::").expect("the name of the program comes first");
    name.trim_end_matches("::{{closure}}")
}

/// The same test of this same program once more.
#[track_caller]
fn move_into_a_network(test: &str) {
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new("unshare");
    command.args(UNSHARE).arg(program).args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    let output = command.output().expect("unshare");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let [output_text, errors] = text;
    let has_run = output.status.success() && output_text.contains("1 passed");
    assert!(has_run, "{test}: {output_text}{errors}");
}

fn run_inside(run: impl FnOnce()) {
    let status = Command::new("ip").args(["link", "set", "lo", "mtu", "1500", "up"]).status();
    assert!(status.expect("ip").success());
    run();
}
