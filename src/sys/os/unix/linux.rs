//! What Unix sockets have on Linux and Android: `linux_stub.rs` has the same names for others.

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpListener;
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;

use mio::net::UnixDatagram;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketAddrUnix, recvmsg,
};
use socket2::Socket;

use super::datagram::Sender;
use crate::sys::Stream;
use crate::sys::os::linux::credentials_of;

/// How descriptors are received: none outlives an exec.
pub(super) const RECEIVE_FDS: RecvFlags = RecvFlags::CMSG_CLOEXEC;

/// A longer address is of a path without its zero, which rustix takes for impossible.
const MAX_ADDR_BYTES: u32 = 110;

impl Stream {
    /// Reads once. Returns also whether the read stopped at something that is not in the bytes, so
    /// that there may be more.
    ///
    /// A read of a Unix socket that returns less than was asked for has emptied it. Exception: it
    /// stops at descriptors that the peer has sent along (`unix_stream_read_generic` in
    /// net/unix/af_unix.c). None are taken here, so that the kernel closes them and says
    /// "truncated". Urgent data stops a read as with TCP.
    pub(crate) fn receive_noting(&self, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        let Some(stream) = self.of_os() else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut parts = [io::IoSliceMut::new(buffer)];
        let mut none = RecvAncillaryBuffer::default();
        let received = recvmsg(stream, &mut parts, &mut none, RecvFlags::empty())?;
        Ok((received.bytes, received.flags.contains(ReturnFlags::CTRUNC)))
    }
}

/// Has no received socket outlive an exec: [`RECEIVE_FDS`] has seen to that.
pub(super) fn close_on_exec(_: &[TcpListener]) -> io::Result<()> {
    Ok(())
}

/// The text of the limits of this process; empty where /proc is not mounted.
pub(super) fn limits() -> String {
    std::fs::read_to_string("/proc/self/limits").unwrap_or_default()
}

/// Has the kernel report who sends a datagram.
pub(super) fn ask_credentials(socket: &Socket) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_passcred(socket, true)?)
}

/// Has the system find an abstract name: see unix(7), "Autobind feature".
pub(super) fn autobind(socket: &Socket) -> io::Result<()> {
    Ok(rustix::net::bind(socket, &SocketAddrUnix::new_unnamed())?)
}

/// An abstract name as the system takes it.
pub(super) fn raw_abstract(name: &[u8]) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(name)?)
}

/// The abstract name in an address, if it has one.
pub(super) fn abstract_name_of(addr: &std::os::unix::net::SocketAddr) -> Option<&[u8]> {
    addr.as_abstract_name().filter(|name| !name.is_empty())
}

/// Receives one datagram, and who has sent it: how much of it there was room for.
pub(super) fn receive_with_credentials(
    socket: &UnixDatagram,
    sender: &mut Sender,
    buffer: &mut [u8],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = socket.try_io(|| {
        let mut parts = [io::IoSliceMut::new(buffer)];
        Ok(recvmsg(socket, &mut parts, &mut ancillary, RECEIVE_FDS)?)
    })?;
    sender.credentials = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(who) => Some(credentials_of(who)),
        _ => None,
    });
    let from = received.address.filter(|addr| addr.addr_len() <= MAX_ADDR_BYTES);
    let from = from.and_then(|addr| SocketAddrUnix::try_from(addr).ok());
    let path = from.as_ref().and_then(SocketAddrUnix::path_bytes);
    let name = from.as_ref().and_then(SocketAddrUnix::abstract_name);
    sender.note(path, name.filter(|name| !name.is_empty()));
    Ok(received.bytes)
}
