//! From an event to a callback.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::base::close::CloseReason;
use crate::base::id::{ConnId, SocketId};
use crate::base::panics::PanicPayload;
use crate::engine::observer::{Callback, ConnFacts, Outcome, What};
use crate::handler::{ErasedReceiver, Loop, Message};
use crate::reactor::callback::{Callbacks, Callee};
use crate::reactor::stop::Stopping;
use crate::reactor::turn::Cursor;
use crate::stream::connection::{Flags, Phase, Received};
use crate::sys::{self, Event, Readiness};

/// Bytes of one read at the most: a message of 64 KiB with its head comes in with one call, and so
/// does the next one behind it.
const READ_BYTES: usize = 132 << 10;

/// The loop without its poll: sockets and handlers side by side, so that a callback can be lent
/// the ones while it runs in the other.
pub(super) struct Dispatcher {
    /// What callbacks may touch.
    pub(super) lp: Loop,
    /// Whose callbacks they are.
    pub(super) callbacks: Callbacks,
    /// The read buffer for all, lent to `on_data` and `on_datagram`.
    pub(super) buffer: Box<[u8]>,
    /// Datagrams that came in one batch, and the socket that they are for.
    pub(super) inbound: Option<(SocketId, sys::Inbound)>,
    /// Messages taken from the mailbox and not run yet.
    pub(super) inbox: VecDeque<Message>,
    /// The channel whose messages are being handed over, or were when a callback panicked.
    pub(super) delivering: Option<Box<dyn ErasedReceiver>>,
    /// How far the turn has come.
    pub(super) cursor: Cursor,
    /// How far a stop has come.
    pub(super) stopping: Stopping,
    /// How long a drain may take that a descriptor asks for.
    pub(super) drain_deadline: Duration,
    /// Who is told that the loop is ready, turns and stops.
    pub(super) notifier: Option<sys::Notifier>,
    /// A panic that is to go on at the end of the turn.
    pub(super) panic: Option<PanicPayload>,
}

impl Dispatcher {
    pub(super) fn new(lp: Loop) -> Self {
        Self {
            lp,
            callbacks: Callbacks::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            inbound: None,
            inbox: VecDeque::new(),
            delivering: None,
            cursor: Cursor::default(),
            stopping: Stopping::default(),
            drain_deadline: Duration::ZERO,
            notifier: None,
            panic: None,
        }
    }

    /// An event of a connection. Nearly every one is a message for a connection with nothing
    /// unusual about it, which takes the fast path: read, callback, write. Made twice, so that
    /// observers cost nothing where there are none.
    #[inline(always)]
    pub(super) fn on_io<const IS_OBSERVED: bool>(&mut self, id: ConnId, event: Event<'_>) {
        if !event.is_plain() {
            return self.on_other_io(id, event); // which looks the connection up itself
        }
        let Self { lp, buffer, .. } = self;
        let buffer = &mut **buffer;
        let Some(connection) = lp.streams.slot_mut(id) else { return };
        if !connection.flags.is_usual() {
            return self.on_other_io(id, event);
        }
        let received = connection.receive(buffer);
        let count = match received {
            Received::Bytes(count)
                if connection.stream.short_means_done() && count < buffer.len() =>
            {
                count
            }
            received => {
                connection.flags.set(Flags::READABLE);
                return self.continue_reading(id, received);
            }
        };
        connection.read_at = lp.engine.now();
        let config = &*connection.config;
        // No output waits on the fast path: there is room for all that may gather.
        let (state, handler, room) = (connection.state, config.service, config.cork_room);
        self.deliver_fast::<IS_OBSERVED>(id, count, state, handler, room);
    }

    /// The second half of the fast path: `count` bytes of the buffer go to the handler, and what
    /// it writes leaves. A copy of `Callbacks::enter_connection`, inlined, which leaves it to the
    /// cork to know whose callback runs.
    #[inline(always)]
    pub(super) fn deliver_fast<const IS_OBSERVED: bool>(
        &mut self,
        id: ConnId,
        count: usize,
        state: u32,
        handler: u32,
        room: usize,
    ) {
        let Self { lp, callbacks, buffer, .. } = self;
        lp.engine.count_read(count);
        let Some(entry) = callbacks.handlers.get_mut(handler as usize) else { return };
        lp.engine.cork.begin(id, room);
        let input = &buffer[..count];
        if IS_OBSERVED {
            begin_message(lp, handler, id, input);
        }
        let consumed = entry.handler.data(state, lp, input);
        let sent = lp.streams.uncork_plain(&mut lp.engine, id);
        if IS_OBSERVED {
            end_message(lp, (handler, id), input, consumed, sent);
        }
        if consumed < count {
            self.keep(id, consumed, count);
        }
    }

    /// An event in all generality: output first, then input.
    pub(super) fn on_any_io(&mut self, id: ConnId, event: Readiness) {
        let Some(mut link) = self.lp.link(id) else { return };
        let connection = &mut *link.connection;
        if event.readable | event.hung_up {
            connection.flags.set(Flags::READABLE);
        }
        if event.hung_up {
            connection.flags.set(Flags::HUNG_UP);
        }
        if event.urgent {
            connection.flags.set(Flags::READABLE | Flags::URGENT);
        }
        if event.broken {
            connection.note_broken();
        }
        if event.writable {
            connection.flags.clear(Flags::BLOCKED);
        }
        if connection.is_connecting() {
            if link.look_at_connect() {
                self.come_up(id);
            }
        } else if event.writable && connection.has_output() {
            if link.engine.ready.has_room() {
                self.flush(id);
            } else {
                link.queue_ready();
            }
        }
        self.read(id);
        self.drop_unused(id);
    }

    /// What used up a budget has another: output first, then input.
    pub(super) fn on_ready(&mut self, id: ConnId) {
        let Some(link) = self.lp.link(id) else { return };
        link.connection.flags.clear(Flags::IN_READY_QUEUE);
        self.flush(id);
        self.read(id);
        self.drop_unused(id);
    }

    /// A connection with nothing unusual left takes the fast path again.
    fn drop_unused(&mut self, id: ConnId) {
        if let Some(link) = self.lp.link(id) {
            link.connection.drop_unused();
        }
    }

    /// Sends queued output, and says so when it has drained.
    pub(super) fn flush(&mut self, id: ConnId) {
        let Some(mut link) = self.lp.link(id) else { return };
        if link.flush() && link.connection.takes_output() {
            let what = || What::Drain { id };
            self.callbacks.enter_connection(&mut self.lp, id, what, |handler, state, lp| {
                handler.drain(state, lp);
            });
        }
    }

    /// Reads what there is until the kernel has no more, or the budget is used up; what a handler
    /// has left when it paused comes first.
    pub(super) fn read(&mut self, id: ConnId) {
        self.replay(id);
        self.read_within(id, self.lp.engine.options().reads_per_turn);
    }

    /// Hands out what is kept and must be seen, unless reading is held back. Returns whether some
    /// of it was consumed and the rest must be seen again.
    pub(super) fn replay(&mut self, id: ConnId) -> bool {
        let Some(link) = self.lp.link(id) else { return false };
        if !link.connection.can_replay() {
            if !link.connection.has_input() {
                link.connection.flags.clear(Flags::REPLAY); // its callback has left nothing
            }
            return false;
        }
        let was_broken = link.connection.must_leave_nothing();
        let is_changed = self.deliver_kept(id);
        let Some(link) = self.lp.link(id) else { return false };
        let breaks = !was_broken && link.connection.must_leave_nothing();
        if !(is_changed || breaks) {
            // The same again would give the same again, unless a write has failed just now.
            link.connection.flags.clear(Flags::REPLAY);
        }
        is_changed && link.connection.can_replay()
    }

    fn read_within(&mut self, id: ConnId, budget: usize) {
        for _ in 0..budget {
            if self.replay(id) {
                continue; // what comes next in the stream, its end too, stands behind that
            }
            let Some(link) = self.lp.link(id) else { return };
            if !link.connection.can_read() {
                return;
            }
            let mut kept = 0;
            if link.connection.flags.has(Flags::LAYERED) {
                let Some(left) = self.prepare_layered(id) else { return };
                kept = left;
            }
            let Some(link) = self.lp.link(id) else { return };
            let received = link.connection.receive(&mut self.buffer[kept..]);
            self.on_received(id, received, kept);
        }
        if let Some(mut link) = self.lp.link(id) {
            if link.connection.flags.has(Flags::READABLE) {
                link.queue_ready();
            }
        }
    }

    /// The fast path has met with something else than a short message.
    #[cold]
    pub(super) fn continue_reading(&mut self, id: ConnId, received: Received) {
        self.on_received(id, received, 0);
        self.read_on(id);
    }

    /// A read of the turn's is done.
    pub(super) fn read_on(&mut self, id: ConnId) {
        self.read_within(id, self.lp.engine.options().reads_per_turn - 1);
    }

    /// A read has ended. Behind `kept` bytes of the buffer stands what it gave.
    pub(super) fn on_received(&mut self, id: ConnId, received: Received, kept: usize) {
        let Some(mut link) = self.lp.link(id) else { return };
        match received {
            Received::Bytes(count) => {
                let now = link.engine.now();
                link.connection.note_received(count, now);
                let is_short = kept + count < self.buffer.len();
                let is_empty = is_short && link.connection.short_means_done();
                let goes_on = link.connection.flags.has(Flags::HUNG_UP | Flags::URGENT);
                let readable = !is_empty || goes_on;
                link.connection.flags.put(Flags::READABLE, readable);
                link.engine.count_read(count);
                link.engine.observers.tell(|observer| observer.on_read(id, count));
                self.deliver(id, kept + count);
            }
            Received::Blocked => {
                link.connection.flags.clear(Flags::READABLE | Flags::URGENT);
                if let Some(cause) = link.connection.take_output_failure() {
                    link.mark_closed(cause);
                }
            }
            Received::End if link.is_connecting_through_layers() => link.cut_handshake(None),
            Received::End => self.on_end(id),
            Received::Reset => link.break_off(io::ErrorKind::ConnectionReset.into()),
            Received::Broken(error) => link.break_off(error),
        }
    }

    /// The peer's end was read.
    pub(super) fn on_end(&mut self, id: ConnId) {
        let Some(mut link) = self.lp.link(id) else { return };
        link.connection.note_layer_end();
        let is_overtaking = link.connection.is_open() && link.connection.can_replay();
        debug_assert!(!is_overtaking, "what is to be seen again comes before the end");
        link.connection.flags.clear(Flags::READABLE);
        let is_first = !link.connection.flags.has(Flags::READ_CLOSED);
        link.connection.flags.set(Flags::READ_CLOSED);
        if let Some(cause) = link.connection.take_output_failure() {
            return link.mark_closed(cause);
        }
        match link.connection.phase() {
            Phase::Open if is_first => {
                link.watch_message(false, false); // nothing more is waited for
                self.tell_end(id);
            }
            Phase::Lingering(ending) => link.mark_closed(ending.into()),
            Phase::Closing(_) => link.queue_flush(),
            // A second end can only be an error that was collected elsewhere.
            _ => link.mark_closed(CloseReason::Reset),
        }
    }

    fn tell_end(&mut self, id: ConnId) {
        let what = || What::Eof { id };
        self.callbacks.enter_connection(&mut self.lp, id, what, |handler, state, lp| {
            handler.eof(state, lp);
        });
        let Some(mut link) = self.lp.link(id) else { return };
        link.finish_if_both_ended();
        if link.connection.is_open() && link.connection.flags.has(Flags::ERROR) {
            // Linux gives a read the end also where a reset came behind it, and the poll has told
            // of that already: the next read finds a second end.
            link.connection.flags.set(Flags::READABLE);
        }
    }

    /// Hands `count` bytes of the buffer to the handler, behind what it has left before.
    pub(super) fn deliver(&mut self, id: ConnId, count: usize) {
        let Some(link) = self.lp.link(id) else { return };
        let input = &self.buffer[..count];
        if link.connection.flags.has(Flags::LAYERED) {
            return self.decode(id, count);
        }
        if !link.connection.takes_input() {
            return;
        }
        if link.connection.has_input() {
            link.connection.keep_input(input, &mut link.engine.spares);
            self.deliver_kept(id);
            return;
        }
        link.connection.flags.clear(Flags::REPLAY); // an earlier callback has left nothing
        let watches = link.connection.config.watches_messages();
        let what = || What::Data { id, input };
        let consumed =
            self.callbacks.enter_connection(&mut self.lp, id, what, |handler, state, lp| {
                handler.data(state, lp, input)
            });
        let consumed = consumed.unwrap_or(count);
        if consumed < count || watches {
            self.keep(id, consumed, count);
        }
    }

    /// The handler has left something of the buffer, or its messages have limits.
    pub(super) fn keep(&mut self, id: ConnId, consumed: usize, count: usize) {
        let Some(link) = self.lp.link(id) else { return };
        if link.connection.takes_input() && consumed < count {
            let rest = &self.buffer[consumed..count];
            link.connection.keep_input(rest, &mut link.engine.spares);
        }
        self.after_data(id, consumed > 0, count.saturating_sub(consumed));
    }

    /// Hands the kept input to the handler. Returns whether another input is kept now: some was
    /// consumed, or given back.
    pub(super) fn deliver_kept(&mut self, id: ConnId) -> bool {
        let Some(link) = self.lp.link(id) else { return false };
        let mut input = link.connection.take_input();
        let what = || What::Data { id, input: input.as_slice() };
        let consumed =
            self.callbacks.enter_connection(&mut self.lp, id, what, |handler, state, lp| {
                handler.data(state, lp, input.as_slice())
            });
        let consumed = consumed.unwrap_or(0).min(input.len());
        let spares = &mut self.lp.engine.spares;
        input.consume(consumed, spares);
        let (left, mut is_changed) = (input.len(), consumed > 0);
        match self.lp.streams.slot_mut(id) {
            Some(connection) if connection.takes_input() => {
                is_changed |= connection.has_input();
                connection.put_back(input, spares);
            }
            _ => {
                input.clear(spares);
            }
        }
        self.after_data(id, consumed > 0, left);
        is_changed
    }

    /// The handler has seen what there is, but for what it has given back: looks at what it `left`.
    pub(super) fn after_data(&mut self, id: ConnId, is_progress: bool, left: usize) {
        let Some(mut link) = self.lp.link(id) else { return };
        let left = left.min(link.connection.input().len()); // nothing, if it has been closed
        if left > link.connection.config.max_input {
            let cause = link.connection.take_output_failure();
            if cause.is_some() || link.connection.flags.has(Flags::ERROR) {
                // Not this side's limit ends it: a handler that had paused was given all there was.
                return link.mark_closed(cause.unwrap_or(CloseReason::Reset));
            }
            log::debug!("{id}: {left} bytes of input were left unconsumed");
            return link.mark_closed_reset(CloseReason::Overflow);
        }
        if is_progress && left > 0 && link.connection.must_leave_nothing() {
            link.connection.replay_input(); // also where each call takes one message
        }
        let is_new = is_progress && !link.connection.flags.has(Flags::INCOMPLETE);
        let is_waiting = link.connection.waits_for_message();
        link.watch_message(is_waiting, is_new);
    }

    /// Looks whether it is up, whatever the poll has said, or whether more of a handshake is here.
    pub(super) fn look_at_connect(&mut self, id: ConnId) {
        let Some(mut link) = self.lp.link(id) else { return };
        if !link.connection.is_connecting() {
            link.connection.flags.set(Flags::READABLE);
            return self.read(id);
        }
        if link.look_at_attempts() || link.look_at_connect() {
            self.come_up(id);
        }
    }

    /// An event of one of several addresses.
    pub(super) fn on_attempt(&mut self, slot: usize) {
        let Some(id) = self.lp.engine.io.attempt(slot) else { return };
        if self.lp.link(id).is_some_and(|mut link| link.look_at_attempts()) {
            self.come_up(id);
        }
    }

    /// An outgoing connection is up, and its handshakes are done.
    pub(super) fn open_connected(&mut self, id: ConnId) {
        let Some(mut link) = self.lp.link(id) else { return };
        let is_closed_by_handler = link.connection.flags.has(Flags::CLOSED_BY_HANDLER);
        link.come_up();
        self.open(id);
        if is_closed_by_handler {
            if let Some(mut link) = self.lp.link(id) {
                link.close();
            }
        }
    }

    /// Tells the handler that a connection is up.
    pub(super) fn open(&mut self, id: ConnId) {
        let Some(mut link) = self.lp.link(id) else { return };
        link.arm_new();
        let callee = Callee::of(link.connection);
        self.tell_open(id, callee);
    }

    /// Tells the handler that a connection is up which is armed.
    #[inline(always)] // into `accept`
    pub(super) fn tell_open(&mut self, id: ConnId, callee: Callee) {
        self.lp.engine.observers.tell(|observer| observer.on_opened(id));
        let what = || What::Open { id };
        self.callbacks.enter_callee(&mut self.lp, id, callee, what, |handler, state, lp| {
            handler.open(state, lp);
        });
        if self.lp.engine.is_draining() {
            self.stopping.offer(id);
        }
    }

    /// An event that is no message of a connection on the fast path, and kept out of its way. Most
    /// connections end with nothing unusual about them and nothing left but the end, which is told
    /// here: in a storm each has one such event.
    #[inline(never)]
    fn on_other_io(&mut self, id: ConnId, event: Event<'_>) {
        let Self { lp, buffer, .. } = self;
        let Some(mut link) = lp.link(id) else { return };
        if !(link.connection.flags.is_usual() && event.is_hung_up()) {
            return self.on_slow_io(id, event);
        }
        match link.connection.receive(buffer) {
            Received::Reset => link.mark_closed_plain(CloseReason::Reset),
            received => self.read_end(id, event, received),
        }
    }

    /// An event of a connection about which something is unusual.
    #[inline(never)] // else it makes the frame of its caller large
    fn on_slow_io(&mut self, id: ConnId, event: Event<'_>) {
        let is_done = event.is_plain() && (self.on_unix_message(id) || self.on_layered_message(id));
        if !is_done {
            self.on_any_io(id, event.readiness());
        }
    }

    /// Goes on with a connection whose end was reported, behind a first read.
    #[inline(never)]
    fn read_end(&mut self, id: ConnId, event: Event<'_>, received: Received) {
        let Some(mut link) = self.lp.link(id) else { return };
        if let Received::Broken(error) = received {
            return link.mark_closed_plain(CloseReason::from_error(error));
        }
        let event = event.readiness();
        link.connection.flags.set(Flags::READABLE | Flags::HUNG_UP);
        link.connection.flags.put(Flags::ERROR, event.broken);
        link.connection.flags.put(Flags::URGENT, event.urgent);
        self.continue_reading(id, received);
        self.drop_unused(id);
    }
}

/// Tells observers that a message of the fast path begins, or has that told later.
#[inline(always)]
fn begin_message(lp: &mut Loop, handler: u32, id: ConnId, input: &[u8]) {
    if lp.engine.observers.takes_whole_messages() {
        lp.engine.begin_whole_message(handler);
    } else {
        tell_message_begin(lp, handler, id, input);
    }
}

#[inline(never)]
fn tell_message_begin(lp: &mut Loop, handler: u32, id: ConnId, input: &[u8]) {
    lp.engine.observers.tell(|observer| observer.on_read(id, input.len()));
    let callback = Callback::new(handler, What::Data { id, input }, Some(ConnFacts::USUAL));
    lp.engine.begin_observed_callback(&callback);
}

/// Tells observers that a message of the fast path has ended.
#[inline(always)]
fn end_message(
    lp: &mut Loop,
    (handler, id): (u32, ConnId),
    input: &[u8],
    consumed: usize,
    (written, is_usual): (usize, bool),
) {
    let is_whole = lp.engine.observers.takes_whole_messages();
    if is_whole && (is_usual || (written == 0 && lp.streams.is_usual(id))) && consumed > 0 {
        return lp.engine.end_whole_message((handler, id), input, consumed, written);
    }
    if is_whole {
        tell_message_begin(lp, handler, id, input);
    }
    tell_message_end(lp, (handler, id), input, consumed, written);
}

#[inline(never)]
fn tell_message_end(
    lp: &mut Loop,
    (handler, id): (u32, ConnId),
    input: &[u8],
    consumed: usize,
    written: usize,
) {
    if written > 0 {
        lp.engine.observers.tell(|observer| observer.on_written(id, written));
    }
    let usual = lp.streams.is_usual(id).then_some(ConnFacts::USUAL);
    let conn = usual.or_else(|| lp.streams.facts(id));
    let callback = Callback::new(handler, What::Data { id, input }, conn);
    lp.engine.end_observed_callback(&callback, Outcome::Consumed(consumed));
}
