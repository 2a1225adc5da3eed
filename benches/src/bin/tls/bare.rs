//! Loops of mio and rustls with nothing else in them.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError};

use crate::sides::Stop;
use crate::{Result, config};

const READ_BYTES: usize = 64 << 10;

/// One way to drive rustls.
pub(crate) trait Way: Sized {
    fn new(config: Arc<ServerConfig>) -> Result<Self>;

    /// Works on bytes that have come, and echoes what is in them: what is to be sent.
    fn work(&mut self, input: &mut [u8], output: &mut Vec<u8>) -> Result<()>;
}

/// With buffers of rustls.
pub(crate) struct Buffered {
    connection: rustls::ServerConnection,
}

impl Way for Buffered {
    fn new(config: Arc<ServerConfig>) -> Result<Self> {
        Ok(Self { connection: rustls::ServerConnection::new(config)? })
    }

    fn work(&mut self, input: &mut [u8], output: &mut Vec<u8>) -> Result<()> {
        let mut left = &*input;
        let mut plain = [0; READ_BYTES];
        while !left.is_empty() {
            self.connection.read_tls(&mut left)?;
            self.connection.process_new_packets()?;
            match self.connection.reader().read(&mut plain) {
                Ok(count) => self.connection.writer().write_all(&plain[..count])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        while self.connection.wants_write() {
            self.connection.write_tls(output)?;
        }
        Ok(())
    }
}

/// With the bytes where they are.
pub(crate) struct Unbuffered {
    connection: UnbufferedServerConnection,
    /// What is left of the last read.
    left: Vec<u8>,
    plain: Vec<u8>,
}

impl Way for Unbuffered {
    fn new(config: Arc<ServerConfig>) -> Result<Self> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self { connection, left: Vec::new(), plain: Vec::new() })
    }

    fn work(&mut self, input: &mut [u8], output: &mut Vec<u8>) -> Result<()> {
        let mut joined = Vec::new();
        let input = match self.left.is_empty() {
            true => input,
            false => {
                joined.append(&mut self.left);
                joined.extend_from_slice(input);
                &mut joined
            }
        };
        let mut used = 0;
        loop {
            let status = self.connection.process_tls_records(&mut input[used..]);
            used += status.discard;
            match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        self.plain.extend_from_slice(record.payload);
                        used += record.discard;
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => fill(output, 0, |room| {
                    data.encode(room).map_err(|error| match error {
                        EncodeError::InsufficientSize(size) => size.required_size,
                        EncodeError::AlreadyEncoded => 0,
                    })
                }),
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(mut traffic) if !self.plain.is_empty() => {
                    fill(output, self.plain.len() + 256, |room| {
                        traffic.encrypt(&self.plain, room).map_err(|error| match error {
                            EncryptError::InsufficientSize(size) => size.required_size,
                            EncryptError::EncryptExhausted => 0,
                        })
                    });
                    self.plain.clear();
                }
                _ => break,
            }
        }
        self.left.extend_from_slice(&input[used..]);
        Ok(())
    }
}

/// Has bytes written to the end of the output; the error says how much room they want.
fn fill(
    output: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> std::result::Result<usize, usize>,
) {
    let start = output.len();
    loop {
        output.resize(start + room, 0);
        match write(&mut output[start..]) {
            Ok(count) => return output.truncate(start + count),
            Err(wanted) => room = wanted,
        }
    }
}

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Serves until it is woken.
pub(crate) fn serve<W: Way>(listening: Sender<(SocketAddr, Stop)>) -> Result<()> {
    let config = Arc::new(config::server()?);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1_024);
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    // One handle stays here: with the last the poll would forget that it was woken.
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let other = Arc::clone(&waker);
    listening.send((listener.local_addr()?, Box::new(move || _ = other.wake())))?;
    let mut connections: Vec<Option<(TcpStream, W)>> = Vec::new();
    let (mut input, mut output) = (vec![0; READ_BYTES], Vec::new());
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                WAKER => return Ok(()),
                LISTENER => {
                    while let Ok((mut stream, _)) = listener.accept() {
                        stream.set_nodelay(true)?;
                        let token = Token(connections.len());
                        let both = Interest::READABLE | Interest::WRITABLE;
                        poll.registry().register(&mut stream, token, both)?;
                        connections.push(Some((stream, W::new(Arc::clone(&config))?)));
                    }
                }
                token if event.is_readable() => {
                    let Some(place) = connections.get_mut(token.0) else { continue };
                    if !talk(place, &mut input, &mut output)? {
                        *place = None;
                    }
                }
                _ => {}
            }
        }
    }
}

/// One read, the work, one write; whether the connection lives.
fn talk<W: Way>(
    place: &mut Option<(TcpStream, W)>,
    input: &mut [u8],
    output: &mut Vec<u8>,
) -> Result<bool> {
    let Some((stream, way)) = place else { return Ok(true) };
    let count = match stream.read(input) {
        Ok(0) => return Ok(false),
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
        Err(_) => return Ok(false),
    };
    output.clear();
    if way.work(&mut input[..count], output).is_err() {
        return Ok(false);
    }
    // The messages of this comparison always fit into the socket.
    Ok(output.is_empty() || stream.write_all(output).is_ok())
}
