//! What a connection over a Unix socket has to say.

use super::Conn;
use crate::options::UnixAddr;

impl Conn<'_> {
    /// The name of this end, if it is a Unix socket that has one: of an accepted connection that
    /// of the listener.
    #[must_use]
    pub fn local_unix_addr(&self) -> Option<UnixAddr> {
        self.slot().stream.local_name()
    }

    /// The name of the other end, if it is a Unix socket that has one: of an outgoing connection
    /// that of the listener. Clients seldom have one.
    #[must_use]
    pub fn peer_unix_addr(&self) -> Option<UnixAddr> {
        self.slot().stream.peer_name()
    }
}
