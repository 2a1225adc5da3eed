//! Packets that are dropped on their way, by nftables, in a network of one's own.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// What must succeed for that.
pub(crate) const TRIAL: &str = "nft add table inet trial";

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
