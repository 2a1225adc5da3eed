//! Unix: `windows.rs` has the same names for Windows.

#[cfg_attr(
    not(any(
        target_os = "linux",
        target_os = "android",
        target_os = "macos",
        target_os = "ios",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "openbsd",
    )),
    path = "by_index_stub.rs"
)]
mod by_index;
mod control;
mod datagram;
pub(crate) mod errors;
#[cfg_attr(target_os = "solaris", path = "flock_stub.rs")]
mod flock;
#[cfg(feature = "http-files")]
mod folder;
mod limits;
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), path = "linux_stub.rs")]
mod linux;
mod listener;
#[cfg_attr(not(feature = "systemd"), path = "notify_stub.rs")]
mod notify;
mod pass_fds;
mod path_lock;
#[cfg_attr(
    any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"),
    path = "reuse_port_stub.rs"
)]
mod reuse_port;
#[cfg(feature = "signals")]
mod signals;
mod socket_file;

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::net::SendFlags;

use crate::sys::Poller;

pub(crate) use by_index::{join_by_index, leave_by_index, send_by_index};
pub(crate) use control::{Before, Control, ControlWaker};
pub(crate) use datagram::{UnixDatagramSocket, UnixDatagrams};
#[cfg(feature = "http-files")]
pub(crate) use folder::{Folder, file_id};
pub(crate) use limits::open_file_limit;
pub use limits::raise_open_file_limit;
pub(crate) use listener::LocalListener;
pub(crate) use notify::Notifier;
pub use pass_fds::{receive_listeners, send_listeners};
pub(crate) use reuse_port::set_reuse_port;
#[cfg(feature = "signals")]
pub(crate) use signals::end_bell;

/// The file of which a descriptor costs nothing.
pub(crate) const NULL_FILE: &str = "/dev/null";

/// Whether a reset is reported as the end of both ways: here as an error.
pub(crate) const RESETS_ARE_ENDS: bool = false;

/// Whether a socket must have an address before the poll takes it.
pub(crate) const IS_BOUND_BEFORE_POLLED: bool = false;

/// How bytes are sent: a peer that is gone is an error and no signal.
#[cfg(not(target_vendor = "apple"))]
pub(crate) const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;

/// How bytes are sent: there is no flag against the signal here, socket2 sets an option.
#[cfg(target_vendor = "apple")]
pub(crate) const NO_SIGNAL: SendFlags = SendFlags::empty();

impl Poller {
    /// Watches a descriptor of any kind for something to read.
    pub(crate) fn add_fd(&self, fd: &OwnedFd, token: usize) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        let (source, readable) = (&mut SourceFd(&fd), Interest::READABLE);
        match self {
            Self::Os(poller) => poller.registry().register(source, Token(token), readable),
            Self::Sim(_) => Err(crate::sys::of_two_worlds()),
        }
    }

    /// Watches a descriptor no more.
    pub(crate) fn remove_fd(&self, fd: &OwnedFd) -> io::Result<()> {
        match self {
            Self::Os(poller) => poller.registry().deregister(&mut SourceFd(&fd.as_raw_fd())),
            Self::Sim(_) => Err(crate::sys::of_two_worlds()),
        }
    }
}

/// Whether a descriptor has something to read now, or its end.
pub(crate) fn has_input(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Whether an error of connect says that it goes on.
pub(crate) fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

/// Whether an error says that the value of an option is fixed: no system here has that.
pub(crate) fn is_fixed_option(_: &io::Error) -> bool {
    false
}

/// Reads a file at an offset.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, offset)
}

/// Whether a file was opened for reading.
pub(crate) fn is_readable(file: &File) -> io::Result<bool> {
    Ok((fcntl_getfl(file)? & OFlags::ACCMODE) != OFlags::WRONLY)
}

/// Whether a file is a disk.
pub(crate) fn is_disk(metadata: &Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_block_device(&metadata.file_type())
}
