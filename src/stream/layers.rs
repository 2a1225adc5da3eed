//! A connection whose bytes pass through layers: their handshakes, and what they send.

use std::io;
use std::sync::Arc;

use crate::base::buffer::Spares;
use crate::base::close::CloseReason;
use crate::base::tick::ticks;
use crate::engine::Engine;
use crate::options::{Decoded, Layer, LayerFactory, LayerStage};
use crate::stream::Link;
use crate::stream::connection::{Connection, Ending, Flags, Phase, Sent, WriteSide};
use crate::stream::happy_eyeballs::Connector;
use crate::sys::Stream;

/// Bytes of a layer's own that may wait for the socket, beside a batch of output: a peer that
/// reads nothing and asks for answers is at fault.
const MAX_REPLY_BYTES: usize = 128 << 10;

/// Writes of one callback that go through its layer before the rest is queued: a MiB, and what
/// stands before it. Encoding so much takes half a millisecond; a copy of it in memory would take
/// a third of that again.
const WRITE_BUDGET: usize = 17;

impl Link<'_> {
    /// The layer whose handshake is under way is made by this factory.
    pub(crate) fn layer_factory(&self) -> Option<&Arc<dyn LayerFactory>> {
        self.connection.config.layers.get(self.connection.layer_place())
    }

    /// Whether a read may lead to a costly step of a handshake: of the one under way, or of one
    /// that follows in the same bytes.
    pub(crate) fn may_be_costly(&self) -> bool {
        let left = self.connection.config.layers.iter().skip(self.connection.layer_place());
        left.into_iter().any(|factory| factory.is_costly())
    }

    /// The first layer stands in front of the socket: its handshake begins.
    pub(crate) fn begin_layers(&mut self, layer: Box<dyn Layer>) {
        self.connection.enter(Phase::Handshake);
        self.connection.set_layer(layer, self.connection.peer().ip());
        self.begin_layer();
    }

    /// The next layer takes the place of the one that is done.
    pub(crate) fn next_layer(&mut self, next: Box<dyn Layer>) {
        self.connection.replace_layer(Some(next));
        self.begin_layer();
    }

    /// A layer says what it says first, and has its time.
    fn begin_layer(&mut self) {
        if self.connection.config.listener.is_some() {
            let wait = self.layer_factory().map_or(0, |factory| ticks(factory.timeout()));
            let now = self.engine.timers.clock_tick();
            self.connection.set_connect_wait(now, wait);
        }
        self.guard_layer(|connection, spares| connection.begin_layer(spares));
        self.send_encoded();
        self.arm();
    }

    /// Has the layer work on bytes, and sends what it has to say: also while the handler has paused
    /// reading, or its callback runs. What a layer says that fails is not sent yet; nor what it
    /// says to a client once it is open, so that an answer of the handler leaves in the same write:
    /// [`send_encoded`](Self::send_encoded) must follow.
    pub(crate) fn decode(&mut self, bytes: &mut [u8]) -> io::Result<Decoded> {
        let decoded = self.guard_layer(|connection, spares| connection.decode(bytes, spares))?;
        if !self.connection.flags.has(Flags::HAS_OUTPUT) {
            return Ok(decoded); // neither the handler nor the layer has
        }
        if self.connection.encoded_len() > MAX_REPLY_BYTES {
            let text = "the peer has it answer again and again, and reads nothing";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let waits = decoded.stage == LayerStage::Open && self.connection.config.listener.is_some();
        if !waits {
            self.send_encoded();
        }
        Ok(decoded)
    }

    /// Has the layer work. Should it panic, its connection is closed as if a callback had: unless
    /// one runs, whose connection is then.
    pub(super) fn guard_layer<R>(
        &mut self,
        work: impl FnOnce(&mut Connection<Stream>, &mut Spares) -> R,
    ) -> R {
        let is_guard = self.engine.cork.owner().is_none();
        if is_guard {
            self.engine.cork.begin(self.id, 0);
            self.engine.observers.leave_handler();
        }
        let result = work(self.connection, &mut self.engine.spares);
        if is_guard {
            self.engine.cork.end();
        }
        result
    }

    /// Sends what the layer has to say.
    pub(crate) fn send_encoded(&mut self) {
        let is_blocked = self.connection.flags.has(Flags::BLOCKED) || self.connection.is_closed();
        if self.connection.encoded_len() > 0 && !is_blocked {
            self.engine.timers.note_active(self.id);
            self.flush_queue();
        }
    }

    /// What a callback has gathered, and more of it, goes through the layer. Nothing is queued that
    /// stands before it.
    pub(super) fn send_layered(&mut self, parts: &[&[u8]]) {
        let short_is_full = self.connection.short_means_done();
        let Engine { cork, spares, .. } = &mut *self.engine;
        if parts.is_empty() && self.connection.takes_record() {
            let sent = self.connection.send_record(cork.bytes(), short_is_full, spares);
            cork.clear();
            return self.after_sending(sent);
        }
        if !self.connection.takes_plaintext() {
            self.queue_gathered();
            for part in parts {
                self.connection.queue_output(part, &mut self.engine.spares);
            }
            return self.flush_queue();
        }
        let mut sent = Sent::default();
        for part in parts {
            let count = self.engine.cork.fill_up(part);
            if count < part.len() {
                self.send_gathered(&part[count..], false, &mut sent);
            }
        }
        if !self.engine.cork.bytes().is_empty() {
            self.send_gathered(&[], true, &mut sent);
        }
        self.after_sending(sent);
    }

    /// Has the layer take what was gathered, and `bytes` behind it, and sends that; what must wait
    /// is queued. Nothing follows in this write if it `is_all`.
    fn send_gathered(&mut self, bytes: &[u8], is_all: bool, sent: &mut Sent) {
        let Engine { cork, spares, .. } = &mut *self.engine;
        let mut taken = 0;
        if !sent.is_over() && self.connection.takes_plaintext() {
            let both = (cork.bytes(), bytes);
            let budget = WRITE_BUDGET.saturating_sub(sent.calls as usize);
            let is_full = self.connection.short_means_done();
            let (count, more) =
                self.connection.send_plaintext(both, is_all, budget, is_full, spares);
            sent.add(more);
            taken = count;
        }
        for part in [cork.bytes(), bytes] {
            let count = taken.min(part.len());
            taken -= count;
            if count < part.len() {
                self.connection.queue_output(&part[count..], spares);
            }
        }
        cork.clear();
    }

    /// If all output has left and FIN is to follow it, has the layer say that no more follows, and
    /// sends that as far as the socket takes it.
    pub(super) fn send_layer_end(&mut self) {
        if !self.connection.is_ending() || self.connection.has_output() {
            return;
        }
        if self.guard_layer(Connection::encode_end) {
            self.engine.timers.note_active(self.id);
            self.flush_queue();
        }
    }

    /// The connection ends in order, and its socket may still take what the layer says to that.
    pub(super) fn send_last_layer_end(&mut self) {
        let is_cut = self.connection.has_output() || self.engine.cork.gathered(self.id) > 0;
        if !is_cut && self.guard_layer(Connection::encode_end) {
            self.send_last_words();
        }
    }

    /// What the socket does not take is lost, and none of it is the handler's.
    fn send_last_words(&mut self) {
        let short_is_full = self.connection.short_means_done();
        self.connection.flush_all(1, 0, short_is_full, &mut self.engine.spares);
    }

    /// A layer has failed. What it has to say of that is sent as far as the socket takes it.
    pub(crate) fn fail_layer(&mut self, error: io::Error) {
        if self.is_connecting_through_layers() {
            self.connection.forget_end();
            // A socket that is broken already is no cause beside this one.
            self.send_last_words();
            return self.fail_handshake(error);
        }
        self.end_layer();
        let is_up = matches!(self.connection.phase(), Phase::Open | Phase::Closing(_));
        if is_up && self.connection.has_last_words() {
            self.end_behind_last_words(error);
        } else {
            self.mark_closed_reset(CloseReason::Io(error));
        }
    }

    /// An open connection's layer has its last word: nothing of the handler's follows it.
    pub(crate) fn end_layer(&mut self) {
        self.connection.forget_end();
        self.engine.cork.shut(self.id);
        if self.connection.write_side() == WriteSide::Open {
            self.connection.set_write_side(WriteSide::FinQueued);
        }
        self.send_encoded();
    }

    /// What the layer has said of its failure is sent in order, so that the peer can read it: a
    /// reset would take it away. It says that what came before is not the whole, as a reset does.
    fn end_behind_last_words(&mut self, error: io::Error) {
        self.connection.set_layer_failure(error);
        self.connection.enter(Phase::Closing(Ending::Local));
        self.connection.clear_waits();
        self.connection.clear_input(&mut self.engine.spares);
        self.queue_flush();
    }

    /// The handshake of an accepted connection has failed. What the layer has to say of that is
    /// sent in order, so that the peer can read it; without that the peer is reset.
    pub(crate) fn end_handshake(&mut self) {
        self.connection.forget_end();
        self.connection.flags.set(Flags::CLOSED_BY_HANDLER);
        if self.connection.encoded_len() == 0 {
            return self.abort();
        }
        self.connection.flags.clear(Flags::MUST_RESET);
        self.connection.enter(Phase::Closing(Ending::Local));
        self.connection.clear_waits();
        // What came behind the handshake in the same read is for no handler.
        self.connection.clear_input(&mut self.engine.spares);
        self.queue_flush();
    }

    /// The handler refuses a connection whose handshakes are done, with words.
    pub(crate) fn end_refused(&mut self, words: &[u8]) {
        self.connection.finish_layers(&mut self.engine.spares);
        self.connection.queue_output(words, &mut self.engine.spares);
        self.connection.flags.set(Flags::CLOSED_BY_HANDLER);
        self.connection.flags.clear(Flags::MUST_RESET);
        self.connection.enter(Phase::Closing(Ending::Local));
        self.connection.clear_waits();
        self.connection.clear_input(&mut self.engine.spares);
        self.queue_flush();
    }

    /// Whether an outgoing connection is in a handshake.
    pub(crate) fn is_connecting_through_layers(&self) -> bool {
        let is_outgoing = self.connection.config.listener.is_none();
        is_outgoing && matches!(self.connection.phase(), Phase::Handshake)
    }

    /// The socket of an outgoing connection has ended before its handshake was done.
    pub(crate) fn cut_handshake(&mut self, error: Option<io::Error>) {
        let text = match error {
            None => "the peer ended the connection in the handshake".to_owned(),
            Some(error) => format!("the connection broke in the handshake: {error}"),
        };
        self.fail_handshake(io::Error::new(io::ErrorKind::ConnectionAborted, text));
    }

    /// The handshake of an outgoing connection has failed: as a connect that fails, after which
    /// there may be another try.
    pub(crate) fn fail_handshake(&mut self, error: io::Error) {
        if self.connection.config.dial.is_none() {
            return self.mark_closed(CloseReason::Io(error));
        }
        let peer = self.connection.peer();
        self.connection.replace_socket(Stream::Absent, &mut self.engine.spares);
        let mut connector = Connector::new();
        connector.note(Some(peer), error);
        self.connection.set_connector(connector);
        self.end_round();
    }
}
