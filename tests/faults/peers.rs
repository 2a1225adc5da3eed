//! Client sockets: one that behaves, or great numbers of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

/// How a client comes to its server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    /// Where it comes from, if that is not for the system to choose.
    pub(crate) source: Option<SocketAddr>,
    /// Its receive buffer, if it is to be another than the system's.
    pub(crate) receive_bytes: Option<usize>,
    /// Whether its socket never blocks, not even to connect.
    pub(crate) never_blocks: bool,
}

/// Addresses that clients come from: each has 28,000 ports.
const SOURCES: usize = 128;

impl Way {
    /// The way of one of many: neighbours come from different addresses, since the ports of one do
    /// not do for all.
    pub(crate) fn of(number: usize) -> Self {
        let source = Ipv4Addr::new(127, 1, 0, (1 + number % SOURCES) as u8);
        Self { source: Some((source, 0).into()), ..Self::default() }
    }
}

/// Connects; one that never blocks may not have arrived yet.
pub(crate) fn connect(addr: SocketAddr, way: Way) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Before the handshake, which tells the window.
    if let Some(bytes) = way.receive_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = way.source {
        socket.bind(&source.into())?;
    }
    socket.set_nonblocking(way.never_blocks)?;
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => return Err(error),
        _ => {}
    }
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

/// Comes as an ordinary client, who waits so long for anything and no longer.
pub(crate) fn visit(addr: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let client = TcpStream::connect_timeout(&addr, patience)?;
    client.set_read_timeout(Some(patience))?;
    client.set_write_timeout(Some(patience))?;
    client.set_nodelay(true)?;
    Ok(client)
}

/// Ends with RST, whatever is queued.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
}

/// Whether the other side has ended the connection with RST, told at a read or at a write.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), ConnectionReset | BrokenPipe)
}
