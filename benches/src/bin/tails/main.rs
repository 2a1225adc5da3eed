//! How long the answers of 1,000 quiet connections take while something else keeps the server busy:
//! waterwheel, tokio, and a loop over epoll written by hand.
//!
//! ```text
//! cargo run --release -p waterwheel-benches --bin tails
//! cargo run --release -p waterwheel-benches --bin tails -- --only storm,timers --rounds 9
//! ```
//! The first takes seven minutes.
//!
//! # What is compared
//! The servers are one thread each. They do the same, by the same orders (`order.rs`): echo,
//! broadcast, set timers, send a file, drop datagrams. That over epoll is what one would write in
//! C: level-triggered, one read or write an event, at most 64 accepts and 1,024 timers before the
//! sockets have their turn again. Each measurement starts a server as a process of its own.
//!
//! # What is measured
//! Ten thousand messages a second of 64 bytes, in turn on all quiet connections, by a timetable,
//! which no server can hold up: so a stop of the server is counted for all messages that it makes
//! late (no coordinated omission). The time of each counts from when it left to when the kernel
//! had its answer: that the probe is late itself is in no time. The table has the medians of the
//! rounds; the ratio is that of p99 to that of epoll in the same round, and its median. "Work" is
//! what the disturbance has done meanwhile: a server that puts it off has better times. "Probe
//! late" is how late one message in a thousand has left, by what the machine has done to the
//! probe: what it does so to the server is in the times of all servers.
//!
//! # What shares what
//! | | two processors | three or more |
//! |---|---|---|
//! | server | 0 | 0 |
//! | probe | 1, alone; it spins, in the ordinary scheduling class | 1 |
//! | clients of the disturbance | 0, at `SCHED_IDLE`: only what the server leaves | 2 |
//!
//! So with two processors a flood, the members of a broadcast and the reader of a file have the
//! time in which the server sleeps, and never make it wait for the processor. What the kernel does
//! for them while they send or receive is done on the server's processor all the same, up to the
//! next point at which a system call can be interrupted. The broadcast itself, the timers and the
//! sending of the file are work within the server.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
#[path = "../echo_servers/child.rs"]
#[expect(dead_code, reason = "processor time is not measured here")]
mod child;
#[cfg(target_os = "linux")]
#[path = "../publish/children.rs"]
#[expect(dead_code, reason = "nor are publishes")]
mod children;
#[cfg(target_os = "linux")]
mod disturb;
#[cfg(target_os = "linux")]
mod order;
#[cfg(target_os = "linux")]
mod probe;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod servers;
#[cfg(target_os = "linux")]
mod table;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("tails: it compares with a loop over epoll, which is not here");
}
