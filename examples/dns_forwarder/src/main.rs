//! A DNS forwarder with a cache, over UDP and TCP. It answers from the address that was asked, and
//! asks a server upstream for what it does not know: over TCP what it was asked over TCP, since
//! clients come that way for what is too long for a datagram. A forger has to guess an id and
//! one of sixteen ports, which change.
//!
//! ```text
//! cargo run -p dns_forwarder -- 127.0.0.1:5353 9.9.9.9:53
//! dig @127.0.0.1 -p 5353 example.com
//! ```

mod message;
mod ports;

use std::collections::HashMap;
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use hashlink::LruCache;
use message::{Question, SERVER_FAILURE, Ttl, refusal, ttls};
use ports::Ports;
use waterwheel::frame::{self, LengthPrefix};
use waterwheel::udp::{DatagramHandler, DatagramSocket, SocketId, UdpOptions};
use waterwheel::{
    Closed, Conn, ConnId, ConnectOptions, Context, Handler, HandlerKey, Limits, ListenOptions,
    Peer, Reactor, Timer, TimerHandler, TimerId,
};

/// How long the server upstream may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long a datagram upstream is waited on before the next client that asks has it sent again: it
/// may have been lost, and all who ask the same wait for its answer.
const RESEND: Duration = Duration::from_secs(1);

/// How often an id is drawn for a question before it is refused. With 32,768 questions under way
/// half of all ids are taken, and one question in 65,536 is refused.
const MAX_DRAWS: usize = 16;

/// Questions over TCP that may be under way, each with a connection upstream; one more is told of
/// a failure.
const MAX_UPSTREAMS: usize = 256;

/// Longest time in seconds that an answer is kept, most answers that are, and most bytes of them.
const MAX_TTL: u32 = 3_600;
const MAX_ANSWERS: usize = 10_000;
const MAX_KEPT_BYTES: usize = 32 << 20;

/// Clients that may wait for the same answer; one more is told of a failure.
const MAX_ASKERS: usize = 1_000;

/// Who waits for an answer.
#[derive(Clone, Copy, PartialEq)]
enum Asker {
    Udp { socket: SocketId, peer: SocketAddr, local: Option<SocketAddr> },
    Tcp(ConnId),
}

impl Asker {
    fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp(_))
    }
}

/// A question that was sent on.
struct Pending {
    /// Who has asked it, each with an id of its own.
    askers: Vec<(Asker, [u8; 2])>,
    question: Question,
    /// When it was sent last.
    sent: Duration,
    timer: TimerId,
    /// The number that its id was made of, which no other question has.
    drawn: u64,
    /// The socket that it was sent on, and its answer comes to, if it came over UDP.
    socket: Option<SocketId>,
    /// The connection that it was sent on, if it came over TCP.
    upstream: Option<ConnId>,
}

/// An answer, since when it is kept, and until when.
struct Cached {
    since: Duration,
    until: Duration,
    answer: Box<[u8]>,
    ttls: Box<[Ttl]>,
}

impl Cached {
    fn bytes(&self) -> usize {
        self.answer.len() + size_of_val(&*self.ttls)
    }

    /// The answer to a query with this id. What was kept for a while is valid for less.
    fn answer(&self, id: [u8; 2], now: Duration) -> Vec<u8> {
        let kept = (now - self.since).as_secs() as u32;
        let mut answer = self.answer.to_vec();
        answer[..2].copy_from_slice(&id);
        for &(at, ttl) in &self.ttls {
            answer[at..at + 4].copy_from_slice(&ttl.saturating_sub(kept).to_be_bytes());
        }
        answer
    }
}

/// Serves UDP, TCP and its own timers.
struct Forwarder {
    key: HandlerKey<Forwarder>,
    /// Opened before the loop turns.
    ports: Ports,
    /// The server upstream, for TCP.
    server: String,
    /// By the id upstream, which is the token of its timer, too.
    pending: HashMap<u16, Pending>,
    /// The id upstream of each question under way. They are not among the answers: questions
    /// that get none would take the room of answers, and one that has made room would be asked
    /// with a second id.
    /// Invariant: holds the questions of `pending`, each with its own id.
    asked: HashMap<Question, u16>,
    /// Those of them that came over TCP.
    upstreams: usize,
    /// What has not been asked for longest makes room. The seed of the standard hasher keeps a
    /// client from choosing names that collide.
    answers: LruCache<Question, Cached, RandomState>,
    kept_bytes: usize,
    random: RandomState,
    /// How many ids were drawn.
    drawn: u64,
}

/// Sends an answer, or says that none will come.
fn reply(asker: Asker, answer: Option<&[u8]>, cx: &mut Context<'_>) {
    match (asker, answer) {
        (Asker::Udp { socket, peer, local }, Some(answer)) => {
            let Some(mut socket) = cx.socket(socket) else { return };
            match local {
                Some(local) => socket.send_from(local, peer, answer),
                None => socket.send_to(peer, answer),
            };
        }
        (Asker::Udp { .. }, None) => {} // the client asks again, or another server
        (Asker::Tcp(id), answer) => {
            let Some(mut conn) = cx.conn(id) else { return };
            if let Some(answer) = answer {
                send_framed(&mut conn, answer);
            }
            conn.end_request();
        }
    }
}

fn send_framed(conn: &mut Conn<'_>, message: &[u8]) {
    if let Ok(length) = LengthPrefix::U16_BE.encode(message.len()) {
        conn.write_vectored(&[&length, message]);
    }
}

fn send_datagram(socket: Option<SocketId>, message: &[u8], cx: &mut Context<'_>) {
    if let Some(mut socket) = socket.and_then(|id| cx.socket(id)) {
        socket.send(message);
    }
}

impl Forwarder {
    /// Answers with what is kept; else asks upstream, unless that was asked already.
    fn on_query(&mut self, asker: Asker, query: &[u8], cx: &mut Context<'_>) {
        let is_tcp = asker.is_tcp();
        let question = match Question::of(query, is_tcp) {
            Some(Ok(question)) => question,
            Some(Err(code)) => return reply(asker, Some(&refusal(query, code)), cx),
            None => return reply(asker, None, cx),
        };
        let (id, now) = ([query[0], query[1]], cx.now());
        if let Some(cached) = self.answers.get(&question).filter(|cached| now < cached.until) {
            return reply(asker, Some(&cached.answer(id, now)), cx);
        }
        let own = self.asked.get(&question).copied().or_else(|| self.ask(question, cx));
        let pending = own.and_then(|own| Some((own, self.pending.get_mut(&own)?)));
        let Some((own, pending)) = pending else {
            return reply(asker, Some(&refusal(query, SERVER_FAILURE)), cx);
        };
        let asks_again = !is_tcp && pending.askers.contains(&(asker, id));
        if !asks_again {
            if pending.askers.len() == MAX_ASKERS {
                return reply(asker, Some(&refusal(query, SERVER_FAILURE)), cx);
            }
            pending.askers.push((asker, id));
        }
        // What was sent may have been lost. A client that asks again has waited for it; one that
        // is new has not, but others have.
        if asks_again || !is_tcp && now >= pending.sent + RESEND {
            pending.sent = now;
            send_datagram(pending.socket, &pending.question.query(own), cx);
        }
    }

    /// Asks upstream. Returns with which id, if one is free and there is room.
    fn ask(&mut self, question: Question, cx: &mut Context<'_>) -> Option<u16> {
        if question.is_tcp && self.upstreams == MAX_UPSTREAMS {
            return None;
        }
        let (drawn, own) = self.draw()?;
        let (sent, timer) = (cx.now(), cx.set_timer(self.key, PATIENCE, own.into()));
        let (mut upstream, mut socket) = (None, None);
        if question.is_tcp {
            let limits = Limits::default().all_idle(Some(PATIENCE));
            let options = ConnectOptions::default().timeout(PATIENCE).limits(limits);
            let id = cx.connect(self.server.as_str(), self.key, Side::Upstream(drawn), &options);
            if let Some(mut conn) = cx.conn(id) {
                send_framed(&mut conn, &question.query(own)); // once the connection is up
            }
            upstream = Some(id);
            self.upstreams += 1;
        } else {
            let random = self.random.hash_one(drawn) >> 16; // what is not in the id
            socket = Some(self.ports.draw(random, self.key, cx));
            send_datagram(socket, &question.query(own), cx);
        }
        let (askers, asked) = (Vec::new(), question.clone());
        let pending = Pending { askers, question, sent, timer, drawn, socket, upstream };
        self.pending.insert(own, pending);
        self.asked.insert(asked, own);
        Some(own)
    }

    /// Draws an id that is free. With the port it is hard to guess: who could guess both could
    /// answer instead of the server.
    fn draw(&mut self) -> Option<(u64, u16)> {
        let mut draws = (self.drawn + 1..).take(MAX_DRAWS).map(|drawn| (drawn, self.id_of(drawn)));
        let free = draws.find(|(_, own)| !self.pending.contains_key(own));
        self.drawn = free.map_or(self.drawn + MAX_DRAWS as u64, |(drawn, _)| drawn);
        free
    }

    fn id_of(&self, drawn: u64) -> u16 {
        self.random.hash_one(drawn) as u16
    }

    /// Takes a question back that was sent on.
    fn take(&mut self, own: u16) -> Option<Pending> {
        let pending = self.pending.remove(&own)?;
        let removed = self.asked.remove(&pending.question);
        debug_assert_eq!(removed, Some(own), "a question has one id");
        self.upstreams -= usize::from(pending.question.is_tcp);
        Some(pending)
    }

    /// Gives a question up. A client of UDP asks again, or another server, and one of TCP has
    /// nothing but an answer to go by.
    fn give_up(&mut self, own: u16, cx: &mut Context<'_>) {
        let Some(pending) = self.take(own) else { return };
        cx.cancel_timer(pending.timer);
        if let Some(mut conn) = pending.upstream.and_then(|id| cx.conn(id)) {
            conn.abort();
        }
        for (asker, id) in pending.askers.into_iter().filter(|(asker, _)| asker.is_tcp()) {
            let query = pending.question.query(u16::from_be_bytes(id));
            reply(asker, Some(&refusal(&query, SERVER_FAILURE)), cx);
        }
    }

    /// A connection upstream has ended. Nothing more comes if its question has no answer yet.
    fn on_upstream_gone(&mut self, drawn: u64, cx: &mut Context<'_>) {
        let own = self.id_of(drawn);
        if self.pending.get(&own).is_some_and(|pending| pending.drawn == drawn) {
            self.give_up(own, cx);
        }
    }

    /// Keeps an answer. What has not been asked for longest makes room.
    fn keep(&mut self, question: Question, cached: Cached) {
        self.kept_bytes += cached.bytes();
        let old = self.answers.insert(question, cached);
        self.kept_bytes -= old.map_or(0, |old| old.bytes());
        while self.kept_bytes > MAX_KEPT_BYTES || self.answers.len() > MAX_ANSWERS {
            let Some((_, old)) = self.answers.remove_lru() else { break };
            self.kept_bytes -= old.bytes();
        }
    }

    /// An answer has come to a socket, or on a connection.
    fn on_answer(&mut self, answer: &[u8], socket: Option<SocketId>, cx: &mut Context<'_>) {
        let Some(own) = answer.first_chunk().map(|id| u16::from_be_bytes(*id)) else { return };
        let is_right =
            |pending: &Pending| pending.socket == socket && pending.question.is_answered_by(answer);
        if !self.pending.get(&own).is_some_and(is_right) {
            return; // too late, or forged
        }
        let Some(Pending { askers, question, timer, .. }) = self.take(own) else { return };
        cx.cancel_timer(timer);
        let mut answer = answer.to_vec();
        for (asker, id) in askers {
            answer[..2].copy_from_slice(&id);
            reply(asker, Some(&answer), cx);
        }
        let Some(ttls) = ttls(&answer) else { return };
        let valid = ttls.iter().map(|&(_, ttl)| ttl).min().unwrap_or(0).min(MAX_TTL);
        let since = cx.now();
        let until = since + Duration::from_secs(valid.into());
        self.keep(question, Cached { since, until, answer: answer.into(), ttls });
    }
}

impl DatagramHandler for Forwarder {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, peer: SocketAddr, bytes: &[u8]) {
        if self.ports.has(socket.id()) {
            return self.on_answer(bytes, Some(socket.id()), &mut socket.context());
        }
        let asker = Asker::Udp { socket: socket.id(), peer, local: socket.local_addr().ok() };
        self.on_query(asker, bytes, &mut socket.context());
    }
}

impl TimerHandler for Forwarder {
    /// No answer has come.
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        self.give_up(timer.token as u16, cx);
    }
}

/// The other end of a connection.
enum Side {
    Client,
    /// It is for one question: which number its id was made of.
    Upstream(u64),
}

impl Handler for Forwarder {
    type State = Side;

    fn on_accept(&mut self, _: &Peer) -> Option<Side> {
        Some(Side::Client)
    }

    fn on_data(&mut self, side: &mut Side, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut messages = frame::length_prefixed(input, LengthPrefix::U16_BE, 65_535);
        while conn.is_reading() {
            let Some(Ok(message)) = messages.next() else { break };
            match side {
                Side::Client => {
                    conn.begin_request();
                    self.on_query(Asker::Tcp(conn.id()), message, &mut conn.context());
                }
                Side::Upstream(_) => {
                    self.on_answer(message, None, &mut conn.context());
                    conn.close();
                }
            }
        }
        messages.consumed()
    }

    fn on_close(&mut self, side: Side, _: Closed, cx: &mut Context<'_>) {
        if let Side::Upstream(drawn) = side {
            self.on_upstream_gone(drawn, cx);
        }
    }

    fn on_connect_failed(&mut self, side: Side, _: io::Error, cx: &mut Context<'_>) {
        if let Side::Upstream(drawn) = side {
            self.on_upstream_gone(drawn, cx);
        }
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    ensure!(args.len() <= 2, "usage: dns_forwarder [HOST:PORT [SERVER:PORT]]");
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:5353".to_owned());
    let server = args.next().unwrap_or_else(|| "9.9.9.9:53".to_owned());
    let mut reactor = Reactor::new()?;
    let servers = reactor.resolve_now(server.as_str())?;
    let key = reactor.register_with(|key| Forwarder {
        key,
        ports: Ports::default(),
        server,
        pending: HashMap::new(),
        asked: HashMap::new(),
        upstreams: 0,
        answers: LruCache::with_hasher(usize::MAX, RandomState::new()),
        kept_bytes: 0,
        random: RandomState::new(),
        drawn: 0,
    });
    let ports = Ports::open(servers, key, &mut reactor.context())?;
    reactor.handler_mut(key).expect("it is registered").ports = ports;
    let options = ListenOptions::default().limits(Limits::internet());
    let addr = reactor.listen(addr, key, options)?;
    reactor.bind_udp(addr, key, UdpOptions::default().batch(true))?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    Ok(reactor.run()?)
}
