//! The smallest server: a closure is a handler. What comes in goes out again.
//!
//! ```text
//! cargo run --example tiny_echo -- --listen 127.0.0.1:7000
//! echo hello | nc -N 127.0.0.1 7000
//! ```

use std::process::ExitCode;

use waterwheel::{Conn, ListenOptions, Reactor};

mod support;

fn main() -> ExitCode {
    support::run("tiny_echo", "", "127.0.0.1:7000", |args| {
        let mut reactor = Reactor::new()?;
        let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
            conn.write(input);
            input.len()
        });
        args.serve(&mut reactor, echo, &ListenOptions::default())
    })
}
