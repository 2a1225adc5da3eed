//! What stands between a connection's socket and its handler, and the bytes that wait there.
//!
//! ```text
//!  socket ──> undecoded ──layer──> input ──> handler
//!  socket <── encoded <──layer── output, files <── handler
//!                └── the layer's own
//! ```
//! Output stays plaintext until the socket takes more: then at most 65 KiB of it are encoded. So
//! its order, the caps and the files are those of any connection.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};

use crate::base::buffer::{Queue, Spares};
use crate::options::{Decoded, Layer, LayerStage};
use crate::stream::connection::{Connection, Flags, Phase, Watch, WriteSide};

/// What stands between the socket and the handler.
#[derive(Debug)]
pub(super) struct Layers {
    /// The layer whose turn it is; `None` once the last has removed itself.
    pub(super) current: Option<Box<dyn Layer>>,
    /// The place of the current layer in the configuration.
    place: usize,
    /// Bytes from the socket that the layer has not consumed.
    pub(super) undecoded: Queue,
    /// Bytes for the socket.
    pub(super) encoded: Queue,
    /// How much of what was written is among them, at the most, and how much of files.
    pub(super) encoded_plain: usize,
    pub(super) encoded_file: usize,
    /// The handshake is done: plaintext may be encoded.
    pub(super) is_open: bool,
    /// No plaintext follows from this side.
    pub(super) has_said_end: bool,
    /// The layer has failed, and said so to the peer.
    has_last_words: bool,
    /// Why the layer has failed, until the peer has had its time to read that.
    failure: Option<io::Error>,
    /// How the peer's side stands.
    peer_end: PeerEnd,
    /// Who holds a slot for its handshake.
    source: IpAddr,
    /// The other end of the socket, and where it says that its client connected to, if it speaks
    /// for one.
    proxied: Option<(SocketAddr, Option<SocketAddr>)>,
}

/// How the peer has ended what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerEnd {
    /// The peer has not ended its stream.
    None,
    /// The peer has ended its stream, and the handler does not know yet.
    Unreported,
    /// The peer has ended its stream.
    Reported,
    /// The socket has ended without a word of the layer's peer.
    Truncated,
}

impl Layers {
    /// What the layer has written waits for the socket, or the rest of it.
    pub(super) fn keep_encoded(&mut self, spares: &mut Spares) {
        if spares.scratch.as_slice().is_empty() {
            return;
        }
        let mut scratch = mem::take(&mut spares.scratch);
        self.encoded.push(scratch.as_slice(), spares);
        scratch.clear();
        spares.scratch = scratch;
    }

    /// The socket has taken bytes, or they are dropped: no more of what was written is left than
    /// bytes are, whatever the layer adds to them.
    pub(super) fn note_sent(&mut self) {
        self.encoded_plain = self.encoded_plain.min(self.encoded.len());
        self.encoded_file = self.encoded_file.min(self.encoded.len() - self.encoded_plain);
    }
}

impl<S> Connection<S> {
    pub(super) fn layers(&self) -> Option<&Layers> {
        self.cold.as_ref()?.layers.as_deref()
    }

    pub(super) fn layers_mut(&mut self) -> Option<&mut Layers> {
        self.cold.as_mut()?.layers.as_deref_mut()
    }

    /// Puts the first layer in front of the socket.
    pub(crate) fn set_layer(&mut self, layer: Box<dyn Layer>, source: IpAddr) {
        self.flags.set(Flags::LAYERED);
        self.cold_mut().layers = Some(Box::new(Layers {
            current: Some(layer),
            place: 0,
            undecoded: Queue::default(),
            encoded: Queue::default(),
            encoded_plain: 0,
            encoded_file: 0,
            is_open: false,
            has_said_end: false,
            has_last_words: false,
            failure: None,
            peer_end: PeerEnd::None,
            source,
            proxied: None,
        }));
    }

    /// Has the layer say what it says first.
    pub(crate) fn begin_layer(&mut self, spares: &mut Spares) {
        let Some(layers) = self.layers_mut() else { return };
        if let Some(layer) = &mut layers.current {
            spares.scratch.clear();
            layer.begin(&mut spares.scratch);
            layers.keep_encoded(spares);
        }
        self.note_output();
    }

    /// The layer is done: the next one, or none, takes its place.
    pub(crate) fn replace_layer(&mut self, next: Option<Box<dyn Layer>>) {
        if let Some(layers) = self.layers_mut() {
            layers.current = next;
            layers.place += 1;
        }
    }

    /// The place of the current layer in the configuration.
    pub(crate) fn layer_place(&self) -> usize {
        self.layers().map_or(0, |layers| layers.place)
    }

    /// The layer that stays, for those who know its type.
    #[cfg(feature = "tls")]
    pub(crate) fn layer(&self) -> Option<&dyn Layer> {
        self.layers()?.current.as_deref()
    }

    /// Who holds a slot for its handshake.
    pub(crate) fn handshake_source(&self) -> Option<IpAddr> {
        Some(self.layers()?.source)
    }

    pub(crate) fn set_handshake_source(&mut self, source: IpAddr) {
        if let Some(layers) = self.layers_mut() {
            layers.source = source;
        }
    }

    /// The socket's own peer and the destination that it names, if the socket speaks for a client.
    pub(crate) fn proxied(&self) -> Option<(SocketAddr, Option<SocketAddr>)> {
        self.layers()?.proxied
    }

    pub(crate) fn set_proxied(&mut self, socket: SocketAddr, destination: Option<SocketAddr>) {
        if let Some(layers) = self.layers_mut() {
            layers.proxied = Some((socket, destination));
        }
    }

    /// The handshakes are done. If no layer has stayed, the connection is one like any other.
    pub(crate) fn finish_layers(&mut self, spares: &mut Spares) {
        let Some(layers) = self.layers_mut() else { return };
        layers.is_open = true;
        if layers.current.is_none() {
            // What the layers had to say stands before what the handler has written meanwhile.
            let encoded = self.drop_layers();
            spares.note_queued(encoded.len());
            let mut written = mem::replace(&mut self.output, encoded);
            self.output.push(written.as_slice(), spares);
            written.clear(spares);
            self.note_output();
        }
    }

    /// The socket goes, and another will take its place. What the handler has written stays; what
    /// the peer had sent behind its handshake goes.
    pub(crate) fn replace_socket(&mut self, stream: S, spares: &mut Spares) {
        self.drop_layers().clear(spares);
        self.clear_input(spares);
        (self.stream, self.watch) = (stream, Watch::Nothing);
        let of_input = Flags::READABLE | Flags::URGENT | Flags::READ_CLOSED;
        let of_output = Flags::BLOCKED | Flags::ASKS_WRITABLE;
        self.flags.clear(of_input | of_output | Flags::HUNG_UP | Flags::ERROR);
        self.enter(Phase::Connecting);
        self.note_output();
    }

    /// Takes the layers away; what they had for the socket.
    pub(crate) fn drop_layers(&mut self) -> Queue {
        self.flags.clear(Flags::LAYERED);
        let layers = self.cold.as_mut().and_then(|cold| cold.layers.take());
        layers.map_or_else(Queue::default, |layers| layers.encoded)
    }

    // From the socket.

    /// Copies what the layer has left to the front of the buffer; how much it is.
    pub(crate) fn lend_undecoded(&self, buffer: &mut [u8]) -> usize {
        let Some(layers) = self.layers() else { return 0 };
        if layers.undecoded.is_empty() {
            return 0; // as a rule: a copy of nothing is a call too
        }
        let bytes = layers.undecoded.as_slice();
        buffer[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    }

    /// Whether the layer has left something: a part of a record.
    pub(crate) fn has_undecoded(&self) -> bool {
        self.flags.has(Flags::LAYERED)
            && self.layers().is_some_and(|layers| !layers.undecoded.is_empty())
    }

    /// Drops what the layer has left, once it has said its end. Before that it may have noted
    /// places in it, and says more.
    pub(crate) fn drop_undecoded(&mut self, spares: &mut Spares) {
        if let Some(layers) = self.layers_mut() {
            if layers.has_said_end {
                layers.undecoded.clear(spares);
            }
        }
    }

    /// Has the layer work on bytes, which begin with what it has left before. What it leaves now is
    /// kept, plaintext is among the spares, for the handler or for
    /// [`keep_plain`](Self::keep_plain), and what the peer must be told waits for the socket.
    pub(crate) fn decode(&mut self, bytes: &mut [u8], spares: &mut Spares) -> io::Result<Decoded> {
        let all = Decoded { consumed: bytes.len(), stage: LayerStage::Open };
        spares.plain.clear();
        let Some(layers) = self.cold.as_mut().and_then(|cold| cold.layers.as_deref_mut()) else {
            spares.plain.extend_from_slice(bytes);
            return Ok(all);
        };
        let Some(layer) = &mut layers.current else {
            spares.plain.extend_from_slice(bytes);
            return Ok(all);
        };
        spares.plain.reserve_exact(bytes.len());
        spares.scratch.clear();
        let mut decoded = layer.decode(bytes, &mut spares.plain, &mut spares.scratch);
        if layers.has_said_end {
            spares.scratch.clear(); // nothing follows the end
        }
        let is_said = !spares.scratch.as_slice().is_empty();
        layers.has_last_words = decoded.is_err() && is_said;
        layers.keep_encoded(spares);
        layers.undecoded.clear(spares);
        if let Ok(Decoded { consumed, stage: LayerStage::Ended }) = &mut decoded {
            layers.peer_end = PeerEnd::Unreported;
            *consumed = bytes.len(); // nothing counts that follows it
        }
        if let Ok(Decoded { consumed, .. }) = decoded {
            layers.undecoded.push(&bytes[consumed..], spares);
        }
        if is_said {
            self.note_output();
        }
        decoded
    }

    /// Keeps what the layer has made of its bytes as input.
    pub(crate) fn keep_plain(&mut self, spares: &mut Spares) {
        let mut plain = mem::take(&mut spares.plain);
        self.keep_input(&plain, spares);
        plain.clear();
        spares.plain = plain;
    }

    /// Whether the peer has said its end and the handler is to be told.
    pub(crate) fn has_unreported_end(&self) -> bool {
        self.layers().is_some_and(|layers| layers.peer_end == PeerEnd::Unreported)
    }

    /// Whether the layer takes more bytes.
    pub(crate) fn can_decode(&self) -> bool {
        self.layers().is_some_and(|layers| layers.peer_end == PeerEnd::None)
    }

    /// The end has come: said by the peer, or by the socket alone.
    pub(crate) fn note_layer_end(&mut self) {
        if let Some(layers) = self.layers_mut() {
            layers.peer_end = match layers.peer_end {
                PeerEnd::None | PeerEnd::Truncated => PeerEnd::Truncated,
                PeerEnd::Unreported | PeerEnd::Reported => PeerEnd::Reported,
            };
        }
    }

    /// The end that the layer's peer has said counts as not told.
    pub(super) fn give_back_layer_end(&mut self) {
        if let Some(layers) = self.layers_mut() {
            if layers.peer_end == PeerEnd::Reported {
                layers.peer_end = PeerEnd::Unreported;
            }
        }
    }

    /// Whether the socket ended without a word of the layer's peer.
    pub(crate) fn is_truncated(&self) -> bool {
        self.layers().is_some_and(|layers| layers.peer_end == PeerEnd::Truncated)
    }

    // To the socket.

    /// Bytes for the socket that wait behind the layer.
    pub(crate) fn encoded_len(&self) -> usize {
        self.layers().map_or(0, |layers| layers.encoded.len())
    }

    /// Whether there is output that the socket may be given now.
    pub(crate) fn can_flush(&self) -> bool {
        let waits_for_layers = self.phase == Phase::Handshake && self.encoded_len() == 0;
        self.has_output() && !waits_for_layers
    }

    /// How much of what was written waits behind the layer, at the most, and how much of files.
    /// What the layer itself has to say does not count.
    pub(crate) fn encoded_output(&self) -> (usize, usize) {
        let Some(layers) = self.layers() else { return (0, 0) };
        let plain = layers.encoded_plain.min(layers.encoded.len());
        (plain, layers.encoded_file.min(layers.encoded.len() - plain))
    }

    /// Drops what waits behind the layer; how much output that was, at the most.
    pub(super) fn clear_encoded(&mut self, spares: &mut Spares) -> usize {
        let (plain, of_files) = self.encoded_output();
        if let Some(layers) = self.layers_mut() {
            layers.encoded.clear(spares);
            layers.note_sent();
        }
        plain + of_files
    }

    /// Has the layer say that no plaintext follows, unless it has, or its handshake is not done;
    /// whether there is something to send for it.
    pub(crate) fn encode_end(&mut self, spares: &mut Spares) -> bool {
        let Some(layers) = self.layers_mut() else { return false };
        if !layers.is_open || mem::replace(&mut layers.has_said_end, true) {
            return false;
        }
        if let Some(layer) = &mut layers.current {
            spares.scratch.clear();
            layer.encode_end(layers.undecoded.as_mut_slice(), &mut spares.scratch);
            layers.keep_encoded(spares);
        }
        self.note_output();
        self.has_output()
    }

    /// Whether nothing is to follow the output that is there.
    pub(crate) fn is_ending(&self) -> bool {
        match self.phase {
            Phase::Open => self.write_side() == WriteSide::FinQueued,
            phase => matches!(phase, Phase::Closing(_)),
        }
    }

    /// Whether the layer has failed and has told the peer why, and nothing of the handler's is lost
    /// by that.
    pub(crate) fn has_last_words(&self) -> bool {
        let is_all = self.output.is_empty() && !self.has_files();
        is_all && self.layers().is_some_and(|layers| layers.has_last_words)
    }

    /// The layer has failed: that is why the connection ends, whatever comes meanwhile.
    pub(crate) fn set_layer_failure(&mut self, error: io::Error) {
        if let Some(layers) = self.layers_mut() {
            layers.failure = Some(error);
        }
    }

    /// Whether the layer has failed, and its last words are all that is left to be sent.
    pub(crate) fn has_layer_failure(&self) -> bool {
        self.layers().is_some_and(|layers| layers.failure.is_some())
    }

    /// Why the layer has failed, if it has.
    pub(crate) fn take_layer_failure(&mut self) -> Option<io::Error> {
        self.layers_mut()?.failure.take()
    }

    /// Says no end: the layer has failed.
    pub(crate) fn forget_end(&mut self) {
        if let Some(layers) = self.layers_mut() {
            layers.has_said_end = true;
            layers.is_open = false;
        }
    }
}
