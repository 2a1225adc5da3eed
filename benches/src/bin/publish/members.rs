//! The members, in a process of their own: they read and drop what comes, and note how late it is.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use waterwheel::{
    Closed, Conn, ConnectOptions, Context, Handler, HandlerKey, Peer, Reactor, TcpOptions, Timer,
    TimerHandler,
};

use crate::children::say;

pub(crate) const HELLO: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// Bytes of a frame of 64 bytes, whose first eight are the time.
const FRAME: usize = 66;

/// A frame of a client without a byte.
const HEARD: [u8; 6] = [0x82, 0x80, 0, 0, 0, 0];

/// What the kernel holds for a member, so that one that does not read is soon full.
pub(crate) const BUFFER_BYTES: usize = 2 << 10;

/// The time, in nanoseconds, the same in all processes.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Reader,
    /// A reader that tells the server of each message.
    Witness,
    Sleeper,
}

/// What a member is, and whether the server has answered its request.
struct Member {
    role: Role,
    is_open: bool,
}

struct Members {
    late: Histogram<u64>,
    left: usize,
}

impl Handler for Members {
    type State = Member;

    fn on_accept(&mut self, _: &Peer) -> Option<Member> {
        None
    }

    fn on_open(&mut self, _: &mut Member, conn: &mut Conn<'_>) {
        conn.write(HELLO.as_bytes());
    }

    fn on_data(&mut self, member: &mut Member, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut at = 0;
        if !member.is_open {
            let end = input.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end else { return 0 };
            at = end + 4;
            member.is_open = true;
            if member.role == Role::Sleeper {
                conn.pause_reading();
                return at;
            }
        }
        let now = now();
        while let Some(frame) = input.get(at..at + FRAME) {
            at += FRAME;
            let sent = u64::from_le_bytes(frame[2..10].try_into().unwrap_or_default());
            self.late.saturating_record(now.saturating_sub(sent));
            if member.role == Role::Witness {
                conn.write(&HEARD);
            }
        }
        at
    }

    fn on_close(&mut self, _: Member, _: Closed, cx: &mut Context<'_>) {
        self.left -= 1;
        if self.left == 0 {
            cx.stop();
        }
    }

    fn on_connect_failed(&mut self, _: Member, error: std::io::Error, cx: &mut Context<'_>) {
        eprintln!("a member cannot connect: {error}");
        cx.stop();
    }
}

impl TimerHandler for Members {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        let late = &self.late;
        let (p50, p99) = (late.value_at_quantile(0.5), late.value_at_quantile(0.99));
        let told = say(&format!("{} {p50} {p99} {}", late.len(), late.max()));
        self.late.reset();
        if told.is_err() {
            cx.stop();
        }
    }
}

/// Connects so many members. With `sleepers` so many of them never read, another one tells the
/// server of each message, and each second is told how late messages are: how many there were, and
/// the median, the 99th percentile and the maximum in nanoseconds.
pub(crate) fn run(
    addr: SocketAddr,
    count: usize,
    sleepers: Option<usize>,
) -> Result<(), Box<dyn Error>> {
    let mut reactor = Reactor::new()?;
    let late = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    let key = reactor.register(Members { late, left: count });
    let is_timed = sleepers.is_some();
    let sleepers = sleepers.unwrap_or(0);
    for place in 0..count {
        let role = match place {
            0 if is_timed => Role::Witness,
            _ if place < count - sleepers => Role::Reader,
            _ => Role::Sleeper,
        };
        connect(&mut reactor, key, addr, role);
    }
    if is_timed {
        reactor.set_periodic_timer(key, Duration::from_secs(1), 0);
    }
    reactor.run()?;
    Ok(())
}

fn connect(reactor: &mut Reactor, key: HandlerKey<Members>, addr: SocketAddr, role: Role) {
    let mut options = ConnectOptions::default();
    if role == Role::Sleeper {
        options = options.tcp(TcpOptions::default().receive_buffer_bytes(Some(BUFFER_BYTES)));
    }
    reactor.context().connect(addr, key, Member { role, is_open: false }, &options);
}
