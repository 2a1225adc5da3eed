//! SO_REUSEPORT.

use std::io;

use socket2::Socket;

/// Lets several sockets listen at the same address.
pub(crate) fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}
