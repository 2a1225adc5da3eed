//! Serves the files of a directory: ranges, conditions, compressed copies beside them.
//!
//! ```text
//! cargo run --features http-files --example http_files -- 127.0.0.1:8080 .
//! curl -r 0-99 http://127.0.0.1:8080/README.md
//! ```

use std::env;
use std::io::{self, Write};
use std::path::Path;

use anyhow::ensure;
use waterwheel::http::{self, Files, Router, Server};
use waterwheel::offload::{Offload, OffloadOptions};
use waterwheel::{ListenOptions, Reactor};

fn main() -> anyhow::Result<()> {
    env_logger::init();
    let mut args = env::args().skip(1);
    ensure!(args.len() <= 2, "usage: http_files [HOST:PORT [DIRECTORY]]");
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let root = args.next().unwrap_or_else(|| ".".to_owned());
    ensure!(Path::new(&root).is_dir(), "{root}: no such directory; give one that is there");
    let mut reactor = Reactor::new()?;
    // Files are opened on other threads: a slow disk does not hold up the loop.
    let offload = Offload::new(&mut reactor, OffloadOptions::default().name("files"))?;
    let routes = Router::new().files("/", Files::new(root).offload(&offload));
    let web = reactor.register(Server::new((), routes));
    let addr = reactor.listen(addr, web, ListenOptions::default().limits(http::limits()))?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    Ok(reactor.run()?)
}
