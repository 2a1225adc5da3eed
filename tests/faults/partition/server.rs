//! The server: three kinds of connections, each on a port of its own, and a book of how punctually
//! they expired, by the clock of the loop itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::{
    CloseReason, Closed, Conn, Context, Handler, Idle, IdleKind, Keepalive, ListenOptions, Peer,
    Reactor, TcpOptions, Timer,
};

use super::clients::Kind;
use crate::network::FAR_ADDR;
use crate::parts::obey;
use crate::proc::descriptors;
use crate::tools::percentile;

/// How often a busy connection is written to, and how much.
const PUSH_PERIOD: Duration = Duration::from_millis(20);
const PUSH: [u8; 8 << 10] = [b'x'; 8 << 10];

/// A busy connection's kernel buffer, so small that a cut is felt at once.
const SEND_BUFFER_BYTES: usize = 32 << 10;

/// What the server tells of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Connections now.
    pub(super) slots: usize,
    /// Descriptors now.
    pub(super) files: usize,
    /// Quiet connections that were ended by their idle limit.
    pub(super) expired: usize,
    /// Those of them that were ended before it had passed.
    pub(super) early: usize,
    /// How late they were.
    pub(super) median_late: Duration,
    pub(super) worst_late: Duration,
    /// Busy connections that were ended by their idle limit with output unsent.
    pub(super) stuck: usize,
}

impl Report {
    #[track_caller]
    pub(super) fn parse(line: &str) -> Self {
        let all: Vec<usize> =
            line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let [slots, files, expired, early, median, worst, stuck] = all[..] else {
            panic!("another report than expected: {line}");
        };
        let [median_late, worst_late] = [median, worst].map(|us| Duration::from_micros(us as u64));
        Self { slots, files, expired, early, median_late, worst_late, stuck }
    }
}

/// What was noted since the last report.
#[derive(Debug, Default)]
struct Book {
    /// How late each quiet connection expired.
    late: Vec<Duration>,
    early: usize,
    stuck: usize,
    /// Of the connections that something came in on this turn: when the turn ended.
    turn_ends: Vec<Rc<Cell<Duration>>>,
}

/// The handler of one kind.
struct Station {
    kind: Kind,
    book: Rc<RefCell<Book>>,
}

/// What a connection knows.
#[derive(Debug, Default)]
struct Line {
    limit: Duration,
    /// The clock when the last bytes came in.
    heard: Duration,
    /// The clock at the end of that turn. The loop may count silence from any moment between the
    /// two: a turn may be long, and the bytes are handled somewhere in it.
    turn_end: Rc<Cell<Duration>>,
}

pub(super) fn serve() {
    let book = Rc::new(RefCell::new(Book::default()));
    let mut reactor = Reactor::new().expect("a reactor");
    for kind in [Kind::Quiet, Kind::Busy, Kind::Lasting] {
        let service = reactor.register(Station { kind, book: book.clone() });
        let address = format!("{FAR_ADDR}:{}", kind.port());
        reactor.listen(address, service, options(kind)).expect("listens");
        if kind == Kind::Lasting {
            obey(&reactor, service, |station, _, cx| station.report(cx));
        }
    }
    println!("\nready, descriptors: {}", open_files());
    while reactor.run_once(None).expect("turns") {
        let now = reactor.context().now();
        for turn_end in book.borrow_mut().turn_ends.drain(..) {
            turn_end.set(now);
        }
    }
}

/// What lasts must outlive a cut of two minutes, after which TCP's own probes, by default, have
/// given a silent peer up.
fn options(kind: Kind) -> ListenOptions {
    let patient = Keepalive::default().idle(Duration::from_secs(600));
    let tcp = TcpOptions::default();
    ListenOptions::default().tcp(match kind {
        Kind::Busy => tcp.send_buffer_bytes(Some(SEND_BUFFER_BYTES)),
        Kind::Lasting => tcp.keepalive(Some(patient)),
        _ => tcp,
    })
}

/// Descriptors of this process, with the one that counts them.
pub(super) fn open_files() -> usize {
    descriptors(std::process::id())
}

impl Handler for Station {
    type State = Line;

    fn on_accept(&mut self, _: &Peer) -> Option<Line> {
        Some(Line::default())
    }

    fn on_data(&mut self, line: &mut Line, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        match self.kind {
            Kind::Lasting => {
                conn.write(input);
                return input.len();
            }
            Kind::Busy | Kind::Quiet if line.limit.is_zero() => {
                let Some((idle, limit)) = Kind::parse_limit(input) else {
                    return 0;
                };
                line.limit = limit;
                conn.set_idle_timeout(idle, Some(limit)).expect("a limit");
            }
            _ => {}
        }
        if self.kind == Kind::Busy {
            conn.set_periodic_timer(PUSH_PERIOD, 0);
        } else {
            conn.write(b"k");
        }
        line.heard = conn.context().now();
        line.turn_end.set(line.heard);
        self.book.borrow_mut().turn_ends.push(line.turn_end.clone());
        input.len()
    }

    fn on_timer(&mut self, _: &mut Line, conn: &mut Conn<'_>, _: Timer) {
        if conn.pending_bytes() == 0 {
            conn.write(&PUSH);
        }
    }

    fn on_idle(&mut self, line: &mut Line, conn: &mut Conn<'_>, _: IdleKind) -> Idle {
        if self.kind == Kind::Quiet {
            let now = conn.context().now();
            let mut book = self.book.borrow_mut();
            book.early += usize::from(now < line.heard + line.limit);
            book.late.push(now.saturating_sub(line.turn_end.get() + line.limit));
        }
        Idle::Close
    }

    fn on_close(&mut self, _: Line, closed: Closed, _: &mut Context<'_>) {
        if self.kind == Kind::Busy
            && matches!(closed.reason, CloseReason::Idle)
            && closed.unsent_bytes > 0
        {
            self.book.borrow_mut().stuck += 1;
        }
    }
}

impl Station {
    fn report(&mut self, cx: &mut Context<'_>) {
        let book = self.book.take();
        let [median, worst] = [50, 100].map(|percent| percentile(&book.late, percent));
        println!(
            "report: {} {} {} {} {} {} {}",
            cx.stats().connections,
            open_files(),
            book.late.len(),
            book.early,
            median.as_micros(),
            worst.as_micros(),
            book.stuck,
        );
    }
}
