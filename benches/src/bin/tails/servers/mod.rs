//! The servers that are compared. Each does what an [`Order`](crate::order::Order) asks, and drops
//! the datagrams that come to the port of its listener.

mod on_epoll;
mod on_tokio;
mod on_waterwheel;

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process;

use socket2::{Domain, Socket, Type};

use crate::order::FILE_BYTES;

/// Connections that the kernel may queue: more than any disturbance has at once.
const BACKLOG: i32 = 4096;

/// The longest read.
const BUFFER_BYTES: usize = 64 << 10;

/// What a server begins with. Its sockets do not block, and accepted ones have TCP_NODELAY.
pub(crate) struct Start {
    listener: TcpListener,
    /// At the same address.
    datagrams: UdpSocket,
    file: File,
}

pub(crate) struct Server {
    pub(crate) name: &'static str,
    /// Serves until something fails.
    run: fn(Start) -> io::Result<()>,
}

/// The first is what the others are compared with.
pub(crate) const SERVERS: &[Server] = &[
    Server { name: "epoll", run: on_epoll::run },
    Server { name: "waterwheel", run: on_waterwheel::run },
    Server { name: "tokio", run: on_tokio::run },
];

/// Is a server on a free port of loopback, which it prints.
pub(crate) fn serve(name: &str) -> io::Result<()> {
    let server = SERVERS.iter().find(|server| server.name == name);
    let server = server.ok_or_else(|| io::Error::other(format!("no server is called {name:?}")))?;
    let listener = listen()?;
    let addr = listener.local_addr()?;
    let datagrams = UdpSocket::bind(addr)?;
    datagrams.set_nonblocking(true)?;
    println!("{addr}");
    io::stdout().flush()?;
    (server.run)(Start { listener, datagrams, file: file()? })
}

fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A file of zeros that goes when it is closed.
fn file() -> io::Result<File> {
    let path = env::temp_dir().join(format!("waterwheel-tails-{}", process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    file.set_len(FILE_BYTES)?;
    Ok(file)
}
