//! The server that broadcasts: three doors, a message to everybody in each round, and a book of
//! what was accepted, refused and lost.

use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::{
    CloseReason, Closed, Conn, ConnId, Context, Handler, HandlerKey, Limits, ListenOptions,
    OnOverflow, Peer, Reactor, Stats, TcpOptions, Timer, TimerHandler, Written,
};

use crate::parts::{obey, plays};
use crate::proc::resident_bytes;

/// Bytes of a message.
pub(crate) const MESSAGE_BYTES: usize = 4 << 10;

/// What may be queued for one peer: ten messages, and no round number of pages of a buffer that
/// grows by doubling.
pub(crate) const CAP_BYTES: usize = 40 << 10;

/// The doors, by what happens to those who are over the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Closing,
    Refusing,
    /// As the first, for those who read.
    Reading,
}

impl Door {
    pub(crate) const ALL: [Self; 3] = [Self::Closing, Self::Refusing, Self::Reading];

    fn options(self) -> ListenOptions {
        let limits = Limits::default()
            .max_output_bytes(CAP_BYTES)
            .high_mark_bytes(CAP_BYTES / 2)
            .low_mark_bytes(CAP_BYTES / 4)
            .on_overflow(match self {
                Self::Refusing => OnOverflow::Refuse,
                _ => OnOverflow::Close,
            });
        let tcp = TcpOptions::default().send_buffer_bytes(Some(4 << 10));
        ListenOptions::default().limits(limits).tcp(tcp)
    }
}

/// A message: its number, over and over.
fn message(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(MESSAGE_BYTES / 8)
}

/// The number of a message, if it is one.
pub(crate) fn number_of(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(bytes.first_chunk().copied()?);
    bytes.chunks(8).all(|chunk| chunk == number.to_be_bytes()).then_some(number)
}

pub(crate) const SERVER: &str = "broadcast::source::server";

#[test]
#[ignore = "a part that a copy of this program plays"]
fn server() {
    if !plays(SERVER) {
        return;
    }
    let mut reactor = Reactor::new().unwrap();
    let source = reactor.register_with(Source::new);
    let addrs = Door::ALL.map(|door| reactor.listen("127.0.0.1:0", source, door.options()));
    let addrs = addrs.map(Result::unwrap);
    reactor.handler_mut(source).unwrap().doors = addrs.to_vec();
    println!("listening on {}", addrs.map(|addr| addr.to_string()).join(" "));
    obey(&reactor, source, Source::obey);
    reactor.run().unwrap();
    let stats = reactor.stats();
    println!("stopped: {}", reactor.handler_mut(source).unwrap().account(&stats));
}

/// One peer, as long as the server runs.
struct Member {
    id: ConnId,
    door: Door,
    accepted_bytes: usize,
    refused: usize,
    /// Why it ended and what it lost.
    end: Option<(CloseReason, usize)>,
}

struct Source {
    service: HandlerKey<Source>,
    doors: Vec<SocketAddr>,
    members: Vec<Member>,
    /// How many are to come before it begins.
    expected: usize,
    rounds: u64,
    round: u64,
    /// Memory before the first round, and the most since.
    base_resident: u64,
    most_resident: u64,
    /// The most that was queued for all together.
    most_queued: usize,
}

impl Handler for Source {
    type State = usize;

    fn on_accept(&mut self, peer: &Peer) -> Option<usize> {
        self.doors.iter().position(|door| *door == peer.listener)
    }

    /// The state is the door until then, and the place among the members from now on.
    fn on_open(&mut self, state: &mut usize, conn: &mut Conn<'_>) {
        let (id, door) = (conn.id(), Door::ALL[*state]);
        *state = self.members.len();
        self.members.push(Member { id, door, accepted_bytes: 0, refused: 0, end: None });
    }

    fn on_data(&mut self, _: &mut usize, _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, member: usize, closed: Closed, _: &mut Context<'_>) {
        self.members[member].end = Some((closed.reason, closed.unsent_bytes));
    }
}

impl TimerHandler for Source {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        if self.members.len() < self.expected {
            return;
        }
        self.note_memory(cx);
        if self.are_readers_behind(cx) {
            return;
        }
        if self.round < self.rounds {
            self.broadcast(cx);
        } else if cx.cancel_timer(timer.id) {
            let Self { base_resident, most_resident, most_queued, .. } = self;
            println!(
                "broadcast: base_resident={base_resident} most_resident={most_resident} \
                 queued={most_queued}"
            );
        }
    }
}

impl Source {
    fn new(service: HandlerKey<Self>) -> Self {
        Self {
            service,
            doors: Vec::new(),
            members: Vec::new(),
            expected: 0,
            rounds: 0,
            round: 0,
            base_resident: 0,
            most_resident: 0,
            most_queued: 0,
        }
    }

    /// The first order starts the broadcast and the second stops the server.
    fn obey(&mut self, order: &str, cx: &mut Context<'_>) {
        if order == "stop" {
            return cx.stop();
        }
        let (members, rounds) = order.split_once(' ').unwrap();
        (self.expected, self.rounds) = (members.parse().unwrap(), rounds.parse().unwrap());
        cx.set_periodic_timer(self.service, Duration::from_millis(1), 0);
    }

    fn note_memory(&mut self, cx: &mut Context<'_>) {
        let now = resident_bytes(std::process::id());
        if self.round == 0 {
            self.base_resident = now;
        }
        self.most_resident = self.most_resident.max(now);
        let pending = self.members.iter().map(|member| pending_bytes(cx, member));
        self.most_queued = self.most_queued.max(pending.sum());
    }

    /// One who reads is given the time to.
    fn are_readers_behind(&self, cx: &mut Context<'_>) -> bool {
        let mut readers = self.members.iter().filter(|member| member.door == Door::Reading);
        readers.any(|member| pending_bytes(cx, member) > 0)
    }

    fn broadcast(&mut self, cx: &mut Context<'_>) {
        let message = message(self.round);
        for member in &mut self.members {
            let Some(mut conn) = cx.conn(member.id) else { continue };
            match conn.write(&message) {
                Written::Full => member.refused += 1,
                Written::Closed => {}
                _ => member.accepted_bytes += message.len(),
            }
        }
        self.round += 1;
    }

    /// Everything that the test wants to know at the end.
    fn account(&self, stats: &Stats) -> String {
        let ended = |door: Door, is: fn(&CloseReason) -> bool| {
            let ends = self.members.iter().filter(|member| member.door == door);
            ends.filter(|member| member.end.as_ref().is_some_and(|(why, _)| is(why))).count()
        };
        let silent = self.members.iter().filter(|member| member.door != Door::Reading);
        let lost: Vec<usize> = silent.filter_map(|member| Some(member.end.as_ref()?.1)).collect();
        let unsent = self.members.iter().filter_map(|member| Some(member.end.as_ref()?.1));
        let figures = [
            ("closing_overflow", ended(Door::Closing, |why| matches!(why, CloseReason::Overflow))),
            (
                "refusing_shutdown",
                ended(Door::Refusing, |why| matches!(why, CloseReason::Shutdown)),
            ),
            ("reading_peer", ended(Door::Reading, |why| matches!(why, CloseReason::Peer))),
            ("accepted", self.members.iter().map(|member| member.accepted_bytes).sum()),
            ("refused", self.members.iter().map(|member| member.refused).sum()),
            ("unsent", unsent.sum()),
            ("most_unsent", lost.iter().copied().max().unwrap_or(0)),
            ("least_unsent", lost.iter().copied().min().unwrap_or(0)),
            ("stats_written", stats.bytes_written as usize),
            ("stats_unsent", stats.bytes_unsent as usize),
            ("stats_refused", stats.writes_refused as usize),
            ("stats_overflow", stats.closed_overflow as usize),
        ];
        figures.map(|(name, figure)| format!("{name}={figure}")).join(" ")
    }
}

fn pending_bytes(cx: &mut Context<'_>, member: &Member) -> usize {
    cx.conn(member.id).map_or(0, |conn| conn.pending_bytes())
}
