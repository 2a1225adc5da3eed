//! What a server has done.

/// Counts of a [`Server`](super::Server) since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpStats {
    /// Requests whose head was complete and well-formed.
    pub requests: u64,
    /// Answers by the first digit of their status, from 1xx to 5xx; those of `refused` and
    /// `timed_out` are among them.
    pub answers: [u64; 5],
    /// Requests that were malformed or over a limit, and ended their connection.
    pub refused: u64,
    /// Requests that came in too slowly, and ended their connection.
    pub timed_out: u64,
    /// Connections that went on with another protocol.
    pub upgraded: u64,
    /// Exchanges whose connection ended before the answer was complete.
    pub gone: u64,
    /// Requests that a handler left without an answer, which were answered 500.
    pub unanswered: u64,
}

impl HttpStats {
    #[inline] // into `Server`, which is compiled with the program
    pub(super) fn count(&mut self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5);
        self.answers[class - 1] += 1;
    }
}
