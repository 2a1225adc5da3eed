//! The echo on mio alone, written by hand: edges, one registration a connection, one read and one
//! write a message.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

use super::{BUFFER_BYTES, INHERITS_NODELAY, may_have_more};

/// Events taken from one poll: waterwheel's default, and tokio's.
const EVENTS: usize = 1024;

/// Connections have the tokens from 0 on.
const LISTENER: Token = Token(usize::MAX);

pub(crate) fn run(listener: std::net::TcpListener) -> io::Result<()> {
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(EVENTS);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut table = Table::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                table.accept(&listener, poll.registry())?;
                continue;
            }
            let is_ending = event.is_read_closed() || event.is_error();
            let index = event.token().0;
            if let Some(conn) = &mut table.conns[index]
                && (event.is_readable() || is_ending || !conn.rest.is_empty())
                && !conn.echo(&mut buffer, is_ending).unwrap_or(false)
            {
                table.remove(index);
            }
        }
    }
}

/// The connections, by token.
#[derive(Default)]
struct Table {
    conns: Vec<Option<Conn>>,
    /// Places without one.
    free: Vec<usize>,
}

impl Table {
    /// Takes all that wait.
    fn accept(&mut self, listener: &TcpListener, registry: &Registry) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(()),
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => continue,
                    _ => return Err(error),
                },
            };
            if !INHERITS_NODELAY {
                stream.set_nodelay(true)?;
            }
            let index = self.free.pop().unwrap_or(self.conns.len());
            if index == self.conns.len() {
                self.conns.push(None);
            }
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, Token(index), both)?;
            self.conns[index] = Some(Conn { stream, rest: Vec::new() });
        }
    }

    fn remove(&mut self, index: usize) {
        self.conns[index] = None;
        self.free.push(index);
    }
}

struct Conn {
    stream: TcpStream,
    /// What the socket would not take.
    rest: Vec<u8>,
}

impl Conn {
    /// Echoes until there is nothing to read or no room to write. Whether the connection lives.
    ///
    /// An edge comes once: when the peer is ending, reading goes on to the end.
    fn echo(&mut self, buffer: &mut [u8], is_ending: bool) -> io::Result<bool> {
        while self.flush()? {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let written = write(&mut self.stream, &buffer[..count])?;
            self.rest.extend_from_slice(&buffer[written..count]);
            if self.rest.is_empty() && !is_ending && !may_have_more(count, buffer.len()) {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Whether the rest has left.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.rest.is_empty() {
            let written = write(&mut self.stream, &self.rest)?;
            self.rest.drain(..written);
            if written == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How much the socket takes now.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
