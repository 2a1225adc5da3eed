//! The observers of a reactor, and the clock that they share.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::time::Duration;

use crate::base::id::{ConnId, TimerId};
use crate::engine::observer::{Callback, Message, Observer, Outcome, Phase, Span};
use crate::engine::{Engine, Tell};

/// The typed key of an observer, for [`Context::observer`](crate::Context::observer) and
/// [`Reactor::observer_mut`](crate::Reactor::observer_mut).
///
/// A key may be copied and taken to other threads. It belongs to the reactor that returned it.
pub struct ObserverKey<O> {
    /// Its place in the list.
    index: u32,
    /// A key neither owns nor borrows an `O`.
    observer: PhantomData<fn() -> O>,
}

impl<O> Clone for ObserverKey<O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for ObserverKey<O> {}

impl<O> fmt::Debug for ObserverKey<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObserverKey({})", self.index)
    }
}

/// An observer whose type can be found again.
pub(crate) trait AnyObserver: Observer {
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<O: Observer> AnyObserver for O {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// The observers of a reactor.
#[derive(Default)]
pub(crate) struct Observers {
    /// In the order in which they were installed.
    list: Vec<Box<dyn AnyObserver>>,
    /// The types of the handlers of the reactor, in their order.
    handlers: Vec<&'static str>,
    /// What the clock has shown last, in nanoseconds.
    at: u64,
    /// The handler whose callback runs, or has run last in this turn.
    running: Running,
    /// There are observers, all take whole messages, and no parts are shown.
    takes_whole_messages: bool,
    /// A turn has begun and not ended.
    is_in_turn: bool,
    /// Of a simulated world that keeps a replay.
    tell_parts: Option<Tell>,
}

/// The index of a handler, or none, in one word: it is stored at each message. What runs no
/// callback within a turn sets no timer, and panics only in a layer ([`Observers::leave_handler`]),
/// so that nothing need be stored when a callback has returned.
#[derive(Clone, Copy)]
struct Running(u32);

impl Running {
    const NONE: Self = Self(u32::MAX);

    fn handler(self) -> Option<u32> {
        (self.0 != Self::NONE.0).then_some(self.0)
    }
}

impl Default for Running {
    fn default() -> Self {
        Self::NONE
    }
}

impl Observers {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether observers are told of a message in one go, where that is possible.
    #[inline]
    pub(crate) fn takes_whole_messages(&self) -> bool {
        self.takes_whole_messages
    }

    /// A handler has set a timer.
    pub(crate) fn tell_timer(&mut self, timer: TimerId, wait: Duration) {
        let running = self.running.handler();
        self.tell(|observer| observer.on_timer_armed(running, timer, wait));
    }

    /// What runs now is no handler's, and may panic.
    #[inline]
    pub(crate) fn leave_handler(&mut self) {
        self.running = Running::NONE;
    }

    /// The callback that runs has panicked.
    pub(crate) fn tell_panic(&mut self, text: &str) {
        let running = mem::take(&mut self.running).handler();
        self.tell(|observer| observer.on_panic(running, text));
    }

    fn time(&self) -> Duration {
        Duration::from_nanos(self.at)
    }

    /// Installs an observer.
    pub(crate) fn add<O: Observer>(&mut self, mut observer: Box<O>) -> ObserverKey<O> {
        for (index, name) in (0..).zip(&self.handlers) {
            observer.on_handler(index, name);
        }
        let index = self.list.len() as u32;
        let is_first = self.list.is_empty() && self.tell_parts.is_none();
        self.takes_whole_messages =
            observer.takes_whole_messages() && (is_first || self.takes_whole_messages);
        self.list.push(observer);
        ObserverKey { index, observer: PhantomData }
    }

    /// An observer; `None` if the key is of another reactor.
    pub(crate) fn get<O: Observer>(&mut self, key: ObserverKey<O>) -> Option<&mut O> {
        let observer = self.list.get_mut(key.index as usize)?;
        // Through the box: the box itself has a type too.
        observer.as_mut().as_any().downcast_mut()
    }

    /// Who is shown the parts of the engine, if anybody is.
    pub(crate) fn tell_parts(&mut self) -> Option<&mut Tell> {
        self.tell_parts.as_mut()
    }

    /// Has the parts of the engine shown behind each callback and each phase.
    #[cfg(feature = "sim")]
    pub(crate) fn show_parts_to(&mut self, tell: Tell) {
        self.tell_parts = Some(tell);
        self.takes_whole_messages = false;
    }

    /// The type of a handler of the reactor.
    pub(crate) fn handler_name(&self, index: u32) -> Option<&'static str> {
        self.handlers.get(index as usize).copied()
    }

    /// A handler of this type was registered.
    pub(crate) fn note_handler(&mut self, name: &'static str) {
        let index = self.handlers.len() as u32;
        self.handlers.push(name);
        self.tell(|observer| observer.on_handler(index, name));
    }

    /// Tells each of them.
    #[inline]
    pub(crate) fn tell(&mut self, tell: impl FnMut(&mut dyn AnyObserver)) {
        if !self.list.is_empty() {
            self.tell_each(tell);
        }
    }

    #[cold]
    fn tell_each(&mut self, mut tell: impl FnMut(&mut dyn AnyObserver)) {
        for observer in &mut self.list {
            tell(observer.as_mut());
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").field("count", &self.list.len()).finish_non_exhaustive()
    }
}

/// What is reported with the time: only where there are observers.
impl Engine {
    /// Reads the clock; the time since the last reading.
    #[inline]
    fn read_clock(&mut self) -> Span {
        let now = self.timers.clock_nanos();
        Span::new(mem::replace(&mut self.observers.at, now), now)
    }

    /// The poll has returned, or a turn goes on that a panic has cut.
    pub(crate) fn begin_observed_turn(&mut self) {
        if !mem::replace(&mut self.observers.is_in_turn, true) {
            self.observers.at = self.timers.sampled();
            let at = self.observers.time();
            self.observers.tell(|observer| observer.on_turn_begin(at));
        }
    }

    pub(crate) fn end_observed_turn(&mut self) {
        self.observers.is_in_turn = false;
        self.observers.running = Running::NONE;
        let at = self.observers.time();
        self.observers.tell(|observer| observer.on_turn_end(at));
    }

    pub(crate) fn begin_observed_phase(&mut self, phase: Phase) {
        let at = self.observers.time();
        self.observers.tell(|observer| observer.on_phase_begin(phase, at));
    }

    pub(crate) fn end_observed_phase(&mut self, phase: Phase, count: usize) {
        let at = self.read_clock().ended();
        self.observers.tell(|observer| observer.on_phase_end(phase, count, at));
        self.show_parts();
    }

    pub(crate) fn begin_observed_callback(&mut self, callback: &Callback<'_>) {
        if !self.observers.is_in_turn {
            self.read_clock(); // the last reading is as old as the last turn
        }
        self.observers.running = Running(callback.handler);
        let at = self.observers.time();
        self.observers.tell(|observer| observer.on_callback_begin(callback, at));
    }

    pub(crate) fn end_observed_callback(&mut self, callback: &Callback<'_>, outcome: Outcome) {
        let span = self.end_callback();
        if !self.observers.is_in_turn {
            self.observers.running = Running::NONE;
        }
        self.observers.tell(|observer| observer.on_callback_end(callback, outcome, span));
        self.show_parts();
    }

    /// A message of the fast path begins, of which observers are told when it has ended.
    #[inline]
    pub(crate) fn begin_whole_message(&mut self, handler: u32) {
        self.observers.running = Running(handler);
    }

    /// A message was handled in one go, of which observers have not been told yet.
    #[inline(always)] // else by a call
    pub(crate) fn end_whole_message(
        &mut self,
        (handler, id): (u32, ConnId),
        input: &[u8],
        consumed: usize,
        written: usize,
    ) {
        let span = self.end_callback();
        let message = Message { handler, id, input, consumed, written, span };
        match &mut self.observers.list[..] {
            [observer] => observer.on_message(&message),
            observers => tell_message(observers, &message),
        }
    }

    /// A callback has returned: reads the clock, and counts the time since the last reading.
    #[inline(always)] // as above
    fn end_callback(&mut self) -> Span {
        let span = self.read_clock();
        self.stats.callback_times.add_nanos(span.length_nanos());
        span
    }
}

/// Tells several observers of a message.
#[cold]
fn tell_message(observers: &mut [Box<dyn AnyObserver>], message: &Message<'_>) {
    for observer in observers {
        observer.on_message(message);
    }
}
