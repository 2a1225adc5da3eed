//! A layer for tests, which behaves as TLS does and hides nothing: a handshake of several flights,
//! records that come in pieces, things that it says by itself, an end that can be missing.

use std::any::Any;
use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::buffer::Scratch;
use crate::base::stats::Stats;
use crate::options::{
    ConnectOptions, Decoded, Layer, LayerFactory, LayerOption, LayerStage, ListenOptions,
};

/// A layer that behaves as TLS does, for connections of a simulated world and for scripted peers.
///
/// A record is its kind, its length in two bytes, and its content, of which each byte is changed.
/// The client says hello; the server answers with two records, the client confirms, and the server
/// sends a ticket. After that come data, an end, and pings, which the layer answers by itself.
///
/// # Examples
/// A peer that goes through the handshake, says a word and ends in order:
/// ```
/// use std::time::Duration;
/// use waterwheel::{Conn, ListenOptions};
/// use waterwheel::sim::{Faults, Script, Simulation, TestLayer};
///
/// let mut sim = Simulation::new(1, Faults::none());
/// let (_, addr) = sim.host("server", |reactor| {
///     let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
///         conn.write(input);
///         input.len()
///     });
///     reactor.listen("0.0.0.0:7000", echo, TestLayer::new().listen(ListenOptions::default()))
/// })?;
/// let script = Script::new()
///     .send(TestLayer::hello())
///     .read(TestLayer::ANSWER_BYTES)
///     .send(TestLayer::confirmation())
///     .send(TestLayer::data(b"word"))
///     .send(TestLayer::end())
///     .read_to_end();
/// let peer = sim.peer(addr, script);
/// sim.run(Duration::from_secs(60));
/// assert_eq!(TestLayer::plain(&sim.received(peer)), (b"word".to_vec(), true));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TestLayer {
    timeout: Duration,
    is_costly: bool,
}

impl Default for TestLayer {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), is_costly: false }
    }
}

/// What a record is.
mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const ACCEPT: u8 = 2;
    pub(super) const CONFIRM: u8 = 3;
    pub(super) const TICKET: u8 = 4;
    pub(super) const DATA: u8 = 5;
    pub(super) const END: u8 = 6;
    pub(super) const PING: u8 = 7;
    pub(super) const PONG: u8 = 8;
    pub(super) const ALERT: u8 = 9;
}

/// Bytes in front of the content of a record.
const HEAD_BYTES: usize = 3;

/// Longest content of a record.
const MAX_CONTENT_BYTES: usize = 16 << 10;

/// Contents of the records of the handshake, in bytes.
const HELLO_BYTES: usize = 40;
const ACCEPT_BYTES: usize = 700;

/// What each byte of a content is changed by.
const KEY: u8 = 0x5a;

impl TestLayer {
    /// Bytes that a server answers a hello with.
    pub const ANSWER_BYTES: usize = 2 * HEAD_BYTES + HELLO_BYTES + ACCEPT_BYTES;

    /// A layer whose handshake may take 10 s and is cheap.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long a handshake may take on a listener.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets whether a step of the handshake counts as costly, so that few fit in a turn.
    #[must_use]
    pub fn costly(mut self, is_costly: bool) -> Self {
        self.is_costly = is_costly;
        self
    }

    /// Puts the layer in front of the connections of a listener, behind a balancer's header.
    #[must_use]
    pub fn listen(self, mut options: ListenOptions) -> ListenOptions {
        let factory = Factory { layer: self, is_server: true };
        options.layer = Some(LayerOption(Arc::new(factory)));
        options
    }

    /// Puts the layer in front of an outgoing connection.
    #[must_use]
    pub fn connect(self, mut options: ConnectOptions) -> ConnectOptions {
        let factory = Factory { layer: self, is_server: false };
        options.layer = Some(LayerOption(Arc::new(factory)));
        options
    }

    /// What a client says first.
    #[must_use]
    pub fn hello() -> Vec<u8> {
        record(kind::HELLO, &[0; HELLO_BYTES])
    }

    /// What a client says to the answer.
    #[must_use]
    pub fn confirmation() -> Vec<u8> {
        record(kind::CONFIRM, &[0; HELLO_BYTES])
    }

    /// Plaintext, in as many records as it takes.
    #[must_use]
    pub fn data(plain: &[u8]) -> Vec<u8> {
        plain.chunks(MAX_CONTENT_BYTES).flat_map(|piece| record(kind::DATA, piece)).collect()
    }

    /// What is said when no more plaintext follows.
    #[must_use]
    pub fn end() -> Vec<u8> {
        record(kind::END, &[])
    }

    /// What the other side answers by itself.
    #[must_use]
    pub fn ping() -> Vec<u8> {
        record(kind::PING, &[0; 4])
    }

    /// The plaintext of what a peer has received, as far as its records are whole, and whether its
    /// end was said.
    ///
    /// # Panics
    /// If a record stands behind the end.
    #[must_use]
    pub fn plain(received: &[u8]) -> (Vec<u8>, bool) {
        let (mut plain, mut at, mut has_ended) = (Vec::new(), 0, false);
        while let Some((kind, content)) = next(&received[at..]) {
            at += HEAD_BYTES + content.len();
            assert!(!has_ended, "a record behind the end");
            if kind == kind::DATA {
                plain.extend(content.iter().map(|byte| byte ^ KEY));
            }
            has_ended |= kind == kind::END;
        }
        (plain, has_ended)
    }
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    [kind, high, low].into_iter().chain(content.iter().map(|byte| byte ^ KEY)).collect()
}

fn push(output: &mut Scratch, kind: u8, content: &[u8]) {
    output.push(&record(kind, content));
}

/// The first record, if it is whole: its kind and its content.
fn next(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let &[kind, high, low] = bytes.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    Some((kind, bytes.get(HEAD_BYTES..HEAD_BYTES + length)?))
}

#[derive(Debug)]
struct Factory {
    layer: TestLayer,
    is_server: bool,
}

impl LayerFactory for Factory {
    fn layer(&self, _: SocketAddr) -> Result<Box<dyn Layer>, Cow<'static, str>> {
        let awaits = if self.is_server { kind::HELLO } else { kind::ACCEPT };
        Ok(Box::new(Records { is_server: self.is_server, awaits }))
    }

    fn timeout(&self) -> Duration {
        self.layer.timeout
    }

    fn demand(&self) -> &'static str {
        "the listener wants the layer of the tests"
    }

    fn failures<'a>(&self, stats: &'a mut Stats) -> &'a mut u64 {
        &mut stats.handshakes_failed
    }

    fn is_costly(&self) -> bool {
        self.layer.is_costly
    }
}

/// A side of a connection.
#[derive(Debug)]
struct Records {
    is_server: bool,
    /// The record that the handshake waits for; `DATA` once it is done, and `END` for nothing more.
    awaits: u8,
}

impl Records {
    /// Works on one record.
    fn take(
        &mut self,
        (kind, content): (u8, &[u8]),
        plain: &mut Vec<u8>,
        reply: &mut Scratch,
    ) -> io::Result<()> {
        match (self.awaits, kind) {
            (kind::HELLO, kind::HELLO) => {
                push(reply, kind::HELLO, &[0; HELLO_BYTES]);
                push(reply, kind::ACCEPT, &[0; ACCEPT_BYTES]);
                self.awaits = kind::CONFIRM;
            }
            (kind::ACCEPT, kind::HELLO) if !self.is_server => {}
            (kind::ACCEPT, kind::ACCEPT) => {
                push(reply, kind::CONFIRM, &[0; HELLO_BYTES]);
                self.awaits = kind::DATA;
            }
            (kind::CONFIRM, kind::CONFIRM) => {
                push(reply, kind::TICKET, &[0; HELLO_BYTES]);
                self.awaits = kind::DATA;
            }
            (kind::DATA, kind::DATA) => plain.extend(content.iter().map(|byte| byte ^ KEY)),
            (kind::DATA, kind::PING) => push(reply, kind::PONG, content),
            (kind::DATA, kind::PONG | kind::TICKET) => {}
            (kind::DATA, kind::END) => self.awaits = kind::END,
            (_, kind) => return Err(refused(kind, reply)),
        }
        Ok(())
    }
}

/// A record that has no place here, and an alert about it.
fn refused(kind: u8, reply: &mut Scratch) -> io::Error {
    if kind != kind::ALERT {
        push(reply, kind::ALERT, &[kind]);
    }
    let text = format!("a record of kind {kind} that is not expected");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl Layer for Records {
    fn begin(&mut self, reply: &mut Scratch) {
        if !self.is_server {
            push(reply, kind::HELLO, &[0; HELLO_BYTES]);
        }
    }

    fn decode(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Scratch,
    ) -> io::Result<Decoded> {
        let mut consumed = 0;
        if !matches!(input.first(), None | Some(kind::HELLO..=kind::ALERT)) {
            return Err(refused(input[0], reply)); // whatever length it claims
        }
        while self.awaits != kind::END {
            let Some((kind, content)) = next(&input[consumed..]) else { break };
            if content.len() > MAX_CONTENT_BYTES {
                return Err(refused(kind, reply));
            }
            self.take((kind, content), plain, reply)?;
            consumed += HEAD_BYTES + content.len();
        }
        let stage = match self.awaits {
            kind::DATA => LayerStage::Open,
            kind::END => LayerStage::Ended,
            _ => LayerStage::Handshake,
        };
        Ok(Decoded { consumed, stage })
    }

    fn encode(&mut self, plain: &[u8], _: &mut [u8], output: &mut Scratch) -> io::Result<()> {
        for piece in plain.chunks(MAX_CONTENT_BYTES) {
            push(output, kind::DATA, piece);
        }
        Ok(())
    }

    fn encode_end(&mut self, _: &mut [u8], output: &mut Scratch) {
        push(output, kind::END, &[]);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
