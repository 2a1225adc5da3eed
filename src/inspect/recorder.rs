//! The recorder: an observer that keeps what it is told.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::conns::{Conns, Ended, Entry, UNKNOWN};
use super::descriptors::Descriptors;
use super::options::RecorderOptions;
use super::record::{Happened, Places, Record, Ring, Why};
use super::tally::{Tally, nanos};
use super::trace::Recording;
use super::warning::{Resets, Seen, Warning, WarningKind, Warnings};
use crate::base::id::{ConnId, TimerId};
use crate::engine::observer::{
    Callback, ConnEnd, ConnFacts, Message, Observer, Outcome, Phase, Span, What,
};
use crate::handler::HandlerKey;

/// Takes a recording when something has happened.
type Take = Box<dyn FnMut(Recording)>;

/// Connections are looked over for what lasts too long at least so often, in nanoseconds.
const SWEEP_INTERVAL: u64 = 1_000_000_000;

/// A recording of a slow callback is handed over at most so often, in nanoseconds.
const TAKE_INTERVAL: u64 = 1_000_000_000;

/// A flight recorder: an [`Observer`] that keeps the last things that the loop has done, sums, and
/// warnings.
///
/// See the [module](super) for what it costs, and for how to get at a recording.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::{Reactor, inspect::Recorder};
///
/// let mut reactor = Reactor::new()?;
/// let key = reactor.observe(Recorder::new());
/// reactor.run_once(Some(Duration::ZERO))?;
/// let recorder = reactor.observer_mut(key).expect("it is of this reactor");
/// let trace = recorder.recording(Duration::from_secs(2)).to_trace();
/// assert!(trace.starts_with("{\"traceEvents\":["));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Recorder {
    pub(super) options: RecorderOptions,
    pub(super) ring: Ring,
    /// Without the messages that connections have counted and not settled.
    pub(super) tally: Tally,
    pub(super) conns: Conns,
    pub(super) ended: Ended,
    pub(super) warnings: Warnings,
    /// Names of callbacks and of marks.
    pub(super) names: Places,
    resets: Resets,
    /// A message whose callback took so many nanoseconds is no ordinary one: it has held the loop,
    /// or its length is too great for a record of a message.
    slow: u64,
    /// The last time that was told.
    now: u64,
    turn: Turn,
    /// The handler whose callback runs, or has returned last.
    handler: u32,
    /// A callback of an ignored handler runs.
    is_ignoring: bool,
    /// Whose, how late: a timer that has fired, before it is known for whom.
    fired: Option<u64>,
    /// When connections are looked over next.
    sweep_at: u64,
    descriptors: Descriptors,
    on_slow: Option<Take>,
    on_panic: Option<Take>,
    /// When a recording was handed over last.
    taken_at: Option<u64>,
}

/// The turn that runs.
#[derive(Debug, Default)]
struct Turn {
    begun: u64,
    /// When the last turn ended.
    ended: u64,
    /// The number of its first record.
    position: u64,
    /// When its phase began.
    phase: u64,
    /// Time of ignored handlers, in this turn and in this phase.
    ignored: u64,
    ignored_in_phase: u64,
    /// Something of ignored handlers has happened, or something else.
    has_ignored: bool,
    has_others: bool,
    /// How late the latest timer was.
    latest: u64,
    /// Length and count of each phase, without what was ignored.
    phases: [(u64, u64); 5],
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// A recorder with default options.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(RecorderOptions::default())
    }

    /// A recorder. Its memory is taken now.
    #[must_use]
    pub fn with_options(options: RecorderOptions) -> Self {
        Self {
            ring: Ring::new(options.records),
            slow: nanos(options.slow_callback).min(u32::MAX.into()),
            options,
            tally: Tally::default(),
            conns: Conns::default(),
            ended: Ended::default(),
            warnings: Warnings::default(),
            names: Places::default(),
            resets: Resets::default(),
            now: 0,
            turn: Turn::default(),
            handler: UNKNOWN,
            is_ignoring: false,
            fired: None,
            sweep_at: 0,
            descriptors: Descriptors::default(),
            on_slow: None,
            on_panic: None,
            taken_at: None,
        }
    }

    /// Has a function called with what was recorded when a callback was slower than
    /// [`RecorderOptions::slow_callback`]: the time before it, and the callback itself. At most
    /// once a second. The recording is `Send`: write it to a file on another thread.
    #[must_use]
    pub fn on_slow(mut self, take: impl FnMut(Recording) + 'static) -> Self {
        self.on_slow = Some(Box::new(take));
        self
    }

    /// Has a function called with what was recorded before a callback panicked.
    #[must_use]
    pub fn on_panic(mut self, take: impl FnMut(Recording) + 'static) -> Self {
        self.on_panic = Some(Box::new(take));
        self
    }

    /// Names a handler. By default it has the name of its type.
    pub fn name<H>(&mut self, handler: HandlerKey<H>, name: &str) {
        self.tally.handler(handler.index()).name = name.to_owned();
    }

    /// Leaves a handler and its connections out from now on.
    pub fn ignore<H>(&mut self, handler: HandlerKey<H>) {
        self.tally.handler(handler.index()).is_ignored = true;
        self.conns.iter_mut().for_each(Entry::become_unusual);
    }

    /// A copy of the records of the last so much time.
    #[must_use]
    pub fn recording(&self, last: Duration) -> Recording {
        let from = self.now.saturating_sub(nanos(last));
        let recent = self.ring.iter().rev().take_while(|it| it.end() >= from);
        let mut records: Vec<Record> = recent.copied().collect();
        records.reverse();
        let handlers = self.tally.handlers.iter().map(|it| it.name.clone()).collect();
        let begun = records.iter().map(|record| record.at).min().unwrap_or_default();
        Recording { records, begun, handlers, names: self.names.clone() }
    }

    /// The warnings so far, the latest one last. At most 64 are kept.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        self.warnings.list()
    }

    /// The name of a handler, by its index.
    #[must_use]
    pub fn handler_name(&self, index: u32) -> &str {
        self.tally.handlers.get(index as usize).map_or("?", |it| it.name.as_str())
    }

    /// The last time that was told, in nanoseconds.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    #[inline]
    fn push(&mut self, at: u64, what: Happened) {
        self.ring.push(Record { at, what });
    }

    /// Notes something that has happened to a connection; whether it is to be recorded.
    #[inline]
    fn concerns(&mut self, handler: u32) -> bool {
        let is_ignored = self.tally.is_ignored(handler);
        if is_ignored {
            self.turn.has_ignored = true;
        } else {
            self.turn.has_others = true;
        }
        !is_ignored
    }

    /// A callback has ended that is not ignored.
    #[inline]
    fn count_callback(&mut self, callback: &Callback<'_>, outcome: Outcome, span: Span) {
        let (begun, length) = (span.begun_nanos(), span.length_nanos());
        let name = self.names.of(callback.what.name()) as u8;
        let handler = callback.handler.min(u32::from(u16::MAX)) as u16;
        let conn = callback.what.conn_id();
        self.tally.handler(callback.handler).count(length);
        let Some(id) = conn else {
            return self.push(begun, Happened::Callback { name, handler, length });
        };
        let (now, much) = (self.now, self.options.much_output_bytes);
        let entry = self.conns.get(id, self.now);
        entry.set_handler(callback.handler, &mut self.tally);
        entry.callbacks += 1;
        if let Some(facts) = callback.conn {
            entry.note(facts, now, much);
        }
        if let Outcome::Consumed(count) = outcome {
            entry.note_consumed(count > 0, now);
        } else if let What::Eof { .. } = callback.what {
            entry.has_peer_ended = true; // here, so that a message does not look
        }
        self.push(begun, Happened::ConnCallback { name, handler, length, conn: id });
    }

    /// A message of a connection about which something was unusual. A slow one, and one of a
    /// connection or a handler that is ignored or not known, is noted as a read, a write and a
    /// callback.
    #[cold]
    #[inline(never)]
    fn note_unusual(&mut self, message: &Message<'_>) {
        let Message { handler, id, input, consumed, written, span, .. } = *message;
        let is_counted = span.length_nanos() < self.slow && self.tally.can_count(handler);
        if let Some(entry) = self.conns.known(id).filter(|_| is_counted) {
            entry.become_usual(handler, &mut self.tally);
            return self.on_message(message);
        }
        self.conns.get(id, self.now); // of one that is older than the recorder, too
        self.on_read(id, input.len());
        let callback = Callback::new(handler, What::Data { id, input }, Some(ConnFacts::USUAL));
        self.on_callback_begin(&callback, span.begun());
        if written > 0 {
            self.on_written(id, written);
        }
        self.on_callback_end(&callback, Outcome::Consumed(consumed), span);
    }

    /// A connection has ended. Not within its caller, which every callback goes through.
    #[inline(never)]
    fn forget(&mut self, id: ConnId) {
        let removed = self.conns.remove(id, &mut self.tally);
        if let Some(entry) = removed.filter(|it| !self.tally.is_ignored(it.handler)) {
            self.ended.add(entry, self.now);
        }
    }

    /// A callback has held the loop.
    #[cold]
    fn warn_of_slow(&mut self, callback: &Callback<'_>, length: u64) {
        let conn = callback.what.conn_id();
        let name = self.handler_name(callback.handler);
        let whose = conn.map_or(String::new(), |id| format!(" of connection {id}"));
        let what = callback.what.name();
        let text = format!("{name}: {what}{whose} took {}", Length(length));
        let seen = Seen { kind: WarningKind::HeldLoop, handler: Some(callback.handler), conn };
        self.warnings.add(seen, self.now, text);
        let is_soon = |last| self.now.saturating_sub(last) < TAKE_INTERVAL;
        if self.on_slow.is_some() && !self.taken_at.is_some_and(is_soon) {
            self.taken_at = Some(self.now);
            let window = self.options.window + Duration::from_nanos(length);
            let recording = self.recording(window);
            if let Some(take) = &mut self.on_slow {
                take(recording);
            }
        }
    }

    /// A timer may have fired for something that is not ignored.
    #[inline]
    fn count_fired(&mut self) {
        if let Some(late) = self.fired.take() {
            self.add_fired(late);
        }
    }

    fn add_fired(&mut self, late: u64) {
        self.tally.timers_fired += 1;
        self.tally.late += late;
        self.tally.latest = self.tally.latest.max(late);
        self.push(self.now, Happened::Fired { late });
        self.turn.latest = self.turn.latest.max(late);
    }

    /// Has all sums up to date: connections count their messages by themselves.
    pub(super) fn settle(&mut self) {
        self.conns.settle(&mut self.tally);
    }

    /// Looks for what lasts too long.
    #[cold]
    fn sweep(&mut self) {
        self.settle();
        let (now, patience) = (self.now, nanos(self.options.stuck));
        let mut found = Vec::new();
        for entry in self.conns.iter_mut() {
            if self.tally.is_ignored(entry.handler) {
                continue;
            }
            let states = [
                (WarningKind::PausedLong, &mut entry.paused, "has been paused for"),
                (WarningKind::Unconsumed, &mut entry.unconsumed, "has kept its input for"),
                (WarningKind::MuchOutput, &mut entry.much_output, "has not read its output for"),
            ];
            for (kind, state, words) in states {
                if let Some(length) = state.overdue(now, patience) {
                    found.push((kind, entry.id, entry.handler, words, length));
                }
            }
        }
        for (kind, id, handler, words, length) in found {
            let name = self.handler_name(handler);
            let text = format!("{name}: connection {id} {words} {}", Length(length));
            let seen = Seen { kind, handler: Some(handler), conn: Some(id) };
            self.warnings.add(seen, now, text);
        }
        if let Some((used, limit)) = self.descriptors.nearly_used_up(self.conns.len(), now) {
            let text = format!("{used} of {limit} descriptors are in use");
            let seen = Seen { kind: WarningKind::FewDescriptors, handler: None, conn: None };
            self.warnings.add(seen, now, text);
        }
    }
}

/// Calls that the loop makes of itself. The page's own turns leave no trace.
impl Observer for Recorder {
    fn on_handler(&mut self, index: u32, type_name: &'static str) {
        let sum = self.tally.handler(index);
        if sum.name.is_empty() {
            sum.name = type_name.to_owned();
        }
    }

    #[inline]
    fn on_turn_begin(&mut self, at: Duration) {
        self.now = nanos(at);
        let ended = self.turn.ended;
        let position = self.ring.position();
        self.turn = Turn { begun: self.now, ended, position, phase: self.now, ..Turn::default() };
    }

    #[inline]
    fn on_turn_end(&mut self, at: Duration) {
        self.now = nanos(at);
        let length = self.now.saturating_sub(self.turn.begun);
        if self.turn.has_ignored && !self.turn.has_others {
            // The sleep goes on where it was left: this turn was the inspector's.
            self.ring.take_back(self.turn.position);
            self.turn.ended += length;
        } else {
            // A record lasts as long as what lies in it; the sums leave out what is ignored.
            let own = length.saturating_sub(self.turn.ignored);
            self.tally.turn_length += own;
            self.tally.turn_lengths.add_nanos(own);
            self.tally.peaks.add(own, &self.turn.phases);
            self.tally.poll_length += self.turn.begun.saturating_sub(self.turn.ended);
            for (sum, (length, count)) in self.tally.phases.iter_mut().zip(self.turn.phases) {
                sum.length += length;
                sum.count += count;
            }
            let connections = self.conns.len() as u32;
            self.push(self.turn.begun, Happened::Turn { length, connections });
            self.turn.ended = self.now;
            if self.turn.latest >= nanos(self.options.late_timer) {
                let text = format!("timers fired up to {} late", Length(self.turn.latest));
                let seen = Seen { kind: WarningKind::LateTimers, handler: None, conn: None };
                self.warnings.add(seen, self.now, text);
            }
        }
        if self.now >= self.sweep_at {
            self.sweep_at = self.now + SWEEP_INTERVAL.min(nanos(self.options.stuck));
            self.sweep();
        }
    }

    #[inline]
    fn on_phase_begin(&mut self, _: Phase, at: Duration) {
        self.turn.phase = nanos(at);
        self.turn.ignored_in_phase = 0;
    }

    #[inline]
    fn on_phase_end(&mut self, phase: Phase, count: usize, at: Duration) {
        self.now = nanos(at);
        self.count_fired();
        let begun = self.turn.phase;
        let length = self.now.saturating_sub(begun);
        let own = length.saturating_sub(self.turn.ignored_in_phase);
        let sum = &mut self.turn.phases[phase as usize];
        *sum = (sum.0 + own, sum.1 + count as u64);
        if count > 0 {
            self.push(begun, Happened::Phase { phase, length });
        }
    }

    #[inline]
    fn on_callback_begin(&mut self, callback: &Callback<'_>, at: Duration) {
        self.now = nanos(at);
        self.handler = callback.handler;
        self.is_ignoring = !self.concerns(callback.handler);
        if self.is_ignoring {
            self.fired = None;
        } else {
            self.count_fired();
        }
    }

    #[inline]
    fn on_callback_end(&mut self, callback: &Callback<'_>, outcome: Outcome, span: Span) {
        self.now = span.ended_nanos();
        let length = span.length_nanos();
        if self.is_ignoring {
            self.is_ignoring = false;
            self.turn.ignored += length;
            self.turn.ignored_in_phase += length;
            self.tally.ignored_lengths.add_nanos(length);
        } else {
            self.count_callback(callback, outcome, span);
            if length >= nanos(self.options.slow_callback) {
                self.warn_of_slow(callback, length);
            }
        }
        if let What::Close { id, .. } | What::ConnectFailed { id: Some(id) } = callback.what {
            self.forget(id);
        }
    }

    fn takes_whole_messages(&self) -> bool {
        true
    }

    #[inline]
    fn on_message(&mut self, message: &Message<'_>) {
        let Message { handler, id, input, written, span, .. } = *message;
        let length = span.length_nanos();
        if length >= self.slow {
            return self.note_unusual(message);
        }
        let Some(messages) = self.conns.usual(id, handler) else {
            return self.note_unusual(message);
        };
        messages.add(length, input.len(), written);
        self.now = span.ended_nanos();
        self.turn.has_others = true;
        let (read, written, length) = (input.len() as u32, written as u32, length as u32);
        let handler = handler as u16; // as `Tally::can_count` has found
        let what = Happened::Message { handler, length, conn: id, read, written };
        self.ring.push(Record { at: span.begun_nanos(), what });
    }

    fn on_accepted(&mut self, id: ConnId, peer: SocketAddr) {
        // `on_accept` of its handler has just returned.
        let (now, handler) = (self.now, self.handler);
        let entry = self.conns.get(id, self.now);
        entry.set_handler(handler, &mut self.tally);
        (entry.peer, entry.is_open) = (Some(peer), false);
        if self.concerns(handler) {
            self.tally.begun += 1;
            self.push(now, Happened::Begun { conn: id, is_outgoing: false });
        }
    }

    fn on_connecting(&mut self, id: ConnId) {
        let entry = self.conns.get(id, self.now);
        (entry.is_outgoing, entry.is_open) = (true, false);
        self.tally.begun += 1;
        self.turn.has_others = true;
        self.push(self.now, Happened::Begun { conn: id, is_outgoing: true });
    }

    fn on_opened(&mut self, id: ConnId) {
        let entry = self.conns.get(id, self.now);
        entry.is_open = true;
        let handler = entry.handler;
        if self.concerns(handler) {
            self.tally.opened += 1;
            self.push(self.now, Happened::Opened { conn: id });
        }
    }

    fn on_closed(&mut self, id: ConnId, end: &ConnEnd<'_>) {
        let entry = self.conns.get(id, self.now);
        let (handler, peer) = (entry.handler, entry.peer);
        let why = Why::of(end.reason);
        (entry.is_open, entry.end) = (false, Some(why));
        entry.unsent_bytes = end.unsent_bytes as u64;
        if !self.concerns(handler) {
            return;
        }
        self.tally.closed += 1;
        let unsent_bytes = end.unsent_bytes.min(u32::MAX as usize) as u32;
        self.push(self.now, Happened::Closed { conn: id, why, unsent_bytes });
        if !matches!(why, Why::Reset | Why::Io(_)) {
            return;
        }
        self.tally.reset += 1;
        let Some(peer) = peer else { return };
        let many = self.options.many_resets;
        if self.resets.add(peer.ip(), self.now, many) {
            let text = format!("{many} connections of {} were reset in 10 s", peer.ip());
            let (kind, handler) = (WarningKind::ManyResets, Some(handler));
            self.warnings.add(Seen { kind, handler, conn: Some(id) }, self.now, text);
        }
    }

    #[inline]
    fn on_read(&mut self, id: ConnId, bytes: usize) {
        let (mut conn, mut handler) = (None, UNKNOWN);
        // A connection that is refused in its handshake was never accepted: no end of it is told.
        if let Some(entry) = self.conns.known(id) {
            entry.bytes_read += bytes as u64;
            (conn, handler) = (Some(id), entry.handler);
        }
        if self.concerns(handler) {
            self.tally.bytes_read += bytes as u64;
            self.push(self.now, Happened::Read { conn, bytes: bytes as u32 });
        }
    }

    #[inline]
    fn on_written(&mut self, id: ConnId, bytes: usize) {
        let (now, much) = (self.now, self.options.much_output_bytes);
        let (mut conn, mut handler) = (None, UNKNOWN);
        if let Some(entry) = self.conns.known(id) {
            entry.note_written(bytes, much, now);
            (conn, handler) = (Some(id), entry.handler);
        }
        if self.concerns(handler) {
            self.tally.bytes_written += bytes as u64;
            self.push(now, Happened::Written { conn, bytes: bytes as u32 });
        }
    }

    fn on_timer_armed(&mut self, handler: Option<u32>, _: TimerId, wait: Duration) {
        if !handler.is_some_and(|handler| self.tally.is_ignored(handler)) {
            self.tally.timers_armed += 1;
            self.push(self.now, Happened::Armed { wait: nanos(wait) });
        }
    }

    fn on_timer_fired(&mut self, late: Duration) {
        self.count_fired();
        self.fired = Some(nanos(late));
    }

    fn on_woken(&mut self) {
        self.tally.woken += 1;
        self.push(self.now, Happened::Woken);
    }

    fn on_panic(&mut self, handler: Option<u32>, text: &str) {
        self.tally.panics += 1;
        self.push(self.now, Happened::Panicked);
        self.is_ignoring = false;
        let name = self.handler_name(handler.unwrap_or(UNKNOWN));
        let text = format!("{name}: a callback panicked: {text}");
        let seen = Seen { kind: WarningKind::Panicked, handler, conn: None };
        self.warnings.add(seen, self.now, text);
        if self.on_panic.is_some() {
            let recording = self.recording(self.options.window);
            if let Some(take) = &mut self.on_panic {
                take(recording);
            }
        }
    }

    fn on_mark(&mut self, name: &'static str) {
        self.tally.marks += 1;
        let name = self.names.of(name) as u32;
        self.push(self.now, Happened::Mark { name });
    }
}

/// A length of time as people read it.
struct Length(u64);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            nanos if nanos < 1_000_000 => write!(f, "{} µs", nanos / 1_000),
            nanos if nanos < 10_000_000_000 => write!(f, "{} ms", nanos / 1_000_000),
            nanos => write!(f, "{} s", nanos / 1_000_000_000),
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Recorder");
        text.field("turns", &self.tally.turn_lengths.count())
            .field("warnings", &self.warnings.total);
        text.finish_non_exhaustive()
    }
}
