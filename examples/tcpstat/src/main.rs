//! What `netstat -an | grep PORT` is used for, and more: the connections of one port by state,
//! with what each state means and what to do when it piles up; the accept queue against its limit,
//! what was dropped because it was full, and the open files of the process that listens.
//!
//! ```text
//! cargo run --release -p echo -- --listen 127.0.0.1:7000
//! cargo run --release -p load -- storm --connect 127.0.0.1:7000 --duration 30
//! cargo run --release -p tcpstat -- 7000 --watch 1
//! ```
//!
//! It reads the kernel's tables (sock_diag(7), proc(5)) of the network that it runs in, and is for
//! Linux. Whose files are open is told of one's own processes; root sees all.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod counters;
#[cfg(target_os = "linux")]
mod diag;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod state;
#[cfg(target_os = "linux")]
mod watch;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    watch::run()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    use std::io::Write;
    let text = "tcpstat: it reads tables that Linux has; here try netstat -an";
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}
