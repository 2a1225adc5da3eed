//! A server of one route, at which everything becomes a WebSocket.

use waterwheel::http::{Route, Router, Server};
use waterwheel::ws::{Endpoint, Handler, Options};

/// The server, with the program's handler. A request from another page is refused.
pub(crate) fn site<A: Handler<State: Default>>(app: A, options: Options) -> Server<A> {
    let endpoint = Endpoint::new(options);
    let routes = Router::new().fallback(Route::new().any(move |_: &mut A, req, res| {
        if waterwheel::ws::is_same_origin(req) {
            endpoint.upgrade(req, res, A::State::default());
        } else {
            res.status(403).text("not from here\n");
        }
    }));
    Server::new(app, routes)
}
