//! Client sockets in great numbers, and chance that can be repeated.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

/// How a client comes to its server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    /// Whose number it is: neighbours come from different addresses, since the ports of one do
    /// not do for many.
    pub(crate) number: usize,
    /// Its receive buffer, if it is to be another than the system's.
    pub(crate) receive_bytes: Option<usize>,
    /// Whether its socket never blocks, not even to connect.
    pub(crate) never_blocks: bool,
}

/// Addresses that clients come from: each has 28,000 ports.
const SOURCES: usize = 128;

/// Connects; one that never blocks may not have arrived yet.
pub(crate) fn connect(addr: SocketAddr, way: Way) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(bytes) = way.receive_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    let source = Ipv4Addr::new(127, 1, 0, (1 + way.number % SOURCES) as u8);
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.set_nonblocking(way.never_blocks)?;
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => return Err(error),
        _ => {}
    }
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

/// Ends with RST, whatever is queued.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
}

/// SplitMix64: chance that a failure can be repeated with.
#[derive(Clone, Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % bound as u64) as usize
    }
}
