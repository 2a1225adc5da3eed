//! Unix sockets for datagrams: how they are bound, and what they may use.

use std::io;
use std::time::Duration;

use crate::options::{DEFAULT_DATAGRAM_BUDGET, UdpOptions, UnixAddr, at_least_1ms, out_of_range};

/// Options of a Unix socket for datagrams.
///
/// # Examples
/// A socket to which every user of the machine may send, and that learns which user has sent:
/// ```
/// use waterwheel::unix::UnixDatagramOptions;
/// let options = UnixDatagramOptions::default().mode(Some(0o666)).credentials(true);
/// assert_eq!(options.max_datagram_bytes, 65_535);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixDatagramOptions {
    /// Max datagrams received in a turn, before other sockets are served. Default
    /// [`DEFAULT_DATAGRAM_BUDGET`].
    pub receive_budget: usize,
    /// Max bytes of a datagram that are handed to `on_datagram`; the rest of a longer one is lost,
    /// and `is_truncated` says so. Default and max 65,535; a sender with a large send buffer may
    /// send more.
    pub max_datagram_bytes: usize,
    /// Max datagrams that wait while their receivers have no room; more are dropped, and counted in
    /// [`Stats`](crate::Stats). One receiver may use at most as many places as are still free, so a
    /// single slow receiver has at most half of them. The peer of a connected socket may use all.
    /// Default 1,024.
    pub max_queued_datagrams: usize,
    /// Max bytes of the datagrams that wait, shared out in the same way. Default 1 MiB.
    pub max_queued_bytes: usize,
    /// How long a receiver may have no room at all before all that waits for it is dropped, and
    /// reported by one `on_error` (`TimedOut`). Checked up to sixteen times a second. Datagrams for
    /// the peer of a connected socket wait without a limit. At least 1 ms; default 10 s.
    pub queue_timeout: Duration,
    /// Permissions of the socket's file, such as `0o660`; users who may write to the file may send.
    /// Default: what the process's umask leaves of `0o777`; with the usual umask only the owner may
    /// send. No effect for an abstract name, or for a socket without a name.
    pub mode: Option<u32>,
    /// The name of a socket that `connect_unix_datagrams` makes, so that its peer can answer. The
    /// name is bound as `bind_unix_datagrams` does it. Default: no name, so the socket can only
    /// send.
    pub source: Option<UnixAddr>,
    /// Lets the system choose an abstract name for a socket that `connect_unix_datagrams` makes
    /// without a `source`. Default off. An error on other systems than Linux.
    pub autobind: bool,
    /// `SO_PASSCRED`: the system reports the process and user that sent each datagram
    /// ([`UnixDatagramSocket::credentials`](crate::unix::UnixDatagramSocket::credentials)). A
    /// socket without a name then gets an abstract one. Default off. An error on other systems than
    /// Linux.
    pub credentials: bool,
    /// `SO_SNDBUF`, in bytes: the limit for all datagrams together that receivers have not read
    /// yet, and for the longest datagram. Default: the system's.
    pub send_buffer_bytes: Option<usize>,
    /// `SO_RCVBUF`, in bytes. Has no effect on Linux, which counts datagrams instead: a socket
    /// holds `net.unix.max_dgram_qlen` of them, and one more. Default: the system's.
    pub receive_buffer_bytes: Option<usize>,
}

impl Default for UnixDatagramOptions {
    fn default() -> Self {
        let shared = UdpOptions::default();
        Self {
            receive_budget: DEFAULT_DATAGRAM_BUDGET,
            max_datagram_bytes: shared.max_datagram_bytes,
            max_queued_datagrams: shared.max_queued_datagrams,
            max_queued_bytes: shared.max_queued_bytes,
            queue_timeout: Duration::from_secs(10),
            mode: None,
            source: None,
            autobind: false,
            credentials: false,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
        }
    }
}

impl UnixDatagramOptions {
    setters! {
        receive_budget: usize,
        max_datagram_bytes: usize,
        max_queued_datagrams: usize,
        max_queued_bytes: usize,
        queue_timeout: Duration,
        mode: Option<u32>,
        source: Option<UnixAddr>,
        autobind: bool,
        credentials: bool,
        send_buffer_bytes: Option<usize>,
        receive_buffer_bytes: Option<usize>,
    }

    /// What it has in common with a UDP socket.
    pub(crate) fn shared(&self) -> UdpOptions {
        UdpOptions {
            receive_budget: self.receive_budget,
            max_datagram_bytes: self.max_datagram_bytes,
            max_queued_datagrams: self.max_queued_datagrams,
            max_queued_bytes: self.max_queued_bytes,
            send_buffer_bytes: self.send_buffer_bytes,
            receive_buffer_bytes: self.receive_buffer_bytes,
            ..UdpOptions::default()
        }
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        check_mode(self.mode)?;
        at_least_1ms("queue_timeout", Some(self.queue_timeout))?;
        self.shared().check(([0, 0, 0, 0], 0).into())
    }
}

/// Checks the permissions of a socket's file.
pub(super) fn check_mode(mode: Option<u32>) -> io::Result<()> {
    match mode {
        Some(mode) if mode > 0o777 => {
            Err(out_of_range("mode", format!("{mode:#o}"), "at most 0o777"))
        }
        _ => Ok(()),
    }
}
