//! `Conn::write_vectored`, and what `write!` calls.

use std::fmt;

use crate::handler::Conn;
use crate::stream::Written;

impl Conn<'_> {
    /// Sends several parts one behind the other, as one [`write`](Self::write) of all of them
    /// would: accepted whole or refused whole, with one look at the cap.
    ///
    /// Small parts gather as small writes do. Large ones go to the socket in one system call for
    /// each 64 parts, without being copied together first.
    ///
    /// # Examples
    /// A message behind its length, to another connection too:
    /// ```
    /// use waterwheel::{Conn, Written};
    /// fn send_framed(conn: &mut Conn<'_>, message: &[u8]) -> Written {
    ///     let length = (message.len() as u32).to_be_bytes();
    ///     conn.write_vectored(&[&length, message])
    /// }
    /// ```
    #[inline]
    pub fn write_vectored(&mut self, parts: &[&[u8]]) -> Written {
        if self.is_current() && self.lp.engine.cork.gather_parts(parts) {
            return Written::Below;
        }
        self.link().map_or(Written::Closed, |mut link| link.write_vectored(parts))
    }

    /// Sends a formatted text, for `write!` and `writeln!`: accepted whole or refused whole, as
    /// [`write`](Self::write) does with bytes.
    ///
    /// Nothing is allocated for a small text: its pieces are formatted to where small writes
    /// gather. A text that does not fit there, or is for another connection, is formatted into a
    /// spare buffer of the reactor first. Each value is formatted once. The cap is looked at when
    /// the length is known; formatting stops when the text is longer than `max_output_bytes`.
    ///
    /// On a connection that takes no writes nothing is formatted, and the answer is `Closed`.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::{Conn, Reactor};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let greet = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
    ///     write!(conn, "hello, {}: {} bytes\r\n", conn.peer_addr(), input.len());
    ///     input.len()
    /// });
    /// # let _ = greet;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    /// If a `Display` or another formatting trait of a value returns an error, as `format!` does.
    /// Nothing of the text is sent then.
    pub fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> Written {
        match args.as_str() {
            Some(text) => self.write(text.as_bytes()),
            None => {
                let link = self.link();
                link.map_or(Written::Closed, |mut link| link.write_fmt(args))
            }
        }
    }
}
