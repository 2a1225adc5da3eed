//! The operating system, through mio, socket2, rustix and, on Linux, nix.
//!
//! What differs between systems is chosen here, by file. Each of these modules has a second file
//! with the same names, for where the first does not apply:
//!
//! | module | for | elsewhere |
//! |---|---|---|
//! | `native` | epoll, kqueue | `emulated.rs`: poll(2), Windows |
//! | `system` | Unix, in `unix/` | `windows.rs` |
//! | `linux`, `affinity` | Linux, Android | `linux_stub.rs`, `affinity_stub.rs` |
//! | `sock_diag` | Linux | `sock_diag_stub.rs` |
//! | `clock` | Linux | `clock_stub.rs` |
//! | `pktinfo` | Linux | `pktinfo_stub.rs` |
//! | `batch` | Linux, with the feature `batch` | `batch_stub.rs` |

#[cfg(feature = "activation")]
mod activation;
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), path = "affinity_stub.rs")]
mod affinity;
#[cfg_attr(
    not(all(feature = "batch", target_os = "linux", not(mio_unsupported_force_poll_poll))),
    path = "batch_stub.rs"
)]
mod batch;
#[cfg_attr(not(target_os = "linux"), path = "clock_stub.rs")]
mod clock;
mod credentials;
mod datagram;
#[cfg(all(feature = "http-files", not(unix)))]
mod folder_stub;
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), path = "linux_stub.rs")]
mod linux;
mod multicast;
#[cfg_attr(
    not(all(
        any(
            target_os = "linux",
            target_os = "android",
            target_os = "macos",
            target_os = "ios",
            target_os = "freebsd",
            target_os = "netbsd",
            target_os = "openbsd",
            target_os = "dragonfly",
        ),
        not(mio_unsupported_force_poll_poll)
    )),
    path = "emulated.rs"
)]
mod native;
#[cfg_attr(not(target_os = "linux"), path = "pktinfo_stub.rs")]
mod pktinfo;
mod poller;
mod resolve;
mod sendfile;
#[cfg_attr(not(target_os = "linux"), path = "sock_diag_stub.rs")]
mod sock_diag;
#[cfg_attr(unix, path = "unix/mod.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod system;
mod tcp;
mod unregistered;

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};

pub(crate) use mio::event::Event;
pub(crate) use mio::net::TcpListener as Listener;
pub(crate) use mio::{Events, Poll as Poller, Waker};

#[cfg(feature = "activation")]
pub use activation::activated_listeners;
pub(crate) use affinity::{Cores, allowed_cores, pin_to};
pub(crate) use batch::{
    BATCHES_ARE_CALLS, receive_batch, send_batch, send_segments, sends_segments,
};
pub(crate) use clock::Clock;
pub use credentials::Credentials;
pub(crate) use datagram::{Arrival, BATCH, DatagramSocket, Ends, Route, bind_udp, connect_udp};
#[cfg(all(feature = "http-files", not(unix)))]
pub(crate) use folder_stub::{Folder, file_id};
pub(crate) use linux::{OPTIONS_ARE_INHERITED, peer_credentials};
pub(crate) use multicast::{join, leave};
pub(crate) use native::{
    EDGES_ARE_NATIVE, STREAM_INPUT, Stream, is_let_go, receive, send, send_vectored,
};
pub(crate) use poller::{add, add_stream, change_stream, poll, remove, waker, watch};
pub(crate) use resolve::{Answer, interface_addr, resolve, resolve_now};
pub(crate) use sendfile::{FileSink, range_of, read_of};
pub(crate) use sock_diag::{sent_ago, tcp_info, unsent_stall};
#[cfg(all(feature = "signals", unix))]
pub(crate) use system::end_bell;
pub use system::raise_open_file_limit;
#[cfg(unix)]
pub(crate) use system::{Before, Control, ControlWaker, UnixDatagrams, has_input};
#[cfg(all(feature = "http-files", unix))]
pub(crate) use system::{Folder, file_id};
pub(crate) use system::{
    LocalListener, Notifier, RESETS_ARE_ENDS, UnixDatagramSocket, errors, open_file_limit,
};
#[cfg(unix)]
pub use system::{receive_listeners, send_listeners};
pub(crate) use tcp::{
    Backlog, adopt, bind, connect, connected, duplicate, keep_alive, reset_on_close, set_options,
};
pub(crate) use unregistered::Unregistered;

/// A random number: the standard library's keys for hashing are.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A descriptor in reserve, to be released when none is left for accept.
#[derive(Debug)]
pub(crate) struct Spare(
    #[expect(dead_code, reason = "it is held for the descriptor, not for what it opens")] File,
);

impl Spare {
    /// Opens one, if there is one to be had and the platform has a file for it.
    pub(crate) fn open() -> Option<Self> {
        File::open(system::NULL_FILE).ok().map(Self)
    }
}
