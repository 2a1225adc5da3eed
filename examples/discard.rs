//! Takes everything and answers nothing, and says how fast: a handler with a field that all
//! connections share, and a timer of its own.
//!
//! ```text
//! cargo run --release --example discard -- --listen 127.0.0.1:7009 --every 1
//! head -c 1G /dev/zero | nc -N 127.0.0.1 7009
//! ```

use std::process::ExitCode;

use waterwheel::{Conn, Context, Handler, ListenOptions, Peer, Reactor, TimerId};

mod support;

const OPTIONS: &str = "  --every SECONDS        print the rate so often; 0: only the sum [1]\n";

struct Discard {
    /// Seconds between two lines.
    period: f64,
    /// Bytes since the last line.
    bytes: u64,
}

impl Handler for Discard {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        self.bytes += input.len() as u64;
        input.len()
    }

    fn on_service_timer(&mut self, _: TimerId, cx: &mut Context<'_>) {
        let bytes = std::mem::take(&mut self.bytes);
        let rate = bytes as f64 / self.period / 1e6;
        let connections = cx.stats().connections;
        println!("{bytes} bytes of {connections} connections, {rate:.1} MB/s");
    }
}

fn main() -> ExitCode {
    support::run("discard", OPTIONS, "127.0.0.1:7009", |args| {
        let period = args.seconds("every", 1.0)?;
        let mut reactor = Reactor::new()?;
        let discard = reactor.register(Discard { period: period.as_secs_f64(), bytes: 0 });
        if !period.is_zero() {
            reactor.set_periodic_timer(discard, period);
        }
        args.serve(&mut reactor, discard, &ListenOptions::default())?;
        println!("{} bytes in all", reactor.stats().bytes_read);
        Ok(())
    })
}
