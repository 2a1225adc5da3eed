//! Serves the files of a directory: ranges, conditions, compressed copies beside them.
//!
//! ```text
//! cargo run --features http-files --example http_files -- 127.0.0.1:8080 .
//! curl -r 0-99 http://127.0.0.1:8080/README.md
//! ```

use std::env;
use std::io::{self, Write};

use waterwheel::http::{self, Files, Router, Server};
use waterwheel::offload::{Offload, OffloadOptions};
use waterwheel::{ListenOptions, Reactor};

fn main() -> io::Result<()> {
    env_logger::init();
    let mut args = env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let root = args.next().unwrap_or_else(|| ".".to_owned());
    let mut reactor = Reactor::new()?;
    // Files are opened on other threads: a slow disk does not hold up the loop.
    let offload = Offload::new(&mut reactor, OffloadOptions::default().name("files"))?;
    let routes = Router::new().files("/", Files::new(root).offload(&offload));
    let web = reactor.register(Server::new((), routes));
    let addr = reactor.listen(addr, web, ListenOptions::default().limits(http::limits()))?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    reactor.run()
}
