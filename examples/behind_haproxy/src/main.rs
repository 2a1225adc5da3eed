//! An echo server behind HAProxy that can be restarted under load without a request that fails.
//!
//! ```text
//! for n in 1 2 3; do
//!     cargo run --release -p behind_haproxy -- \
//!         --listen 127.0.0.1:700$n --agent 127.0.0.1:800$n &
//! done
//! haproxy -db -f examples/behind_haproxy/haproxy.cfg &
//! cargo run --release -p load -- storm --connect 127.0.0.1:7000
//! ```
//! and, while that runs, `kill -TERM` one server, start it again when it has ended, wait until it
//! says `in service`, and go on with the next.
//!
//! # How a server leaves
//! 1. On SIGTERM (or SIGINT) it says `drain` when HAProxy's agent check asks. HAProxy then gives it
//!    no new connections; those it has go on.
//! 2. It still accepts for the time of `--lame-duck`: connections were on their way.
//! 3. It closes its listeners and ends once its connections have ended, those left after `--drain`
//!    by force.
//!
//! It comes back by saying `ready`. `in service` is printed when HAProxy has heard that and a
//! health check has passed. Whoever rolls waits for it: else the next server could leave before
//! this one counts.
//!
//! # What this cannot do
//! A request is a connection here. In TCP mode nobody but client and server knows where a request
//! ends on a connection that stays; the server cannot leave such a connection before the client
//! does without the risk that a request is on its way. It waits `--drain` seconds for the client.
//! A protocol with a word for "connect anew" would say it in `on_shutdown`.

#[cfg(unix)]
mod server;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    server::run()
}

#[cfg(not(unix))]
fn main() -> std::process::ExitCode {
    use std::io::Write;
    let text = "behind_haproxy: it is rolled by signals, which Unix has";
    let _ = writeln!(std::io::stderr(), "{text}");
    std::process::ExitCode::FAILURE
}
