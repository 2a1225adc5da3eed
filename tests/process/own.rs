//! A process of its own for one test.

use std::process::Command;

use crate::network::test_of;

/// Set in a process of its own.
const INSIDE: &str = "WATERWHEEL_TEST_OWN_PROCESS";

/// Runs a test in a process of its own, where no other test opens or closes descriptors: the same
/// test of this same program once more, and nothing beside it.
#[track_caller]
pub(crate) fn in_own_process<F: FnOnce()>(run: F) {
    if std::env::var_os(INSIDE).is_some() {
        return run();
    }
    let test = test_of::<F>();
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new(program);
    command.args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    let output = command.output().expect("this program once more");
    let text = String::from_utf8_lossy(&output.stdout);
    let has_run = output.status.success() && text.contains("1 passed");
    assert!(has_run, "{test}: {text}{}", String::from_utf8_lossy(&output.stderr));
}
