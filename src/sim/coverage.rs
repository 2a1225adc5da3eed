//! Which states and ways of the reactor a run has come through.

use std::fmt;

macro_rules! landmarks {
    ($($name:ident: $text:literal,)*) => {
        /// A state or a code path of the reactor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Landmark {
            $($name,)*
        }

        const NAMES: &[&str] = &[$($text,)*];
    };
}

landmarks! {
    Accept: "on_accept",
    Open: "on_open",
    Data: "on_data",
    Drain: "on_drain",
    Eof: "on_eof",
    IdleRead: "on_idle: read",
    IdleWrite: "on_idle: write",
    IdleAll: "on_idle: all",
    Deadline: "on_deadline",
    Timer: "on_timer",
    Shutdown: "on_shutdown",
    ConnectRetry: "on_connect_retry",
    ConnectFailed: "on_connect_failed",
    HandlerTimer: "on_handler_timer",
    ClosedLocal: "closed: local",
    ClosedPeer: "closed: peer",
    ClosedReset: "closed: reset",
    ClosedIdle: "closed: idle",
    ClosedTimeout: "closed: timeout",
    ClosedOverflow: "closed: overflow",
    ClosedIo: "closed: another error",
    ClosedShutdown: "closed: shutdown",
    LostOutput: "closed with unsent bytes",
    Connecting: "connecting",
    Race: "connecting to several addresses at once",
    Retry: "connecting again",
    Closing: "closing: output still queued",
    Lingering: "lingering: waits for the peer's end",
    Severed: "severed: a write failed, reading on",
    Plain: "the straight way",
    Ready: "on the ready queue",
    OutOfRoom: "a phase has sent all that it may",
    Dirty: "flush at the next turn's end",
    Paused: "reading paused",
    BackedUp: "output over the high mark",
    Unconsumed: "input left unconsumed",
    FirstRead: "read before the poll was told of it",
    Redelivered: "unconsumed input offered again",
    GivenBack: "input given back",
    EndGivenBack: "the end given back",
    HalfClosed: "our end sent, reading on",
    PeerEnded: "the peer's end read, writing on",
    Nursery: "in the nursery",
    ListenerReady: "accept budget used up",
    BackingOff: "accept backs off",
    Waiting: "listener waits for room",
    AcceptFailed: "accept failed",
    EmulatedEdges: "edges emulated",
    Messages: "messages from other threads",
    Refused: "refused",
    Handshake: "in a handshake",
    Layered: "behind a layer",
    Truncated: "ended without a word of the layer's peer",
    EndHeldBack: "the end of a layer's peer waits for the handler",
}

/// Which states and code paths of the reactor have been reached, of those that are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landmarks {
    reached: u64,
}

impl Landmarks {
    pub(super) fn reach(&mut self, landmark: Landmark) {
        self.reached |= 1 << landmark as u32;
    }

    /// Adds those that another run has reached.
    pub fn merge(&mut self, other: Self) {
        self.reached |= other.reached;
    }

    /// How many have been reached.
    #[must_use]
    pub fn reached(&self) -> usize {
        self.reached.count_ones() as usize
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> usize {
        NAMES.len()
    }

    /// The names of those that have not been reached.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let names = NAMES.iter().enumerate();
        names.filter(|(bit, _)| self.reached & 1 << bit == 0).map(|(_, name)| *name).collect()
    }
}

impl fmt::Display for Landmarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.reached(), self.total())
    }
}
