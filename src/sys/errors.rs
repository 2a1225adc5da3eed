//! What errors of the system say, as far as `io::ErrorKind` has no word for it.

use std::io;

use super::os::errors::{
    BROKEN_CONNECTION, CONNECTION_RESET, INTERRUPTED, NO_BUFFERS, NO_FILE_OF_PROCESS,
    NO_FILE_OF_SYSTEM, NOT_READY, TOO_LONG, WRONG_FAMILY,
};

/// Why a read gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadFault {
    /// Nothing is there yet.
    Empty,
    /// A signal came; to be done again.
    Interrupted,
    /// The peer has reset the connection.
    Reset,
    /// Something else has broken it.
    Other,
}

impl ReadFault {
    /// What an error of a read says.
    #[inline]
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(NOT_READY) => Self::Empty,
            Some(CONNECTION_RESET) => Self::Reset,
            Some(INTERRUPTED) => Self::Interrupted,
            _ => Self::of_kind(error.kind()),
        }
    }

    fn of_kind(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::WouldBlock => Self::Empty,
            io::ErrorKind::ConnectionReset => Self::Reset,
            io::ErrorKind::Interrupted => Self::Interrupted,
            _ => Self::Other,
        }
    }
}

/// What an accept that failed lacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Nothing: the connection itself was broken.
    Connection,
    /// A descriptor, of the process or the system.
    Descriptors,
    /// Memory, or something else.
    Other,
}

impl Shortage {
    /// What an error of accept says.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(code) if code == NO_FILE_OF_PROCESS || code == NO_FILE_OF_SYSTEM => {
                Self::Descriptors
            }
            Some(code) if BROKEN_CONNECTION.contains(&code) => Self::Connection,
            _ => Self::Other,
        }
    }
}

/// What to do about an error, if the process or the system has no descriptor left; else nothing.
pub(crate) fn shortage_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        // One number on Windows.
        Some(code) if code == NO_FILE_OF_PROCESS => {
            "; raise the limit of open files with `ulimit -n` or raise_open_file_limit"
        }
        Some(code) if code == NO_FILE_OF_SYSTEM => "; the whole system has no descriptor left",
        _ => "",
    }
}

/// Why a datagram was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendFault {
    /// The datagram is longer than the socket, or the way to the peer, takes.
    TooLong,
    /// A queue of the system is full.
    NoBuffers,
    /// The address is of another family than the socket.
    Family,
    /// Something else, or an older error that was waiting to be reported.
    Other,
}

impl SendFault {
    /// What an error of a send says.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(TOO_LONG) => Self::TooLong,
            Some(WRONG_FAMILY) => Self::Family,
            Some(code) if NO_BUFFERS.contains(&code) => Self::NoBuffers,
            _ => Self::Other,
        }
    }
}
