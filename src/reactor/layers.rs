//! Bytes of connections with layers: from the socket through the layers to the handler.

use std::io;
use std::mem;
use std::rc::Rc;

use crate::base::close::CloseReason;
use crate::base::id::ConnId;
use crate::engine::observer::What;
use crate::options::{Decoded, LayerStage, MAX_UNCONSUMED_BYTES};
use crate::reactor::dispatch::Dispatcher;
use crate::stream::connection::{Flags, Phase, Received};

/// Steps of costly handshakes that a turn makes, of all connections: each may take as long as some
/// hundred messages, and those who are connected already wait for it.
const COSTLY_STEPS_PER_TURN: usize = 8;

/// How a connection stood before its layers worked on what has come.
#[derive(Clone, Copy)]
enum Before {
    /// Its handshake was under way.
    Handshake,
    /// The handler had left so much.
    Input(usize),
    /// The handler had left nothing.
    Nothing,
}

impl Dispatcher {
    /// What must be done before the socket of a connection with layers is read: bytes that are
    /// left of the last time go to the front of the buffer; how many. `None` if it is not to be
    /// read now.
    #[cold]
    pub(super) fn prepare_layered(&mut self, id: ConnId) -> Option<usize> {
        let mut link = self.lp.link(id)?;
        if link.connection.has_unreported_end() {
            self.on_end(id);
            let mut link = self.lp.link(id)?;
            // The socket may have more to tell: its own end, or that it is broken.
            link.connection.flags.set(Flags::READABLE);
            if link.connection.can_read() {
                link.queue_ready();
            }
            return None;
        }
        let is_handshake = link.connection.phase() == Phase::Handshake;
        if is_handshake && link.may_be_costly() {
            // Those who have waited since the last turn come first.
            let is_early = self.cursor.is_before_ready_queue();
            let others_wait = is_early && !link.engine.ready.connections().is_empty();
            if others_wait || self.cursor.costly_steps >= COSTLY_STEPS_PER_TURN {
                link.queue_ready();
                return None;
            }
        }
        let connection = self.lp.streams.get(id)?;
        Some(connection.lend_undecoded(&mut self.buffer))
    }

    /// If nothing but its layers is unusual about a connection, runs one read, and has the layers
    /// and the handler see what came; else nothing is done. To look at such an event in all
    /// generality costs a fiftieth of the message.
    pub(super) fn on_layered_message(&mut self, id: ConnId) -> bool {
        let usual = Flags::LAYERED | Flags::HAS_COLD | Flags::WATCHED;
        let Self { lp, buffer, .. } = self;
        let Some(mut link) = lp.link(id) else { return true };
        let flags = link.connection.flags;
        if !flags.has(Flags::LAYERED) || flags.has_other(usual) {
            return false;
        }
        let kept = link.connection.lend_undecoded(buffer);
        let received = link.connection.receive(&mut buffer[kept..]);
        let count = match received {
            Received::Bytes(count)
                if link.connection.short_means_done() && kept + count < buffer.len() =>
            {
                count
            }
            received => {
                link.connection.flags.set(Flags::READABLE);
                self.on_received(id, received, kept);
                self.read_on(id);
                return true;
            }
        };
        link.connection.note_received(count, link.engine.now());
        link.engine.count_read(count);
        link.engine.observers.tell(|observer| observer.on_read(id, count));
        debug_assert!(link.connection.takes_input() && link.connection.can_decode());
        let decoded = link.decode(&mut buffer[..kept + count]);
        self.deliver_decoded(id, decoded, kept + count, Before::Nothing);
        if let Some(mut link) = self.lp.link(id) {
            if link.connection.flags.has(Flags::HAS_OUTPUT) {
                link.send_encoded();
            }
            if link.connection.flags.has(Flags::READABLE | Flags::REPLAY) {
                self.read_on(id);
            }
        }
        true
    }

    /// The first `count` bytes of the buffer are for the layers.
    pub(super) fn decode(&mut self, id: ConnId, count: usize) {
        self.decode_and_deliver(id, count);
        if let Some(mut link) = self.lp.link(id) {
            link.send_encoded();
        }
    }

    fn decode_and_deliver(&mut self, id: ConnId, count: usize) {
        let Some(link) = self.lp.link(id) else { return };
        link.engine.timers.note_active(id); // no callback may follow
        let is_handshake = link.connection.phase() == Phase::Handshake;
        if !(is_handshake || link.connection.takes_input()) || !link.connection.can_decode() {
            return link.connection.drop_undecoded(&mut link.engine.spares);
        }
        if is_handshake && link.may_be_costly() {
            self.cursor.costly_steps += 1;
        }
        if is_handshake && link.connection.config.listener.is_some() {
            // A client that breaks off in the middle has no whole stream to end.
            link.connection.flags.set(Flags::MUST_RESET);
        }
        let before = match (is_handshake, link.connection.input().len()) {
            (true, _) => Before::Handshake,
            (false, 0) => Before::Nothing,
            (false, count) => Before::Input(count),
        };
        if let Some(decoded) = self.decode_all(id, count) {
            self.deliver_decoded(id, decoded, count, before);
        }
    }

    /// The layers have worked on `count` bytes: what they have made of them goes to the handler.
    fn deliver_decoded(
        &mut self,
        id: ConnId,
        decoded: io::Result<Decoded>,
        count: usize,
        before: Before,
    ) {
        match (before, decoded) {
            (Before::Nothing, Ok(Decoded { consumed, stage: LayerStage::Open }))
                if count - consumed <= MAX_UNCONSUMED_BYTES =>
            {
                self.deliver_plain(id);
            }
            (_, decoded) => self.deliver_unusual(id, decoded, count, before),
        }
    }

    /// Hands what the layers have made of a read to a handler that has left nothing before.
    fn deliver_plain(&mut self, id: ConnId) {
        let mut plain = mem::take(&mut self.lp.engine.spares.plain);
        let mut consumed = 0;
        if !plain.is_empty() {
            let what = || What::Data { id, input: &plain };
            let seen =
                self.callbacks.enter_connection(&mut self.lp, id, what, |handler, state, lp| {
                    handler.data(state, lp, &plain)
                });
            consumed = seen.unwrap_or(0).min(plain.len());
        }
        let rest = &plain[consumed..];
        if let Some(link) = self.lp.link(id) {
            if !rest.is_empty() && link.connection.takes_input() {
                link.connection.keep_input(rest, &mut link.engine.spares);
            }
            // A record may have begun, or ended that is no message.
            if !rest.is_empty() || link.connection.flags.has(Flags::WATCHED) {
                self.after_data(id, consumed > 0, rest.len());
            }
        }
        plain.clear();
        self.lp.engine.spares.plain = plain;
    }

    /// Does so where there was input before, the handshake is under way or has just ended, or the
    /// peer has said its end.
    fn deliver_unusual(
        &mut self,
        id: ConnId,
        decoded: io::Result<Decoded>,
        count: usize,
        before: Before,
    ) {
        let Some(link) = self.lp.link(id) else { return };
        link.connection.keep_plain(&mut link.engine.spares);
        let (is_handshake, had_input) = match before {
            Before::Handshake => (true, 0),
            Before::Input(count) => (false, count),
            Before::Nothing => (false, 0),
        };
        let Decoded { consumed, stage } = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return self.fail_behind_input(id, error, had_input),
        };
        let Some(link) = self.lp.link(id) else { return };
        if is_handshake && link.connection.phase() != Phase::Handshake {
            return; // what a layer had to say could not be sent
        }
        if count - consumed > MAX_UNCONSUMED_BYTES {
            let text = "a message of its layer is too long";
            return self.fail_layer(id, io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if stage == LayerStage::Handshake {
            return;
        }
        if stage == LayerStage::Ended {
            // Told when the handler has seen what came before it, and takes it.
            link.connection.flags.set(Flags::READABLE);
        }
        if is_handshake {
            self.open_handshaken(id);
        } else if link.connection.input().len() > had_input {
            self.deliver_kept(id);
        } else {
            // A record may have begun, or ended that is no message.
            self.after_data(id, false, had_input);
        }
    }

    /// A layer has failed. What it had made of its input before that is the handler's, if that was
    /// told of the connection; what the handler says to it can be sent no more. So it is lent once:
    /// what the handler leaves then waits for output or for a turn of its own, and neither comes.
    #[cold]
    fn fail_behind_input(&mut self, id: ConnId, error: io::Error, had_input: usize) {
        let Some(mut link) = self.lp.link(id) else { return };
        if link.connection.takes_input() && link.connection.input().len() > had_input {
            link.end_layer();
            self.deliver_kept(id);
        }
        self.fail_layer(id, error);
    }

    /// Has the layers work on what they can; how far they have come. `None` if the connection has
    /// ended.
    fn decode_all(&mut self, id: ConnId, count: usize) -> Option<io::Result<Decoded>> {
        let mut used = 0;
        loop {
            let mut link = self.lp.link(id)?;
            let decoded = match link.decode(&mut self.buffer[used..count]) {
                Ok(decoded) => decoded,
                Err(error) => return Some(Err(error)),
            };
            used += decoded.consumed;
            match decoded.stage {
                LayerStage::Finished(found) => {
                    if !self.finish_layer(id, found.map(|found| *found)) {
                        return None;
                    }
                }
                stage => return Some(Ok(Decoded { consumed: used, stage })),
            }
        }
    }

    /// The handshakes of a connection are done: it is open if its handler agrees.
    fn open_handshaken(&mut self, id: ConnId) {
        let Some(link) = self.lp.link(id) else { return };
        if link.connection.config.listener.is_some() {
            if !self.accept_handshaken(id) {
                return;
            }
        } else {
            link.connection.finish_layers(&mut link.engine.spares);
            self.open_connected(id);
            if let Some(link) = self.lp.link(id) {
                let (count, now) = (link.connection.input().len(), link.engine.now());
                if count > 0 {
                    link.connection.note_received(count, now);
                }
                link.connection.replay_input();
            }
        }
        if let Some(link) = self.lp.link(id) {
            // After a reset nothing is held back, not even if `on_open` paused reading.
            if link.connection.flags.has(Flags::ERROR) {
                link.connection.replay_input();
            }
        }
        self.replay(id);
    }

    /// The socket of an outgoing connection is up: it is open, or its handshake begins.
    pub(super) fn come_up(&mut self, id: ConnId) {
        let Some(mut link) = self.lp.link(id) else { return };
        let config = Rc::clone(&link.connection.config);
        let Some(factory) = config.layers.first() else { return self.open_connected(id) };
        match factory.layer(link.connection.peer()) {
            Ok(layer) => {
                link.begin_layers(layer);
                link.connection.flags.set(Flags::READABLE);
            }
            Err(text) => {
                let error = io::Error::new(io::ErrorKind::InvalidInput, text.into_owned());
                link.mark_closed(CloseReason::Io(error));
            }
        }
    }
}
