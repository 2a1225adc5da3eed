//! WebSocket over real sockets: what each rule does, seen at the peer, and the suite of others.
//! Foreign peers are in `tests/ws/peers`, and Autobahn's cases in `tests/ws/autobahn`.

mod accept;
mod autobahn;
mod client;
mod ends;
mod fleet;
mod foreign;
mod life;
mod parts;
mod peer;
mod rooms;
mod rows;
mod site;
#[allow(dead_code, unused_imports, reason = "the tests of other binaries use the rest")]
#[path = "../support/mod.rs"]
mod support;
