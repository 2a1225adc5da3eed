//! From an event to a callback: the one place that runs user code.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::close::CloseReason;
use crate::connection::{Phase, Received};
use crate::engine::{Engine, Inlet, Message, Running, own_peer};
use crate::handler::{AnyService, Conn};
use crate::id::{ConnId, SocketId};
use crate::options::OnPanic;
use crate::sys::{self, Event, Readiness};

/// The handlers, by the index of their `Service`.
pub(super) type Services = Vec<Box<dyn AnyService>>;

/// Bytes of one read at the most.
const READ_BYTES: usize = 64 << 10;

/// The loop without its poll: engine and handlers side by side, so that a callback can be lent
/// the one while it runs in the other.
pub(super) struct Dispatcher {
    /// What callbacks may touch.
    pub(super) engine: Engine,
    /// Whose callbacks they are.
    pub(super) services: Services,
    /// One read buffer for all, lent to `on_data` and `on_datagram`.
    pub(super) buffer: Box<[u8]>,
    /// Datagrams that came in one batch, and the socket that they are for.
    pub(super) inbound: Option<(SocketId, sys::Inbound)>,
    /// Messages taken from the mailbox and not run yet.
    pub(super) inbox: VecDeque<Message>,
    /// Connections that are still to be offered `on_shutdown`.
    pub(super) offers: Vec<ConnId>,
    /// Rounds of last callbacks since the stop, and how many are left of this one.
    pub(super) stop_rounds: usize,
    pub(super) stop_left: usize,
    /// The listener whose connections are being accepted, or were when a callback panicked.
    pub(super) accepting: Option<usize>,
    /// The channel whose messages are being handed over, likewise.
    pub(super) delivering: Option<(u32, Box<dyn Inlet>)>,
    /// The datagram socket whose callback runs, or was left by a panic.
    pub(super) receiving: Option<SocketId>,
    /// The handler whose own timer runs, likewise.
    pub(super) timed: Option<u32>,
    /// How long a drain may take that a descriptor asks for.
    pub(super) bell_deadline: Duration,
    /// A panic that is to go on at the end of the turn.
    pub(super) thrown: Option<Thrown>,
}

/// What a panic carries.
pub(super) type Thrown = Box<dyn std::any::Any + Send>;

/// Counts and tells a panic; gives it back if it is to go on.
#[cold]
fn after_panic(engine: &mut Engine, payload: Thrown) -> Option<Thrown> {
    if engine.options.on_panic == OnPanic::Abort {
        log::error!("a callback panicked: aborting, as the options ask");
        std::process::abort();
    }
    engine.stats.panics += 1;
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text");
    let goes_on = engine.options.on_panic == OnPanic::Unwind;
    let rest = if goes_on { "the panic goes on" } else { "the others are served on" };
    log::error!("a callback panicked ({text}); its connection is closed, {rest}");
    #[cfg(feature = "sim")]
    engine.panic_text.get_or_insert_with(|| text.to_owned());
    if goes_on {
        return Some(payload);
    }
    // What was thrown is the user's too, and may panic when it is dropped.
    discard(payload);
    None
}

/// Drops what is the user's, whatever its `Drop` does.
pub(super) fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Its own `Drop` may panic in turn, and so for ever.
        std::mem::forget(payload);
    }
}

/// Runs a callback of one live connection; `None` if it has ended.
pub(super) fn callback<R>(
    engine: &mut Engine,
    services: &mut Services,
    id: ConnId,
    call: impl FnOnce(&mut dyn AnyService, u32, &mut Conn<'_>) -> R,
) -> Option<R> {
    let connection = engine.live(id)?;
    let (state, room) = (connection.state, connection.cork_room());
    let service = services.get_mut(connection.profile.service as usize)?;
    engine.touched.push(id);
    engine.cork(id, room);
    let result = call(service.as_mut(), state, &mut Conn::current(engine, id));
    engine.uncork(id);
    Some(result)
}

impl Dispatcher {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine,
            services: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            inbound: None,
            inbox: VecDeque::new(),
            offers: Vec::new(),
            stop_rounds: 0,
            stop_left: 0,
            accepting: None,
            delivering: None,
            receiving: None,
            timed: None,
            bell_deadline: Duration::ZERO,
            thrown: None,
        }
    }

    /// An event of a connection. Nearly every one is a message for a connection with nothing
    /// unusual about it, which takes the straight way: read, callback, write.
    #[inline(always)]
    pub(super) fn on_io(&mut self, id: ConnId, event: Event<'_>) {
        let Self { engine, buffer, .. } = self;
        let buffer = &mut **buffer;
        let Some(connection) = engine.connections.get_mut(id.index()) else { return };
        if connection.generation != id.generation() {
            return;
        }
        if !(event.is_plain() && connection.is_plain) {
            return self.on_other_io(id, event);
        }
        debug_assert!(connection.looks_plain());
        let received = connection.receive(buffer);
        let count = match received {
            Received::Bytes(count)
                if connection.stream.short_means_done() && count < buffer.len() =>
            {
                count
            }
            received => {
                connection.may_read = true;
                return self.go_on_reading(id, received);
            }
        };
        connection.read_at = engine.now;
        let profile = &*connection.profile;
        // A plain connection has room for all that may gather.
        let (state, service, room) = (connection.state, profile.service, profile.cork_room);
        self.answer(id, count, state, service, room);
    }

    /// The second half of the straight way: `count` bytes of the buffer go to the handler, and
    /// what it writes leaves.
    #[inline(always)]
    pub(super) fn answer(
        &mut self,
        id: ConnId,
        count: usize,
        state: u32,
        service: u32,
        room: usize,
    ) {
        let Self { engine, services, buffer, .. } = self;
        engine.count_read(count);
        let Some(service) = services.get_mut(service as usize) else { return };
        engine.cork(id, room);
        let mut conn = Conn::current(engine, id);
        let consumed = service.data(state, &mut conn, &buffer[..count]);
        engine.uncork(id);
        if consumed < count {
            self.keep(id, consumed, count);
        }
    }

    /// Runs a piece of the turn; `false` if the panic of a callback has ended it early.
    ///
    /// This is the only landing pad: one for each callback would cost a fifth of a message's way.
    /// The cork tells whose callback it was; callers leave nothing half done around callbacks.
    pub(super) fn outlives(&mut self, piece: impl FnOnce(&mut Self)) -> bool {
        let Err(payload) = catch_unwind(AssertUnwindSafe(|| piece(self))) else { return true };
        let thrown = after_panic(&mut self.engine, payload);
        discard(std::mem::replace(&mut self.thrown, thrown));
        let current = self.engine.current();
        if let Some(id) = current {
            self.engine.doom_panicked(id);
            self.engine.uncork(id);
        }
        if let Some(index) = self.accepting.take() {
            // Without a connection yet it was `on_accept`. The listener's event is used up, and
            // others may queue.
            self.engine.stats.refused += u64::from(current.is_none());
            self.engine.ticket = None;
            self.engine.queue_ready_listener(index);
        }
        if let Some(id) = self.receiving.take() {
            self.after_socket_panic(id);
        }
        if let Some(index) = self.timed.take() {
            self.after_timer_panic(index);
        }
        self.resume_delivery();
        false
    }

    /// An event in all generality: output first, then input.
    pub(super) fn on_any_io(&mut self, id: ConnId, event: Readiness) {
        let Some(connection) = self.engine.live_mut(id) else {
            return;
        };
        connection.is_plain = false; // until `refresh`
        connection.may_read |= event.readable | event.hung_up;
        connection.hung_up |= event.hung_up;
        connection.is_broken |= event.broken;
        connection.is_blocked &= !event.writable;
        if event.broken && connection.is_paused {
            connection.must_redeliver = !connection.input.is_empty() && !connection.is_ended;
        }
        if connection.phase == Phase::Connecting {
            self.finish_connect(id);
        } else if event.writable && connection.has_output() {
            self.flush(id);
        }
        self.read(id);
        self.refresh(id);
    }

    /// A connection with nothing unusual left takes the straight way again.
    fn refresh(&mut self, id: ConnId) {
        if let Some(connection) = self.engine.live_mut(id) {
            connection.drop_unused();
            connection.is_plain = connection.is_straight();
        }
    }

    /// What used up a budget has another: output first, then input.
    pub(super) fn on_ready(&mut self, id: ConnId) {
        let Some(connection) = self.engine.live_mut(id) else { return };
        connection.is_ready = false;
        self.flush(id);
        self.read(id);
        self.refresh(id);
    }

    /// Sends queued output, and says so when it has drained.
    pub(super) fn flush(&mut self, id: ConnId) {
        // What was written past the cap may have been sent already, and its end not been told.
        if self.engine.live(id).is_some_and(|it| it.has_output() || it.is_backed_up) {
            self.engine.touched.push(id);
        }
        let drained = self.engine.flush(id);
        if drained && self.engine.live(id).is_some_and(|c| c.takes_output()) {
            let Self { engine, services, .. } = self;
            callback(engine, services, id, |service, state, conn| service.drain(state, conn));
        }
    }

    /// Reads what there is until the kernel has no more, or the budget is used up; what a handler
    /// has left when it paused comes first.
    pub(super) fn read(&mut self, id: ConnId) {
        self.redeliver(id);
        self.read_within(id, self.engine.options.reads_per_turn);
    }

    /// Hands out what is kept and must be seen, unless reading is held back.
    pub(super) fn redeliver(&mut self, id: ConnId) {
        let Some(connection) = self.engine.live(id) else { return };
        if connection.must_redeliver && connection.takes_input() && connection.wants_read() {
            self.deliver_kept(id);
        }
    }

    fn read_within(&mut self, id: ConnId, budget: usize) {
        for _ in 0..budget {
            let Some(connection) = self.engine.live_mut(id) else { return };
            if !connection.may_read || !connection.wants_read() {
                return;
            }
            let received = connection.receive(&mut self.buffer);
            self.on_received(id, received);
        }
        if self.engine.live(id).is_some_and(|connection| connection.may_read) {
            self.engine.queue_ready(id);
        }
    }

    /// The straight way has met with something else than a short message.
    #[cold]
    pub(super) fn go_on_reading(&mut self, id: ConnId, received: Received) {
        self.on_received(id, received);
        self.read_within(id, self.engine.options.reads_per_turn - 1);
    }

    fn on_received(&mut self, id: ConnId, received: Received) {
        let now = self.engine.now;
        match received {
            Received::Bytes(count) => {
                let Some(connection) = self.engine.live_mut(id) else {
                    return;
                };
                connection.note_received(count, now);
                let is_short = count < self.buffer.len();
                let is_empty = is_short && connection.short_means_done();
                connection.may_read = !is_empty || connection.hung_up;
                self.engine.count_read(count);
                self.deliver(id, count);
            }
            Received::Blocked => self.on_blocked(id),
            Received::End => self.on_end(id),
            Received::Broken(error) => self.on_broken(id, error),
        }
    }

    fn on_blocked(&mut self, id: ConnId) {
        let Some(connection) = self.engine.live_mut(id) else {
            return;
        };
        connection.may_read = false;
        if connection.phase == Phase::Severed {
            let cause = connection.take_severed_by().unwrap_or(CloseReason::Reset);
            self.engine.doom(id, cause);
        }
    }

    /// The peer's end was read.
    fn on_end(&mut self, id: ConnId) {
        let Some(connection) = self.engine.live_mut(id) else {
            return;
        };
        connection.may_read = false;
        connection.is_plain = false;
        let is_first = !std::mem::replace(&mut connection.is_ended, true);
        let cause = connection.take_severed_by();
        match (connection.phase, cause) {
            (Phase::Severed, cause) => {
                self.engine.doom(id, cause.unwrap_or(CloseReason::Reset));
            }
            (Phase::Open, _) if is_first => {
                let Self { engine, services, .. } = self;
                callback(engine, services, id, |service, state, conn| service.eof(state, conn));
                self.engine.finish_if_both_ended(id);
            }
            (Phase::Lingering, _) => {
                let reason = connection.ending.into();
                self.engine.doom(id, reason);
            }
            (Phase::Closing, _) => self.engine.mark_dirty(id),
            // A second end can only be an error that somebody else has collected.
            _ => self.engine.doom(id, CloseReason::Reset),
        }
    }

    fn on_broken(&mut self, id: ConnId, error: io::Error) {
        let Some(connection) = self.engine.live_mut(id) else {
            return;
        };
        let cause = connection.take_severed_by();
        self.engine.doom(id, cause.unwrap_or_else(|| CloseReason::from_error(error)));
    }

    /// Hands `count` bytes of the buffer to the handler, behind what it has left before.
    pub(super) fn deliver(&mut self, id: ConnId, count: usize) {
        let Self { engine, services, buffer, .. } = self;
        let Some(connection) = engine.connections.get_mut(id.index()) else {
            return;
        };
        let input = &buffer[..count];
        if !connection.takes_input() {
            #[cfg(feature = "proxy-protocol")]
            self.hear(id, count);
            return;
        }
        if !connection.input.is_empty() {
            connection.keep_input(input, &mut engine.spares);
            return self.deliver_kept(id);
        }
        let watches = connection.profile.watches_messages;
        let consumed =
            callback(engine, services, id, |service, state, conn| service.data(state, conn, input));
        let consumed = consumed.unwrap_or(count);
        if consumed < count || watches {
            self.keep(id, consumed, count);
        }
    }

    /// The handler has left something of the buffer, or its messages have limits.
    fn keep(&mut self, id: ConnId, consumed: usize, count: usize) {
        let Self { engine, buffer, .. } = self;
        let Some(connection) = engine.connections.get_mut(id.index()) else {
            return;
        };
        if connection.takes_input() && consumed < count {
            connection.keep_input(&buffer[consumed..count], &mut engine.spares);
        }
        self.after_data(id, consumed > 0);
    }

    /// Hands the kept input to the handler.
    fn deliver_kept(&mut self, id: ConnId) {
        let Self { engine, services, .. } = self;
        let Some(connection) = engine.live_mut(id) else {
            return;
        };
        let mut input = connection.input.take();
        connection.must_redeliver = false;
        let consumed = callback(engine, services, id, |service, state, conn| {
            service.data(state, conn, input.as_slice())
        });
        let consumed = consumed.unwrap_or(0).min(input.len());
        input.consume(consumed, &mut engine.spares);
        match engine.connections.get_mut(id.index()) {
            Some(connection) if connection.takes_input() => connection.put_back(input),
            _ => {
                input.clear(&mut engine.spares);
            }
        }
        self.after_data(id, consumed > 0);
    }

    /// The handler has seen what there is: looks at what it left.
    fn after_data(&mut self, id: ConnId, is_progress: bool) {
        let Some(connection) = self.engine.live_mut(id) else {
            return;
        };
        let left = connection.input.len();
        let is_declared = connection.is_declared_incomplete;
        if left > connection.profile.max_input {
            log::debug!("{id}: {left} bytes of input were left unconsumed");
            self.engine.doom_reset(id, CloseReason::Overflow);
        } else {
            let is_new = is_progress && !is_declared;
            // While reading is held back the peer is not the one who keeps us waiting.
            let is_incomplete = (left > 0 || is_declared) && connection.wants_read();
            self.engine.watch_message(id, is_incomplete, is_new);
        }
    }

    /// A connect has ended, perhaps.
    fn finish_connect(&mut self, id: ConnId) {
        let Some(connection) = self.engine.live_mut(id) else {
            return;
        };
        if connection.connector_mut().is_some() {
            return; // its attempts have events of their own
        }
        match connection.stream.connected() {
            None => {}
            Some(Err(error)) => {
                self.engine.doom(id, CloseReason::Io(error));
            }
            Some(Ok(())) if connection.stream.is_its_own_peer(connection.peer) => {
                self.engine.doom_reset(id, CloseReason::Io(own_peer()));
            }
            Some(Ok(())) => self.come_up(id),
        }
    }

    /// Looks whether it is up, whatever the poll has said, or whether a header is here that is
    /// waited for.
    pub(super) fn look_at_connect(&mut self, id: ConnId) {
        let Some(connection) = self.engine.live_mut(id) else { return };
        if connection.connector_mut().is_some() {
            if self.engine.look_at_attempts(id) {
                self.come_up(id);
            }
        } else if connection.phase == Phase::Connecting {
            self.finish_connect(id);
        } else {
            connection.may_read = true;
            self.read(id);
        }
    }

    /// The same for one of several addresses.
    pub(super) fn on_attempt(&mut self, slot: usize) {
        let Some(&id) = self.engine.attempts.get(slot) else { return };
        if self.engine.look_at_attempts(id) {
            self.come_up(id);
        }
    }

    /// An outgoing connection is up.
    fn come_up(&mut self, id: ConnId) {
        let now = self.engine.now;
        let Some(connection) = self.engine.live_mut(id) else {
            return;
        };
        connection.open(now);
        let peer = connection.peer;
        let has_output = connection.has_output();
        let (wants_fin, is_let_go) = (connection.wants_fin, connection.is_let_go);
        self.engine.stats.connected += 1;
        log::debug!("{id}: connected to {peer}");
        self.engine.ask_writable(id, has_output);
        if has_output || wants_fin {
            self.engine.mark_dirty(id);
        }
        self.open(id);
        if is_let_go {
            self.engine.close(id);
        }
    }

    /// Tells the handler that a connection is up.
    pub(super) fn open(&mut self, id: ConnId) {
        let Self { engine, services, .. } = self;
        engine.file_new(id);
        callback(engine, services, id, |service, state, conn| service.open(state, conn));
        if self.engine.running == Running::Draining {
            self.offers.push(id);
        }
    }
}
