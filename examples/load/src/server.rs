//! The server in this process, which echoes, or speaks HTTP or WebSocket: its own reactor, on its
//! own thread.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use waterwheel::udp::{DatagramSocket, UdpOptions};
use waterwheel::{Conn, ListenOptions, Reactor, Remote};

use crate::plan::{Mode, Plan};
use crate::web;

/// What a socket that gets datagrams asks of the system: the usual 200 KiB hold no more than 256
/// small ones of a burst.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// Opens a UDP socket with a large receive buffer, or with the usual one where that is refused:
/// most systems give what they have, and some nothing then.
pub(crate) fn with_large_buffer<T>(
    options: UdpOptions,
    mut open: impl FnMut(&UdpOptions) -> io::Result<T>,
) -> io::Result<T> {
    let large = options.clone().receive_buffer_bytes(Some(RECEIVE_BUFFER_BYTES));
    open(&large).or_else(|_| open(&options))
}

/// A server that runs until it is stopped.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    remote: Remote,
    thread: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Returns when it listens.
    pub(crate) fn start(plan: &Plan) -> Result<Self, Box<dyn Error>> {
        let is_udp = plan.mode == Mode::Udp;
        let is_http = plan.http.is_some();
        let patience = plan.server_idle_timeout();
        let is_ws = plan.ws.is_some();
        let size = plan.size;
        let mut options = ListenOptions::default();
        if is_http || is_ws {
            // A message that is echoed, and another one before it.
            let most_output = size.saturating_mul(2).max(16 << 20);
            options = options.limits(web::limits()?.max_output_bytes(most_output));
        }
        options = options.idle_timeout(patience);
        if let Some(tls) = &plan.tls {
            options = tls.serve(options);
        }
        // A reactor stays on its thread; what may leave is its address and its door.
        let (ready, listens) = mpsc::channel();
        let thread = thread::Builder::new().name("server".to_owned()).spawn(move || {
            let mut reactor = Reactor::new()?;
            let addr = match (is_udp, is_http) {
                _ if is_ws => web::serve_ws(&mut reactor, options, size)?,
                (true, _) => receive(&mut reactor)?,
                (_, true) => web::serve_http(&mut reactor, options, patience)?,
                _ => listen(&mut reactor, options)?,
            };
            // Nobody listens only if the main thread has given up.
            let _ = ready.send((addr, reactor.remote()));
            reactor.run()
        })?;
        match listens.recv() {
            Ok((addr, remote)) => Ok(Self { addr, remote, thread }),
            Err(_) => Err(join(thread).err().unwrap_or("the server ended".into())),
        }
    }

    pub(crate) fn stop(self) -> Result<(), Box<dyn Error>> {
        // If it has stopped already, the thread's result says why.
        let _ = self.remote.stop();
        join(self.thread)
    }
}

fn listen(reactor: &mut Reactor, options: ListenOptions) -> io::Result<SocketAddr> {
    let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        conn.write(input);
        input.len()
    });
    reactor.listen("127.0.0.1:0", echo, options)
}

fn receive(reactor: &mut Reactor) -> io::Result<SocketAddr> {
    let echo =
        reactor.register(|socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]| {
            socket.send_to(from, bytes);
        });
    let (_, addr) = with_large_buffer(UdpOptions::default(), |options| {
        reactor.bind_udp("127.0.0.1:0", echo, options.clone())
    })?;
    Ok(addr)
}

fn join(thread: JoinHandle<io::Result<()>>) -> Result<(), Box<dyn Error>> {
    match thread.join() {
        Ok(result) => result.map_err(|error| format!("the server failed: {error}").into()),
        Err(_) => Err("the server panicked".into()),
    }
}
