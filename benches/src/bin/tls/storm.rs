//! How long the messages of live connections take while handshakes come in.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};
use waterwheel::tls::ClientConfig;
use waterwheel::{Conn, ConnId, ConnectOptions, Context, Handler, HandlerKey, Peer, Reactor};

use crate::{Result, config};

#[derive(Clone, Copy)]
pub(crate) struct Storm {
    /// Handshakes a second.
    pub(crate) handshakes: u32,
    /// Messages a second, of all live connections.
    pub(crate) rate: u32,
    pub(crate) connections: usize,
    pub(crate) bytes: usize,
    pub(crate) rounds: usize,
    /// How long a round has no handshakes, and then as long has them.
    pub(crate) time: Duration,
}

/// The latencies of a round's two halves, in nanoseconds.
pub(crate) struct Round {
    pub(crate) calm: Histogram<u64>,
    pub(crate) storm: Histogram<u64>,
    /// Handshakes that were made.
    pub(crate) handshakes: u64,
}

/// What is answered later than this after the end of a half counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

struct Client {
    plan: Storm,
    addr: SocketAddr,
    key: HandlerKey<Client>,
    of_live: ConnectOptions,
    of_storm: ConnectOptions,
    message: Vec<u8>,
    lanes: Vec<Lane>,
    up: usize,
    rounds: Vec<Round>,
    /// Halves of rounds that have begun.
    halves: usize,
    start: Instant,
    /// Of this half: messages sent, messages that are not answered, and handshakes begun.
    sent: u64,
    unanswered: u64,
    begun: u64,
    is_done: bool,
    error: Option<io::Error>,
}

/// A live connection.
#[derive(Default)]
struct Lane {
    id: Option<ConnId>,
    /// When the messages under way were meant to leave.
    due: VecDeque<Instant>,
    /// Bytes that have come of the answer to the first of them.
    come: usize,
}

enum Link {
    Live(usize),
    Storm,
}

impl Client {
    /// Runs in each turn, so that the loop never sleeps and a message leaves when it is due.
    fn spin(&mut self, cx: &mut Context<'_>) {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.start);
        if self.up < self.lanes.len() {
            // The first half begins when all are up.
        } else if self.halves > 0 && passed < self.plan.time {
            self.send_due(passed, cx);
            if self.is_storm() {
                self.begin_due(passed, cx);
            }
        } else if self.unanswered == 0 {
            if !self.next_half(now) {
                self.is_done = true;
                return cx.stop();
            }
        } else if passed > self.plan.time + PATIENCE {
            self.error = Some(io::Error::other("messages stay without an answer"));
        }
        match self.error {
            Some(_) => cx.stop(),
            None => cx.post(self.key, Self::spin),
        }
    }

    fn send_due(&mut self, passed: Duration, cx: &mut Context<'_>) {
        let interval = 1e9 / f64::from(self.plan.rate);
        while self.sent as f64 * interval <= passed.as_nanos() as f64 {
            let moment = self.start + Duration::from_nanos((self.sent as f64 * interval) as u64);
            let place = (self.sent % self.lanes.len() as u64) as usize;
            let lane = &mut self.lanes[place];
            let Some(mut conn) = lane.id.and_then(|id| cx.conn(id)) else { return };
            lane.due.push_back(moment);
            conn.write(&self.message);
            self.sent += 1;
            self.unanswered += 1;
        }
    }

    fn begin_due(&mut self, passed: Duration, cx: &mut Context<'_>) {
        while self.begun as f64 <= passed.as_secs_f64() * f64::from(self.plan.handshakes) {
            cx.connect(self.addr, self.key, Link::Storm, &self.of_storm);
            self.begun += 1;
        }
    }

    /// Whether handshakes come in.
    fn is_storm(&self) -> bool {
        self.halves.is_multiple_of(2)
    }

    /// Whether there is a next half.
    fn next_half(&mut self, now: Instant) -> bool {
        if self.halves == 2 * self.plan.rounds {
            return false;
        }
        if self.is_storm() {
            let new = || Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("good bounds");
            self.rounds.push(Round { calm: new(), storm: new(), handshakes: 0 });
        }
        self.halves += 1;
        (self.sent, self.begun, self.start) = (0, 0, now);
        true
    }

    fn take_answers(&mut self, place: usize, count: usize) {
        let now = Instant::now();
        let is_storm = self.is_storm();
        let lane = &mut self.lanes[place];
        lane.come += count;
        while lane.come >= self.message.len() {
            lane.come -= self.message.len();
            let (Some(moment), Some(round)) = (lane.due.pop_front(), self.rounds.last_mut()) else {
                return;
            };
            self.unanswered -= 1;
            let latencies = if is_storm { &mut round.storm } else { &mut round.calm };
            latencies.saturating_record((now - moment).as_nanos() as u64);
        }
    }
}

impl Handler for Client {
    type State = Link;

    fn on_accept(&mut self, _: &Peer) -> Option<Link> {
        None
    }

    fn on_open(&mut self, link: &mut Link, conn: &mut Conn<'_>) {
        match *link {
            Link::Live(place) => {
                self.lanes[place].id = Some(conn.id());
                self.up += 1;
            }
            // The answer shows that the server has seen the end of the handshake.
            Link::Storm => _ = conn.write(b"x"),
        }
    }

    fn on_data(&mut self, link: &mut Link, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        match *link {
            Link::Live(place) => self.take_answers(place, input.len()),
            Link::Storm => {
                if let Some(round) = self.rounds.last_mut() {
                    round.handshakes += 1;
                }
                conn.abort(); // with FIN its port would be missing for a minute
            }
        }
        input.len()
    }

    fn on_connect_failed(&mut self, _: Link, error: io::Error, _: &mut Context<'_>) {
        if !self.is_done {
            self.error.get_or_insert(error);
        }
    }
}

/// Sends messages at a fixed rate, each half of a round without handshakes and then with them.
pub(crate) fn run(addr: SocketAddr, plan: Storm) -> Result<Vec<Round>> {
    waterwheel::raise_open_file_limit()?;
    let mut reactor = Reactor::new()?;
    let options =
        |config| ConnectOptions::default().tls(&ClientConfig::from_rustls(config), "localhost");
    let (of_live, of_storm) = (options(config::client()?), options(config::full_p256_client()?));
    let client = reactor.register_with(|key| Client {
        plan,
        addr,
        key,
        of_live,
        of_storm,
        message: vec![7; plan.bytes],
        lanes: (0..plan.connections).map(|_| Lane::default()).collect(),
        up: 0,
        rounds: Vec::new(),
        halves: 0,
        start: Instant::now(),
        sent: 0,
        unanswered: 0,
        begun: 0,
        is_done: false,
        error: None,
    });
    reactor.remote().with(client, |client, cx| {
        for place in 0..client.lanes.len() {
            cx.connect(client.addr, client.key, Link::Live(place), &client.of_live);
        }
        client.spin(cx);
    })?;
    reactor.run()?;
    let client = reactor.handler_mut(client).ok_or("the client is gone")?;
    match client.error.take() {
        Some(error) => Err(error.into()),
        None => Ok(std::mem::take(&mut client.rounds)),
    }
}

/// The time of the longest step of a server's handshake, without a network: one sample for each of
/// some handshakes, in order.
pub(crate) fn longest_steps() -> Result<Vec<Duration>> {
    let (client, server) = (Arc::new(config::full_p256_client()?), Arc::new(config::server()?));
    let mut samples = Vec::new();
    for _ in 0..300 {
        let name = ServerName::try_from("localhost")?;
        let mut client = ClientConnection::new(Arc::clone(&client), name)?;
        let mut server = ServerConnection::new(Arc::clone(&server))?;
        let mut longest = Duration::ZERO;
        while client.is_handshaking() || server.is_handshaking() {
            let (mut said, mut answer) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut said)?;
            }
            let start = Instant::now();
            let mut left = &said[..];
            while !left.is_empty() {
                server.read_tls(&mut left)?;
                server.process_new_packets()?;
            }
            while server.wants_write() {
                server.write_tls(&mut answer)?;
            }
            longest = longest.max(start.elapsed());
            let mut left = &answer[..];
            while !left.is_empty() {
                client.read_tls(&mut left)?;
                client.process_new_packets()?;
            }
        }
        samples.push(longest);
    }
    samples.sort();
    Ok(samples)
}
