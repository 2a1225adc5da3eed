//! A DNS forwarder with a cache, over UDP and TCP. It answers from the address that was asked, and
//! asks a server upstream for what it does not know.
//!
//! ```text
//! cargo run -p dns_forwarder -- 127.0.0.1:5353 9.9.9.9:53
//! dig @127.0.0.1 -p 5353 example.com
//! ```

use std::collections::HashMap;
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::frame::{self, LengthPrefix};
use waterwheel::udp::{DatagramHandler, DatagramSocket, SocketId, UdpOptions};
use waterwheel::{
    Conn, ConnId, Context, Handler, HandlerKey, Limits, ListenOptions, Peer, Reactor, Timer,
    TimerId,
};

/// How long the server upstream may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// Longest time that an answer is kept, and most answers that are.
const MAX_TTL: u32 = 3_600;
const MAX_ANSWERS: usize = 10_000;

/// A message begins with an id, flags, and how many records of each kind there are.
const HEADER: usize = 12;

/// Who waits for an answer.
#[derive(Clone, Copy)]
enum Asker {
    Udp { socket: SocketId, peer: SocketAddr, local: Option<SocketAddr> },
    Tcp(ConnId),
}

/// A question that was sent on.
struct Pending {
    asker: Asker,
    /// The id that the client has given it.
    id: [u8; 2],
    question: Box<[u8]>,
    timer: TimerId,
}

/// Until when an answer is valid, and the answer.
type Cached = (Duration, Box<[u8]>);

struct Forwarder {
    key: HandlerKey<Forwarder>,
    /// Both are set before the loop turns.
    tcp: Option<HandlerKey<Tcp>>,
    upstream: Option<SocketId>,
    /// By the id upstream, which is the token of its timer, too.
    pending: HashMap<u16, Pending>,
    /// By question.
    cache: HashMap<Box<[u8]>, Cached>,
    random: RandomState,
    asked: u64,
}

/// The number of two bytes at a place.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Where the name at a place ends.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2), // the rest is elsewhere
            length => at += 1 + usize::from(length),
        }
    }
}

/// The only question of a message, with its type and class.
fn question(message: &[u8]) -> Option<&[u8]> {
    let end = skip_name(message, HEADER)? + 4;
    (u16_at(message, 4)? == 1).then(|| message.get(HEADER..end))?
}

/// How long all answers of a message are valid, in seconds; `None` if it is not to be kept.
fn ttl(message: &[u8]) -> Option<u32> {
    let (is_whole, is_good) = (message[2] & 2 == 0, message[3] & 15 == 0);
    let count = u16_at(message, 6).filter(|&count| count > 0 && is_whole && is_good)?;
    let (mut at, mut least) = (HEADER + question(message)?.len(), MAX_TTL);
    for _ in 0..count {
        at = skip_name(message, at)?;
        least = least.min(u32::from_be_bytes(message.get(at + 4..at + 8)?.try_into().ok()?));
        at += 10 + usize::from(u16_at(message, at + 8)?);
    }
    Some(least)
}

impl Forwarder {
    fn on_query(&mut self, asker: Asker, query: &[u8], cx: &mut Context<'_>) {
        let is_query = query.len() > HEADER && query[2] & 0x80 == 0;
        let Some(question) = question(query).filter(|_| is_query) else { return };
        let (question, id, now) = (Box::from(question), [query[0], query[1]], cx.now());
        if let Some((until, answer)) = self.cache.get(&question) {
            if now < *until {
                return self.answer(asker, id, answer, cx);
            }
            self.cache.remove(&question);
        }
        self.asked += 1;
        // Hard to guess: who could guess it could answer instead of the server.
        let own = self.random.hash_one(self.asked) as u16;
        if self.pending.contains_key(&own) {
            return; // the client asks again
        }
        let timer = cx.set_timer(self.key, PATIENCE, own.into());
        self.pending.insert(own, Pending { asker, id, question, timer });
        if let Some(mut upstream) = self.upstream.and_then(|id| cx.socket(id)) {
            let mut sent = query.to_vec();
            sent[..2].copy_from_slice(&own.to_be_bytes());
            upstream.send(&sent);
        }
    }

    fn on_answer(&mut self, answer: &[u8], cx: &mut Context<'_>) {
        let Some(own) = u16_at(answer, 0).filter(|_| answer.len() > HEADER) else { return };
        let asked = self.pending.get(&own).map(|pending| &*pending.question);
        if asked.is_none() || question(answer) != asked {
            return; // too late, or forged
        }
        let Some(pending) = self.pending.remove(&own) else { return };
        cx.cancel_timer(pending.timer);
        self.answer(pending.asker, pending.id, answer, cx);
        if let Some(ttl) = ttl(answer) {
            if self.cache.len() >= MAX_ANSWERS {
                let now = cx.now();
                self.cache.retain(|_, (until, _)| now < *until);
            }
            if self.cache.len() >= MAX_ANSWERS {
                self.cache.clear(); // or whoever fills it ends it for all others
            }
            let until = cx.now() + Duration::from_secs(ttl.into());
            self.cache.insert(pending.question, (until, answer.into()));
        }
    }

    fn answer(&self, asker: Asker, id: [u8; 2], answer: &[u8], cx: &mut Context<'_>) {
        let mut answer = answer.to_vec();
        answer[..2].copy_from_slice(&id);
        match asker {
            Asker::Udp { socket, peer, local } => {
                let Some(mut socket) = cx.socket(socket) else { return };
                match local {
                    Some(local) => socket.send_from(local, peer, &answer),
                    None => socket.send_to(peer, &answer),
                };
            }
            Asker::Tcp(id) => {
                let Some(tcp) = self.tcp else { return };
                cx.post(tcp, move |_, cx| {
                    cx.with(tcp, id, |under_way, conn| reply(under_way, conn, &answer));
                });
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
        self.on_query(asker, bytes, &mut socket.context());
    }

    /// No answer came: the client asks again, or another server.
    fn on_handler_timer(&mut self, timer: Timer, _: &mut Context<'_>) {
        self.pending.remove(&(timer.token as u16));
    }
}

/// Queries over TCP; a connection counts those under way.
struct Tcp {
    forwarder: HandlerKey<Forwarder>,
}

/// Queries under way, and whether the client has sent all of its own.
#[derive(Default)]
struct UnderWay {
    queries: u32,
    is_last: bool,
}

fn reply(under_way: &mut UnderWay, conn: &mut Conn<'_>, answer: &[u8]) {
    if let Ok(length) = LengthPrefix::U16_BE.encode(answer.len()) {
        conn.write_vectored(&[&length, answer]);
    }
    under_way.queries -= 1;
    if under_way.queries == 0 && under_way.is_last {
        conn.close();
    }
}

impl Handler for Tcp {
    type State = UnderWay;

    fn on_accept(&mut self, _: &Peer) -> Option<UnderWay> {
        Some(UnderWay::default())
    }

    fn on_data(&mut self, state: &mut UnderWay, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut queries = frame::length_prefixed(input, LengthPrefix::U16_BE, 65_535);
        for query in queries.by_ref().flatten() {
            state.queries += 1;
            let (asker, query) = (Asker::Tcp(conn.id()), query.to_vec());
            conn.context().post(self.forwarder, move |it, cx| it.on_query(asker, &query, cx));
        }
        queries.consumed()
    }

    fn on_eof(&mut self, state: &mut UnderWay, conn: &mut Conn<'_>) {
        state.is_last = true;
        if state.queries == 0 {
            conn.close();
        }
    }
}

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:5353".to_owned());
    let server = args.next().unwrap_or_else(|| "9.9.9.9:53".to_owned());
    let mut reactor = Reactor::new()?;
    let key = reactor.register_datagrams_with(|key| Forwarder {
        key,
        tcp: None,
        upstream: None,
        pending: HashMap::new(),
        cache: HashMap::new(),
        random: RandomState::new(),
        asked: 0,
    });
    let tcp = reactor.register(Tcp { forwarder: key });
    let (upstream, _) = reactor.connect_udp(server, key, UdpOptions::default())?;
    if let Some(forwarder) = reactor.handler_mut(key) {
        (forwarder.tcp, forwarder.upstream) = (Some(tcp), Some(upstream));
    }
    let options = ListenOptions::default().limits(Limits::internet());
    let addr = reactor.listen(addr, tcp, options)?;
    reactor.bind_udp(addr, key, UdpOptions::default())?;
    let _ = writeln!(io::stdout(), "listening on {addr}");
    reactor.run()
}
