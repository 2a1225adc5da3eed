//! Stands for `reuse_port.rs` where there is no SO_REUSEPORT.

use std::io;

use socket2::Socket;

/// Lets several sockets listen at the same address: refused.
pub(crate) fn set_reuse_port(_: &Socket) -> io::Result<()> {
    let text = "option reuse_port is true; this platform has no SO_REUSEPORT, leave it false";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}
