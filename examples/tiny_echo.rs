//! The smallest server: a closure is a handler. What comes in goes out again.
//!
//! ```text
//! cargo run --example tiny_echo
//! echo hello | nc -N 127.0.0.1 7000
//! ```
//! An argument is another address to listen on. The whole program is here: it needs no crate but
//! `waterwheel`.

use std::env;
use std::io::{self, Write};

use waterwheel::{Conn, Limits, ListenOptions, Reactor};

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let mut reactor = Reactor::new()?;
    let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        conn.write(input);
        input.len()
    });
    let options = ListenOptions::default().limits(Limits::internet());
    let addr = reactor.listen(addr.as_str(), echo, options)?;
    // The server goes on when there is no one to read where it listens; `println!` would panic.
    let _ = writeln!(io::stdout(), "listening on {addr}");
    reactor.run()
}
