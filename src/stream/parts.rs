//! Writes that come in parts: those of a caller, and those that formatting makes.

use std::fmt::{self, Write};
use std::mem;

use crate::base::buffer::{Queue, Spares};
use crate::engine::Cork;
use crate::stream::connection::Flags;
use crate::stream::{Link, Written};

impl Link<'_> {
    /// Writes several parts, accepted whole or refused whole, for which the cork has no room.
    pub(crate) fn write_vectored(&mut self, parts: &[&[u8]]) -> Written {
        if !self.connection.takes_output() {
            return Written::Closed;
        }
        let length = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
        let written = if length <= self.room() || self.make_room(length) {
            self.accept_parts(parts);
            self.side_of_mark()
        } else {
            self.overflow()
        };
        self.renew_cork_room();
        written
    }

    /// Sends what the cap has room for, or queues it.
    fn accept_parts(&mut self, parts: &[&[u8]]) {
        if !self.sends_at_once() {
            return self.enqueue(parts);
        }
        if self.connection.flags.has(Flags::LAYERED) {
            return self.send_layered(parts);
        }
        let (cork, spares) = (&mut self.engine.cork, &mut self.engine.spares);
        let short_is_full = self.connection.short_means_done();
        let sent = self.connection.send_parts(cork.bytes(), parts, short_is_full, spares);
        cork.clear();
        self.after_sending(sent);
    }

    /// Writes a formatted text, accepted whole or refused whole.
    ///
    /// The length is known only when the last piece is there, and a `Display` of the user's may
    /// give another text the next time. So each is formatted once: into the cork, and from where
    /// that is full into a spare buffer, which is then written as any other bytes are.
    ///
    /// # Panics
    /// If a formatting trait of the user's returns an error, as `format!` does.
    pub(crate) fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> Written {
        if !self.connection.takes_output() {
            return Written::Closed;
        }
        let is_owner = self.engine.cork.is_owner(self.id);
        let mut text = Text {
            cork: &mut self.engine.cork,
            spares: &mut self.engine.spares,
            max_bytes: self.connection.config.max_output,
            gathered: 0,
            spilled: (!is_owner).then(Queue::default),
            is_too_long: false,
        };
        let result = text.write_fmt(args);
        let is_too_long = text.is_too_long;
        assert!(result.is_ok() || is_too_long, "a formatting trait implementation failed");
        let Some(mut spilled) = text.finish() else { return Written::Below };
        let written = match is_too_long {
            true => self.overflow(),
            false => self.write(spilled.as_slice()),
        };
        spilled.clear(&mut self.engine.spares);
        written
    }
}

/// A text while it is formatted.
struct Text<'a> {
    cork: &'a mut Cork,
    spares: &'a mut Spares,
    /// A longer text is refused, whatever is queued.
    max_bytes: usize,
    /// How much of the text stands at the end of the cork.
    ///
    /// Invariant: 0 if `spilled` is there.
    gathered: usize,
    /// The whole text so far, if it is not in the cork.
    spilled: Option<Queue>,
    /// The text was given up because it has more than `max_bytes`.
    is_too_long: bool,
}

impl Text<'_> {
    /// The text, if the cork has not taken it.
    fn finish(mut self) -> Option<Queue> {
        self.gathered = 0; // it stays in the cork
        mem::take(&mut self.spilled)
    }

    /// The text, out of the cork.
    fn spill(&mut self) -> &mut Queue {
        let Self { cork, spares, gathered, .. } = self;
        self.spilled.get_or_insert_with(|| {
            let mut spilled = Queue::default();
            cork.take_tail(mem::take(gathered), |bytes| spilled.push(bytes, spares));
            spilled
        })
    }
}

impl Write for Text<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.spilled.is_none() && self.cork.gather(piece.as_bytes()) {
            self.gathered += piece.len();
            return Ok(());
        }
        if self.spill().len().saturating_add(piece.len()) > self.max_bytes {
            self.is_too_long = true;
            return Err(fmt::Error);
        }
        if let Some(spilled) = &mut self.spilled {
            spilled.push(piece.as_bytes(), self.spares);
        }
        Ok(())
    }
}

/// A `Display` that panics leaves nothing of its text behind.
impl Drop for Text<'_> {
    fn drop(&mut self) {
        self.cork.take_tail(self.gathered, |_| {});
    }
}
