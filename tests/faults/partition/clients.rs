//! The clients, all in one reactor.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::{
    Closed, Conn, ConnId, ConnectOptions, Context, Handler, HandlerKey, IdleKind, Keepalive, Peer,
    Reactor, TcpOptions, Timer,
};

use crate::network::FAR_ADDR;

/// Time between an answer and the next question of a lasting connection.
const PAUSE: Duration = Duration::from_millis(50);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Says a word and falls silent.
    Quiet,
    /// Is written to all the time.
    Busy,
    /// Asks again and again, and survives.
    Lasting,
    /// Is begun during a cut, and does not come about.
    Vain,
}

impl Kind {
    pub(super) fn port(self) -> u16 {
        match self {
            Self::Quiet => 7001,
            Self::Busy => 7002,
            Self::Lasting | Self::Vain => 7003,
        }
    }

    /// The first message of quiet and busy connections: which idle limit the server is to set. Of
    /// the quiet ones every other is held to reading alone.
    fn limit(self, number: usize, limit: Duration) -> [u8; 5] {
        let [a, b, c, d] = (limit.as_millis() as u32).to_le_bytes();
        [u8::from(self == Self::Quiet && number % 2 == 1), a, b, c, d]
    }

    pub(super) fn parse_limit(input: &[u8]) -> Option<(IdleKind, Duration)> {
        let &[kind, a, b, c, d] = input.first_chunk()?;
        let idle = if kind == 1 { IdleKind::Read } else { IdleKind::All };
        Some((idle, Duration::from_millis(u32::from_le_bytes([a, b, c, d]).into())))
    }
}

/// What the clients have seen.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Quiet connections that were answered.
    pub(super) quiet: usize,
    /// Busy connections that have got something.
    pub(super) busy: usize,
    /// Dials in vain that have failed, as they are to.
    pub(super) failed: usize,
    /// Questions that were answered, of each lasting connection.
    pub(super) rounds: Vec<u64>,
    /// Connections that have ended.
    pub(super) ended: usize,
    /// What should not have happened.
    pub(super) broken: Vec<String>,
    /// Connections that are to end with a cut, and those that are to last.
    doomed: Vec<ConnId>,
    lasting: Vec<ConnId>,
    /// Whether the lasting are being closed.
    is_over: bool,
}

impl State {
    /// How many of the lasting have been answered.
    pub(super) fn lasting(&self) -> usize {
        self.rounds.iter().filter(|&&rounds| rounds > 0).count()
    }

    /// Begins anew with the next cut.
    pub(super) fn forget(&mut self) {
        let rounds = std::mem::take(&mut self.rounds);
        let lasting = std::mem::take(&mut self.lasting);
        *self = Self { rounds, lasting, ..Self::default() };
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    kind: Kind,
    number: usize,
    limit: Duration,
    has_heard: bool,
}

pub(super) struct Clients {
    service: HandlerKey<State>,
}

impl Clients {
    pub(super) fn new(reactor: &mut Reactor) -> Self {
        Self { service: reactor.register(State::default()) }
    }

    pub(super) fn state<'a>(&self, reactor: &'a mut Reactor) -> &'a mut State {
        reactor.handler_mut(self.service).expect("its service")
    }

    pub(super) fn connect(&self, reactor: &mut Reactor, kind: Kind, count: usize, limit: Duration) {
        let patient = Keepalive::default().idle(Duration::from_secs(600));
        let tcp = TcpOptions::default().keepalive(Some(patient));
        self.begin(reactor, kind, count, limit, &ConnectOptions::default().tcp(tcp));
    }

    /// Dials that nobody hears.
    pub(super) fn dial_in_vain(&self, reactor: &mut Reactor, count: usize, limit: Duration) {
        let options = ConnectOptions::default().timeout(limit);
        self.begin(reactor, Kind::Vain, count, limit, &options);
    }

    fn begin(
        &self,
        reactor: &mut Reactor,
        kind: Kind,
        count: usize,
        limit: Duration,
        options: &ConnectOptions,
    ) {
        let server = SocketAddr::new(FAR_ADDR.parse().expect("an address"), kind.port());
        for number in 0..count {
            let link = Link { kind, number, limit, has_heard: false };
            let id = reactor.connect(server, self.service, link, options);
            let state = self.state(reactor);
            match kind {
                Kind::Quiet | Kind::Busy => state.doomed.push(id),
                Kind::Lasting => {
                    state.lasting.push(id);
                    state.rounds.push(0);
                }
                Kind::Vain => {}
            }
        }
    }

    /// Those that were cut off say something, to which the answer is a reset.
    pub(super) fn poke(&self, reactor: &mut Reactor) {
        for id in std::mem::take(&mut self.state(reactor).doomed) {
            if let Some(mut conn) = reactor.context().conn(id) {
                conn.write(b"?");
            }
        }
    }

    pub(super) fn close_lasting(&self, reactor: &mut Reactor) {
        self.state(reactor).is_over = true;
        for id in std::mem::take(&mut self.state(reactor).lasting) {
            reactor.context().conn(id).expect("it has survived").close();
        }
    }
}

impl Handler for State {
    type State = Link;

    fn on_accept(&mut self, _: &Peer) -> Option<Link> {
        None
    }

    fn on_open(&mut self, link: &mut Link, conn: &mut Conn<'_>) {
        match link.kind {
            Kind::Quiet | Kind::Busy => {
                conn.write(&link.kind.limit(link.number, link.limit));
            }
            Kind::Lasting => self.ask(link, conn),
            Kind::Vain => self.broken.push("a dial came about during the cut".to_owned()),
        }
    }

    fn on_data(&mut self, link: &mut Link, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let is_first = !std::mem::replace(&mut link.has_heard, true);
        match link.kind {
            Kind::Quiet => self.quiet += usize::from(is_first),
            Kind::Busy => self.busy += usize::from(is_first),
            Kind::Lasting if input.len() < 8 => return 0,
            Kind::Lasting if input == self.rounds[link.number].to_le_bytes() => {
                self.rounds[link.number] += 1;
                conn.set_timer(PAUSE, 0);
            }
            Kind::Lasting | Kind::Vain => self.broken.push(format!("{link:?} got {input:?}")),
        }
        input.len()
    }

    fn on_timer(&mut self, link: &mut Link, conn: &mut Conn<'_>, _: Timer) {
        self.ask(link, conn);
    }

    fn on_close(&mut self, link: Link, closed: Closed, _: &mut Context<'_>) {
        self.ended += 1;
        if link.kind == Kind::Lasting && !self.is_over {
            self.broken.push(format!("{link:?} ended: {closed:?}"));
        }
    }

    fn on_connect_failed(&mut self, link: Link, error: io::Error, _: &mut Context<'_>) {
        self.failed += 1;
        if link.kind != Kind::Vain {
            self.broken.push(format!("{link:?} failed: {error}"));
        }
    }
}

impl State {
    fn ask(&mut self, link: &Link, conn: &mut Conn<'_>) {
        conn.write(&self.rounds[link.number].to_le_bytes());
    }
}
