//! The server in this process that speaks HTTP or WebSocket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::{Limits, ListenOptions, Reactor, http, ws};

/// Where a page is served.
pub(crate) fn limits() -> Result<Limits, String> {
    Ok(http::limits())
}

/// The largest body that is sent back.
const MOST_BODY_BYTES: u64 = 16 << 20;

/// A GET is answered with a text, any other request with its own body.
pub(crate) fn serve_http(
    reactor: &mut Reactor,
    options: ListenOptions,
    patience: Duration,
) -> io::Result<SocketAddr> {
    let route = http::Route::new()
        .max_body_bytes(MOST_BODY_BYTES)
        .get(|_, _, res| res.text("Hello, World!"))
        .any(|(), _, res| {
            res.collect(MOST_BODY_BYTES, |_, body, res| {
                res.bytes("application/octet-stream", body);
            });
        });
    let http_options =
        http::Options::default().first_byte_timeout(patience).keep_alive_timeout(patience);
    let routes = http::Router::new().fallback(route);
    let server = reactor.register(http::Server::new((), routes).with_options(http_options));
    reactor.listen("127.0.0.1:0", server, options)
}

/// Sends each message back.
struct Echo;

impl ws::Handler for Echo {
    type State = ();

    fn on_message(&mut self, _: &mut (), socket: &mut ws::Socket<'_>, message: ws::Message<'_>) {
        socket.send(message);
    }
}

/// Echoes messages of so many bytes, at any path.
pub(crate) fn serve_ws(
    reactor: &mut Reactor,
    options: ListenOptions,
    size: usize,
) -> io::Result<SocketAddr> {
    let endpoint = ws::Endpoint::new(ws::Options::default().max_message_bytes(size));
    let routes = http::Router::new().fallback(http::Route::new().get(move |_, req, res| {
        endpoint.upgrade(req, res, ());
    }));
    let server = reactor.register(http::Server::new(Echo, routes));
    reactor.listen("127.0.0.1:0", server, options)
}
