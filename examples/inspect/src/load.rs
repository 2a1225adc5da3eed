//! A small load: connections that speak now and then, end, and come again.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::{
    Closed, Conn, ConnectOptions, Context, Handler, HandlerKey, Peer, Reactor, Timer, TimerHandler,
};

/// Messages of one connection, at the most: then it ends, and another one comes.
const MAX_MESSAGES: u64 = 400;

/// Waits between two messages are so long at the most.
const MAX_WAIT_MS: u64 = 100;

/// Messages are so long at the most.
const MAX_BYTES: u64 = 4_000;

/// Connections come one in so long a time at the beginning, and all of them in this.
const STEP: Duration = Duration::from_millis(20);
const SPREAD: Duration = Duration::from_secs(4);

/// A client whose last word this is asks the server to answer its end later.
pub(crate) const LATER: &[u8] = b"later";

/// Of so many connections one is reset, and these half-close and wait for the server's end.
const ENDS: u64 = 30;
const HALF_CLOSES: std::ops::RangeInclusive<u64> = 1..=8;

/// A pause before the next connection.
const AGAIN: Duration = Duration::from_millis(500);

pub(crate) struct Load {
    key: HandlerKey<Self>,
    server: SocketAddr,
    chance: Chance,
}

/// Opens so many connections.
pub(crate) fn begin(
    reactor: &mut Reactor,
    make: impl FnOnce(HandlerKey<Load>) -> Load,
    connections: usize,
) {
    let load = reactor.register_with(make);
    // Not all at once, as clients do not come either.
    let step = STEP.min(SPREAD / connections.max(1) as u32);
    for at in 0..connections as u32 {
        reactor.set_timer(load, step * at, 0);
    }
}

impl Load {
    pub(crate) fn new(key: HandlerKey<Self>, server: SocketAddr) -> Self {
        Self { key, server, chance: Chance(0x9e37_79b9_7f4a_7c15) }
    }

    fn wait(&mut self) -> Duration {
        Duration::from_millis(1 + self.chance.below(MAX_WAIT_MS))
    }

    /// Most connections are closed, a few end in other ways.
    fn end(&mut self, conn: &mut Conn<'_>) {
        match self.chance.below(ENDS) {
            0 => conn.abort(),
            number if HALF_CLOSES.contains(&number) => {
                conn.write(LATER);
                conn.shutdown_write();
            }
            _ => conn.close(),
        }
    }
}

/// How many messages are left.
impl Handler for Load {
    type State = u64;

    fn on_accept(&mut self, _: &Peer) -> Option<u64> {
        None
    }

    fn on_open(&mut self, _: &mut u64, conn: &mut Conn<'_>) {
        conn.set_timer(self.wait(), 0);
    }

    fn on_data(&mut self, _: &mut u64, _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_timer(&mut self, left: &mut u64, conn: &mut Conn<'_>, _: Timer) {
        if *left == 0 {
            return self.end(conn);
        }
        *left -= 1;
        let length = 1 + self.chance.below(MAX_BYTES) as usize;
        conn.write(&[b'x'; MAX_BYTES as usize][..length]);
        conn.set_timer(self.wait(), 0);
    }

    fn on_close(&mut self, _: u64, _: Closed, cx: &mut Context<'_>) {
        cx.set_timer(self.key, AGAIN, 0);
    }

    fn on_connect_failed(&mut self, _: u64, _: io::Error, cx: &mut Context<'_>) {
        cx.set_timer(self.key, AGAIN, 0);
    }
}

impl TimerHandler for Load {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        let messages = 1 + self.chance.below(MAX_MESSAGES);
        cx.connect(self.server, self.key, messages, &ConnectOptions::default());
    }
}

/// Numbers that look drawn (xorshift), the same ones each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
