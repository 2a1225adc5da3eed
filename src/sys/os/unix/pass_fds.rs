//! Listening sockets on their way to another process, over a Unix socket (`SCM_RIGHTS`).
//!
//! Inheriting them would do too, but the successor would have to be a child, and between fork and
//! exec nearly nothing is safe in a process with threads. So a process of any parent can take
//! over, and the old one goes on if the new one fails.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, SendAncillaryBuffer, SendAncillaryMessage, recvmsg,
    sendmsg,
};

use super::{NO_SIGNAL, linux};

/// Most sockets of one message; Linux takes 253 (`SCM_MAX_FD`).
pub(super) const MAX_SOCKETS: usize = 253;

/// Sends listening sockets to the process at the other end of `socket`, which takes them with
/// [`receive_listeners`]. The sockets are shared from then on: both processes accept from the same
/// queues until one of them closes its own.
///
/// For a restart in which no client is refused or reset: the old process sends what
/// [`Reactor::listeners`](crate::Reactor::listeners) or
/// [`FleetRemote::listeners`](crate::fleet::FleetRemote::listeners) return, waits for a word of the
/// new one that it serves, and drains. The example `fleet` shows it.
///
/// # Examples
/// ```
/// use std::net::TcpListener;
/// use std::os::unix::net::UnixStream;
/// use waterwheel::{receive_listeners, send_listeners};
///
/// let (old, new) = UnixStream::pair()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// send_listeners(&old, &[&listener])?;
/// let received = receive_listeners(&new)?;
/// assert_eq!(received[0].local_addr()?, listener.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// - `InvalidInput`: none, or more than 253.
/// - The system's, if the other end is gone.
///
/// # Platform notes
/// Unix only. It blocks if `socket` does.
pub fn send_listeners(
    socket: &UnixStream,
    listeners: &[impl std::borrow::Borrow<TcpListener>],
) -> io::Result<()> {
    if listeners.is_empty() {
        return Err(refused(0));
    }
    send_any_number(socket, listeners)
}

fn refused(count: usize) -> io::Error {
    let text = format!("{count} sockets are to be handed on; it takes 1 to {MAX_SOCKETS}");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// The same for a process that may listen on nothing: such a one is taken over from, too.
pub(super) fn send_any_number(
    socket: &UnixStream,
    listeners: &[impl std::borrow::Borrow<TcpListener>],
) -> io::Result<()> {
    if listeners.len() > MAX_SOCKETS {
        return Err(refused(listeners.len()));
    }
    let fds: Vec<BorrowedFd<'_>> =
        listeners.iter().map(|listener| listener.borrow().as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    // Sockets travel with at least one byte: how many there are.
    let count = [fds.len() as u8];
    sendmsg(socket, &[IoSlice::new(&count)], &mut ancillary, NO_SIGNAL)?;
    Ok(())
}

/// Receives the listening sockets that the process at the other end of `socket` has passed to
/// [`send_listeners`], in their order. Adopt them, and tell the other end when they are served.
///
/// # Errors
/// - `UnexpectedEof`: the other end was closed.
/// - `InvalidData`: what came is not what `send_listeners` sends, or there were not enough
///   descriptors left for all of it.
/// - The system's, and `WouldBlock` or `TimedOut` if the socket has a timeout.
///
/// # Platform notes
/// Unix only.
pub fn receive_listeners(socket: &UnixStream) -> io::Result<Vec<TcpListener>> {
    let listeners = receive_any_number(socket)?;
    if listeners.is_empty() {
        return Err(incomplete(0, 0));
    }
    Ok(listeners)
}

fn incomplete(came: usize, sent: u8) -> io::Error {
    let text = format!("{came} of {sent} sockets came over");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Receives what [`send_any_number`] has sent.
pub(super) fn receive_any_number(socket: &UnixStream) -> io::Result<Vec<TcpListener>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut count = [0];
    let parts = &mut [IoSliceMut::new(&mut count)];
    if recvmsg(socket, parts, &mut ancillary, linux::RECEIVE_FDS)?.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut listeners = Vec::with_capacity(count[0].into());
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            listeners.extend(fds.map(TcpListener::from));
        }
    }
    linux::close_on_exec(&listeners)?;
    if listeners.len() != usize::from(count[0]) {
        return Err(incomplete(listeners.len(), count[0]));
    }
    Ok(listeners)
}
