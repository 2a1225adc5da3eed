//! Without the feature there is no server for HTTP and WebSocket in this process.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::{Limits, ListenOptions, Reactor};

pub(crate) fn limits() -> Result<Limits, String> {
    Err("this load was built without a server of its own for HTTP and WebSocket: give the URL of \
         one, http://… or ws://…, or build it: cargo run --release -p load --features web -- …"
        .to_owned())
}

pub(crate) fn serve_http(_: &mut Reactor, _: ListenOptions, _: Duration) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into()) // `limits` has said so
}

pub(crate) fn serve_ws(_: &mut Reactor, _: ListenOptions, _: usize) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}
