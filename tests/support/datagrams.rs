//! A reactor with datagram sockets, driven by hand, and a log of what its handler was told.

use std::cell::RefCell;
use std::fmt;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use waterwheel::udp::{DatagramHandler, DatagramSocket, SocketId, UdpOptions};
use waterwheel::{Context, HandlerKey, Reactor, Timer, TimerHandler, TimerId};

use super::PATIENCE;

/// What a socket is told where nobody receives at the other end.
pub(crate) const UNREACHABLE: ErrorKind =
    if cfg!(windows) { ErrorKind::ConnectionReset } else { ErrorKind::ConnectionRefused };

/// What a handler of datagrams was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The bytes, and whether there were more.
    Datagram(Vec<u8>, bool),
    BatchEnd,
    Drain,
    Error(ErrorKind),
    Timer(TimerId),
    Close(SocketId),
    HandlerTimer,
}

type Callback = Box<dyn FnMut(&mut DatagramSocket<'_>, SocketAddr, &[u8])>;

/// Logs each callback, and runs a closure for each datagram.
pub(crate) struct Logged {
    pub(crate) log: Rc<RefCell<Vec<Told>>>,
    on_datagram: Callback,
}

impl Logged {
    fn note(&self, told: Told) {
        self.log.borrow_mut().push(told);
    }
}

impl DatagramHandler for Logged {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]) {
        self.note(Told::Datagram(bytes.to_vec(), socket.is_truncated()));
        (self.on_datagram)(socket, from, bytes);
    }

    fn on_batch_end(&mut self, _: &mut DatagramSocket<'_>) {
        self.note(Told::BatchEnd);
    }

    fn on_drain(&mut self, _: &mut DatagramSocket<'_>) {
        self.note(Told::Drain);
    }

    fn on_error(&mut self, _: &mut DatagramSocket<'_>, error: std::io::Error) {
        self.note(Told::Error(error.kind()));
    }

    fn on_timer(&mut self, _: &mut DatagramSocket<'_>, timer: Timer) {
        self.note(Told::Timer(timer.id));
    }

    fn on_close(&mut self, id: SocketId, _: &mut Context<'_>) {
        self.note(Told::Close(id));
    }
}

impl TimerHandler for Logged {
    fn on_handler_timer(&mut self, _: Timer, _: &mut Context<'_>) {
        self.note(Told::HandlerTimer);
    }
}

/// A reactor, a logged handler and a socket of it.
pub(crate) struct Rig {
    pub(crate) reactor: Reactor,
    pub(crate) service: HandlerKey<Logged>,
    pub(crate) id: SocketId,
    pub(crate) addr: SocketAddr,
    pub(crate) log: Rc<RefCell<Vec<Told>>>,
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}", self.reactor.stats(), self.log.borrow())
    }
}

impl Rig {
    #[track_caller]
    pub(crate) fn bind(
        addr: &str,
        options: UdpOptions,
        on_datagram: impl FnMut(&mut DatagramSocket<'_>, SocketAddr, &[u8]) + 'static,
    ) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let log = Rc::default();
        let on_datagram = Box::new(on_datagram);
        let service = reactor.register(Logged { log: Rc::clone(&log), on_datagram });
        let (id, addr) = reactor.bind_udp(addr, service, options).unwrap();
        Self { reactor, service, id, addr, log }
    }

    /// An echo server.
    #[track_caller]
    pub(crate) fn echo() -> Self {
        Self::bind("127.0.0.1:0", UdpOptions::default(), echo)
    }

    #[track_caller]
    pub(crate) fn turn(&mut self) {
        self.reactor.run_once(Some(Duration::ZERO)).unwrap();
    }

    /// Turns until `done`.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}; {self:?}");
            self.reactor.run_once(Some(Duration::from_millis(1))).unwrap();
        }
    }

    /// Turns until the log has so many entries that `matches`, and gives them.
    #[track_caller]
    pub(crate) fn expect_told(&mut self, count: usize, matches: impl Fn(&Told) -> bool) {
        self.until("a callback", |rig| {
            rig.log.borrow().iter().filter(|told| matches(told)).count() >= count
        });
    }

    /// The lent socket, between turns.
    pub(crate) fn with<R>(&mut self, run: impl FnOnce(&mut DatagramSocket<'_>) -> R) -> R {
        let mut context = self.reactor.context();
        run(&mut context.socket(self.id).expect("an open socket"))
    }

    /// Turns until the client has got a datagram.
    #[track_caller]
    pub(crate) fn answer(&mut self, client: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut answer = None;
        self.until("an answer", |_| {
            answer = try_receive(client);
            answer.is_some()
        });
        answer.unwrap()
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.log.borrow().clone()
    }
}

/// What an echo server does.
pub(crate) fn echo(socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]) {
    assert!(socket.send_to(from, bytes).is_accepted());
}

/// A client that waits for nothing.
#[track_caller]
pub(crate) fn client(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(server).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// A datagram, if there is one.
#[track_caller]
pub(crate) fn try_receive(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 1 << 16];
    match socket.recv_from(&mut buffer) {
        Ok((count, from)) => {
            buffer.truncate(count);
            Some((buffer, from))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("a client cannot receive: {error}"),
    }
}
