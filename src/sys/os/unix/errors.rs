//! Numbers of errors for which `io::ErrorKind` has no word.

use rustix::io::Errno;

/// The process has no descriptor left.
pub(crate) const NO_FILE_OF_PROCESS: i32 = Errno::MFILE.raw_os_error();

/// The system has no descriptor left.
pub(crate) const NO_FILE_OF_SYSTEM: i32 = Errno::NFILE.raw_os_error();

/// A read has nothing to give yet, was interrupted, or met a reset. `io::ErrorKind` has words for
/// these, and finds them by a call, which each connection that is reset would pay for.
pub(crate) const NOT_READY: i32 = Errno::AGAIN.raw_os_error();
pub(crate) const INTERRUPTED: i32 = Errno::INTR.raw_os_error();
pub(crate) const CONNECTION_RESET: i32 = Errno::CONNRESET.raw_os_error();

/// An accept failed, and the fault is the connection's.
pub(crate) const BROKEN_CONNECTION: &[i32] = &[
    Errno::PROTO.raw_os_error(),
    Errno::NOPROTOOPT.raw_os_error(),
    Errno::OPNOTSUPP.raw_os_error(),
    Errno::HOSTDOWN.raw_os_error(),
];

/// A queue of the system is full.
pub(crate) const NO_BUFFERS: &[i32] = &[Errno::NOBUFS.raw_os_error(), Errno::NOMEM.raw_os_error()];

/// A datagram is longer than the socket, or the way to the peer, takes.
pub(crate) const TOO_LONG: i32 = Errno::MSGSIZE.raw_os_error();

/// The address is of another family than the socket.
pub(crate) const WRONG_FAMILY: i32 = Errno::AFNOSUPPORT.raw_os_error();
