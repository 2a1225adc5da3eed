//! A reactor with Unix sockets for datagrams, driven by hand, and a log of what its handler was
//! told.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use waterwheel::udp::SocketId;
use waterwheel::unix::{UnixAddr, UnixDatagramHandler, UnixDatagramOptions, UnixDatagramSocket};
use waterwheel::{Context, HandlerKey, Reactor, Stats, Timer, TimerHandler, TimerId};

use crate::support::PATIENCE;

/// What a handler was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// From whom, the bytes, and whether there were more.
    Datagram(Option<UnixAddr>, Vec<u8>, bool),
    BatchEnd,
    Drain,
    Error(ErrorKind),
    Timer(TimerId),
    Close(SocketId),
    HandlerTimer,
}

type Callback = Box<dyn FnMut(&mut UnixDatagramSocket<'_>, Option<&UnixAddr>, &[u8])>;

/// Logs each callback, and runs a closure for each datagram.
pub(crate) struct Logged {
    log: Rc<RefCell<Vec<Told>>>,
    on_datagram: Callback,
}

impl Logged {
    fn note(&self, told: Told) {
        self.log.borrow_mut().push(told);
    }
}

impl UnixDatagramHandler for Logged {
    fn on_datagram(
        &mut self,
        socket: &mut UnixDatagramSocket<'_>,
        from: Option<&UnixAddr>,
        bytes: &[u8],
    ) {
        self.note(Told::Datagram(from.cloned(), bytes.to_vec(), socket.is_truncated()));
        (self.on_datagram)(socket, from, bytes);
    }

    fn on_batch_end(&mut self, _: &mut UnixDatagramSocket<'_>) {
        self.note(Told::BatchEnd);
    }

    fn on_drain(&mut self, _: &mut UnixDatagramSocket<'_>) {
        self.note(Told::Drain);
    }

    fn on_error(&mut self, _: &mut UnixDatagramSocket<'_>, error: io::Error) {
        self.note(Told::Error(error.kind()));
    }

    fn on_timer(&mut self, _: &mut UnixDatagramSocket<'_>, timer: Timer) {
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

/// A reactor and a logged handler.
pub(crate) struct Post {
    pub(crate) reactor: Reactor,
    pub(crate) service: HandlerKey<Logged>,
    log: Rc<RefCell<Vec<Told>>>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}", self.reactor.stats(), self.log.borrow())
    }
}

impl Post {
    pub(crate) fn new(
        on_datagram: impl FnMut(&mut UnixDatagramSocket<'_>, Option<&UnixAddr>, &[u8]) + 'static,
    ) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let log = Rc::default();
        let logged = Logged { log: Rc::clone(&log), on_datagram: Box::new(on_datagram) };
        let service = reactor.register(logged);
        Self { reactor, service, log }
    }

    /// One that answers whoever has a name.
    pub(crate) fn echo() -> Self {
        Self::new(|socket, from, bytes| {
            if let Some(from) = from {
                assert!(socket.send_to(from, bytes).is_accepted());
            }
        })
    }

    pub(crate) fn quiet() -> Self {
        Self::new(|_, _, _| {})
    }

    #[track_caller]
    pub(crate) fn bind(&mut self, addr: impl Into<UnixAddr>) -> SocketId {
        self.bind_with(addr, UnixDatagramOptions::default())
    }

    #[track_caller]
    pub(crate) fn bind_with(
        &mut self,
        addr: impl Into<UnixAddr>,
        options: UnixDatagramOptions,
    ) -> SocketId {
        self.reactor.bind_unix_datagrams(addr, self.service, options).unwrap()
    }

    #[track_caller]
    pub(crate) fn connect(&mut self, to: &Path, options: UnixDatagramOptions) -> SocketId {
        self.reactor.connect_unix_datagrams(to, self.service, options).unwrap()
    }

    /// The refusal of a path.
    #[track_caller]
    pub(crate) fn refusal(path: &Path, options: UnixDatagramOptions) -> (ErrorKind, String) {
        let mut post = Self::quiet();
        let error = post.reactor.bind_unix_datagrams(path, post.service, options).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("unix:{}: ", path.display())), "{text}");
        (error.kind(), text)
    }

    pub(crate) fn refusal_of(addr: &UnixAddr) -> io::Error {
        let mut post = Self::quiet();
        let options = UnixDatagramOptions::default();
        post.reactor.bind_unix_datagrams(addr, post.service, options).unwrap_err()
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

    /// Turns until the handler was told so.
    #[track_caller]
    pub(crate) fn expect_told(&mut self, told: &Told) {
        self.until(&format!("{told:?}"), |post| post.count(told) > 0);
    }

    /// How often the handler was told so.
    pub(crate) fn count(&self, told: &Told) -> usize {
        self.log.borrow().iter().filter(|&other| other == told).count()
    }

    /// What came in so far.
    pub(crate) fn datagrams(&self) -> Vec<(Option<UnixAddr>, Vec<u8>, bool)> {
        let log = self.log.borrow();
        let datagrams = log.iter().filter_map(|told| match told {
            Told::Datagram(from, bytes, is_cut) => Some((from.clone(), bytes.clone(), *is_cut)),
            _ => None,
        });
        datagrams.collect()
    }

    /// Turns until so many datagrams have come in, and gives their bytes.
    #[track_caller]
    pub(crate) fn expect_datagrams(&mut self, count: usize) -> Vec<Vec<u8>> {
        self.until("datagrams", |post| post.datagrams().len() >= count);
        self.datagrams().into_iter().map(|(_, bytes, _)| bytes).collect()
    }

    /// A lent socket, between turns.
    #[track_caller]
    pub(crate) fn with<R>(
        &mut self,
        id: SocketId,
        run: impl FnOnce(&mut UnixDatagramSocket<'_>) -> R,
    ) -> R {
        run(&mut self.reactor.context().unix_socket(id).expect("an open socket"))
    }

    /// Turns until a client has got a datagram.
    #[track_caller]
    pub(crate) fn answer(&mut self, client: &UnixDatagram) -> Vec<u8> {
        let mut answer = None;
        self.until("an answer", |_| {
            answer = try_receive(client);
            answer.is_some()
        });
        answer.unwrap()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.reactor.stats()
    }
}

/// A client with a name, that waits for nothing.
#[track_caller]
pub(crate) fn client_at(path: &PathBuf) -> UnixDatagram {
    let client = UnixDatagram::bind(path).unwrap();
    client.set_nonblocking(true).unwrap();
    client
}

/// A datagram, if there is one.
#[track_caller]
pub(crate) fn try_receive(socket: &UnixDatagram) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 1 << 18];
    match socket.recv(&mut buffer) {
        Ok(count) => {
            buffer.truncate(count);
            Some(buffer)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("a client cannot receive: {error}"),
    }
}

/// All there are.
#[track_caller]
pub(crate) fn receive_all(socket: &UnixDatagram) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| try_receive(socket)).collect()
}
