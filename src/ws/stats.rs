//! What the WebSockets of an endpoint have done.

use crate::ws::CloseCode;

/// What the WebSockets of an endpoint have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Handshakes that were done.
    pub opened: u64,
    /// Requests that were refused, or answers of servers that were.
    pub refused: u64,
    /// Messages that came in.
    pub messages_received: u64,
    /// Messages that were accepted to be sent.
    pub messages_sent: u64,
    /// Connections that were failed with 1002, because the peer broke the protocol.
    pub protocol_errors: u64,
    /// Connections that were failed with 1007, because of content that was not what it should be.
    pub invalid_data: u64,
    /// Connections that were failed with 1008, because of a message of too many frames or last
    /// blocks, or of one in parts that came too slowly.
    pub policy_violations: u64,
    /// Connections that were failed with 1009, because of a message over the limit.
    pub too_big: u64,
    /// Connections that were reset because nothing came after a ping.
    pub lost: u64,
}

impl Stats {
    pub(super) fn note_fault(&mut self, code: CloseCode) {
        let count = match code {
            CloseCode::INVALID_DATA => &mut self.invalid_data,
            CloseCode::POLICY => &mut self.policy_violations,
            CloseCode::TOO_BIG => &mut self.too_big,
            _ => &mut self.protocol_errors,
        };
        *count += 1;
    }
}
