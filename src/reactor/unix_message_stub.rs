//! Stands for `unix_message.rs` where Unix sockets, if there are any, have no fast path.

use crate::base::id::ConnId;
use crate::reactor::dispatch::Dispatcher;

impl Dispatcher {
    pub(super) fn on_unix_message(&mut self, _: ConnId) -> bool {
        false
    }
}
