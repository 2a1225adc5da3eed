//! The clients of one case: a few that stay, one of them a slow reader, many that come and go,
//! and some that see the drain. Each knows its own bytes, so that it can tell whether an echo is
//! right.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::chance::stream_bytes;
use crate::peers::{Way, connect};

/// Longest wait for anything that should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long nothing moves before a client whose edge may be lost makes another.
const NUDGE_AFTER: Duration = Duration::from_millis(40);

/// When an end that may be hidden is taken for hidden.
const HIDDEN_AFTER: Duration = Duration::from_millis(300);

/// Clients that stay while the others come and go.
const STAYING: usize = 6;
/// Rounds that they echo.
const ROUNDS: usize = 6;
/// Clients that come and go: with those that stay, enough for the 25th occurrence of every call
/// that is made for each connection.
const PASSING: usize = 20;
/// Bytes of the slow reader: several reads, and more than its window takes at once.
const SLOW_BYTES: usize = 300 << 10;
/// The same where edges may be lost: so few that they are sent whatever the server does, for a
/// client that cannot send cannot make a new edge either.
const SLOW_BYTES_NUDGED: usize = 40 << 10;
/// How long the slow reader reads nothing.
const SLOWNESS: Duration = Duration::from_millis(5);
/// Bytes of an ordinary message.
const BYTES: usize = 700;

/// What a case allows for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The injection takes an edge away; clients do something more when nothing moves.
    pub(crate) nudges: bool,
    /// The injection keeps a descriptor open: the end of one connection may not be seen.
    pub(crate) hides_ends: bool,
    /// Clients that are connected when the server is asked to end.
    pub(crate) held: usize,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The ports of clients whose connections ended early.
    pub(crate) ended: Vec<u16>,
    /// The ports of clients that saw no end although they had sent theirs.
    pub(crate) endless: Vec<u16>,
    /// The server takes no connections any more.
    pub(crate) is_gone: bool,
}

/// How an exchange failed.
pub(crate) enum Trouble {
    /// The server sent its end.
    Fin,
    /// The connection was cut.
    Reset,
    /// Anything that must never be.
    Wrong(String),
}

/// All clients, and what they saw.
pub(crate) struct Load {
    addr: SocketAddr,
    terms: Terms,
    pub(crate) seen: Seen,
}

/// One connection.
struct Client {
    stream: TcpStream,
    port: u16,
    /// Bytes sent so far, which the next ones depend on.
    sent: usize,
}

impl Load {
    pub(crate) fn new(addr: SocketAddr, terms: Terms) -> Self {
        Self { addr, terms, seen: Seen::default() }
    }

    /// Serving, up to where every client has left again.
    pub(crate) fn serve(&mut self) -> Result<(), String> {
        let mut staying = self.connect_all(STAYING);
        self.echo_slowly(&mut staying)?;
        for _ in 0..ROUNDS {
            self.echo(&mut staying)?;
        }
        for _ in 0..PASSING {
            let mut passing = self.connect_all(1);
            self.echo(&mut passing)?;
            self.leave(passing)?;
        }
        self.echo(&mut staying)?;
        self.leave(staying)
    }

    /// One more client, after all that has happened.
    pub(crate) fn serve_fresh(&mut self) -> Result<(), String> {
        let mut fresh = self.connect_all(1);
        self.echo(&mut fresh)?;
        self.leave(fresh)
    }

    /// Clients that see the drain: `terminate` asks for it, and each must see its end then.
    pub(crate) fn drain(&mut self, terminate: impl FnOnce()) -> Result<(), String> {
        let mut held = self.connect_all(self.terms.held);
        self.echo(&mut held)?;
        terminate();
        for mut client in held {
            let end = client.await_end(PATIENCE);
            self.note(client.port, end)?;
        }
        Ok(())
    }

    fn connect_all(&mut self, count: usize) -> Vec<Client> {
        let clients: Vec<_> = (0..count).map_while(|_| Client::connect(self.addr)).collect();
        self.seen.is_gone |= clients.len() < count;
        clients
    }

    /// One message each: all are sent, then all are read. Who has ended is there no more.
    fn echo(&mut self, clients: &mut Vec<Client>) -> Result<(), String> {
        let (terms, addr) = (self.terms, self.addr);
        let mut sent: Vec<_> = Vec::new();
        for mut client in clients.drain(..) {
            let message = client.message(BYTES);
            let result = client.send(&message);
            if self.note(client.port, result)? {
                sent.push((client, message));
            }
        }
        for (mut client, message) in sent {
            let result = client.expect(&message, terms.nudges.then_some(addr));
            if self.note(client.port, result)? {
                clients.push(client);
            }
        }
        Ok(())
    }

    /// The first client sends more than it reads, for a while.
    fn echo_slowly(&mut self, clients: &mut Vec<Client>) -> Result<(), String> {
        if clients.is_empty() {
            return Ok(());
        }
        let mut slow = clients.remove(0);
        let result = match self.terms.nudges {
            true => slow.echo_slowly(SLOW_BYTES_NUDGED, PATIENCE, Some(self.addr)),
            false => slow.echo_slowly(SLOW_BYTES, SLOWNESS, None),
        };
        if self.note(slow.port, result)? {
            clients.push(slow);
        }
        Ok(())
    }

    /// Each sends its end and waits for the server's.
    fn leave(&mut self, clients: Vec<Client>) -> Result<(), String> {
        let patience = if self.terms.hides_ends { HIDDEN_AFTER } else { PATIENCE };
        for mut client in clients {
            // It fails if the server has sent RST meanwhile, which reading will tell.
            let _ = client.stream.shutdown(Shutdown::Write);
            match client.leave(patience, self.terms.nudges.then_some(self.addr)) {
                Err(Trouble::Wrong(_)) if self.terms.hides_ends => {
                    self.seen.endless.push(client.port);
                }
                result => drop(self.note(client.port, result)?),
            }
        }
        Ok(())
    }

    /// Files what happened to a client; `false` if its connection has ended.
    fn note(&mut self, port: u16, result: Result<(), Trouble>) -> Result<bool, String> {
        match result {
            Ok(()) => Ok(true),
            Err(Trouble::Fin | Trouble::Reset) => {
                self.seen.ended.push(port);
                Ok(false)
            }
            Err(Trouble::Wrong(text)) => Err(format!("the client of port {port}: {text}")),
        }
    }
}

impl Client {
    fn connect(addr: SocketAddr) -> Option<Self> {
        let way = Way { receive_bytes: Some(16 << 10), ..Way::default() };
        let stream = connect(addr, way).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        let port = stream.local_addr().ok()?.port();
        Some(Self { stream, port, sent: 0 })
    }

    /// The next bytes of this client, which no other sends.
    fn message(&mut self, len: usize) -> Vec<u8> {
        let start = self.sent;
        self.sent += len;
        stream_bytes(self.port.into(), start as u64, len)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.stream.write_all(bytes).map_err(|error| trouble(&error))
    }

    /// Reads the echo of `message`. With an address to nudge, whenever nothing moves one byte
    /// more is sent and somebody else connects, and that byte must come back too.
    fn expect(&mut self, message: &[u8], nudge: Option<SocketAddr>) -> Result<(), Trouble> {
        let mut expected = message.to_vec();
        let mut got = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while got.len() < expected.len() {
            let wait = if nudge.is_some() { NUDGE_AFTER } else { PATIENCE };
            match self.read(&mut got, expected.len(), wait) {
                Ok(()) => {}
                Err(Trouble::Wrong(_)) if nudge.is_some() && Instant::now() < deadline => {
                    drop(nudge.and_then(Self::connect));
                    let more = self.message(1);
                    self.send(&more)?;
                    expected.extend(more);
                }
                Err(error) => return Err(error),
            }
        }
        match got == expected {
            true => Ok(()),
            false => Err(Trouble::Wrong(format!("{} bytes, and wrong ones", got.len()))),
        }
    }

    /// One read, of no more than makes `most` in all.
    fn read(&mut self, into: &mut Vec<u8>, most: usize, wait: Duration) -> Result<(), Trouble> {
        let mut buffer = [0; 16 << 10];
        let room = buffer.len().min(most - into.len());
        let _ = self.stream.set_read_timeout(Some(wait));
        match self.stream.read(&mut buffer[..room]) {
            Ok(0) => Err(Trouble::Fin),
            Ok(count) => {
                into.extend(&buffer[..count]);
                Ok(())
            }
            Err(error) => Err(trouble(&error)),
        }
    }

    /// Reads nothing until all is sent, or `wait` is over.
    fn echo_slowly(
        &mut self,
        len: usize,
        wait: Duration,
        nudge: Option<SocketAddr>,
    ) -> Result<(), Trouble> {
        let message = self.message(len);
        let writer = self.stream.try_clone();
        let mut writer = writer.map_err(|error| Trouble::Wrong(error.to_string()))?;
        thread::scope(|scope| {
            let (sender, done) = channel();
            let text = &message;
            scope.spawn(move || {
                let _ = sender.send(writer.write_all(text));
            });
            let early = done.recv_timeout(wait);
            let read = self.expect(&message, nudge);
            // The reader's error says more than the writer's.
            let _ = early.or_else(|_| done.recv());
            read
        })
    }

    /// Has sent its end: the server's must follow. A lost edge can be made up for by no more
    /// bytes now, but by urgent data or RST only; RST it is, and the end is taken for seen.
    fn leave(&mut self, patience: Duration, nudge: Option<SocketAddr>) -> Result<(), Trouble> {
        let Some(addr) = nudge else { return self.await_end(patience) };
        match self.await_end(NUDGE_AFTER) {
            Err(Trouble::Wrong(_)) => {
                drop(Self::connect(addr));
                let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                Ok(())
            }
            result => result,
        }
    }

    /// The end with FIN, without another byte.
    fn await_end(&mut self, patience: Duration) -> Result<(), Trouble> {
        let mut byte = Vec::new();
        match self.read(&mut byte, 1, patience) {
            Err(Trouble::Fin) => Ok(()),
            Ok(()) => Err(Trouble::Wrong("a byte behind the end".to_owned())),
            Err(error) => Err(error),
        }
    }
}

fn trouble(error: &std::io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Trouble::Wrong("nothing moves".to_owned()),
        _ => Trouble::Reset,
    }
}
