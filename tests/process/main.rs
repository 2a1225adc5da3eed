//! Tests that start other processes, or change or count what belongs to the whole process: limits,
//! environment, descriptors. Each does so in a process of its own, so that they may run at the same
//! time; those in `tests/it/` need not care.

#[cfg(target_os = "linux")]
mod accepted;
#[cfg(all(unix, feature = "activation"))]
mod activation;
#[cfg(all(unix, not(target_vendor = "apple")))]
mod broken_pipe;
#[cfg(target_os = "linux")]
mod close_on_exec;
mod datagram_runs;
#[cfg(all(target_os = "linux", feature = "inspect"))]
mod few_descriptors;
#[cfg(unix)]
mod file_limit;
mod invalid_arguments;
#[path = "../support/network.rs"]
mod network;
mod own;
mod panic;
#[cfg(target_os = "linux")]
mod pool_servers;
#[cfg(target_os = "linux")]
mod replaced;
#[cfg(target_os = "linux")]
mod send_buffer;
#[cfg(target_os = "linux")]
mod states;
#[allow(dead_code, unused_imports, reason = "most of it is used in `tests/it/`")]
#[path = "../support/mod.rs"]
mod support;
#[cfg(all(unix, feature = "systemd"))]
mod systemd;
