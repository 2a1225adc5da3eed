//! Takes everything and answers nothing, and says how fast: a handler with a field that all
//! connections share, a timer of its own, and an end that SIGINT or SIGTERM asks for.
//!
//! ```text
//! cargo run --release --example discard
//! head -c 1G /dev/zero | nc -N 127.0.0.1 7009
//! ```
//! The arguments are the address to listen on, and the seconds between two lines; 0: only the sum.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use waterwheel::{
    Conn, Context, Handler, Limits, ListenOptions, Peer, Reactor, Timer, TimerHandler,
};

struct Discard {
    /// Time between two lines.
    period: Duration,
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
}

impl TimerHandler for Discard {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        let bytes = std::mem::take(&mut self.bytes);
        let rate = bytes as f64 / self.period.as_secs_f64() / 1e6;
        let connections = cx.stats().connections;
        // The server goes on when the reader of this line has gone.
        let _ =
            writeln!(io::stdout(), "{bytes} bytes of {connections} connections, {rate:.1} MB/s");
    }
}

fn main() -> ExitCode {
    env_logger::init();
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "discard: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7009".to_owned());
    let seconds = args.next().unwrap_or_else(|| "1".to_owned());
    let period = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let period = period.ok_or_else(|| format!("{seconds:?} is no number of seconds"))?;

    let mut reactor = Reactor::new()?;
    let discard = reactor.register(Discard { period, bytes: 0 });
    if !period.is_zero() {
        reactor.set_periodic_timer(discard, period, 0);
    }
    #[cfg(unix)]
    drain_on_signals(&mut reactor)?;
    let options = ListenOptions::default().limits(Limits::internet());
    let addr = reactor.listen(addr.as_str(), discard, options)?;
    writeln!(io::stdout(), "listening on {addr}")?;
    reactor.run()?;
    writeln!(io::stdout(), "{} bytes in all", reactor.stats().bytes_read)?;
    Ok(())
}

/// SIGINT and SIGTERM end the loop once all connections have ended, after five seconds at most.
#[cfg(unix)]
fn drain_on_signals(reactor: &mut Reactor) -> io::Result<()> {
    let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    reactor.drain_when_readable(reader.into(), Duration::from_secs(5))
}
