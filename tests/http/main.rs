//! HTTP over real sockets. A test whose name begins with `row` is for an input that has one exact
//! treatment: what the peer sees is asserted at the peer.

mod bodies;
mod client;
mod client_bodies;
mod client_pauses;
mod client_whole;
mod clocks;
mod ends;
mod events;
mod exchanges;
#[cfg(feature = "http-files")]
mod files;
#[cfg(feature = "http-files")]
mod files_later;
#[cfg(feature = "http-files")]
mod files_paths;
#[cfg(feature = "http-files")]
mod files_ranges;
#[cfg(feature = "http-files")]
mod files_sent;
#[cfg(feature = "http-forms")]
mod forms;
#[cfg(feature = "http-gzip")]
mod gzip;
#[cfg(feature = "inspect")]
#[path = "../inspect/mod.rs"]
mod inspect;
mod kept;
mod later;
mod later_bodies;
mod later_upgrades;
#[path = "../support/logged.rs"]
mod logged;
mod panics;
mod pipelined;
mod redirects;
mod repeated;
mod rows_framing;
mod rows_head;
mod rows_target;
mod secrets;
#[cfg(feature = "http-session")]
mod sessions;
mod upgrades;
#[cfg(all(feature = "http-forms", unix))]
mod uploads;
mod web;

use waterwheel::http::{Route, Router};

/// Routes that most tests use: a text, an echo of bodies, the length of a body.
fn routes() -> Router<()> {
    Router::new()
        .get("/", |_, _, res| res.text("root"))
        .get("/param/{name}", |_, req, res| res.text(req.param("name")))
        .get("/path/{*rest}", |_, req, res| res.text(req.path()))
        .get("/query", |_, req, res| {
            let pairs: Vec<_> = req.query_pairs().map(|(k, v)| format!("{k}={v}")).collect();
            res.text(&pairs.join(";"));
        })
        .get("/host", |_, req, res| res.text(req.host().unwrap_or("-")))
        .get("/method", |_, req, res| res.text(req.method().name()))
        .route(
            "/echo",
            Route::new().any(|_, _, res| {
                res.collect(1 << 20, |_, body, res| res.bytes("application/octet-stream", body));
            }),
        )
        .post("/ignore", |_, _, res| res.text("ignored"))
        .post("/len", |_, _, res| {
            res.collect(1 << 20, |_, body, res| res.text(&body.len().to_string()));
        })
}
