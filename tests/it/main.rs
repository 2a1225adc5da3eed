//! The behaviour of the library over real sockets, in folders by what behaves: `cargo test --test
//! it stream::` runs those of one folder, `cargo test --test it` all.
//!
//! All of them share a process and run in several threads of it. So no test in here changes or
//! counts what belongs to the whole process (its limits, its environment, its descriptors), and
//! none starts another process: until that runs its own program it has a copy of every descriptor,
//! and what others close meanwhile stays open for so long. Tests that must do so are in
//! `tests/process/`.

mod api;
mod channel;
mod connect;
mod datagram;
mod fleet;
mod listener;
mod offload;
mod overload;
mod pool;
mod reactor;
mod stream;
#[path = "../support/mod.rs"]
mod support;
#[cfg(unix)]
mod unix;
