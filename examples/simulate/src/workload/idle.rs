//! A handler that keeps everybody.

use waterwheel::{Conn, Handler, Idle, IdleKind, Peer};

/// Counts how often it is asked whether to keep a connection that is idle, and keeps it.
#[derive(Default)]
pub(super) struct Patient {
    pub(super) asked: u64,
}

impl Handler for Patient {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_idle(&mut self, (): &mut (), _: &mut Conn<'_>, _: IdleKind) -> Idle {
        self.asked += 1;
        Idle::Keep
    }
}
