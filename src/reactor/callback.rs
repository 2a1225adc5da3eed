//! The one door to user code, and the one place that catches its panics.

use std::mem;

use crate::base::close::{CloseReason, Deadline, Idle};
use crate::base::id::{ConnId, SocketId};
use crate::base::panics::{PanicPayload, catch, drop_quietly, text_of};
use crate::engine::Engine;
use crate::engine::observer::{Callback, Outcome, What};
use crate::handler::{
    AnyHandler, DatagramSocket, Delivery, Entry, Known, LentStates, Loop, SocketFace,
};
use crate::options::OnPanic;
use crate::reactor::dispatch::Dispatcher;
use crate::stream::connection::Connection;
use crate::sys::Stream;

/// For whom a callback runs, or ran when it panicked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Who {
    /// No callback runs, or one of a connection on the fast path: the cork knows which.
    #[default]
    Nobody,
    /// `on_accept`, for a listener.
    Accept(usize),
    /// A connection, which the cork knows too.
    Connection(ConnId),
    /// A datagram socket.
    Socket(SocketId),
    /// The channel of this index.
    Channel(u32),
    /// A timer of the handler at this place.
    Timer(u32),
    /// A closure that was posted to the handler at this place.
    Posted(u32),
    /// The last callback of a connection, or of a datagram socket, which is gone already.
    Closed,
}

/// Whom a callback of a connection is for.
#[derive(Clone, Copy)]
pub(super) struct Callee {
    /// The place of the handler.
    pub(super) handler: u32,
    /// Where the handler keeps the state of the connection.
    pub(super) state: u32,
    /// Bytes that the callback may gather.
    pub(super) room: usize,
}

impl Callee {
    #[inline]
    pub(super) fn of(connection: &Connection<Stream>) -> Self {
        let (handler, state) = (connection.config.service, connection.state);
        Self { handler, state, room: connection.cork_room() }
    }
}

/// The handlers, and which callback runs.
pub(super) struct Callbacks {
    /// The handlers, by the index of their key: one table for all kinds.
    pub(super) handlers: Vec<Entry>,
    /// Whose callback runs, or was left by a panic.
    who: Who,
}

impl Callbacks {
    pub(super) fn new() -> Self {
        Self { handlers: Vec::new(), who: Who::Nobody }
    }

    /// Puts a handler behind its face for connections, if a call has asked for that.
    pub(super) fn put_behind_streams(&mut self, known: &mut [Known], handler: u32) {
        let asked = known.get_mut(handler as usize).and_then(|known| known.streams.take());
        if let (Some(put_behind), Some(entry)) = (asked, self.handlers.get_mut(handler as usize)) {
            put_behind(entry, handler);
        }
    }

    /// Runs a callback; `None` if there is no such handler. Observers are told `what` it is, which
    /// is not even made where there is none.
    #[inline(always)] // else what it captures is stored and read again
    pub(super) fn enter<'w, R: Told>(
        &mut self,
        lp: &mut Loop,
        who: Who,
        handler: u32,
        what: impl Fn() -> What<'w>,
        call: impl FnOnce(&mut Entry, &mut Loop) -> R,
    ) -> Option<R> {
        let result = self.run(lp, who, handler, &what, call)?;
        if !lp.engine.observers.is_empty() {
            tell_return(lp, handler, what(), result.outcome());
        }
        Some(result)
    }

    /// Runs a callback without a word of its end. Invariant 2: nothing else runs user code, but for
    /// the copy on the fast path (`Dispatcher::deliver_fast`).
    #[inline(always)] // as above
    fn run<'w, R>(
        &mut self,
        lp: &mut Loop,
        who: Who,
        handler: u32,
        what: impl Fn() -> What<'w>,
        call: impl FnOnce(&mut Entry, &mut Loop) -> R,
    ) -> Option<R> {
        let entry = self.handlers.get_mut(handler as usize)?;
        debug_assert_eq!(self.who, Who::Nobody, "callbacks never nest");
        self.who = who;
        if !lp.engine.observers.is_empty() {
            tell_begin(lp, handler, what());
        }
        let result = call(entry, lp);
        self.who = Who::Nobody;
        Some(result)
    }

    /// Runs a callback of a connection; `None` if it has ended.
    pub(super) fn enter_connection<'w, R: Told>(
        &mut self,
        lp: &mut Loop,
        id: ConnId,
        what: impl Fn() -> What<'w>,
        call: impl FnOnce(&mut dyn AnyHandler, u32, &mut Loop) -> R,
    ) -> Option<R> {
        let callee = Callee::of(lp.streams.get(id)?);
        self.enter_callee(lp, id, callee, what, call)
    }

    /// The same of a connection that has not ended, where it has been looked at already.
    #[inline(always)]
    pub(super) fn enter_callee<'w, R: Told>(
        &mut self,
        lp: &mut Loop,
        id: ConnId,
        Callee { handler, state, room }: Callee,
        what: impl Fn() -> What<'w>,
        call: impl FnOnce(&mut dyn AnyHandler, u32, &mut Loop) -> R,
    ) -> Option<R> {
        lp.engine.timers.note_active(id);
        lp.engine.cork.begin(id, room);
        let result = self.run(lp, Who::Connection(id), handler, &what, |entry, lp| {
            call(entry.handler.as_mut(), state, lp)
        });
        let written = lp.streams.uncork(&mut lp.engine, id);
        if !lp.engine.observers.is_empty() {
            tell_written(lp, id, written);
            if let Some(result) = &result {
                tell_return(lp, handler, what(), result.outcome());
            }
        }
        result
    }

    /// Runs a callback of a datagram socket, which may be closed already. `handler`: the place of
    /// its handler.
    pub(super) fn enter_socket(
        &mut self,
        lp: &mut Loop,
        id: SocketId,
        handler: u32,
        what: What<'_>,
        call: impl FnOnce(&dyn SocketFace, &mut Entry, &mut DatagramSocket<'_>),
    ) {
        let Some(face) = lp.datagrams.face(id) else { return };
        let what = || what;
        self.enter(lp, Who::Socket(id), handler, what, |entry, lp| {
            call(face, entry, &mut DatagramSocket::new(lp, id, LentStates::NONE));
        });
    }
}

/// What a callback returns, as observers are told it.
pub(super) trait Told {
    fn outcome(&self) -> Outcome;
}

impl Told for () {
    fn outcome(&self) -> Outcome {
        Outcome::Returned
    }
}

impl Told for usize {
    fn outcome(&self) -> Outcome {
        Outcome::Consumed(*self)
    }
}

/// The place of the state, if a connection was accepted.
impl Told for Option<u32> {
    fn outcome(&self) -> Outcome {
        Outcome::Accepted(self.is_some())
    }
}

impl Told for Deadline {
    fn outcome(&self) -> Outcome {
        Outcome::Deadline(*self)
    }
}

impl Told for Idle {
    fn outcome(&self) -> Outcome {
        Outcome::Idle(*self)
    }
}

impl Told for Delivery {
    fn outcome(&self) -> Outcome {
        Outcome::Delivered(self.count)
    }
}

/// Tells the observers that a callback begins.
#[cold]
fn tell_begin(lp: &mut Loop, handler: u32, what: What<'_>) {
    let conn = what.conn_id().and_then(|id| lp.streams.facts(id));
    lp.engine.begin_observed_callback(&Callback::new(handler, what, conn));
}

/// Tells the observers that a callback has returned.
#[cold]
fn tell_return(lp: &mut Loop, handler: u32, what: What<'_>, outcome: Outcome) {
    let conn = what.conn_id().and_then(|id| lp.streams.facts(id));
    lp.engine.end_observed_callback(&Callback::new(handler, what, conn), outcome);
}

/// Tells the observers what a callback had gathered and the kernel has taken.
#[cold]
fn tell_written(lp: &mut Loop, id: ConnId, bytes: usize) {
    if bytes > 0 {
        lp.engine.observers.tell(|observer| observer.on_written(id, bytes));
    }
}

/// Counts and tells a panic; gives it back if it is to go on.
#[cold]
fn after_panic(engine: &mut Engine, payload: PanicPayload) -> Option<PanicPayload> {
    let on_panic = engine.options().on_panic;
    if on_panic == OnPanic::Abort {
        log::error!("a callback panicked: aborting, as the options ask");
        std::process::abort();
    }
    engine.stats.panics += 1;
    let text = text_of(&*payload);
    engine.observers.tell_panic(text);
    if on_panic == OnPanic::Unwind {
        log::error!("a callback panicked ({text}); what it served is closed, the panic goes on");
        return Some(payload);
    }
    let (level, more) = match engine.may_log_panic() {
        true => (log::Level::Error, " (one such line a second; Stats::panics counts all)"),
        false => (log::Level::Debug, ""),
    };
    log::log!(
        level,
        "a callback panicked ({text}); what it served is closed, the others are served on{more}"
    );
    // What was thrown is the user's too, and may panic when it is dropped.
    drop_quietly(payload);
    None
}

impl Dispatcher {
    /// Runs a piece of the turn; `false` if the panic of a callback has ended it early.
    ///
    /// The only catch around callbacks. One per callback would make a message about 20 %
    /// more expensive. Callers must not hold half-updated state across a callback.
    pub(super) fn catch_panic(&mut self, piece: impl FnOnce(&mut Self)) -> bool {
        let Err(payload) = catch(|| piece(self)) else { return true };
        let panic = after_panic(&mut self.lp.engine, payload);
        drop_quietly(mem::replace(&mut self.panic, panic));
        if let Some(id) = self.lp.engine.cork.owner() {
            self.close_panicked(id);
        }
        self.lp.streams.set_handed_over(None);
        match mem::take(&mut self.callbacks.who) {
            Who::Accept(index) => {
                // The listener's event is used up, and others may queue.
                self.lp.engine.stats.refused += 1;
                self.lp.streams.queue_listener(&mut self.lp.engine, index);
            }
            Who::Socket(id) => self.after_socket_panic(id),
            Who::Channel(index) => self.resume_delivery(index),
            Who::Nobody | Who::Connection(_) | Who::Timer(_) | Who::Posted(_) | Who::Closed => {}
        }
        false
    }

    /// A callback of this connection has panicked: what it had to say may be cut in the middle.
    fn close_panicked(&mut self, id: ConnId) {
        // The callback may have ended the connection before.
        let listener = self.lp.streams.slot(id).and_then(|it| it.config.listener);
        if let Some(mut link) = self.lp.link(id) {
            link.mark_closed_reset(CloseReason::Panic);
        }
        self.lp.streams.uncork(&mut self.lp.engine, id);
        // It may have been accepted a moment ago: then its listener's event is used up.
        if let Some(index) = listener {
            self.lp.streams.queue_listener(&mut self.lp.engine, index as usize);
        }
    }
}
