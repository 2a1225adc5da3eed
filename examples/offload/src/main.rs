//! Blocking work beside the loop: queries on an embedded SQLite database run on threads of
//! their own, and each answer comes back to its connection, if that still lives. A connection may
//! send many requests at once: they run one after the other, beside those of other connections.
//! One that has too many under way is not read from until some are answered.
//!
//! ```text
//! cargo run --release -p offload -- --listen 127.0.0.1:7005 --database texts.db
//! printf 'put greeting hello world\nslow 500\nget greeting\nquit\n' | nc 127.0.0.1 7005
//! ```
//!
//! It knows, a line each: `put KEY TEXT`, `get KEY`, `slow MS` (work that takes so long) and
//! `quit`. The answers are `ok`, `value TEXT`, `none`, `slept MS` and `error: WHY`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use waterwheel::offload::{Offload, OffloadOptions};
use waterwheel::{Limits, ListenOptions, Reactor};

mod database;
mod place;
mod server;

use database::Database;
use place::Place;
use server::{MAX_UNDER_WAY, Server};
use support::Failure;

const OPTIONS: &str = "\
  --database PATH        the database's file, made if need be [a new one among the temporary files,
                         for this user's eyes only, which is gone when the server has ended]
  --threads N            threads that work, 1 to 64 [4]
";

/// With the most requests that one may have under way this bounds the queue.
const MAX_CONNECTIONS: usize = 1_000;

fn main() -> ExitCode {
    support::run("offload", OPTIONS, "127.0.0.1:7005", |args| {
        // Dropped last of all, when nobody uses it.
        let place = match args.value("database", PathBuf::new())? {
            path if path.as_os_str().is_empty() => Place::temporary()?,
            path => Place::at(path),
        };
        let threads: usize = args.value("threads", 4)?;
        if !(1..=64).contains(&threads) {
            return Err(Failure::Usage(format!("--threads {threads}: 1 to 64")));
        }
        let mut reactor = Reactor::new()?;
        let options = OffloadOptions::default()
            .threads(threads)
            .name("database")
            .max_queued(MAX_CONNECTIONS * MAX_UNDER_WAY as usize);
        let file = place.file().to_owned();
        let open = move |_| Database::open(&file).map_err(io::Error::other);
        let failed = |error| Failure::System(format!("{}: {error}", place.file().display()).into());
        // The file is set up by one: SQLite does not let threads wait for each other in that.
        let _first = open(0).map_err(failed)?;
        log::info!("the database is {}", place.file().display());
        let offload = Offload::with_state(&mut reactor, options, open).map_err(failed)?;
        let server = reactor.register_with(|key| Server::new(key, offload));
        let options = ListenOptions::default()
            .limits(Limits::default().max_outstanding_requests(MAX_UNDER_WAY))
            .idle_timeout(Duration::from_secs(60))
            .max_connections(Some(MAX_CONNECTIONS));
        args.serve(&mut reactor, server, &options)?;
        let server = reactor.handler_mut(server).expect("it is registered here");
        let Server { answered, too_late, most_under_way: most, .. } = server;
        writeln!(io::stdout(), "answered {answered}, too late {too_late}; at most {most} at once")?;
        Ok(())
    })
}
