//! The connections that a recorder knows, by their slots.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::record::Why;
use super::tally::Tally;
use crate::base::id::ConnId;
use crate::engine::observer::ConnFacts;

/// The handler of a connection that is not known yet.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// A state that may last too long.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Since {
    /// Since when it lasts, in nanoseconds.
    since: Option<u64>,
    /// A warning has told of it.
    is_told: bool,
}

impl Since {
    /// The state lasts, or has ended.
    #[inline]
    fn set(&mut self, lasts: bool, now: u64) {
        match (lasts, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(_)) => *self = Self::default(),
            _ => {}
        }
    }

    /// How long it has lasted, once it is too long: then it counts as told.
    pub(super) fn overdue(&mut self, now: u64, patience: u64) -> Option<u64> {
        let length = now.saturating_sub(self.since?);
        if self.is_told || length < patience {
            return None;
        }
        self.is_told = true;
        Some(length)
    }
}

/// Messages that were handled in one go, of a connection, since they were settled last: they are
/// no part of the sums yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Messages {
    /// Time in their callbacks, in nanoseconds.
    pub(super) length: u64,
    /// The longest callback, in nanoseconds.
    pub(super) longest: u64,
    // Not beside `length`: a compiler that adds to both at once takes four instructions more.
    pub(super) count: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
}

impl Messages {
    /// A message whose callback has taken so many nanoseconds.
    #[inline]
    pub(super) fn add(&mut self, length: u64, read: usize, written: usize) {
        self.count += 1;
        self.length += length;
        if length > self.longest {
            self.longest = length;
        }
        self.bytes_read += read as u64;
        self.bytes_written += written as u64;
    }
}

/// What is known of a connection.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: ConnId,
    /// By its index, or [`UNKNOWN`].
    pub(super) handler: u32,
    /// Of one that was accepted.
    pub(super) peer: Option<SocketAddr>,
    /// Since when it is known, in nanoseconds.
    pub(super) since: u64,
    pub(super) is_open: bool,
    pub(super) is_outgoing: bool,
    /// `on_eof` was called: the peer will send nothing more.
    pub(super) has_peer_ended: bool,
    /// Why it has ended, once it has.
    pub(super) end: Option<Why>,
    /// Bytes that were lost at its end.
    pub(super) unsent_bytes: u64,
    pub(super) callbacks: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
    pub(super) output_bytes: u64,
    pub(super) is_paused: bool,
    pub(super) paused: Since,
    pub(super) unconsumed: Since,
    pub(super) much_output: Since,
    /// The handler whose messages do nothing here but add to `messages`; [`UNKNOWN`] if there is
    /// none.
    ///
    /// Invariant: if this is a handler, it is the one above, no ignored one, and none of the five
    /// states above is set.
    usual_for: u32,
    /// What is not in the numbers above.
    messages: Messages,
}

impl Entry {
    fn new(id: ConnId, now: u64) -> Self {
        Self {
            id,
            handler: UNKNOWN,
            peer: None,
            since: now,
            is_open: true,
            is_outgoing: false,
            has_peer_ended: false,
            end: None,
            unsent_bytes: 0,
            callbacks: 0,
            bytes_read: 0,
            bytes_written: 0,
            output_bytes: 0,
            is_paused: false,
            paused: Since::default(),
            unconsumed: Since::default(),
            much_output: Since::default(),
            usual_for: UNKNOWN,
            messages: Messages::default(),
        }
    }

    /// Whether it is of a connection, and no free slot.
    fn is_there(&self) -> bool {
        self.id != ConnId::NONE
    }

    /// A message of this handler, which is not ignored, was handled in one go: nothing is unusual
    /// about the connection. Until something is, its messages are only counted.
    #[cold]
    pub(super) fn become_usual(&mut self, handler: u32, tally: &mut Tally) {
        self.set_handler(handler, tally);
        (self.output_bytes, self.is_paused, self.usual_for) = (0, false, handler);
        self.paused = Since::default();
        self.unconsumed = Since::default();
        self.much_output = Since::default();
    }

    /// Its messages are more than counted from now on.
    pub(super) fn become_unusual(&mut self) {
        self.usual_for = UNKNOWN;
    }

    /// Its handler is this one: what was counted so far is of the one before.
    pub(super) fn set_handler(&mut self, handler: u32, tally: &mut Tally) {
        if self.handler != handler {
            self.settle(tally);
            (self.handler, self.usual_for) = (handler, UNKNOWN);
        }
    }

    /// Adds the messages that were counted here to the sums.
    pub(super) fn settle(&mut self, tally: &mut Tally) {
        let messages = std::mem::take(&mut self.messages);
        if messages.count > 0 {
            self.callbacks += messages.count;
            self.bytes_read += messages.bytes_read;
            self.bytes_written += messages.bytes_written;
            tally.add_messages(self.handler, &messages);
        }
    }

    /// How it stands after a callback.
    #[inline]
    pub(super) fn note(&mut self, facts: ConnFacts, now: u64, much: usize) {
        self.become_unusual();
        self.output_bytes = facts.output_bytes as u64;
        self.is_paused = facts.is_paused;
        self.paused.set(facts.is_paused, now);
        self.much_output.set(facts.output_bytes >= much, now);
    }

    /// The handler was lent input, and has consumed some of it or none.
    #[inline]
    pub(super) fn note_consumed(&mut self, has_consumed: bool, now: u64) {
        self.become_unusual();
        self.unconsumed.set(!has_consumed, now);
    }

    /// The kernel has taken bytes.
    #[inline]
    pub(super) fn note_written(&mut self, bytes: usize, much: usize, now: u64) {
        self.become_unusual();
        self.bytes_written += bytes as u64;
        self.output_bytes = self.output_bytes.saturating_sub(bytes as u64);
        self.much_output.set(self.output_bytes >= much as u64, now);
    }
}

/// Connections by slot.
#[derive(Debug, Default)]
pub(super) struct Conns {
    /// Slots that are free have the id of no connection.
    slots: Vec<Entry>,
    /// How many there are.
    count: usize,
    /// Connections whose end was not told, as when their last callback has panicked, and whose
    /// slots others have: with messages that are not settled.
    replaced: Vec<Entry>,
}

impl Conns {
    /// The entry of a connection; a new one if it is not known, as where it is older than the
    /// recorder.
    #[inline]
    pub(super) fn get(&mut self, id: ConnId, now: u64) -> &mut Entry {
        let slot = id.slot();
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, Entry::new(ConnId::NONE, 0));
        }
        let entry = &mut self.slots[slot];
        if entry.id != id {
            let before = std::mem::replace(entry, Entry::new(id, now));
            if before.is_there() {
                self.replaced.push(before);
            } else {
                self.count += 1;
            }
        }
        entry
    }

    /// The entry of a connection that has one.
    #[inline]
    pub(super) fn known(&mut self, id: ConnId) -> Option<&mut Entry> {
        self.slots.get_mut(id.slot()).filter(|entry| entry.id == id)
    }

    /// The messages of a connection that does nothing unusual, if its handler is this one.
    #[inline]
    pub(super) fn usual(&mut self, id: ConnId, handler: u32) -> Option<&mut Messages> {
        let entry = self.slots.get_mut(id.slot())?;
        if entry.id != id || entry.usual_for != handler {
            return None;
        }
        Some(&mut entry.messages)
    }

    /// Frees the slot of a connection; returns what was known of it.
    pub(super) fn remove(&mut self, id: ConnId, tally: &mut Tally) -> Option<Entry> {
        let entry = self.known(id)?;
        entry.settle(tally);
        let entry = std::mem::replace(entry, Entry::new(ConnId::NONE, 0));
        self.count -= 1;
        Some(entry)
    }

    /// Adds the messages of all to the sums.
    pub(super) fn settle(&mut self, tally: &mut Tally) {
        for mut entry in self.replaced.drain(..) {
            entry.settle(tally);
        }
        self.iter_mut().for_each(|entry| entry.settle(tally));
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// In the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().filter(|entry| entry.is_there())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slots.iter_mut().filter(|entry| entry.is_there())
    }
}

/// Connections that have ended lately. They are kept only while a page looks.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// When each has ended, in nanoseconds; the last one last.
    list: VecDeque<(u64, Entry)>,
    /// Until when they are kept: a page that looks again moves it on.
    until: u64,
}

/// So many are kept.
const MAX_ENDED: usize = 128;

/// They are kept for so long after a look, in nanoseconds: more than the time between two.
const KEPT_AFTER_LOOK: u64 = 2_000_000_000;

impl Ended {
    /// A page looks: those that end from now on are kept for its next look.
    pub(super) fn look(&mut self, now: u64) {
        if now >= self.until {
            self.list.clear(); // those of a time in which a page looked before
        }
        self.until = now + KEPT_AFTER_LOOK;
    }

    #[inline]
    pub(super) fn add(&mut self, entry: Entry, now: u64) {
        if now < self.until {
            self.keep(entry, now);
        }
    }

    #[cold]
    fn keep(&mut self, entry: Entry, now: u64) {
        if self.list.len() >= MAX_ENDED {
            self.list.pop_front();
        }
        self.list.push_back((now, entry));
    }

    /// Connections that have ended since then, and when; the last one first.
    pub(super) fn since(&self, from: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let recent = self.list.iter().rev().take_while(move |(at, _)| *at >= from);
        recent.map(|(at, entry)| (*at, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sums of a handler: callbacks, time, the longest.
    fn sums(tally: &Tally, handler: usize) -> [u64; 3] {
        let sum = &tally.handlers[handler];
        [sum.callbacks, sum.length, sum.longest]
    }

    /// Counts two messages of a connection, which is usual for this handler then.
    fn count_two(conns: &mut Conns, tally: &mut Tally, id: ConnId, handler: u32) {
        conns.get(id, 0).become_usual(handler, tally);
        for length in [7, 5] {
            conns.usual(id, handler).expect("it is usual").add(length, 10, 20);
        }
    }

    #[test]
    fn messages_are_in_the_sums_once_they_are_settled() {
        let (mut conns, mut tally) = (Conns::default(), Tally::default());
        let id = ConnId::new(3, 1);
        count_two(&mut conns, &mut tally, id, 1);
        for _ in 0..2 {
            conns.settle(&mut tally);
            assert_eq!(sums(&tally, 1), [2, 12, 7]);
            assert_eq!([tally.bytes_read, tally.bytes_written], [20, 40]);
            let entry = conns.known(id).expect("it is there");
            assert_eq!([entry.callbacks, entry.bytes_read, entry.bytes_written], [2, 20, 40]);
        }
        assert!(conns.usual(id, 1).is_some(), "it is as usual as before");
    }

    #[test]
    fn messages_of_a_connection_that_is_gone_are_kept() {
        let (mut conns, mut tally) = (Conns::default(), Tally::default());
        let (removed, replaced) = (ConnId::new(0, 1), ConnId::new(1, 2));
        count_two(&mut conns, &mut tally, removed, 0);
        count_two(&mut conns, &mut tally, replaced, 0);
        conns.remove(removed, &mut tally);
        assert_eq!((sums(&tally, 0), conns.len()), ([2, 12, 7], 1));
        conns.remove(removed, &mut tally);
        conns.get(ConnId::new(1, 3), 0);
        conns.settle(&mut tally);
        assert_eq!((sums(&tally, 0), conns.len()), ([4, 24, 7], 1));
        assert_eq!(conns.iter().count(), 1);
        assert!(conns.known(replaced).is_none() && conns.known(ConnId::NONE).is_none());
    }

    #[test]
    fn what_has_ended_is_kept_while_a_page_looks() {
        let entry = |index| Entry::new(ConnId::new(index, 1), 0);
        let slots = |ended: &Ended, from| -> Vec<usize> {
            ended.since(from).map(|(_, entry)| entry.id.slot()).collect()
        };
        let mut ended = Ended::default();
        ended.add(entry(0), 5);
        assert_eq!(slots(&ended, 0), [0; 0], "no page looks");
        ended.look(10);
        ended.add(entry(1), 20);
        ended.add(entry(2), 30);
        assert_eq!((slots(&ended, 0), slots(&ended, 30)), (vec![2, 1], vec![2]));
        ended.add(entry(3), 10 + KEPT_AFTER_LOOK);
        assert_eq!(slots(&ended, 0), [2, 1], "the page is gone");
        ended.look(20 + KEPT_AFTER_LOOK);
        assert_eq!(slots(&ended, 0), [0; 0], "they are of a time before");
        for index in 0..200 {
            ended.add(entry(index), 20 + KEPT_AFTER_LOOK);
        }
        assert_eq!((slots(&ended, 0).len(), slots(&ended, 0)[0]), (MAX_ENDED, 199));
    }

    #[test]
    fn another_handler_has_its_own_messages() {
        let (mut conns, mut tally) = (Conns::default(), Tally::default());
        let id = ConnId::new(0, 1);
        count_two(&mut conns, &mut tally, id, 0);
        assert!(conns.usual(id, 1).is_none());
        count_two(&mut conns, &mut tally, id, 1);
        assert!(conns.usual(id, 0).is_none());
        conns.settle(&mut tally);
        assert_eq!((sums(&tally, 0), sums(&tally, 1)), ([2, 12, 7], [2, 12, 7]));
    }

    #[test]
    fn a_connection_of_which_something_is_noted_is_not_usual() {
        let (mut conns, mut tally) = (Conns::default(), Tally::default());
        let id = ConnId::new(0, 1);
        let notes: [fn(&mut Entry); 4] = [
            |entry| entry.note(ConnFacts::USUAL, 0, 1),
            |entry| entry.note_consumed(false, 0),
            |entry| entry.note_written(1, 1, 0),
            Entry::become_unusual,
        ];
        for note in notes {
            count_two(&mut conns, &mut tally, id, 0);
            note(conns.get(id, 0));
            assert!(conns.usual(id, 0).is_none());
        }
    }
}
