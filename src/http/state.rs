//! What a connection keeps: little, while nothing is asked.

use std::fmt;

use super::exchange::Exchange;
use super::upgrade::Upgraded;

/// What a connection of a [`Server`](super::Server) keeps between callbacks.
pub struct State<A> {
    /// When the present phase began, in ms of the loop, as far as 32 bits go.
    pub(super) since: u32,
    /// How many exchanges there were.
    pub(super) exchanges: u32,
    /// Bytes of an incomplete head that are known to have no end.
    pub(super) searched: u32,
    /// Whether the reactor drains: an answer that begins from now on is the last one.
    pub(super) is_draining: bool,
    /// Whether the client has finished sending.
    pub(super) has_ended: bool,
    /// Whether reading is paused because much came in while an answer was due.
    pub(super) is_held: bool,
    /// Whether an answer has filled the output up to the high mark, and it has not drained since:
    /// no request is begun then.
    pub(super) is_above: bool,
    /// What came in while an answer was due, or output was above the high mark. What comes in later
    /// stands behind it.
    #[expect(clippy::box_collection, reason = "8 bytes of an idle connection instead of 24")]
    pub(super) held: Option<Box<Vec<u8>>>,
    pub(super) phase: Phase<A>,
}

/// What a connection is at.
pub(super) enum Phase<A> {
    /// The connection waits for a head, or for more of one.
    Head,
    /// A request is being received or answered.
    Busy(Box<Exchange<A>>),
    /// The connection has left HTTP.
    Upgraded(Box<dyn Upgraded<A>>),
    /// Nothing more is taken.
    Ended,
}

impl<A> State<A> {
    pub(super) fn new() -> Self {
        Self {
            since: 0,
            exchanges: 0,
            searched: 0,
            is_draining: false,
            has_ended: false,
            is_held: false,
            is_above: false,
            held: None,
            phase: Phase::Head,
        }
    }
}

impl<A> fmt::Debug for State<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Head => "Head",
            Phase::Busy(_) => "Busy",
            Phase::Upgraded(_) => "Upgraded",
            Phase::Ended => "Ended",
        };
        f.debug_struct("State").field("phase", &phase).finish_non_exhaustive()
    }
}
