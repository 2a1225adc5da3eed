//! A DNS forwarder with a cache, over UDP and TCP. It answers from the address that was asked, and
//! asks a server upstream for what it does not know: over TCP what it was asked over TCP, since
//! clients come that way for what is too long for a datagram.
//!
//! ```text
//! cargo run -p dns_forwarder -- 127.0.0.1:5353 9.9.9.9:53
//! dig @127.0.0.1 -p 5353 example.com
//! ```

mod message;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use hashlink::LruCache;
use message::{Ttl, cache_key, question, ttls};
use waterwheel::frame::{self, LengthPrefix};
use waterwheel::udp::{DatagramHandler, DatagramSocket, SocketId, UdpOptions};
use waterwheel::{
    Conn, ConnId, ConnectOptions, Context, Handler, HandlerKey, Limits, ListenOptions, Peer,
    Reactor, Timer, TimerHandler, TimerId,
};

/// How long the server upstream may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long a datagram upstream is waited on before the next client that asks has it sent again: it
/// may have been lost, and all who ask the same wait for its answer.
const RESEND: Duration = Duration::from_secs(1);

/// Longest time in seconds that an answer is kept, and most answers that are.
const MAX_TTL: u32 = 3_600;
const MAX_ANSWERS: usize = 10_000;

/// Queries that one connection may have under way; a client with more is closed.
const MAX_UNDER_WAY: u32 = 100;

/// Clients that may wait for the same answer.
const MAX_ASKERS: usize = 1_000;

/// Ids that one question may have upstream at a time, of queries that differ in what is beside it:
/// with each of them one that is guessed is more likely to be right.
const MAX_ALIKE: usize = 8;

/// Who waits for an answer.
#[derive(Clone, Copy, PartialEq)]
enum Asker {
    Udp { socket: SocketId, peer: SocketAddr, local: Option<SocketAddr> },
    Tcp(ConnId),
}

/// A question that was sent on.
struct Pending {
    /// Who has asked it, each with an id of its own.
    askers: Vec<(Asker, [u8; 2])>,
    /// What was sent, behind the id.
    query: Vec<u8>,
    /// When it was sent last.
    sent: Duration,
    /// Begins with the question.
    cache_key: Vec<u8>,
    timer: TimerId,
}

/// What follows from a query.
enum Outcome {
    Answer(Vec<u8>),
    /// The answer comes later, if there is any.
    Waits,
    /// None comes: the query is malformed, or there are too many.
    Dropped,
}

/// An answer, since when it is kept, and until when.
struct Cached {
    since: Duration,
    until: Duration,
    answer: Box<[u8]>,
    ttls: Box<[Ttl]>,
}

impl Cached {
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
    /// Set before the loop turns.
    upstream: Option<SocketId>,
    /// The same server over TCP.
    server: String,
    /// By the id upstream, which is the token of its timer, too.
    pending: HashMap<u16, Pending>,
    /// The ids upstream of those that the same answer would be kept for.
    alike: HashMap<Vec<u8>, Vec<u16>>,
    /// What has not been asked for longest makes room. The seed of the standard hasher keeps a
    /// client from choosing names that collide.
    cache: LruCache<Vec<u8>, Cached, RandomState>,
    random: RandomState,
    asked: u64,
}

/// A query with another id.
fn with_id(query: &[u8], id: u16) -> Vec<u8> {
    [&id.to_be_bytes(), &query[2..]].concat()
}

impl Forwarder {
    /// Finds the answer that is kept; else asks upstream, unless that was asked already.
    fn on_query(&mut self, asker: Asker, query: &[u8], cx: &mut Context<'_>) -> Outcome {
        let Some(cache_key) = cache_key(query, matches!(asker, Asker::Tcp(_))) else {
            return Outcome::Dropped;
        };
        let (id, now) = ([query[0], query[1]], cx.now());
        if let Some(cached) = self.cache.get(&cache_key).filter(|cached| now < cached.until) {
            return Outcome::Answer(cached.answer(id, now));
        }
        let alike = self.alike.get(&cache_key).map_or(&[][..], Vec::as_slice);
        for own in alike {
            let Some(pending) = self.pending.get_mut(own) else { continue };
            if pending.query != query[2..] {
                continue;
            }
            let is_told = matches!(asker, Asker::Udp { .. });
            let asks_again = is_told && pending.askers.contains(&(asker, id));
            if !asks_again {
                if pending.askers.len() == MAX_ASKERS {
                    return Outcome::Dropped;
                }
                pending.askers.push((asker, id));
            }
            // What was sent may have been lost. A client that asks again has waited for it; one
            // that is new has not, but others have.
            if asks_again || is_told && now >= pending.sent + RESEND {
                pending.sent = now;
                self.send_upstream(*own, query, cx);
            }
            return Outcome::Waits;
        }
        if alike.len() == MAX_ALIKE {
            return Outcome::Dropped;
        }
        self.ask(asker, query, cache_key, cx)
    }

    /// Asks upstream.
    fn ask(
        &mut self,
        asker: Asker,
        query: &[u8],
        cache_key: Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Outcome {
        self.asked += 1;
        // Hard to guess: who could guess it could answer instead of the server.
        let own = self.random.hash_one(self.asked) as u16;
        let Entry::Vacant(pending) = self.pending.entry(own) else {
            return Outcome::Dropped; // the client asks again
        };
        let timer = cx.set_timer(self.key, PATIENCE, own.into());
        self.alike.entry(cache_key.clone()).or_default().push(own);
        let askers = vec![(asker, [query[0], query[1]])];
        let sent = cx.now();
        pending.insert(Pending { askers, query: query[2..].to_vec(), sent, cache_key, timer });
        if let Asker::Tcp(_) = asker {
            let limits = Limits::default().all_idle(Some(PATIENCE));
            let options = ConnectOptions::default().timeout(PATIENCE).limits(limits);
            let state = Side::Upstream(with_id(query, own));
            cx.connect(self.server.as_str(), self.key, state, &options);
        } else {
            self.send_upstream(own, query, cx);
        }
        Outcome::Waits
    }

    fn send_upstream(&self, own: u16, query: &[u8], cx: &mut Context<'_>) {
        if let Some(mut upstream) = self.upstream.and_then(|id| cx.socket(id)) {
            upstream.send(&with_id(query, own));
        }
    }

    /// Takes a question back that was sent on.
    fn take(&mut self, own: u16) -> Option<Pending> {
        let pending = self.pending.remove(&own)?;
        if let Some(alike) = self.alike.get_mut(&pending.cache_key) {
            alike.retain(|&other| other != own);
            if alike.is_empty() {
                self.alike.remove(&pending.cache_key);
            }
        }
        Some(pending)
    }

    fn on_answer(&mut self, answer: &[u8], cx: &mut Context<'_>) {
        let Some(question) = question(answer) else { return };
        let own = u16::from_be_bytes([answer[0], answer[1]]);
        let Some(pending) = self.pending.get(&own) else { return }; // too late
        if !pending.cache_key.starts_with(question) {
            return; // forged
        }
        let Some(pending) = self.take(own) else { return };
        cx.cancel_timer(pending.timer);
        let mut answer = answer.to_vec();
        for (asker, id) in pending.askers {
            answer[..2].copy_from_slice(&id);
            self.send(asker, &answer, cx);
        }
        let Some(ttls) = ttls(&answer) else { return };
        let valid = ttls.iter().map(|&(_, ttl)| ttl).min().unwrap_or(0).min(MAX_TTL);
        let since = cx.now();
        let until = since + Duration::from_secs(valid.into());
        self.cache.insert(pending.cache_key, Cached { since, until, answer: answer.into(), ttls });
    }

    fn send(&self, asker: Asker, answer: &[u8], cx: &mut Context<'_>) {
        match asker {
            Asker::Udp { socket, peer, local } => {
                let Some(mut socket) = cx.socket(socket) else { return };
                match local {
                    Some(local) => socket.send_from(local, peer, answer),
                    None => socket.send_to(peer, answer),
                };
            }
            Asker::Tcp(id) => {
                cx.with(self.key, id, |side, conn| side.reply(conn, answer));
            }
        }
    }
}

impl DatagramHandler for Forwarder {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, peer: SocketAddr, bytes: &[u8]) {
        if Some(socket.id()) == self.upstream {
            return self.on_answer(bytes, &mut socket.context());
        }
        let asker = Asker::Udp { socket: socket.id(), peer, local: socket.local_addr().ok() };
        let mut cx = socket.context();
        if let Outcome::Answer(answer) = self.on_query(asker, bytes, &mut cx) {
            self.send(asker, &answer, &mut cx);
        }
    }
}

impl TimerHandler for Forwarder {
    /// No answer came: the clients ask again, or another server.
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        for (asker, _) in self.take(timer.token as u16).into_iter().flat_map(|it| it.askers) {
            if let Asker::Tcp(id) = asker {
                cx.with(self.key, id, |side, conn| side.is_done(conn));
            }
        }
    }
}

/// The other end of a connection.
enum Side {
    /// A client: its queries under way, and whether it has sent all that it will.
    Client { under_way: u32, is_last: bool },
    /// The server: a connection for one query, which is kept until that is up.
    Upstream(Vec<u8>),
}

impl Side {
    fn reply(&mut self, conn: &mut Conn<'_>, answer: &[u8]) {
        send_framed(conn, answer);
        self.is_done(conn);
    }

    /// A query is not under way any more.
    fn is_done(&mut self, conn: &mut Conn<'_>) {
        let Self::Client { under_way, is_last } = self else { return };
        *under_way -= 1;
        if *under_way == 0 && *is_last {
            conn.close();
        }
    }
}

fn send_framed(conn: &mut Conn<'_>, message: &[u8]) {
    if let Ok(length) = LengthPrefix::U16_BE.encode(message.len()) {
        conn.write_vectored(&[&length, message]);
    }
}

impl Handler for Forwarder {
    type State = Side;

    fn on_accept(&mut self, _: &Peer) -> Option<Side> {
        Some(Side::Client { under_way: 0, is_last: false })
    }

    fn on_open(&mut self, side: &mut Side, conn: &mut Conn<'_>) {
        if let Side::Upstream(query) = side {
            send_framed(conn, query);
        }
    }

    fn on_data(&mut self, side: &mut Side, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut messages = frame::length_prefixed(input, LengthPrefix::U16_BE, 65_535);
        for message in messages.by_ref().flatten() {
            let Side::Client { under_way, .. } = side else {
                self.on_answer(message, &mut conn.context());
                conn.close();
                break;
            };
            if *under_way == MAX_UNDER_WAY {
                conn.close();
                break;
            }
            *under_way += 1;
            let asker = Asker::Tcp(conn.id());
            match self.on_query(asker, message, &mut conn.context()) {
                Outcome::Answer(answer) => side.reply(conn, &answer),
                Outcome::Waits => {}
                Outcome::Dropped => side.is_done(conn),
            }
        }
        messages.consumed()
    }

    fn on_eof(&mut self, side: &mut Side, conn: &mut Conn<'_>) {
        match side {
            Side::Client { under_way: 1.., is_last } => *is_last = true,
            _ => conn.close(),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    ensure!(args.len() <= 2, "usage: dns_forwarder [HOST:PORT [SERVER:PORT]]");
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:5353".to_owned());
    let server = args.next().unwrap_or_else(|| "9.9.9.9:53".to_owned());
    let mut reactor = Reactor::new()?;
    let key = reactor.register_with(|key| Forwarder {
        key,
        upstream: None,
        server: server.clone(),
        pending: HashMap::new(),
        alike: HashMap::new(),
        cache: LruCache::with_hasher(MAX_ANSWERS, RandomState::new()),
        random: RandomState::new(),
        asked: 0,
    });
    let (upstream, _) = reactor.connect_udp(server, key, UdpOptions::default())?;
    reactor.handler_mut(key).expect("it is registered").upstream = Some(upstream);
    let options = ListenOptions::default().limits(Limits::internet());
    let addr = reactor.listen(addr, key, options)?;
    reactor.bind_udp(addr, key, UdpOptions::default().batch(true))?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    Ok(reactor.run()?)
}
