//! Stands for `linux.rs` on other systems of this family.

use std::io;
use std::net::TcpListener;

use mio::net::UnixDatagram;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{RecvFlags, SocketAddrUnix};
use socket2::Socket;

use super::datagram::Sender;

/// How descriptors are received.
pub(super) const RECEIVE_FDS: RecvFlags = RecvFlags::empty();

/// Has no received socket outlive an exec.
pub(super) fn close_on_exec(listeners: &[TcpListener]) -> io::Result<()> {
    for listener in listeners {
        fcntl_setfd(listener, FdFlags::CLOEXEC)?;
    }
    Ok(())
}

/// The text of the limits of this process: there is none here.
pub(super) fn limits() -> String {
    String::new()
}

/// Has the kernel report who sends a datagram: refused.
pub(super) fn ask_credentials(_: &Socket) -> io::Result<()> {
    let text = "option credentials is true; this platform does not tell who sends a datagram";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// Has the system find an abstract name: refused.
pub(super) fn autobind(_: &Socket) -> io::Result<()> {
    let text = "option autobind is true; this platform has no abstract names, set source";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// An abstract name as the system takes it: the check of names has refused it.
pub(super) fn raw_abstract(_: &[u8]) -> io::Result<SocketAddrUnix> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The abstract name in an address: none has one here.
pub(super) fn abstract_name_of(_: &std::os::unix::net::SocketAddr) -> Option<&[u8]> {
    None
}

/// Receives nothing: the option that asks for credentials was refused.
pub(super) fn receive_with_credentials(
    _: &UnixDatagram,
    _: &mut Sender,
    _: &mut [u8],
) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
