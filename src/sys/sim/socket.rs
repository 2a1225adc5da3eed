//! The state of one socket.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;

/// What a socket can be reported as.
pub(super) const READABLE: u8 = 1;
pub(super) const WRITABLE: u8 = 2;
pub(super) const HUNG_UP: u8 = 4;
pub(super) const BROKEN: u8 = 8;

/// An end of a connection, a listener, or a UDP socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) owner: Owner,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// The other end, once there is one.
    pub(super) other: Option<u32>,
    pub(crate) stage: SocketStage,
    /// Arrived and not read.
    pub(super) received: VecDeque<u8>,
    /// On the way here.
    pub(super) arriving: VecDeque<(u64, Segment)>,
    pub(super) arriving_bytes: usize,
    pub(super) last_arrival: u64,
    /// Most bytes on the way and not read.
    pub(super) window: usize,
    pub(super) has_fin: bool,
    pub(super) is_reset: bool,
    /// To be reported once.
    pub(super) error: Option<ErrorKind>,
    pub(super) fin_sent: bool,
    pub(super) resets_on_close: bool,
    /// A write found no room.
    pub(crate) wants_room: bool,
    pub(super) registration: Option<Registration>,
    /// Of a listener: connections that are not accepted yet, and most of them.
    pub(super) waiting: VecDeque<u32>,
    pub(super) backlog: usize,
    /// Of a UDP socket.
    pub(super) inbox: Option<Inbox>,
    /// Read by a host, and not looked at by the watcher of the rules.
    pub(crate) tap: Vec<u8>,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    /// Calls of its host that were to write.
    pub(crate) sends: u64,
    /// When bytes last moved, by the owner's clock.
    pub(crate) read_at: u64,
    pub(crate) written_at: u64,
    /// Arrived and not read when it was closed.
    pub(crate) unread_at_close: usize,
    /// A read said `WouldBlock` although there is something, and none has been made since.
    pub(crate) has_lied: bool,
    /// A fault has broken it.
    pub(crate) was_hurt: bool,
    /// Of a machine that is gone for good.
    pub(super) is_gone: bool,
    /// Of such a machine: something has come that nothing acknowledges.
    pub(super) is_awaited: bool,
}

/// Whose a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Host(u32),
    Peer(u32),
    /// The socket is closed.
    Nobody,
}

/// Where a socket is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketStage {
    Listening,
    Connecting,
    /// No stream, but a UDP socket.
    Datagrams,
    Up,
    /// The connect failed, or the owner has closed it.
    Over,
}

#[derive(Debug)]
pub(super) enum Segment {
    Data(Vec<u8>),
    Fin,
    Rst,
}

/// How a socket is registered with its host's poll.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) token: usize,
    /// On the list of what the poll has to look at.
    pub(super) is_listed: bool,
    /// What was asked for.
    pub(super) interest: u8,
    /// What may be reported: where edges are emulated, not what was reported already.
    pub(super) armed: u8,
    /// The emulation watches a broken socket no longer.
    pub(super) is_let_go: bool,
}

impl Socket {
    pub(super) fn new(
        owner: Owner,
        local: SocketAddr,
        remote: SocketAddr,
        stage: SocketStage,
    ) -> Self {
        Self {
            owner,
            local,
            remote,
            other: None,
            stage,
            received: VecDeque::new(),
            arriving: VecDeque::new(),
            arriving_bytes: 0,
            last_arrival: 0,
            window: 0,
            has_fin: false,
            is_reset: false,
            error: None,
            fin_sent: false,
            resets_on_close: false,
            wants_room: false,
            registration: None,
            waiting: VecDeque::new(),
            backlog: 0,
            inbox: None,
            tap: Vec::new(),
            bytes_read: 0,
            bytes_written: 0,
            sends: 0,
            read_at: 0,
            written_at: 0,
            unread_at_close: 0,
            has_lied: false,
            was_hurt: false,
            is_gone: false,
            is_awaited: false,
        }
    }

    /// The other end, once there is one.
    pub(crate) fn other(&self) -> Option<u32> {
        self.other
    }

    pub(super) fn room(&self) -> usize {
        self.window.saturating_sub(self.received.len() + self.arriving_bytes)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.is_reset || self.error.is_some()
    }

    /// Whether a read gives the end of the stream, and nothing before it.
    pub(crate) fn has_its_end_alone(&self) -> bool {
        self.received.is_empty() && self.has_fin && !self.is_reset && self.error.is_none()
    }

    /// Whether a read would find something: bytes, an end or an error.
    pub(crate) fn is_readable(&self) -> bool {
        match self.stage {
            SocketStage::Listening => !self.waiting.is_empty(),
            SocketStage::Connecting => false,
            SocketStage::Datagrams => {
                self.error.is_some() || self.inbox.as_ref().is_some_and(Inbox::is_readable)
            }
            _ => !self.received.is_empty() || self.has_fin || self.is_reset || self.error.is_some(),
        }
    }
}

/// What a UDP socket has that others have not.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) waiting: VecDeque<Arrived>,
    pub(super) bytes: usize,
    pub(super) most_bytes: usize,
    /// Bytes that have not left the machine.
    pub(super) leaving_bytes: usize,
    pub(super) most_leaving_bytes: usize,
    pub(super) is_connected: bool,
    /// Bound to all addresses of its host.
    pub(super) is_wildcard: bool,
}

/// A datagram that has arrived.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

impl Inbox {
    pub(super) fn is_readable(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Half of the buffer is free, as Linux has it.
    pub(super) fn is_writable(&self) -> bool {
        2 * self.leaving_bytes <= self.most_leaving_bytes
    }
}
