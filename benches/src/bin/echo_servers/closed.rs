//! Load from connections that stay, each with a fixed number of messages under way.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::burst::{Burst, Load};
use crate::noise::{MAX_PIECE_BYTES, Noise};
use crate::servers::may_have_more;
use crate::workload::ClosedShape;

pub(crate) struct Closed<'a> {
    shape: ClosedShape,
    noise: &'a Noise,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
    /// Messages asked for on all connections and not yet back.
    under_way: usize,
}

impl<'a> Closed<'a> {
    /// Connects, one after another.
    pub(crate) fn new(
        addr: SocketAddr,
        shape: ClosedShape,
        noise: &'a Noise,
        registry: Registry,
    ) -> io::Result<Self> {
        let clients = (0..shape.connections)
            .map(|index| Client::connect(addr, index, &registry))
            .collect::<io::Result<_>>()?;
        let buffer = vec![0; MAX_PIECE_BYTES].into_boxed_slice();
        Ok(Self { shape, noise, clients, buffer, under_way: 0 })
    }
}

impl Load for Closed<'_> {
    fn begin(&mut self) -> io::Result<()> {
        for client in &mut self.clients {
            client.ask(self.shape.depth, self.shape.message_bytes);
            client.send(self.noise)?;
            self.under_way += self.shape.depth;
        }
        Ok(())
    }

    fn step(&mut self, index: usize, goes_on: bool, burst: &mut Burst) -> io::Result<()> {
        let client = &mut self.clients[index];
        let before = client.received;
        client.receive(self.noise, &mut self.buffer)?;
        let size = self.shape.message_bytes as u64;
        let done = (client.received / size - before / size) as usize;
        if done > 0 {
            client.record(done, burst);
            self.under_way -= done;
            if goes_on {
                client.ask(done, self.shape.message_bytes);
                self.under_way += done;
            }
        }
        client.send(self.noise)
    }

    fn under_way(&self) -> usize {
        self.under_way
    }
}

/// One connection. Positions are bytes since it began.
///
/// Invariant: `received` <= `sent` <= `asked`.
struct Client {
    stream: TcpStream,
    /// Its noise.
    number: u64,
    /// Where the messages end that were begun.
    asked: u64,
    sent: u64,
    received: u64,
    /// Messages that are not back: when they were begun, and how many at that time.
    waiting: VecDeque<(Instant, usize)>,
}

impl Client {
    fn connect(addr: SocketAddr, index: usize, registry: &Registry) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(index), both)?;
        let waiting = VecDeque::new();
        Ok(Self { stream, number: index as u64, asked: 0, sent: 0, received: 0, waiting })
    }

    /// Begins messages, which `send` sends.
    fn ask(&mut self, messages: usize, message_bytes: usize) {
        self.asked += (messages * message_bytes) as u64;
        self.waiting.push_back((Instant::now(), messages));
    }

    /// Sends what was asked for, as far as the socket takes it. An edge tells when it takes more.
    fn send(&mut self, noise: &Noise) -> io::Result<()> {
        while self.sent < self.asked {
            let piece = noise.piece(self.number, self.sent, self.asked - self.sent);
            match self.stream.write(piece) {
                Ok(written) => self.sent += written as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes and checks what has come.
    fn receive(&mut self, noise: &Noise, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    noise.check(self.number, self.received, &buffer[..count])?;
                    self.received += count as u64;
                    if self.received > self.sent {
                        let text = "more has come back than was sent";
                        return Err(io::Error::new(ErrorKind::InvalidData, text));
                    }
                    if !may_have_more(count, buffer.len()) {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next `messages` are back.
    fn record(&mut self, mut messages: usize, burst: &mut Burst) {
        let now = Instant::now();
        while messages > 0 {
            let (began, waiting) = self.waiting.front_mut().expect("what is back was asked for");
            let count = messages.min(*waiting);
            burst.record(now - *began, count as u64);
            messages -= count;
            *waiting -= count;
            if *waiting == 0 {
                self.waiting.pop_front();
            }
        }
    }
}
