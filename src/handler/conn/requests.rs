//! Requests whose answers come later, and whether more are wanted.

use crate::handler::Conn;
use crate::stream::connection::Flags;

impl Conn<'_> {
    /// Counts a request whose answer comes later, from a thread, a timer or another connection.
    /// Call [`end_request`](Self::end_request) when it is written.
    ///
    /// While requests are outstanding:
    ///
    /// | what happens | what the library does |
    /// |---|---|
    /// | there are [`max_outstanding_requests`] | reads no more until half of them are answered |
    /// | the peer finishes sending | closes with the last answer: default of `on_eof` |
    /// | the reactor drains | closes with the last answer: default of `on_shutdown` |
    /// | an idle limit passes | keeps the connection: default of `on_idle` |
    ///
    /// Reading that is held back is not a pause of the handler: [`is_paused`](Self::is_paused) does
    /// not tell of it, and [`resume_reading`](Self::resume_reading) does not end it. The rest of
    /// the input comes again when reading goes on. After a reset, or a failed write, bytes are
    /// delivered all the same, as they are during a pause.
    ///
    /// [`max_outstanding_requests`]: crate::Limits::max_outstanding_requests
    ///
    /// From the first outstanding request to the last answer the connection holds a small
    /// allocation, and takes the longer way of the loop.
    ///
    /// An answer that is never written keeps the connection open until the peer resets it, or a
    /// deadline or a stop ends it. So give each request a time limit of its own.
    ///
    /// # Examples
    /// Lines that another thread answers, each with its length:
    /// ```
    /// use waterwheel::offload::Offload;
    /// use waterwheel::{Conn, Handler, HandlerKey, Peer, frame};
    ///
    /// struct Lengths {
    ///     key: HandlerKey<Lengths>,
    ///     offload: Offload,
    /// }
    ///
    /// impl Handler for Lengths {
    ///     type State = ();
    /// #   fn on_accept(&mut self, _: &Peer) -> Option<()> { Some(()) }
    ///
    ///     fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
    ///         let mut lines = frame::lines(input, 1_024);
    ///         while conn.is_reading() {
    ///             let Some(Ok(line)) = lines.next() else { break };
    ///             let line = line.to_vec();
    ///             let work = move |_: &mut ()| line.len(); // anything that blocks
    ///             let accepted = self.offload.run_for(conn.id(), self.key, work, |_, conn, done| {
    ///                 write!(conn, "{}\n", done.unwrap_or(0));
    ///                 conn.end_request();
    ///             });
    ///             match accepted {
    ///                 Ok(_) => conn.begin_request(),
    ///                 Err(_) => conn.abort(), // its queue is full
    ///             }
    ///         }
    ///         lines.consumed()
    ///     }
    /// }
    /// ```
    pub fn begin_request(&mut self) {
        if let Some(mut link) = self.link() {
            link.begin_request();
        }
    }

    /// Counts a request as answered, or as one that gets no answer. The last one closes a
    /// connection that [`close_when_answered`](Self::close_when_answered) was called for.
    ///
    /// Without an outstanding request nothing happens, and an error is logged.
    pub fn end_request(&mut self) {
        if let Some(mut link) = self.link() {
            link.end_request();
        }
    }

    /// How many requests were begun and are not ended.
    #[must_use]
    pub fn outstanding_requests(&self) -> u32 {
        self.lp.streams.get(self.id()).map_or(0, |connection| connection.requests())
    }

    /// Ends the connection as [`close`](Self::close) does, once no request is outstanding: at once
    /// if none is, or if the connection is not up yet. No more input is delivered, and what the
    /// peer still sends waits in the kernel. Writes are accepted until then.
    pub fn close_when_answered(&mut self) {
        if let Some(mut link) = self.link() {
            link.close_when_answered();
        }
    }

    /// Whether `on_data` may take another message of its input: the connection is not closed,
    /// reading is not paused, output above the high mark does not hold it back, and not too many
    /// requests are outstanding.
    ///
    /// A loop over messages that asks before each of them does no work for a peer that is held
    /// back. What the loop leaves comes again when reading goes on.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::{Conn, frame};
    ///
    /// fn on_data(conn: &mut Conn<'_>, input: &[u8]) -> usize {
    ///     let mut lines = frame::lines(input, 1_024);
    ///     while conn.is_reading() {
    ///         match lines.next() {
    ///             Some(Ok(b"quit")) => conn.close(),
    ///             Some(Ok(line)) => drop(conn.write_vectored(&[line, b"\n"])),
    ///             Some(Err(_)) => conn.abort(), // the line is too long
    ///             None => break,
    ///         }
    ///     }
    ///     lines.consumed()
    /// }
    /// ```
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.lp.streams.get(self.id()).is_some_and(|connection| connection.is_reading())
    }

    /// Whether queued output has reached
    /// [`high_mark_bytes`](crate::Limits::high_mark_bytes) and has not fallen to `low_mark_bytes`
    /// since: the last write said [`Above`](crate::Written::Above), and `on_drain` is still to
    /// come. The call looks at one bit.
    ///
    /// # Examples
    /// A publisher that skips those who read too slowly:
    /// ```
    /// use waterwheel::{Conn, ConnId};
    ///
    /// fn publish(conn: &mut Conn<'_>, subscribers: &[ConnId], message: &[u8]) {
    ///     for &id in subscribers {
    ///         match conn.other_conn(id) {
    ///             Some(mut other) if !other.is_above_high_mark() => drop(other.write(message)),
    ///             _ => {} // it has ended, or gets the next message
    ///         }
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn is_above_high_mark(&self) -> bool {
        let connection = self.lp.streams.get(self.id());
        connection.is_some_and(|connection| connection.flags.has(Flags::ABOVE_MARK))
    }
}
