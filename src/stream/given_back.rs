//! Input that a handler gives back, and the peer's end behind it.

use crate::stream::Link;
use crate::stream::connection::Flags;

impl Link<'_> {
    /// `Conn::give_back`: what was consumed is seen again, and the end is told again behind it.
    pub(crate) fn give_back(&mut self, input: &[u8]) {
        if !self.connection.takes_input() {
            return;
        }
        self.connection.give_back(input, &mut self.engine.spares);
        if self.connection.flags.has(Flags::READ_CLOSED) {
            self.connection.give_back_end();
        }
        let id = self.id;
        self.engine.observers.tell(|observer| observer.on_given_back(id, input));
        self.read_again();
    }
}
