//! What the WebSockets of one endpoint share.

use std::cell::Cell;
use std::collections::HashSet;
use std::time::Duration;

use crate::base::id::ConnId;
use crate::ws::assembly::{Assembly, KEPT_BYTES, MessageLimits};
use crate::ws::code::Fault;
use crate::ws::deflate::Codecs;
use crate::ws::wire::Extra;
use crate::ws::{Options, Stats};

/// Random bytes that are asked for at once, in bytes: 64 keys.
const RANDOM_BYTES: usize = 256;

/// Between two warnings of faults; those between are counted.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The options, the buffers, and the counters. Each value is taken out of its cell for as long as
/// it is used; where a panic loses one, a new one is made.
pub(super) struct Shared {
    pub(super) options: Options,
    stats: Cell<Stats>,
    /// Counted apart, because each message is.
    received: Cell<u64>,
    sent: Cell<u64>,
    assembly: Cell<Option<Box<Assembly>>>,
    extra: Cell<Option<Box<Extra>>>,
    codecs: Cell<Option<Box<Codecs>>>,
    /// Bytes of kept contexts that went into messages since the input came that is looked at.
    context_bytes: Cell<usize>,
    /// Where what a client sends is masked.
    masked: Cell<Vec<u8>>,
    random: Cell<Random>,
    /// Members that take no message of a room now: they have said Close, or are amid a message.
    held: Cell<HashSet<ConnId>>,
    /// Members that a room has closed, until they are told.
    closed_by_room: Cell<HashSet<ConnId>>,
    /// How many: to ask for each member of a room whether it is one costs more than its message.
    held_count: Cell<usize>,
    /// When a fault was last warned of, and how many were not since.
    warned: Cell<(Option<Duration>, u64)>,
}

/// Bytes of the system's generator, and how many of them are used.
struct Random {
    bytes: [u8; RANDOM_BYTES],
    used: usize,
}

impl Default for Random {
    fn default() -> Self {
        Self { bytes: [0; RANDOM_BYTES], used: RANDOM_BYTES }
    }
}

impl Shared {
    pub(super) fn new(mut options: Options) -> Self {
        options.deflate = options.deflate.map(|deflate| deflate.bounded());
        options.protocols.retain(|name| is_token(name));
        options.protocols.truncate(usize::from(u8::MAX));
        Self {
            options,
            stats: Cell::default(),
            received: Cell::default(),
            sent: Cell::default(),
            assembly: Cell::default(),
            extra: Cell::default(),
            codecs: Cell::default(),
            context_bytes: Cell::default(),
            masked: Cell::default(),
            random: Cell::default(),
            held: Cell::default(),
            closed_by_room: Cell::default(),
            held_count: Cell::default(),
            warned: Cell::default(),
        }
    }

    pub(super) fn limits(&self) -> MessageLimits {
        let Options { max_message_bytes, max_frames, parts, .. } = self.options;
        let max_in_parts = parts.map(|parts| parts.max_bytes);
        MessageLimits { max_bytes: max_message_bytes, max_frames, max_in_parts }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Stats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    #[inline]
    pub(super) fn count_received(&self) {
        self.received.set(self.received.get() + 1);
    }

    #[inline]
    pub(super) fn count_sent(&self) {
        self.sent.set(self.sent.get() + 1);
    }

    pub(super) fn stats(&self) -> Stats {
        let (received, sent) = (self.received.get(), self.sent.get());
        Stats { messages_received: received, messages_sent: sent, ..self.stats.get() }
    }

    #[inline]
    pub(super) fn take_assembly(&self) -> Box<Assembly> {
        self.assembly.take().unwrap_or_default()
    }

    #[inline]
    pub(super) fn put_back(&self, mut assembly: Box<Assembly>) {
        assembly.shrink();
        self.assembly.set(Some(assembly));
    }

    /// Input has come: what went into the messages before it does not count.
    #[inline]
    pub(super) fn begin_work(&self) {
        self.context_bytes.set(0);
    }

    /// A message was sent or comes in that may refer to so many bytes.
    pub(super) fn note_context(&self, bytes: usize) {
        self.context_bytes.set(self.context_bytes.get().saturating_add(bytes));
    }

    #[inline]
    pub(super) fn context_bytes(&self) -> usize {
        self.context_bytes.get()
    }

    pub(super) fn take_extra(&self) -> Box<Extra> {
        self.extra.take().unwrap_or_default()
    }

    /// Takes back an empty one.
    pub(super) fn put_back_extra(&self, extra: Box<Extra>) {
        self.extra.set(Some(extra));
    }

    pub(super) fn with_codecs<R>(&self, run: impl FnOnce(&mut Codecs) -> R) -> R {
        let mut codecs = self.codecs.take().unwrap_or_default();
        let result = run(&mut codecs);
        codecs.shrink(KEPT_BYTES);
        self.codecs.set(Some(codecs));
        result
    }

    pub(super) fn with_masked<R>(&self, run: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut masked = self.masked.take();
        let result = run(&mut masked);
        if masked.len() > KEPT_BYTES {
            masked.truncate(KEPT_BYTES);
            masked.shrink_to(KEPT_BYTES);
        }
        self.masked.set(masked);
        result
    }

    /// Bytes that no one can foretell, for a mask. `None` if the system gives none.
    pub(super) fn random(&self) -> Option<[u8; 4]> {
        let mut random = self.random.take();
        if random.used == RANDOM_BYTES {
            if let Err(error) = getrandom::fill(&mut random.bytes) {
                log::error!("the system gives no random bytes for masks: {error}");
                return None;
            }
            random.used = 0;
        }
        let (used, after) = (random.used, random.used + 4);
        let key = random.bytes[used..after].try_into().ok()?;
        random.used = after;
        self.random.set(random);
        Some(key)
    }

    /// A member of a room takes no messages of it, or does again.
    pub(super) fn hold(&self, id: ConnId, is_held: bool) {
        let mut held = self.held.take();
        if is_held {
            held.insert(id);
        } else {
            held.remove(&id);
        }
        self.held_count.set(held.len());
        self.held.set(held);
    }

    #[inline]
    pub(super) fn is_held(&self, id: ConnId) -> bool {
        self.held_count.get() > 0 && self.is_among_held(id)
    }

    fn is_among_held(&self, id: ConnId) -> bool {
        let held = self.held.take();
        let is_held = held.contains(&id);
        self.held.set(held);
        is_held
    }

    /// A room has said Close to a member that reads too slowly.
    pub(super) fn note_closed_by_room(&self, id: ConnId) {
        let mut closed = self.closed_by_room.take();
        closed.insert(id);
        self.closed_by_room.set(closed);
    }

    /// The connection has ended: whether it was a room that has closed it.
    pub(super) fn was_closed_by_room(&self, id: ConnId) -> bool {
        let mut closed = self.closed_by_room.take();
        let is_one = !closed.is_empty() && closed.remove(&id);
        self.closed_by_room.set(closed);
        is_one
    }

    /// A peer has broken a rule.
    pub(super) fn note_fault(&self, id: ConnId, fault: Fault, now: Duration) {
        self.count(|stats| stats.note_fault(fault.code));
        let Fault { code, text } = fault;
        log::debug!("{id}: failed with {code}: {text}");
        let (warned, missed) = self.warned.get();
        if warned.is_none_or(|at| now >= at + WARNING_INTERVAL) {
            log::warn!("{id}: failed with {code}: {text}; {missed} others since the last warning");
            self.warned.set((Some(now), 0));
        } else {
            self.warned.set((warned, missed + 1));
        }
    }
}

/// Whether a name may stand in a field of HTTP.
pub(super) fn is_token(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_good)
}
