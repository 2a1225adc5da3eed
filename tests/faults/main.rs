//! The faults of the real world, one file each: system calls that fail, calls that do less than
//! was asked, tables that are full, connections that are killed, attackers, a bad network, a
//! million connections. They take tools, root and time, so `cargo test` only builds them;
//! `tests/faults/run` runs a bounded part of each, `tests/faults/run --all` the whole.
#![cfg(target_os = "linux")]

mod accept;
mod attackers;
mod broadcast;
mod chance;
mod killed;
mod million;
mod network;
mod open_files;
mod partition;
mod parts;
mod peers;
mod proc;
mod program;
mod punctual;
mod shim;
mod strace;
mod tools;
mod uml;
