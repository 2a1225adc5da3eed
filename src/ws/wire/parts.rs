//! A WebSocket whose messages are delivered in parts.

use crate::handler::Conn;
use crate::ws::assembly::Assembly;
use crate::ws::code::Fault;
use crate::ws::wire::Wire;
use crate::ws::wire::flags::{PAUSED, WAS_PAUSED};

impl Wire {
    /// Takes bytes of a frame, as far as they fit into one part.
    pub(super) fn take_some(
        &mut self,
        assembly: &mut Assembly,
        rest: &[u8],
    ) -> Result<usize, Fault> {
        let begun = assembly.bytes().len();
        let (count, slid) = assembly.take_some(rest, self.shared.limits())?;
        let is_kept = self.agreed.deflate.filter(|params| params.peer_keeps);
        if let Some(params) = is_kept.filter(|_| assembly.is_inflated()) {
            let inflated = &assembly.bytes()[begun - slid..];
            self.extra().received.push(inflated, params.peer_bits);
        }
        Ok(count)
    }

    /// Whether a message that comes in parts has brought too little since the last look. What the
    /// program or a full queue of output holds back is not the peer's fault.
    pub(super) fn is_slow(&mut self, conn: &mut Conn<'_>) -> bool {
        let now = conn.context().now();
        let was_held = self.has(PAUSED | WAS_PAUSED) || conn.pending_bytes() > 0;
        let Some(parts) = &self.shared.options.parts else { return false };
        let min_rate = parts.min_bytes_per_second;
        let assembly = self.extra.as_mut().and_then(|extra| extra.assembly.as_mut());
        assembly.is_some_and(|assembly| assembly.is_slow(now, min_rate, was_held))
    }
}
