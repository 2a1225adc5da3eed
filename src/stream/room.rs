//! Room for further connections, and the listeners that wait for it.
//!
//! A listener that leaves connections in its backlog waits for two caps. While its own is full only
//! the end of a connection of its own can help it. Once that has room the listener stands in a line
//! for the places of the reactor. As many are recalled from the line as there are places; when they
//! have had their turn, and some found nothing to accept, others are recalled for what is left.

use std::collections::VecDeque;

use crate::base::memory::GiveBack;
use crate::engine::Engine;
use crate::stream::listener::Listener;
use crate::stream::table::Streams;

/// Listeners that wait for places of the reactor.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// By slot, in the order in which they came.
    ///
    /// Invariant: those, and only those, whose `Wait` is `InLine`.
    listeners: VecDeque<u32>,
    /// Listeners that were recalled and have not had their turn.
    recalled: usize,
    /// Listeners that wait, in the line or for a place of their own.
    waiting: usize,
}

/// What a listener waits for that left connections in the backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nothing: it accepts what comes.
    No,
    /// The end of a connection of its own: its own cap is full.
    OwnPlace,
    /// A place of the reactor.
    InLine,
}

/// What the caps say of one more connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Accept,
    /// The connection is refused at once.
    Refuse,
    /// The connection stays in the backlog.
    Wait,
}

impl Streams {
    /// A listener, and whether the caps of the reactor and its own have room for one more.
    #[inline]
    pub(crate) fn with_room(&mut self, index: usize) -> Option<(&mut Listener, bool)> {
        let listener = self.listeners.get_mut(index)?;
        let has_place = listener.limit.admits();
        Some((listener, self.limit.admits() & has_place))
    }

    /// Whether the caps of the reactor and of a listener have room for one more. If not, and the
    /// listener leaves connections in the backlog, it comes back when there is room.
    pub(crate) fn admits(&mut self, index: usize) -> Admission {
        let Some(listener) = self.listeners.get_mut(index) else { return Admission::Wait };
        let has_place = listener.limit.admits();
        if self.limit.admits() & has_place {
            return Admission::Accept;
        }
        if !listener.waits_at_capacity {
            return Admission::Refuse;
        }
        self.line.waiting += usize::from(listener.wait == Wait::No);
        match (listener.wait, has_place) {
            (Wait::InLine, _) => {}
            (_, false) => listener.wait = Wait::OwnPlace,
            (_, true) => self.stand_in_line(index),
        }
        Admission::Wait
    }

    /// Whether the caps have room for a connection that is accepted already.
    pub(crate) fn has_room(&mut self, index: usize) -> bool {
        self.with_room(index).is_some_and(|(_, has_room)| has_room)
    }

    fn stand_in_line(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.wait = Wait::InLine;
            self.line.listeners.push_back(index as u32);
        }
    }

    /// A connection of this listener has ended, or an outgoing one.
    #[inline]
    pub(crate) fn note_place(&mut self, engine: &mut Engine, index: Option<u32>) {
        debug_assert_eq!(self.counted(), self.connections.len());
        if self.line.waiting > 0 {
            self.use_place(engine, index);
        }
    }

    #[cold]
    fn use_place(&mut self, engine: &mut Engine, index: Option<u32>) {
        let listener = index.and_then(|index| self.listeners.get_mut(index as usize));
        if let (Some(listener), Some(index)) = (listener, index) {
            if listener.wait == Wait::OwnPlace && listener.limit.admits() {
                self.stand_in_line(index as usize);
            }
        }
        if !self.line.listeners.is_empty() {
            self.recall_listeners(engine);
        }
    }

    /// Recalled listeners have had their turn: others are recalled for the places that are left.
    pub(crate) fn recall_others(&mut self, engine: &mut Engine) {
        self.line.recalled = 0;
        if !self.line.listeners.is_empty() {
            self.recall_listeners(engine);
        }
    }

    /// Recalls one listener for each place that no other has been recalled for.
    fn recall_listeners(&mut self, engine: &mut Engine) {
        let places = self.limit.places();
        while self.line.recalled < places {
            let Some(index) = self.line.listeners.pop_front() else { break };
            let Some(listener) = self.listeners.get_mut(index as usize) else {
                self.line.waiting -= 1; // closed
                continue;
            };
            if listener.limit.admits() {
                listener.wait = Wait::No;
                self.line.waiting -= 1;
                self.line.recalled += 1;
                self.queue_listener(engine, index as usize);
            } else {
                listener.wait = Wait::OwnPlace; // filled up by what came meanwhile
            }
        }
        self.line.listeners.give_back();
    }
}
