//! Input that a handler has consumed, and that is to be seen again.

use crate::handler::Conn;

impl Conn<'_> {
    /// Gives input back that was consumed: `on_data` gets it again, before what is unconsumed or
    /// unread. For a protocol that gathers input on behalf of the next one, as HTTP does while the
    /// answer to an upgrade is due. In other runtimes this is called `unshift` or `unread`.
    ///
    /// The input comes on its own, after this callback. It waits while reading is paused or held
    /// back, like input that is left unconsumed. A second call puts its input in front of that of
    /// the first one. If `on_eof` has been called already, or the call is made in `on_eof`, the
    /// peer's end comes again, too, behind the input. With an empty slice only the end comes again.
    ///
    /// Give back each byte once. A handler that gives back what it has just got, each time, is
    /// called in every turn, also if it pauses, once the peer has reset the connection. The bytes
    /// are not compared with those that came in, and no statistics count them again.
    /// [`max_input_bytes`] bounds what `on_data` then leaves of them. If the connection is closed,
    /// the call does nothing.
    ///
    /// [`max_input_bytes`]: crate::Limits::max_input_bytes
    ///
    /// # Examples
    /// A session begins when something has been looked up, which a timer stands for here. Reading
    /// goes on meanwhile: after a pause a client that goes would be noticed late.
    /// ```
    /// use std::time::Duration;
    /// use waterwheel::{Conn, Handler, Peer, Timer};
    ///
    /// /// What came in before the session has begun.
    /// type Early = Option<Vec<u8>>;
    ///
    /// struct Session;
    ///
    /// impl Handler for Session {
    ///     type State = Early;
    /// #   fn on_accept(&mut self, _: &Peer) -> Option<Early> { Some(Some(Vec::new())) }
    ///
    ///     fn on_open(&mut self, _: &mut Early, conn: &mut Conn<'_>) {
    ///         conn.set_timer(Duration::from_millis(100), 0);
    ///     }
    ///
    ///     fn on_data(&mut self, early: &mut Early, conn: &mut Conn<'_>, input: &[u8]) -> usize {
    ///         match early {
    ///             Some(early) if early.len() + input.len() > 4_096 => conn.abort(),
    ///             Some(early) => early.extend_from_slice(input),
    ///             None => drop(conn.write(input)),
    ///         }
    ///         input.len()
    ///     }
    ///
    ///     fn on_eof(&mut self, early: &mut Early, conn: &mut Conn<'_>) {
    ///         if early.is_none() {
    ///             conn.close(); // else the end comes again
    ///         }
    ///     }
    ///
    ///     fn on_timer(&mut self, early: &mut Early, conn: &mut Conn<'_>, _: Timer) {
    ///         if let Some(early) = early.take() {
    ///             conn.give_back(&early);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn give_back(&mut self, input: &[u8]) {
        if let Some(mut link) = self.link() {
            link.give_back(input);
        }
    }
}
