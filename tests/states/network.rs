//! A network of its own for each test (unshare(1)), with nobody else's connections in its table:
//! other tests may fill that of the machine, and then TIME_WAIT is skipped. Packets can be dropped
//! in it, by nftables, to hold a connection in a state that loopback is too fast for.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// Set in a network of its own.
const INSIDE: &str = "WATERWHEEL_STATES_INSIDE";

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

/// Runs a test in a network of its own where packets may be dropped; where that cannot be had, it
/// is skipped with a word why.
#[track_caller]
pub(crate) fn filtered<F: FnOnce()>(run: F) {
    if is_inside() {
        run_inside(run);
    } else if can("ip link set lo up && nft add table inet trial") {
        move_into_a_network(test_of::<F>());
    } else {
        println!("skipped: there is no unshare, ip or nft here, or they may not be used");
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
fn test_of<F>() -> &'static str {
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

/// Packets that match a rule are dropped for as long as this lives.
#[derive(Debug)]
pub(crate) struct Filter(());

impl Filter {
    #[track_caller]
    pub(crate) fn drop(rule: &str) -> Self {
        nft(&format!(
            "table inet states {{
                chain arriving {{ type filter hook input priority 0; {rule} drop; }}
            }}"
        ));
        Self(())
    }

    #[track_caller]
    pub(crate) fn drop_fins(from: SocketAddr, to: SocketAddr) -> Self {
        let (from, to) = (from.port(), to.port());
        Self::drop(&format!("tcp sport {from} tcp dport {to} tcp flags & fin == fin"))
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        nft("delete table inet states");
    }
}

#[track_caller]
fn nft(commands: &str) {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nft");
    child.stdin.take().expect("a pipe").write_all(commands.as_bytes()).expect("nft reads");
    let output = child.wait_with_output().expect("nft ends");
    assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
}
