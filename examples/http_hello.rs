//! An HTTP server in a few lines.
//!
//! ```text
//! cargo run --features http --example http_hello
//! curl http://127.0.0.1:8080/hello/ada
//! ```

use std::io::{self, Write};

use waterwheel::{ListenOptions, Reactor, http};

fn main() -> io::Result<()> {
    env_logger::init();
    let routes = http::Router::new().get("/", |_, _, res| res.text("hello\n")).get(
        "/hello/{name}",
        |_, req, res| {
            res.text(&format!("hello, {}\n", req.param("name")));
        },
    );
    let mut reactor = Reactor::new()?;
    let web = reactor.register(http::Server::new((), routes));
    let options = ListenOptions::default().limits(http::limits());
    let addr = reactor.listen("127.0.0.1:8080", web, options)?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    reactor.run()
}
