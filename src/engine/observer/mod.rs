//! Observers: values whose methods the loop calls to report what it does, and how long that took.
//!
//! An observer is called for the phases of each turn, for every callback, for connections that are
//! accepted, opened and closed, for bytes, timers, wakes and panics, and for marks that a handler
//! sets. [`Reactor::observe`](crate::Reactor::observe) adds one. Without an observer a message
//! costs nothing more, and a turn costs one test.
//!
//! With an observer the loop takes the same paths and makes the same system calls. A message costs
//! about 310 instructions more, of which a third is a reading of the clock. An observer that
//! should cost less can get most messages [in one call](Observer::takes_whole_messages), for half
//! of that.
//!
//! # Time
//! Times are counted from the moment at which the reactor was made. The clock is read when a turn
//! begins, and then once at the end of each callback and of each phase. So the time of a callback
//! includes the read before it and the write of what it has gathered. [`Stats::callback_times`] is
//! a histogram of these times.
//!
//! [`Stats::callback_times`]: crate::Stats::callback_times
//!
//! # Examples
//! The longest callback so far:
//! ```
//! use std::time::Duration;
//! use waterwheel::Reactor;
//! use waterwheel::observer::{Callback, Observer, Outcome, Span};
//!
//! struct Longest(Duration);
//!
//! impl Observer for Longest {
//!     fn on_callback_end(&mut self, _: &Callback<'_>, _: Outcome, span: Span) {
//!         self.0 = self.0.max(span.length());
//!     }
//! }
//!
//! let mut reactor = Reactor::new()?;
//! let key = reactor.observe(Longest(Duration::ZERO));
//! reactor.run_once(Some(Duration::ZERO))?;
//! let longest = reactor.observer_mut(key).expect("it is of this reactor");
//! assert_eq!(longest.0, Duration::ZERO, "there was no callback");
//! # Ok::<(), std::io::Error>(())
//! ```

mod facts;
mod told;

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::id::{ConnId, TimerId};

pub use facts::{Callback, ConnEnd, ConnFacts, LoopState, Message, Outcome, Span, What, WheelSlot};
pub use told::ObserverKey;
pub(crate) use told::Observers;

/// What the loop calls to report what it does.
///
/// Every method does nothing by default. No method gets the loop, so an observer cannot call back
/// into it. An observer must not panic. Its panic counts as a panic of the callback that runs, so a
/// connection may end. A panic in [`on_panic`](Self::on_panic) itself goes on in the caller of
/// `run`.
///
/// Begins and ends nest: a turn contains phases, and a phase contains callbacks. There are three
/// exceptions:
/// - A callback that panics has no end, and neither has its phase: [`on_panic`](Self::on_panic)
///   stands in the place of both. If that was the phase of the events, it begins once more, with
///   the events that are left.
/// - Callbacks that a stop causes belong to a turn and to no phase.
/// - The last callbacks of a reactor that is dropped belong to no turn.
pub trait Observer: 'static {
    /// A handler was registered, of a type with this name. Handlers that were registered earlier
    /// are reported when the observer is added. The index is the one of [`Callback::handler`].
    fn on_handler(&mut self, index: u32, type_name: &'static str) {
        let _ = (index, type_name);
    }

    /// A turn begins: the poll has returned. The time since the end of the last turn was spent in
    /// the poll, and outside the loop if a program drives it by hand.
    fn on_turn_begin(&mut self, at: Duration) {
        let _ = at;
    }

    /// A turn has ended.
    fn on_turn_end(&mut self, at: Duration) {
        let _ = at;
    }

    /// A phase begins. Phases without work are not reported, except that of the events.
    fn on_phase_begin(&mut self, phase: Phase, at: Duration) {
        let _ = (phase, at);
    }

    /// A phase has ended. What `count` counts depends on the phase: see [`Phase`].
    fn on_phase_end(&mut self, phase: Phase, count: usize, at: Duration) {
        let _ = (phase, count, at);
    }

    /// A callback begins.
    fn on_callback_begin(&mut self, callback: &Callback<'_>, at: Duration) {
        let _ = (callback, at);
    }

    /// A callback has returned, and what it gathered for its connection was sent.
    fn on_callback_end(&mut self, callback: &Callback<'_>, outcome: Outcome, span: Span) {
        let _ = (callback, outcome, span);
    }

    /// Whether most messages are reported by [`on_message`](Self::on_message), in one call instead
    /// of four: for an observer that should cost little. Called once, when the observer is added.
    /// Has an effect only while all observers of the reactor return `true`. Default: `false`.
    fn takes_whole_messages(&self) -> bool {
        false
    }

    /// A message was handled in one go. Called for such messages instead of `on_read`,
    /// `on_callback_begin`, `on_written` and `on_callback_end`, if the observer
    /// [takes whole messages](Self::takes_whole_messages). All other messages are still reported by
    /// those four calls.
    ///
    /// An observer that takes whole messages learns of what happened within `on_data`, such as a
    /// timer that was set, before it learns of the message itself.
    fn on_message(&mut self, message: &Message<'_>) {
        let _ = message;
    }

    /// A connection was accepted by a handler. `on_opened` follows.
    fn on_accepted(&mut self, id: ConnId, peer: SocketAddr) {
        let _ = (id, peer);
    }

    /// An outgoing connection was begun. `on_opened` follows, or the callback `on_connect_failed`.
    fn on_connecting(&mut self, id: ConnId) {
        let _ = id;
    }

    /// A connection is up. The callback `on_open` follows.
    fn on_opened(&mut self, id: ConnId) {
        let _ = id;
    }

    /// A connection that was up has ended. The callback `on_close` follows.
    fn on_closed(&mut self, id: ConnId, end: &ConnEnd<'_>) {
        let _ = (id, end);
    }

    /// Bytes of a connection were read.
    fn on_read(&mut self, id: ConnId, bytes: usize) {
        let _ = (id, bytes);
    }

    /// A handler has given input back ([`Conn::give_back`](crate::Conn::give_back)): `on_data` gets
    /// it again, and if `on_eof` was called before, it is called again behind that.
    fn on_given_back(&mut self, id: ConnId, input: &[u8]) {
        let _ = (id, input);
    }

    /// The kernel has taken bytes of a connection.
    fn on_written(&mut self, id: ConnId, bytes: usize) {
        let _ = (id, bytes);
    }

    /// A handler has set a timer. `handler` is `None` if the timer was set outside a callback.
    fn on_timer_armed(&mut self, handler: Option<u32>, timer: TimerId, wait: Duration) {
        let _ = (handler, timer, wait);
    }

    /// A timer has fired, of a handler or of the loop. `late` is how long after its deadline that
    /// was, in whole milliseconds.
    fn on_timer_fired(&mut self, late: Duration) {
        let _ = late;
    }

    /// Another thread has woken the loop.
    fn on_woken(&mut self) {}

    /// A callback of a handler has panicked, with this text.
    fn on_panic(&mut self, handler: Option<u32>, text: &str) {
        let _ = (handler, text);
    }

    /// A handler has set a mark ([`Context::mark`](crate::Context::mark)).
    fn on_mark(&mut self, name: &'static str) {
        let _ = name;
    }
}

/// A phase of the turn. The poll comes before the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// What the poll has reported; `count` is the number of events.
    Events,
    /// The ready queue; `count` is the number of sockets that had one more budget.
    Ready,
    /// The mailbox; `count` is the number of messages and posted closures.
    Mailbox,
    /// The timers that are due; `count` is the number of those that fired.
    Timers,
    /// The end of the turn; `count` is the number of flushes, retries and closes.
    FlushAndClose,
}
