//! The servers that are compared.

mod on_mio;
mod on_tokio;
mod on_waterwheel;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// Connections that the kernel may queue: more than any workload has at once.
const BACKLOG: i32 = 4096;

/// The longest read: as in waterwheel.
const BUFFER_BYTES: usize = 64 << 10;

/// Whether an accepted socket has its listener's TCP_NODELAY, so that setting it again would be a
/// system call for nothing.
const INHERITS_NODELAY: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// An echo server.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    /// Serves until something fails.
    run: fn(TcpListener) -> io::Result<()>,
}

/// The first is what the others are compared with.
pub(crate) const SERVERS: &[Server] = &[
    Server { name: "mio", run: on_mio::run },
    Server { name: "waterwheel", run: on_waterwheel::run },
    Server { name: "tokio", run: on_tokio::run },
];

/// Is a server on a free port of loopback, which it prints.
pub(crate) fn serve(server: &Server) -> io::Result<()> {
    let listener = listen()?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    (server.run)(listener)
}

/// Whether there may be more to read after a read of `count` bytes. A read that does not fill its
/// buffer has emptied the socket, but on Windows mio needs to see `WouldBlock` before it tells of
/// more.
pub(crate) fn may_have_more(count: usize, buffer_bytes: usize) -> bool {
    count == buffer_bytes || cfg!(windows)
}

fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
