//! rustls as a layer: records in, plaintext out, and the other way round.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError};
use rustls::{ClientConfig, CommonState, ServerConfig};

use crate::base::buffer::Scratch;
use crate::options::{Decoded, Layer, LayerStage};
use crate::tls::error::{explain, explain_beginning};

/// A connection of rustls that keeps no bytes of its own: records are decrypted where they were
/// read, so that an idle connection holds no buffer.
pub(super) struct TlsLayer {
    side: Side,
    /// The name that a client asked for, or that a server was asked by.
    pub(super) name: Option<Box<str>>,
}

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

thread_local! {
    /// The name in the hello that is being worked on: rustls shows it to who chooses the
    /// certificate, and keeps it to itself after that.
    static NAME_IN_HELLO: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// A certificate is being chosen for a client that asks for this name.
pub(super) fn note_name(name: Option<&str>) {
    NAME_IN_HELLO.set(name.map(Into::into));
}

/// Bytes that encryption adds to what is encoded at once, at the most: each record of 16 KiB has a
/// header, a nonce or a type, and a tag, 29 bytes in all, and a key update may stand before them.
const OVERHEAD_BYTES: usize = 256;

/// Has either side do something; both have the same methods, on types that have nothing in common.
macro_rules! either {
    ($side:expr, $connection:ident => $run:expr) => {
        match $side {
            Side::Server($connection) => $run,
            Side::Client($connection) => $run,
        }
    };
}

/// What rustls has made of room that it was given.
enum Filled {
    Bytes(usize),
    /// rustls wants so much.
    TooSmall(usize),
    Failed(io::Error),
}

impl From<Result<usize, EncodeError>> for Filled {
    fn from(result: Result<usize, EncodeError>) -> Self {
        match result {
            Ok(count) => Self::Bytes(count),
            Err(EncodeError::InsufficientSize(size)) => Self::TooSmall(size.required_size),
            Err(EncodeError::AlreadyEncoded) => Self::Bytes(0),
        }
    }
}

impl From<Result<usize, EncryptError>> for Filled {
    fn from(result: Result<usize, EncryptError>) -> Self {
        match result {
            Ok(count) => Self::Bytes(count),
            Err(EncryptError::InsufficientSize(size)) => Self::TooSmall(size.required_size),
            Err(EncryptError::EncryptExhausted) => {
                Self::Failed(io::Error::other("the keys of the connection are used up"))
            }
        }
    }
}

/// Has bytes written to the end of `output`, where `room` of them should suffice.
fn fill(
    output: &mut Scratch,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Filled,
) -> io::Result<()> {
    loop {
        match write(output.room(room)) {
            Filled::Bytes(count) => {
                output.add(count);
                return Ok(());
            }
            Filled::TooSmall(wanted) if wanted > room => room = wanted,
            Filled::TooSmall(_) => return Err(io::Error::other("TLS wants more room")),
            Filled::Failed(error) => return Err(error),
        }
    }
}

/// What is to be written.
#[derive(Clone, Copy)]
enum Write<'a> {
    Plain(&'a [u8]),
    /// `close_notify`.
    End,
}

/// How far a connection has come with its input.
enum Step {
    GoOn,
    Waits,
    Ended,
}

impl TlsLayer {
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self { side: Side::Server(Box::new(connection)), name: None })
    }

    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        let text = name.to_str().into();
        let connection = UnbufferedClientConnection::new(config, name)?;
        Ok(Self { side: Side::Client(Box::new(connection)), name: Some(text) })
    }

    /// What the handshake has found out.
    pub(super) fn state(&self) -> &CommonState {
        either!(&self.side, connection => connection)
    }

    /// Works on `input` until nothing can be done without more of it.
    fn advance(
        &mut self,
        input: &mut [u8],
        consumed: &mut usize,
        plain: &mut Vec<u8>,
        reply: &mut Scratch,
    ) -> io::Result<LayerStage> {
        loop {
            let step = either!(&mut self.side, connection => {
                let status = connection.process_tls_records(&mut input[*consumed..]);
                *consumed += status.discard;
                match status.state.map_err(explain)? {
                    ConnectionState::ReadTraffic(mut traffic) => {
                        while let Some(record) = traffic.next_record() {
                            let record = record.map_err(explain)?;
                            plain.extend_from_slice(record.payload);
                            *consumed += record.discard;
                        }
                        // Nothing is left to look at, unless an answer is to be said.
                        match *consumed == input.len() && !connection.wants_write() {
                            true => Step::Waits,
                            false => Step::GoOn,
                        }
                    }
                    ConnectionState::EncodeTlsData(mut data) => {
                        fill(reply, 0, |room| data.encode(room).into())?;
                        Step::GoOn
                    }
                    ConnectionState::TransmitTlsData(data) => {
                        data.done();
                        Step::GoOn
                    }
                    ConnectionState::PeerClosed | ConnectionState::Closed => Step::Ended,
                    // Early data is never accepted: it could be replayed.
                    _ => Step::Waits,
                }
            });
            return Ok(match step {
                Step::GoOn => continue,
                Step::Ended => LayerStage::Ended,
                Step::Waits if self.state().is_handshaking() => LayerStage::Handshake,
                Step::Waits => LayerStage::Open,
            });
        }
    }

    /// What rustls has to say of an error goes to the peer. `input` is what it has not consumed.
    fn add_alert(&mut self, input: &mut [u8], reply: &mut Scratch) {
        // What waits to be sent comes before any input, which it must not see again.
        while self.state().wants_write() {
            either!(&mut self.side, connection => {
                match connection.process_tls_records(input).state {
                    Ok(ConnectionState::EncodeTlsData(mut data)) => {
                        let _ = fill(reply, 0, |room| data.encode(room).into());
                    }
                    _ => return,
                }
            });
        }
    }

    fn write(
        &mut self,
        what: Write<'_>,
        undecoded: &mut [u8],
        output: &mut Scratch,
    ) -> io::Result<()> {
        let room = match what {
            Write::Plain(plain) => plain.len() + OVERHEAD_BYTES,
            Write::End => OVERHEAD_BYTES,
        };
        loop {
            either!(&mut self.side, connection => {
                // Nothing of what is left can be consumed; but half of a message may be in it,
                // whose place rustls has noted.
                match connection.process_tls_records(undecoded).state.map_err(explain)? {
                    ConnectionState::WriteTraffic(mut traffic) => {
                        return fill(output, room, |room| match what {
                            Write::Plain(plain) => traffic.encrypt(plain, room).into(),
                            Write::End => traffic.queue_close_notify(room).into(),
                        });
                    }
                    ConnectionState::EncodeTlsData(mut data) => {
                        fill(output, 0, |room| data.encode(room).into())?;
                    }
                    ConnectionState::TransmitTlsData(data) => data.done(),
                    ConnectionState::PeerClosed => {} // told by `decode`
                    _ => return Err(io::Error::other("TLS takes no plaintext any more")),
                }
            });
        }
    }
}

impl fmt::Debug for TlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsLayer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Layer for TlsLayer {
    fn begin(&mut self, reply: &mut Scratch) {
        // A client has its hello to say. What can go wrong here is said again when bytes come.
        let _ = self.advance(&mut [], &mut 0, &mut Vec::new(), reply);
    }

    fn decode(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Scratch,
    ) -> io::Result<Decoded> {
        let mut consumed = 0;
        let is_handshake = self.state().is_handshaking();
        if is_handshake {
            NAME_IN_HELLO.take(); // of a hello whose certificate could not be chosen, by a panic
        }
        let result = self.advance(input, &mut consumed, plain, reply);
        if is_handshake {
            if let Some(name) = NAME_IN_HELLO.take() {
                self.name = Some(name);
            }
        }
        match result {
            Ok(stage) => Ok(Decoded { consumed, stage }),
            Err(error) => {
                let is_beginning = self.state().is_handshaking() && consumed == 0;
                let error = if is_beginning { explain_beginning(error, input) } else { error };
                self.add_alert(&mut input[consumed..], reply);
                Err(error)
            }
        }
    }

    fn encode(
        &mut self,
        plain: &[u8],
        undecoded: &mut [u8],
        output: &mut Scratch,
    ) -> io::Result<()> {
        self.write(Write::Plain(plain), undecoded, output)
    }

    fn encode_end(&mut self, undecoded: &mut [u8], output: &mut Scratch) {
        // Keys that are used up cannot say it: then the peer sees a truncation.
        let _ = self.write(Write::End, undecoded, output);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
