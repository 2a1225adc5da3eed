//! A reactor that is driven by hand, with a journal and a listener.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{
    ConnId, ConnectOptions, Destination, Handler, HandlerKey, Limits, ListenOptions, Reactor,
    ReactorOptions,
};

use super::{Client, End, Journal, PATIENCE, Script, Watched};

/// How long one turn of a wait blocks at the most.
const NAP: Duration = Duration::from_millis(1);

/// A reactor, a watched handler and a listener of it on loopback. When it goes, the grammar is
/// checked to the end: as many `on_close` as `on_open`, no state left.
#[derive(Debug)]
pub(crate) struct Rig<H: Handler = Script> {
    pub(crate) reactor: Reactor,
    pub(crate) service: HandlerKey<Watched<H>>,
    pub(crate) addr: SocketAddr,
    pub(crate) journal: Journal,
    /// How many callbacks are to have panicked at the end. The reactor catches panics, also those
    /// of assertions.
    pub(crate) panics: u64,
    /// Dropped after the reactor.
    _check: Check,
}

#[derive(Debug)]
struct Check(Journal);

impl Drop for Check {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.0.expect_balanced();
        }
    }
}

impl<H: Handler> Drop for Rig<H> {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(self.reactor.stats().panics, self.panics, "panics in callbacks");
        }
    }
}

impl<H: Handler> Rig<H> {
    #[track_caller]
    pub(crate) fn new(handler: H) -> Self {
        Self::with_listen(handler, ListenOptions::default())
    }

    #[track_caller]
    pub(crate) fn with_limits(handler: H, limits: Limits) -> Self {
        Self::with_listen(handler, ListenOptions::default().limits(limits))
    }

    #[track_caller]
    pub(crate) fn with_listen(handler: H, options: ListenOptions) -> Self {
        Self::with(handler, Journal::default(), options, ReactorOptions::default())
    }

    /// With a journal that closures of the handler write notes to, as well.
    #[track_caller]
    pub(crate) fn with(
        handler: H,
        journal: Journal,
        listen: ListenOptions,
        options: ReactorOptions,
    ) -> Self {
        let mut reactor = Reactor::with_options(options).expect("a reactor");
        let service = reactor.register(journal.watch(handler));
        let addr = reactor.listen("127.0.0.1:0", service, listen).expect("listens");
        Self { reactor, service, addr, panics: 0, _check: Check(journal.clone()), journal }
    }

    /// Another handler in the same journal, with a listener of its own.
    #[track_caller]
    pub(crate) fn add<G: Handler>(
        &mut self,
        handler: G,
        options: ListenOptions,
    ) -> (HandlerKey<Watched<G>>, SocketAddr) {
        let service = self.reactor.register(self.journal.watch(handler));
        let addr = self.reactor.listen("127.0.0.1:0", service, options).expect("listens");
        (service, addr)
    }

    /// A client that has been accepted, and its connection.
    #[track_caller]
    pub(crate) fn client(&mut self) -> (Client, ConnId) {
        let before = self.journal.opened().len();
        let client = Client::connect(self.addr);
        self.until("accepted", |rig| rig.journal.opened().len() > before);
        let id = self.journal.last();
        (client, id)
    }

    /// Begins an outgoing connection.
    pub(crate) fn connect(
        &mut self,
        to: impl Into<Destination>,
        state: H::State,
        options: &ConnectOptions,
    ) -> ConnId {
        let life = self.journal.life(state);
        self.reactor.connect(to, self.service, life, options)
    }

    /// The next connection that somebody else's listener gets, while the reactor turns.
    #[track_caller]
    pub(crate) fn accept_at(&mut self, listener: &TcpListener) -> Client {
        listener.set_nonblocking(true).unwrap();
        let mut accepted = None;
        self.until("a connection", |_| {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        Client::from(stream)
    }

    /// One turn that does not block.
    #[track_caller]
    pub(crate) fn turn(&mut self) {
        self.reactor.run_once(Some(Duration::ZERO)).expect("turns");
    }

    /// Turns until `done`.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain: {what}\n{:#?}",
                Shortened(&self.journal)
            );
            self.reactor.run_once(Some(NAP)).expect("turns");
        }
    }

    /// Turns until the connection has ended, and gives the reason and the unsent bytes.
    #[track_caller]
    pub(crate) fn end_of(&mut self, id: ConnId) -> (String, usize) {
        self.until("the end", |rig| rig.journal.close_of(id).is_some());
        self.journal.close_of(id).unwrap()
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self, id: ConnId, reason: &str) {
        assert_eq!(self.end_of(id), (reason.to_owned(), 0));
    }

    /// Turns until the client has read so many bytes.
    #[track_caller]
    pub(crate) fn read(&mut self, client: &mut Client, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("bytes for the client", |_| {
            match client.try_read((count - bytes.len()).min(1 << 20)) {
                Ok(more) => bytes.extend(more),
                Err(end) => panic!("{end:?} after {} of {count} bytes", bytes.len()),
            }
            bytes.len() == count
        });
        bytes
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, client: &mut Client, bytes: &[u8]) {
        let found = self.read(client, bytes.len());
        assert!(found == bytes, "the client got something else");
    }

    /// Turns until the client has read everything.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self, client: &mut Client) -> (Vec<u8>, End) {
        let (mut bytes, mut ended) = (Vec::new(), None);
        self.until("the client's end", |_| {
            match client.try_read(1 << 20) {
                Ok(more) => bytes.extend(more),
                Err(end) => ended = Some(end),
            }
            ended.is_some()
        });
        (bytes, ended.unwrap())
    }

    /// Turns until nothing happens any more, and fails if that is not soon: a turn that may block
    /// must block.
    #[track_caller]
    pub(crate) fn expect_quiet(&mut self) {
        const LONG: Duration = Duration::from_millis(20);
        for _ in 0..20 {
            let start = Instant::now();
            self.reactor.run_once(Some(LONG)).expect("turns");
            if start.elapsed() >= LONG {
                return;
            }
        }
        panic!("the loop spins: {:#?}", self.reactor.stats());
    }

    /// Whether an id finds its connection.
    pub(crate) fn lives(&mut self, id: ConnId) -> bool {
        self.reactor.context().conn(id).is_some()
    }
}

/// A journal in which long data is told by its length.
struct Shortened<'a>(&'a Journal);

impl std::fmt::Debug for Shortened<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let calls = self.0.calls();
        let shown = calls.iter().map(|call| match call {
            super::Call::Data(bytes) => format!("Data of {}", bytes.len()),
            call => format!("{call:?}"),
        });
        f.debug_list().entries(shown).finish()
    }
}
