//! Windows: the same names as in `unix/`. What only Unix has is a type without values here.

#[path = "unix/notify_stub.rs"]
mod notify;

use std::fs::{File, Metadata};
use std::io;
use std::net::Ipv4Addr;

use mio::net::UdpSocket;
use socket2::{SockRef, Socket};

use super::Poller;
use crate::sys::Stream;

pub(crate) use notify::Notifier;

/// The file of which a descriptor costs nothing.
pub(crate) const NULL_FILE: &str = "NUL";

/// Whether a reset is reported as the end of both ways. An error is a connect that has failed.
pub(crate) const RESETS_ARE_ENDS: bool = true;

/// Whether a socket must have an address before the poll takes it.
pub(crate) const IS_BOUND_BEFORE_POLLED: bool = true;

/// `WSAENOPROTOOPT`, for which there is no kind.
const NO_SUCH_OPTION: i32 = 10_042;

/// Numbers of errors for which `io::ErrorKind` has no word.
pub(crate) mod errors {
    /// A read has nothing to give yet, was interrupted, or met a reset: `WSAEWOULDBLOCK`,
    /// `WSAEINTR`, `WSAECONNRESET`.
    pub(crate) const NOT_READY: i32 = 10_035;
    pub(crate) const INTERRUPTED: i32 = 10_004;
    pub(crate) const CONNECTION_RESET: i32 = 10_054;

    /// The process has no descriptor left: `WSAEMFILE`.
    pub(crate) const NO_FILE_OF_PROCESS: i32 = 10_024;

    /// The system has no descriptor left: there is no other number for that.
    pub(crate) const NO_FILE_OF_SYSTEM: i32 = NO_FILE_OF_PROCESS;

    /// An accept failed, and the fault is the connection's: `WSAECONNABORTED`.
    pub(crate) const BROKEN_CONNECTION: &[i32] = &[10_053];

    /// A queue of the system is full: `WSAENOBUFS`.
    pub(crate) const NO_BUFFERS: &[i32] = &[10_055];

    /// A datagram is longer than the socket, or the way to the peer, takes: `WSAEMSGSIZE`.
    pub(crate) const TOO_LONG: i32 = 10_040;

    /// The address is of another family than the socket: `WSAEAFNOSUPPORT`.
    pub(crate) const WRONG_FAMILY: i32 = 10_047;
}

/// A Unix socket that listens.
#[derive(Debug)]
pub(crate) enum LocalListener {}

impl LocalListener {
    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match *self {}
    }

    pub(crate) fn add_to(&mut self, _: &Poller, _: usize) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn remove_from(&mut self, _: &Poller) -> io::Result<()> {
        match *self {}
    }
}

/// A Unix socket for datagrams.
#[derive(Debug)]
pub(crate) enum UnixDatagramSocket {}

impl UnixDatagramSocket {
    pub(crate) fn source(&mut self) -> &mut UdpSocket {
        match *self {}
    }

    pub(crate) fn receive(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn send(&mut self, _: &[u8]) -> io::Result<()> {
        match *self {}
    }
}

/// Whether an error of connect says that it goes on.
pub(crate) fn is_in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Whether an error says that the value of an option is fixed. Before version 1703 of Windows 10,
/// and so on Windows Server 2016, the count of keepalive probes is ten.
pub(crate) fn is_fixed_option(error: &io::Error) -> bool {
    error.raw_os_error() == Some(NO_SUCH_OPTION)
}

/// Lets several sockets listen at the same address: refused.
pub(crate) fn set_reuse_port(_: &Socket) -> io::Result<()> {
    let text = "option reuse_port is true; this platform has no SO_REUSEPORT, leave it false";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// Joins a group on an interface. Windows takes an index for an address that begins with a zero.
pub(crate) fn join_by_index(socket: &UdpSocket, addr: &Ipv4Addr, index: u32) -> io::Result<()> {
    SockRef::from(socket).join_multicast_v4(addr, &index.into())
}

/// Leaves a group on an interface.
pub(crate) fn leave_by_index(socket: &UdpSocket, addr: &Ipv4Addr, index: u32) -> io::Result<()> {
    SockRef::from(socket).leave_multicast_v4(addr, &index.into())
}

/// Sends to groups by an interface.
pub(crate) fn send_by_index(socket: &Socket, index: u32) -> io::Result<()> {
    socket.set_multicast_if_v4(&index.into())
}

/// How many descriptors this process may have open: there is no such limit.
pub(crate) fn open_file_limit() -> Option<u64> {
    None
}

/// There is no limit of open files on this platform: returns `None`.
///
/// # Errors
/// None on this platform.
pub fn raise_open_file_limit() -> io::Result<Option<u64>> {
    Ok(None)
}

/// Reads a file at an offset.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, offset)
}

/// Whether a file was opened for reading: a read will say so.
pub(crate) fn is_readable(_: &File) -> io::Result<bool> {
    Ok(true)
}

/// Whether a file is a disk.
pub(crate) fn is_disk(_: &Metadata) -> bool {
    false
}
