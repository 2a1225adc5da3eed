//! What grows with what: the cost of one operation while something else becomes larger.
//!
//! ```text
//! cargo run --release -p waterwheel-benches --bin curves
//! cargo run --release -p waterwheel-benches --bin curves -- --page curves.html held timers
//! ```
//!
//! # What is measured
//! CPU time of the thread of the loop, system calls included, divided by the operations: a client
//! that shares the machine costs nothing here. Each point is the least of `--repeat` runs, since
//! what disturbs a run only adds to it. Time is what the kernel counts for the thread
//! (`CLOCK_THREAD_CPUTIME_ID`), so this is for Linux.
//!
//! # What is expected
//! A curve is flat, or falls where a turn of the loop is shared by more and more operations. Where
//! a point costs more than `KNEE` times the cheapest before it, the table says so: such a knee
//! wants a reason.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod curve;
#[cfg(target_os = "linux")]
mod datagrams;
#[cfg(target_os = "linux")]
mod page;
#[cfg(target_os = "linux")]
mod rig;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod streams;
#[cfg(target_os = "linux")]
mod wheel;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    run::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("curves: the CPU time of a thread is read on Linux only");
    ExitCode::FAILURE
}
