//! The quiet connections, and how long their answers take.
//!
//! The load is open: messages leave by a timetable, whatever the server does. So a server that
//! stands still for 50 ms is late for all that was due meanwhile, and not for the one message that
//! happened to wait for it.
//!
//! The probe has no part in the times: that of a message ends when the kernel has its answer, as
//! the kernel notes it (`SO_TIMESTAMPNS` in socket(7)), and begins when it really left. The probe
//! waits for no server, so that nothing but the machine makes it late.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use crate::order::{MESSAGE_BYTES, Order};

/// The quiet connections.
const CONNECTIONS: usize = 1_000;

/// Between two messages: ten a second on each connection.
const INTERVAL: Duration = Duration::from_micros(100);

/// After the last message. What is not back by then counts as having taken so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a run has found, in nanoseconds.
pub(crate) struct Found {
    /// From when a message left to when the kernel had its answer.
    pub(crate) times: Histogram<u64>,
    /// How late messages left: the fault of the probe, or of other work on the machine.
    pub(crate) lateness: Histogram<u64>,
}

pub(crate) struct Probe {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
}

struct Client {
    stream: TcpStream,
    /// When the messages have left that are not back, since 1970.
    waiting: VecDeque<Duration>,
    /// Bytes of the first of them that are back.
    received: usize,
}

impl Probe {
    /// Connects, and sends a message on each connection.
    pub(crate) fn new(addr: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut clients = Vec::new();
        for index in 0..CONNECTIONS {
            let mut stream = std::net::TcpStream::connect(addr)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&Order::Echo.message())?;
            stream.read_exact(&mut [0; MESSAGE_BYTES])?;
            setsockopt(&stream, sockopt::ReceiveTimestampns, &true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
            clients.push(Client { stream, waiting: VecDeque::new(), received: 0 });
        }
        Ok(Self { poll, events: Events::with_capacity(1024), clients })
    }

    /// Sends for a time, and waits for what is not back. The thread does not sleep in between: it
    /// would be late by its own waking up.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<Found> {
        let new = || Histogram::new_with_bounds(1, PATIENCE.as_nanos() as u64, 3);
        let (times, lateness) = (new(), new());
        let (Ok(times), Ok(lateness)) = (times, lateness) else {
            return Err(io::Error::other("the bounds of a histogram are wrong"));
        };
        let mut found = Found { times, lateness };
        let began = Instant::now();
        let mut next = began;
        let mut index = 0;
        loop {
            let now = Instant::now();
            while next <= now && next - began < time {
                found.lateness.saturating_record((now - next).as_nanos() as u64);
                self.clients[index].send()?;
                index = (index + 1) % CONNECTIONS;
                next += INTERVAL;
            }
            let is_over = next - began >= time;
            let waiting = || self.clients.iter().flat_map(|client| &client.waiting);
            if is_over && (waiting().next().is_none() || now - next > PATIENCE) {
                waiting().for_each(|_| found.times.saturating_record(PATIENCE.as_nanos() as u64));
                return Ok(found);
            }
            match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &self.events {
                self.clients[event.token().0].receive(&mut found.times)?;
            }
        }
    }
}

impl Client {
    fn send(&mut self) -> io::Result<()> {
        let now = since_1970()?;
        if self.stream.write(&Order::Echo.message())? != MESSAGE_BYTES {
            return Err(io::Error::other("a quiet connection has no room for a message"));
        }
        self.waiting.push_back(now);
        Ok(())
    }

    /// Takes what has come.
    fn receive(&mut self, times: &mut Histogram<u64>) -> io::Result<()> {
        let mut buffer = [0; 16 * MESSAGE_BYTES];
        loop {
            let (count, arrived) = match self.read(&mut buffer) {
                Ok((0, _)) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some(arrived) = arrived else {
                return Err(io::Error::other("the kernel does not tell when bytes have arrived"));
            };
            self.received += count;
            while self.received >= MESSAGE_BYTES {
                self.received -= MESSAGE_BYTES;
                let sent = self.waiting.pop_front();
                let sent = sent.ok_or_else(|| io::Error::other("more is back than was sent"))?;
                times.saturating_record(arrived.saturating_sub(sent).as_nanos() as u64);
            }
        }
    }

    /// Reads, and says when the last of the bytes has arrived, since 1970.
    fn read(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<Duration>)> {
        let mut control = cmsg_space!(TimeSpec);
        let (fd, flags) = (self.stream.as_raw_fd(), MsgFlags::empty());
        let mut slices = [IoSliceMut::new(buffer)];
        let message = recvmsg::<()>(fd, &mut slices, Some(&mut control), flags)?;
        let arrived = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(time) => Some(time.into()),
            _ => None,
        });
        Ok((message.bytes, arrived))
    }
}

/// By the clock that the kernel notes arrivals by.
fn since_1970() -> io::Result<Duration> {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)
}
