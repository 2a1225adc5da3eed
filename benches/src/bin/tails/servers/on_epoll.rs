//! On epoll alone, as one would write it in C: level-triggered, so that one read or write an event
//! is fair, and whoever has more to do is reported again. Timers are in a binary heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::{BUFFER_BYTES, Start};
use crate::order::{FILE_BYTES, MESSAGE_BYTES, Order};

/// Events taken from one poll: as many as the other servers take.
const EVENTS: usize = 1024;

/// Connections or datagrams taken of one event.
const BUDGET: usize = 64;

/// Timers that fire before the sockets have their turn.
const TIMERS: usize = 1024;

/// Bytes that are sent of the file of one event.
const FILE_STEP_BYTES: usize = 256 << 10;

/// Connections have the numbers from 0 on.
const LISTENER: u64 = u64::MAX;
const DATAGRAMS: u64 = u64::MAX - 1;

pub(super) fn run(start: Start) -> io::Result<()> {
    let mut server = Server {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        conns: Vec::new(),
        free: Vec::new(),
        members: Vec::new(),
        timers: BinaryHeap::new(),
        asks: None,
        buffer: vec![0; BUFFER_BYTES],
    };
    let Start { listener, datagrams, file } = start;
    server.watch(&listener, LISTENER)?;
    server.watch(&datagrams, DATAGRAMS)?;
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&server.epoll, spare_capacity(&mut events), server.wait().as_ref()) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        for event in &events {
            let flags = event.flags;
            match event.data.u64() {
                LISTENER => server.accept(&listener)?,
                DATAGRAMS => server.receive(&datagrams)?,
                number => server.serve(number as usize, flags, &file)?,
            }
        }
        server.fire()?;
    }
}

struct Server {
    epoll: OwnedFd,
    /// By number.
    conns: Vec<Option<Conn>>,
    /// Numbers without one.
    free: Vec<usize>,
    members: Vec<usize>,
    timers: BinaryHeap<Reverse<Instant>>,
    /// Who is told when all timers have fired.
    asks: Option<usize>,
    buffer: Vec<u8>,
}

struct Conn {
    stream: TcpStream,
    /// What the socket would not take.
    rest: Vec<u8>,
    /// How far the file has been sent, if it is being sent.
    file: Option<u64>,
    /// Room in the socket is watched for, and not input.
    is_writing: bool,
}

impl Server {
    fn watch(&self, socket: &impl std::os::fd::AsFd, number: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(number);
        Ok(epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?)
    }

    /// How long to wait for events, until the next timer.
    fn wait(&self) -> Option<Timespec> {
        let Reverse(due) = self.timers.peek()?;
        let left = due.saturating_duration_since(Instant::now());
        // epoll_wait(2) counts milliseconds: a part of one is a whole one.
        let left = Duration::from_millis(left.as_micros().div_ceil(1_000) as u64);
        Timespec::try_from(left).ok()
    }

    fn fire(&mut self) -> io::Result<()> {
        if self.timers.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        for _ in 0..TIMERS {
            if self.timers.peek().is_none_or(|&Reverse(due)| due > now) {
                break;
            }
            self.timers.pop();
        }
        match self.asks {
            Some(number) if self.timers.is_empty() => self.send(number, &[0; MESSAGE_BYTES]),
            _ => Ok(()),
        }
    }

    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        for _ in 0..BUDGET {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let stream = match accept_with(listener, flags) {
                Ok(stream) => TcpStream::from(stream),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let number = self.free.pop().unwrap_or(self.conns.len());
            if number == self.conns.len() {
                self.conns.push(None);
            }
            self.watch(&stream, number as u64)?;
            let conn = Conn { stream, rest: Vec::new(), file: None, is_writing: false };
            self.conns[number] = Some(conn);
        }
        Ok(())
    }

    fn receive(&mut self, datagrams: &UdpSocket) -> io::Result<()> {
        for _ in 0..BUDGET {
            match datagrams.recv_from(&mut self.buffer) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Something has happened on a connection, which may have ended since.
    fn serve(&mut self, number: usize, flags: epoll::EventFlags, file: &File) -> io::Result<()> {
        let Some(conn) = &mut self.conns[number] else { return Ok(()) };
        let lives = if conn.is_writing {
            conn.send_rest(file)
        } else if flags.is_empty() {
            Ok(true)
        } else {
            self.read(number)
        };
        match lives {
            Ok(true) => self.rewatch(number),
            Ok(false) | Err(_) => {
                self.conns[number] = None;
                self.free.push(number);
                self.members.retain(|&member| member != number);
                Ok(())
            }
        }
    }

    /// Reads once, and does what is asked. Whether the connection lives.
    fn read(&mut self, number: usize) -> io::Result<bool> {
        let Some(conn) = &mut self.conns[number] else { return Ok(false) };
        let count = match conn.stream.read(&mut self.buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.obey(number, &buffer[..count]);
        self.buffer = buffer;
        result.map(|()| true)
    }

    fn obey(&mut self, number: usize, input: &[u8]) -> io::Result<()> {
        match Order::of(input) {
            Order::Echo => {}
            Order::Join => self.members.push(number),
            Order::Publish => {
                for at in 0..self.members.len() {
                    self.send(self.members[at], input)?;
                }
            }
            Order::Timers { count, wait } => {
                let due = Instant::now() + wait;
                self.timers.extend((0..count).map(|_| Reverse(due)));
                self.asks = Some(number);
            }
            Order::File => {
                let Some(conn) = &mut self.conns[number] else { return Ok(()) };
                conn.file = Some(0);
                return Ok(());
            }
        }
        self.send(number, input)
    }

    fn send(&mut self, number: usize, bytes: &[u8]) -> io::Result<()> {
        let Some(conn) = &mut self.conns[number] else { return Ok(()) };
        conn.send(bytes)?;
        self.rewatch(number)
    }

    /// Watches for room while there is something to send, and for input otherwise.
    fn rewatch(&mut self, number: usize) -> io::Result<()> {
        let Some(conn) = &mut self.conns[number] else { return Ok(()) };
        let is_writing = !conn.rest.is_empty() || conn.file.is_some();
        if is_writing == conn.is_writing {
            return Ok(());
        }
        conn.is_writing = is_writing;
        let flags = if is_writing { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
        let data = epoll::EventData::new_u64(number as u64);
        Ok(epoll::modify(&self.epoll, &conn.stream, data, flags)?)
    }
}

impl Conn {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        if self.rest.is_empty() {
            written = match self.stream.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                result => result?,
            };
        }
        self.rest.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// Sends once of what waits. Whether the connection lives.
    fn send_rest(&mut self, file: &File) -> io::Result<bool> {
        let result = if let Some(offset) = self.file.as_mut().filter(|_| self.rest.is_empty()) {
            let count = FILE_STEP_BYTES.min((FILE_BYTES - *offset) as usize);
            let result = sendfile(&self.stream, file, Some(offset), count);
            self.file = self.file.filter(|&offset| offset < FILE_BYTES);
            result.map(drop).map_err(io::Error::from)
        } else {
            self.stream.write(&self.rest).map(|written| drop(self.rest.drain(..written)))
        };
        match result {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            result => result.map(|()| true),
        }
    }
}
