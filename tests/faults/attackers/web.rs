//! The server that is attacked: a little of HTTP, at four doors with one deadline each. It knows
//! when everybody has to go, and writes down how late they went.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use waterwheel::{
    CloseReason, Closed, Conn, Context, Handler, Limits, ListenOptions, MinRate, Peer, Reactor,
    Remote, Stats, TcpOptions, TimeoutKind,
};

/// What a good request is answered with.
pub(crate) const ANSWER: &[u8; 40] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Bytes of the big answer: many times what the kernel takes.
const BIG_BYTES: usize = 32 << 10;

/// Least rate either way, in bytes a second: above what any attacker sends or takes.
const RATE: u32 = 500;

/// The ways to be slow, and the doors for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    Silence,
    Head,
    Body,
    Read,
}

impl Attack {
    pub(crate) const ALL: [Self; 4] = [Self::Silence, Self::Head, Self::Body, Self::Read];

    /// The one deadline of its door.
    fn limits(self, limit: Duration) -> Limits {
        let limits = Limits::default();
        let rate = MinRate::new(RATE, limit);
        match self {
            Self::Silence => limits.first_byte_timeout(Some(limit)),
            Self::Head => limits.message_timeout(Some(limit)),
            Self::Body => limits.min_receive_rate(Some(rate)),
            Self::Read => limits.min_send_rate(Some(rate)),
        }
    }

    /// How it ends.
    fn timeout(self) -> TimeoutKind {
        match self {
            Self::Silence => TimeoutKind::FirstByte,
            Self::Head => TimeoutKind::Message,
            Self::Body => TimeoutKind::ReceiveRate,
            Self::Read => TimeoutKind::SendRate,
        }
    }
}

/// How the attacks of one kind ended.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Milliseconds between the deadline plus a tick and the end.
    pub(crate) late: Vec<i64>,
    /// How many ended before the deadline.
    pub(crate) early: usize,
    /// How many should have ended in the turn before: its clock had come to the deadline.
    pub(crate) missed: usize,
}

/// The handler.
#[derive(Debug)]
pub(crate) struct Web {
    limit: Duration,
    doors: Vec<SocketAddr>,
    /// For each attack.
    pub(crate) ends: [Ends; 4],
    /// Ends that nobody should meet.
    pub(crate) others: Vec<String>,
    /// When the first callback of the turn began, and the loop's clock then.
    turn_began: Option<(Instant, Duration)>,
    /// The loop's clock in the turn before.
    last_turn: Duration,
    pub(crate) longest_turn: Duration,
}

/// One who came through a door.
pub(crate) struct Visitor {
    attack: Attack,
    /// When the wait began that has the deadline of the door; `None` if nobody waits.
    since: Option<Duration>,
    /// Bytes that count for the rate: received since, or still to be sent then.
    bytes: usize,
    /// How much of a body is still to come.
    body_bytes: usize,
}

impl Handler for Web {
    type State = Visitor;

    fn on_accept(&mut self, peer: &Peer) -> Option<Visitor> {
        let door = self.doors.iter().position(|door| *door == peer.listener)?;
        Some(Visitor { attack: Attack::ALL[door], since: None, bytes: 0, body_bytes: 0 })
    }

    fn on_open(&mut self, visitor: &mut Visitor, conn: &mut Conn<'_>) {
        self.note_turn(&conn.context());
        if visitor.attack == Attack::Silence {
            visitor.since = Some(conn.context().now());
        }
    }

    fn on_data(&mut self, visitor: &mut Visitor, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        self.note_turn(&conn.context());
        visitor.end_wait(Attack::Silence);
        let mut consumed = 0;
        while consumed < input.len() {
            match visitor.consume(conn, &input[consumed..]) {
                0 => {
                    visitor.begin_wait(Attack::Head, conn, consumed > 0);
                    break;
                }
                count => consumed += count,
            }
        }
        consumed
    }

    fn on_close(&mut self, visitor: Visitor, closed: Closed, cx: &mut Context<'_>) {
        self.note_turn(cx);
        match (closed.reason, visitor.deadline(self.limit, closed.unsent_bytes)) {
            (CloseReason::Timeout(kind), Some(deadline)) if kind == visitor.attack.timeout() => {
                self.note_end(visitor.attack, deadline, cx.now());
            }
            // Good clients, who go when all is over.
            (CloseReason::Peer | CloseReason::Shutdown, None) => {}
            (reason, deadline) => {
                self.others.push(format!("{:?} {reason:?} {deadline:?}", visitor.attack));
            }
        }
    }
}

impl Web {
    fn note_turn(&mut self, cx: &Context<'_>) {
        self.turn_began.get_or_insert_with(|| (Instant::now(), cx.now()));
    }

    fn note_end(&mut self, attack: Attack, deadline: Duration, now: Duration) {
        let due = deadline + Duration::from_millis(1);
        let late = now.as_millis() as i64 - due.as_millis() as i64;
        let ends = &mut self.ends[attack as usize];
        ends.late.push(late);
        ends.early += usize::from(late < 0);
        ends.missed += usize::from(due <= self.last_turn);
    }

    fn end_turn(&mut self) {
        if let Some((began, now)) = self.turn_began.take() {
            self.last_turn = now;
            self.longest_turn = self.longest_turn.max(began.elapsed());
        }
    }
}

impl Visitor {
    /// Takes what it can off the front, a whole head or a part of a body, and gives its length.
    fn consume(&mut self, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if self.body_bytes > 0 {
            return self.consume_body(conn, input);
        }
        let Some(end) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return 0;
        };
        self.end_wait(Attack::Head);
        let head = String::from_utf8_lossy(&input[..end]);
        self.body_bytes = body_bytes(&head);
        if self.body_bytes > 0 {
            conn.declare_incomplete(true);
            self.begin_wait(Attack::Body, conn, true);
        } else {
            self.answer(conn, head.starts_with("GET /big"));
        }
        end + 4
    }

    fn consume_body(&mut self, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let count = input.len().min(self.body_bytes);
        self.body_bytes -= count;
        self.bytes += count;
        if self.body_bytes == 0 {
            conn.declare_incomplete(false);
            self.end_wait(Attack::Body);
            self.answer(conn, false);
        }
        count
    }

    fn answer(&mut self, conn: &mut Conn<'_>, is_big: bool) {
        if is_big {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG_BYTES}\r\n\r\n");
            conn.write(head.as_bytes());
            conn.write(&[b'x'; BIG_BYTES]);
            self.begin_wait(Attack::Read, conn, false);
            self.bytes = conn.pending_bytes();
        } else {
            conn.write(ANSWER);
        }
    }

    /// Somebody waits now, if this door has a deadline for it; again from now on, if it is `new`.
    fn begin_wait(&mut self, attack: Attack, conn: &mut Conn<'_>, new: bool) {
        if self.attack == attack && (new || self.since.is_none()) {
            self.since = Some(conn.context().now());
            self.bytes = 0;
        }
    }

    fn end_wait(&mut self, attack: Attack) {
        if self.attack == attack {
            self.since = None;
        }
    }

    /// When it has to go, given what is left to be sent to it.
    fn deadline(&self, limit: Duration, unsent: usize) -> Option<Duration> {
        let moved = match self.attack {
            Attack::Silence | Attack::Head => 0,
            Attack::Body => self.bytes,
            Attack::Read if unsent == 0 => return None,
            Attack::Read => self.bytes.saturating_sub(unsent),
        };
        let paid_for = Duration::from_millis(1_000 * moved as u64 / u64::from(RATE));
        Some(self.since? + limit.max(paid_for))
    }
}

/// The length that a head declares.
fn body_bytes(head: &str) -> usize {
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}

/// The reactor on a thread of its own.
pub(crate) struct Server {
    /// For each attack its door.
    pub(crate) addrs: [SocketAddr; 4],
    remote: Remote,
    thread: JoinHandle<(Web, Stats)>,
}

impl Server {
    pub(crate) fn start(limit: Duration) -> Self {
        let (sender, receiver) = channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().expect("a reactor");
            let web = reactor.register(Web {
                limit,
                doors: Vec::new(),
                ends: Default::default(),
                others: Vec::new(),
                turn_began: None,
                last_turn: Duration::ZERO,
                longest_turn: Duration::ZERO,
            });
            let tcp = TcpOptions::default().send_buffer_bytes(Some(4 << 10));
            let addrs = Attack::ALL.map(|attack| {
                let options = ListenOptions::default().limits(attack.limits(limit));
                reactor.listen("127.0.0.1:0", web, options.tcp(tcp.clone())).expect("a port")
            });
            reactor.handler_mut(web).expect("it is ours").doors = addrs.to_vec();
            sender.send((addrs, reactor.remote())).expect("the test waits");
            while reactor.run_once(None).expect("it polls") {
                reactor.handler_mut(web).expect("it is ours").end_turn();
            }
            let stats = reactor.stats();
            let web = reactor.handler_mut(web).expect("it is ours");
            (web.take(), stats)
        });
        let (addrs, remote) = receiver.recv().expect("it starts");
        Self { addrs, remote, thread }
    }

    /// Stops it, and gives what it has seen.
    pub(crate) fn stop(self) -> (Web, Stats) {
        self.remote.stop().expect("it runs until then");
        self.thread.join().expect("no panic")
    }
}

impl Web {
    fn take(&mut self) -> Self {
        let (ends, others) = (std::mem::take(&mut self.ends), std::mem::take(&mut self.others));
        Self { ends, doors: Vec::new(), others, ..*self }
    }
}
