//! A reactor with a pool and its server, driven by hand.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::pool::{
    AcquireError, Handshake, Lease, Pool, PoolClient, PoolHandle, PoolOptions, PoolStats,
};
use waterwheel::{Closed, Conn, ConnId, Context, HandlerKey, ListenOptions, Reactor, frame};

use crate::support::{Client, End, PATIENCE};

/// A ticket that only has the pool dial.
const WARM: u32 = u32::MAX;

/// A ticket whose callback panics.
pub(crate) const FATAL: u32 = WARM - 1;

/// What came of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Line(String),
    Refused(String),
}

/// Sends its number and takes a line for the answer.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) answers: Vec<(u32, Answer)>,
    /// Tickets in the order in which they got their connections.
    pub(crate) acquired: Vec<u32>,
    pub(crate) lost: Vec<ConnId>,
    /// Says "auth" on a new connection and wants "ok".
    pub(crate) greets: bool,
    /// Whose lease the next `on_data` drops, instead of taking its input for an answer.
    pub(crate) frees: Option<u32>,
    /// Leases of those who asked, by number.
    pub(crate) kept: Vec<(u32, Lease)>,
}

impl PoolClient for Line {
    type State = Option<u32>;
    type Ticket = u32;

    fn on_connected(&mut self, _: &mut Option<u32>, conn: &mut Conn<'_>) -> Handshake {
        if !self.greets {
            return Handshake::Done;
        }
        conn.write(b"auth\n");
        Handshake::Pending
    }

    fn on_handshake(
        &mut self,
        _: &mut Option<u32>,
        _: &mut Conn<'_>,
        input: &[u8],
    ) -> (usize, Handshake) {
        match input {
            b"ok\n" => (3, Handshake::Done),
            b"no\n" => (3, Handshake::Failed(std::io::Error::other("no such user"))),
            _ => (0, Handshake::Pending),
        }
    }

    fn on_acquired(
        &mut self,
        state: &mut Option<u32>,
        conn: &mut Conn<'_>,
        lease: Lease,
        number: u32,
        _: &mut PoolHandle<Self>,
    ) {
        assert_eq!(conn.id(), lease.id());
        assert_ne!(number, FATAL, "as asked");
        assert_eq!(*state, None, "the state of another borrower");
        if number == WARM {
            return; // the lease is dropped
        }
        self.acquired.push(number);
        *state = Some(number);
        self.kept.push((number, lease));
        conn.write(format!("{number}\n").as_bytes());
    }

    fn on_data(
        &mut self,
        state: &mut Option<u32>,
        conn: &mut Conn<'_>,
        input: &[u8],
        _: &mut PoolHandle<Self>,
    ) -> usize {
        if let Some(number) = self.frees.take() {
            self.kept.retain(|(kept, _)| *kept != number);
            return input.len();
        }
        let mut lines = frame::lines(input, 1_024);
        let Some(Ok(line)) = lines.next() else { return 0 };
        assert_ne!(line, b"panic", "as asked");
        let line = String::from_utf8_lossy(line).into_owned();
        let number = state.take().expect("on_data of a connection that is not lent");
        self.answers.push((number, Answer::Line(line)));
        self.kept.retain(|(kept, lease)| *kept != number || lease.id() != conn.id());
        lines.consumed()
    }

    fn on_lost(
        &mut self,
        _: Option<u32>,
        closed: Closed,
        _: &mut PoolHandle<Self>,
        _: &mut Context<'_>,
    ) {
        self.kept.retain(|(_, lease)| lease.id() != closed.id);
        self.lost.push(closed.id);
    }

    fn on_refused(
        &mut self,
        number: u32,
        error: AcquireError,
        _: &mut PoolHandle<Self>,
        _: &mut Context<'_>,
    ) {
        self.answers.push((number, Answer::Refused(error.to_string())));
    }
}

/// A reactor with a pool, and a server in the same reactor or a socket that listens.
#[derive(Debug)]
pub(crate) struct PoolRig {
    pub(crate) reactor: Reactor,
    pub(crate) pool: HandlerKey<Pool<Line>>,
    listener: Option<TcpListener>,
    options: PoolOptions,
    pub(crate) most_open: usize,
    pub(crate) panics: u64,
}

impl PoolRig {
    /// With a server that echoes.
    pub(crate) fn new(options: PoolOptions) -> Self {
        Self::listening(options, ListenOptions::default())
    }

    /// The same, with options of its listener.
    pub(crate) fn listening(options: PoolOptions, listen: ListenOptions) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
            conn.write(input);
            input.len()
        });
        let addr = reactor.listen("127.0.0.1:0", echo, listen).unwrap();
        Self::with(reactor, addr, None, options)
    }

    /// With a server that says nothing unless the test does.
    pub(crate) fn silent(options: PoolOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        Self::with(Reactor::new().unwrap(), addr, Some(listener), options)
    }

    /// With a server somewhere else, or none.
    pub(crate) fn to(addr: SocketAddr, options: PoolOptions) -> Self {
        Self::with(Reactor::new().unwrap(), addr, None, options)
    }

    fn with(
        mut reactor: Reactor,
        addr: SocketAddr,
        listener: Option<TcpListener>,
        options: PoolOptions,
    ) -> Self {
        let pool = Pool::register(&mut reactor, Line::default(), addr, options.clone()).unwrap();
        Self { reactor, pool, listener, options, most_open: 0, panics: 0 }
    }

    pub(crate) fn listen_again(&mut self, addr: SocketAddr) {
        self.listener = Some(TcpListener::bind(addr).unwrap());
    }

    /// Posts a request.
    pub(crate) fn ask(&mut self, number: u32) {
        self.reactor.context().post(self.pool, move |pool, cx| {
            pool.request(number, cx);
        });
    }

    fn pool(&mut self) -> &mut Pool<Line> {
        self.reactor.handler_mut(self.pool).expect("it is registered here")
    }

    pub(crate) fn client(&mut self) -> &Line {
        self.pool().client()
    }

    pub(crate) fn client_mut(&mut self) -> &mut Line {
        self.pool().client_mut()
    }

    pub(crate) fn answers(&mut self) -> Vec<(u32, Answer)> {
        self.client().answers.clone()
    }

    pub(crate) fn stats(&mut self) -> PoolStats {
        self.pool().stats()
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.reactor.stats().accepted
    }

    /// One turn; then the books must be right.
    pub(crate) fn turn(&mut self, nap: Duration) {
        self.reactor.run_once(Some(nap)).unwrap();
        let stats = self.stats();
        let most = self.options.max_open;
        assert!(stats.open <= most, "{stats:?}");
        assert_eq!(stats.open, stats.idle + stats.leased + stats.dialling + stats.closing);
        self.most_open = self.most_open.max(stats.open);
    }

    pub(crate) fn turns(&mut self, count: u32) {
        for _ in 0..count {
            self.turn(Duration::from_millis(1));
        }
    }

    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            let stats = self.stats();
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}; {stats:?}");
            self.turn(Duration::from_millis(1));
        }
    }

    #[track_caller]
    pub(crate) fn until_answered(&mut self, number: u32, answer: &Answer) {
        self.until("an answer", |rig| rig.answers().iter().any(|(of, _)| *of == number));
        let found = self.answers();
        let found = found.iter().find(|(of, _)| *of == number).map(|(_, answer)| answer);
        assert_eq!(found, Some(answer));
    }

    /// Runs something with the desk, in a posted closure.
    #[track_caller]
    pub(crate) fn enter<R: 'static>(
        &mut self,
        run: impl FnOnce(&mut Line, &mut PoolHandle<Line>, &mut Context<'_>) -> R + 'static,
    ) -> R {
        let (send, receive) = std::sync::mpsc::channel();
        self.reactor.context().post(self.pool, move |pool, cx| {
            let result = pool.enter(cx, run);
            send.send(result).expect("the test waits");
        });
        self.turn(Duration::ZERO);
        receive.try_recv().expect("it ran without a panic")
    }

    #[track_caller]
    pub(crate) fn try_acquire(&mut self) -> Option<Lease> {
        self.enter(|_, desk, cx| desk.try_acquire(cx))
    }

    #[track_caller]
    pub(crate) fn release(&mut self, lease: Lease) {
        self.enter(move |_, desk, cx| desk.release(lease, cx));
    }

    /// Writes and releases nothing: what the turn would send stays queued until its end.
    pub(crate) fn write(&mut self, lease: &Lease, bytes: &'static [u8]) {
        self.with_conn(lease, move |conn| {
            conn.write(bytes);
        });
    }

    pub(crate) fn with_conn(&mut self, lease: &Lease, run: impl FnOnce(&mut Conn<'_>)) {
        let mut cx = self.reactor.context();
        run(&mut lease.conn(&mut cx).expect("it lives"));
    }

    /// The next connection at the silent server.
    #[track_caller]
    pub(crate) fn accept(&mut self) -> Client {
        let listener = self.listener.as_ref().expect("it is the silent server");
        Client::from(listener.accept().expect("it was dialled").0)
    }

    /// Has one more connection dialled and idle; its other end.
    #[track_caller]
    pub(crate) fn warm_peer(&mut self) -> Client {
        let before = self.stats().created;
        self.ask(WARM);
        self.until("a connection", |rig| rig.stats().created > before);
        self.accept()
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, peer: &mut Client, bytes: &[u8]) {
        let mut found = Vec::new();
        self.until("bytes for the peer", |_| {
            found.extend(peer.try_read(bytes.len() - found.len()).expect("no end"));
            found.len() == bytes.len()
        });
        assert_eq!(found, bytes);
    }

    #[track_caller]
    pub(crate) fn read_to_end(&mut self, mut peer: Client) -> (Vec<u8>, End) {
        let (mut bytes, mut end) = (Vec::new(), None);
        self.until("the end", |_| {
            match peer.try_read(1 << 16) {
                Ok(more) => bytes.extend(more),
                Err(found) => end = Some(found),
            }
            end.is_some()
        });
        (bytes, end.unwrap())
    }
}

impl Drop for PoolRig {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(self.reactor.stats().panics, self.panics, "panics in callbacks");
        }
    }
}
