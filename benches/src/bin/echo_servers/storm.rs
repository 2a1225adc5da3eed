//! Load from connections that come, have one message echoed, and go.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::burst::{Burst, Load};
use crate::noise::Noise;
use crate::workload::StormShape;

/// A message is no longer, so that one read has room for it and for a byte too many.
const BUFFER_BYTES: usize = 1024;

pub(crate) struct Storm<'a> {
    addr: SocketAddr,
    shape: StormShape,
    noise: &'a Noise,
    registry: Registry,
    /// By place; `None` where no connection is.
    visits: Vec<Option<Visit>>,
    /// Connections begun, ever; numbers their noise.
    begun: u64,
    under_way: usize,
}

impl<'a> Storm<'a> {
    pub(crate) fn new(
        addr: SocketAddr,
        shape: StormShape,
        noise: &'a Noise,
        registry: Registry,
    ) -> Self {
        assert!(shape.message_bytes < BUFFER_BYTES);
        let visits = (0..shape.in_flight).map(|_| None).collect();
        Self { addr, shape, noise, registry, visits, begun: 0, under_way: 0 }
    }

    /// Begins a connection in a place, and sends at once if it is up, as it mostly is over
    /// loopback: that saves an event.
    fn visit(&mut self, place: usize) -> io::Result<()> {
        let began = Instant::now();
        let mut stream = TcpStream::connect(self.addr)?;
        // The close then is a reset, which leaves no port in TIME_WAIT: there are only some
        // 28,000, and a storm would use them up in seconds.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        let message = self.noise.piece(self.begun, 0, self.shape.message_bytes as u64);
        let has_sent = send(&mut stream, message)?;
        let interest = match has_sent {
            true => Interest::READABLE,
            false => Interest::READABLE | Interest::WRITABLE,
        };
        self.registry.register(&mut stream, Token(place), interest)?;
        let number = self.begun;
        self.visits[place] = Some(Visit { stream, number, began, has_sent, received: 0 });
        self.begun += 1;
        self.under_way += 1;
        Ok(())
    }
}

impl Load for Storm<'_> {
    fn begin(&mut self) -> io::Result<()> {
        (0..self.visits.len()).try_for_each(|place| self.visit(place))
    }

    fn step(&mut self, place: usize, goes_on: bool, burst: &mut Burst) -> io::Result<()> {
        let Some(visit) = &mut self.visits[place] else {
            return Ok(());
        };
        if !visit.go_on(self.noise, self.shape.message_bytes)? {
            return Ok(());
        }
        burst.record(visit.began.elapsed(), 1);
        self.visits[place] = None;
        self.under_way -= 1;
        if goes_on { self.visit(place) } else { Ok(()) }
    }

    fn under_way(&self) -> usize {
        self.under_way
    }
}

/// One connection.
struct Visit {
    stream: TcpStream,
    /// Its noise.
    number: u64,
    began: Instant,
    has_sent: bool,
    /// Bytes that are back.
    received: usize,
}

impl Visit {
    /// Does what the socket lets it. Whether the whole message is back.
    fn go_on(&mut self, noise: &Noise, message_bytes: usize) -> io::Result<bool> {
        if !self.has_sent {
            let message = noise.piece(self.number, 0, message_bytes as u64);
            self.has_sent = send(&mut self.stream, message)?;
        }
        let mut buffer = [0; BUFFER_BYTES];
        while self.has_sent && self.received < message_bytes {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    noise.check(self.number, self.received as u64, &buffer[..count])?;
                    self.received += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.received > message_bytes {
            let text = "more has come back than was sent";
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        Ok(self.received == message_bytes)
    }
}

/// Sends a message whole, or not at all while the connection is not up.
fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<bool> {
    match stream.write(message) {
        Ok(count) if count == message.len() => Ok(true),
        Ok(_) => Err(io::Error::new(ErrorKind::WriteZero, "a new socket takes no whole message")),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::NotConnected => Ok(false),
            _ => Err(error),
        },
    }
}
