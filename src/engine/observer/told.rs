//! The observers of a reactor, and the clock that they share.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::time::Duration;

use crate::engine::observer::{Callback, Observer, Outcome, Phase, Span};
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
    /// Whether connections leave the fast path, so that each of their messages is told.
    takes_slow_path: bool,
    /// What the clock has shown last.
    at: Duration,
    /// A turn has begun and not ended.
    is_in_turn: bool,
    /// Of a simulated world that keeps a replay.
    tell_parts: Option<Tell>,
}

impl Observers {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether connections leave the fast path.
    pub(crate) fn takes_slow_path(&self) -> bool {
        self.takes_slow_path
    }

    /// Installs an observer. If it `takes_slow_path`, connections leave the fast path for it, so
    /// that it is told of every message. Otherwise it is told of those on the fast path only where
    /// `sys::OBSERVES_FAST_PATH` is set.
    pub(crate) fn add<O: Observer>(
        &mut self,
        mut observer: Box<O>,
        takes_slow_path: bool,
    ) -> ObserverKey<O> {
        for (index, name) in (0..).zip(&self.handlers) {
            observer.on_handler(index, name);
        }
        let index = self.list.len() as u32;
        self.list.push(observer);
        self.takes_slow_path |= takes_slow_path;
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
    fn read_clock(&mut self) -> Span {
        let to = Duration::from_nanos(self.timers.clock_nanos());
        Span { from: mem::replace(&mut self.observers.at, to), to }
    }

    /// The poll has returned, or a turn goes on that a panic has cut.
    pub(crate) fn begin_observed_turn(&mut self) {
        if !mem::replace(&mut self.observers.is_in_turn, true) {
            let at = self.read_clock().to;
            self.observers.tell(|observer| observer.on_turn_begin(at));
        }
    }

    pub(crate) fn end_observed_turn(&mut self) {
        self.observers.is_in_turn = false;
        let at = self.observers.at;
        self.observers.tell(|observer| observer.on_turn_end(at));
    }

    pub(crate) fn begin_observed_phase(&mut self, phase: Phase) {
        let at = self.observers.at;
        self.observers.tell(|observer| observer.on_phase_begin(phase, at));
    }

    pub(crate) fn end_observed_phase(&mut self, phase: Phase, count: usize) {
        let at = self.read_clock().to;
        self.observers.tell(|observer| observer.on_phase_end(phase, count, at));
        self.show_parts();
    }

    pub(crate) fn begin_observed_callback(&mut self, callback: &Callback<'_>) {
        if !self.observers.is_in_turn {
            self.read_clock(); // the last reading is as old as the last turn
        }
        let at = self.observers.at;
        self.observers.tell(|observer| observer.on_callback_begin(callback, at));
    }

    pub(crate) fn end_observed_callback(&mut self, callback: &Callback<'_>, outcome: Outcome) {
        let span = self.read_clock();
        self.observers.tell(|observer| observer.on_callback_end(callback, outcome, span));
        self.show_parts();
    }
}
