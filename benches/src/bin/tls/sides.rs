//! The servers that are compared.

use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use waterwheel::tls::ServerConfig;
use waterwheel::{Conn, ListenOptions, Reactor};

use crate::client::{self, Load};
use crate::{Result, bare, config, thread};

/// Ends a server.
pub(crate) type Stop = Box<dyn FnOnce() + Send + Sync>;

/// Serves until it is stopped; says where it listens first.
type Serve = fn(Sender<(SocketAddr, Stop)>) -> Result<()>;

pub(crate) struct Side {
    pub(crate) name: &'static str,
    serve: Serve,
}

/// The first is what the others are compared with.
pub(crate) const ALL: [Side; 3] = [
    Side { name: "bare, unbuffered", serve: bare::serve::<bare::Unbuffered> },
    Side { name: "bare, buffered", serve: bare::serve::<bare::Buffered> },
    Side { name: "waterwheel", serve: waterwheel },
];

/// A server on a thread and a processor of its own.
pub(crate) struct Running {
    thread: JoinHandle<Result<u64>>,
    stop: Stop,
}

impl Running {
    fn begin(serve: Serve) -> Result<(SocketAddr, Self)> {
        let (send, listening) = channel();
        let thread = std::thread::spawn(move || -> Result<u64> {
            thread::stay_on(0)?;
            let before = thread::time_used()?;
            serve(send)?;
            Ok(thread::time_used()? - before)
        });
        let (addr, stop) = listening.recv()?;
        Ok((addr, Self { thread, stop }))
    }

    /// Ends it; the nanoseconds that it has run.
    pub(crate) fn stop(self) -> Result<u64> {
        (self.stop)();
        self.thread.join().map_err(|_| "the server has panicked")?
    }
}

/// Nanoseconds of the server's thread for a message; those of the handshakes are a few of them.
pub(crate) fn cost(side: &Side, load: Load) -> Result<f64> {
    let (addr, server) = Running::begin(side.serve)?;
    let messages = client::run(addr, load)?;
    Ok(server.stop()? as f64 / messages as f64)
}

pub(crate) fn begin_waterwheel() -> Result<(SocketAddr, Running)> {
    Running::begin(waterwheel)
}

fn waterwheel(listening: Sender<(SocketAddr, Stop)>) -> Result<()> {
    let mut reactor = Reactor::new()?;
    let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        conn.write(input);
        input.len()
    });
    let options = ListenOptions::default().tls(&ServerConfig::from_rustls(config::server()?));
    let addr = reactor.listen("127.0.0.1:0", echo, options)?;
    let remote = reactor.remote();
    listening.send((addr, Box::new(move || _ = remote.stop())))?;
    reactor.run()?;
    Ok(())
}
