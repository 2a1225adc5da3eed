//! Which connections of a listener are read as soon as they are accepted.
//!
//! Where the first bytes are there by then, the connection is served at once, and one that ends
//! with its first answer is never registered with the poll: that spares a call and an event. Where
//! they are not, the read is a call in vain. Which of the two it is depends on the protocol, the
//! network and the load; so each listener finds out.

/// What a read that found something is worth, in reads in vain: a call that registers and an event,
/// against a call that does nothing.
const HIT: u32 = 3;

/// Reads in vain that a listener has saved up at the most.
const MAX_CREDIT: u32 = 16;

/// Connections that are accepted without a read once nothing is saved up, at the most: where nobody
/// speaks first, one connection in 64 is read in vain.
const MAX_UNREAD: u32 = 63;

/// What the last connections of a listener had to say when they came.
#[derive(Debug)]
pub(crate) struct FirstReads {
    /// Reads in vain that are left.
    credit: u32,
    /// So many connections more are not read at once.
    unread: u32,
    /// How many those are behind the next read in vain without a credit.
    next: u32,
}

/// Whether a connection is read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guess {
    /// Not read: the poll tells when there is something.
    Wait,
    /// Read, as those before, which had something to say: what it has need not be noted.
    Read,
    /// Read, and what becomes of it is noted.
    Try,
}

impl FirstReads {
    /// None is read at once.
    pub(crate) const NEVER: Self = Self { credit: 0, unread: u32::MAX, next: MAX_UNREAD };

    /// A listener of which nothing is known.
    pub(crate) const fn new() -> Self {
        Self { credit: HIT, unread: 0, next: 0 }
    }

    /// What to do with the next connection.
    #[inline]
    pub(crate) fn guess(&mut self) -> Guess {
        if self.unread == u32::MAX {
            return Guess::Wait;
        }
        if self.credit == MAX_CREDIT {
            return Guess::Read;
        }
        if self.unread > 0 {
            self.unread -= 1;
            return Guess::Wait;
        }
        Guess::Try
    }

    /// A connection that was read had something to say.
    pub(crate) fn note_hit(&mut self) {
        self.credit = (self.credit + HIT).min(MAX_CREDIT);
        if self.credit == MAX_CREDIT {
            self.next = 0;
        }
    }

    /// A connection that was read had nothing to say.
    pub(crate) fn note_miss(&mut self) {
        self.credit = self.credit.saturating_sub(1);
        if self.credit == 0 {
            self.unread = self.next;
            self.next = (2 * self.next + 1).min(MAX_UNREAD);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads out of `count` connections, of which those have something to say that `speaks` names.
    fn reads(count: u32, speaks: impl Fn(u32) -> bool) -> u32 {
        let (mut first, mut reads) = (FirstReads::new(), 0);
        for number in 0..count {
            if first.guess() == Guess::Wait {
                continue;
            }
            reads += 1;
            match speaks(number) {
                true => first.note_hit(),
                false => first.note_miss(),
            }
        }
        reads
    }

    #[test]
    fn those_who_speak_first_are_all_read() {
        assert_eq!(reads(1_000, |_| true), 1_000);
        assert_eq!(reads(1_000, |number| number % 2 == 0), 1_000, "or half of them do");
    }

    #[test]
    fn of_those_who_wait_one_in_sixty_four_is_read() {
        assert!((16..=26).contains(&reads(1_024, |_| false)));
        assert!(reads(1_024, |number| number % 16 == 0) < 200, "or one in sixteen does not");
    }

    #[test]
    fn a_listener_whose_clients_change_finds_out() {
        // At most 63 come before the first that is read; then all are.
        assert!(reads(2_000, |number| number >= 1_000) >= 930);
        assert!(reads(2_000, |number| number < 1_000) <= 1_050);
    }

    #[test]
    fn what_the_most_sure_guess_comes_to_needs_no_note_if_it_was_right() {
        let mut first = FirstReads::new();
        while first.guess() != Guess::Read {
            first.note_hit();
        }
        assert_eq!(first.guess(), Guess::Read);
        first.note_miss();
        assert_eq!(first.guess(), Guess::Try);
        first.note_hit();
        assert_eq!(first.guess(), Guess::Read);
    }

    #[test]
    fn a_listener_that_never_reads_first_never_does() {
        let mut never = FirstReads::NEVER;
        assert!((0..200).all(|_| never.guess() == Guess::Wait));
    }
}
