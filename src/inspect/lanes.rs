//! Lanes: a page shows some connections one by one, each with its callbacks along a line of time.
//!
//! Nothing is kept for them while no page looks: the callbacks are in the ring of the recorder.

use std::fmt;

use super::conns::Entry;
use super::record::{ON_DATA, Record};
use super::recorder::Recorder;
use super::view::{handler, list, phase};
use crate::base::id::ConnId;
use crate::base::json::Quoted;
use crate::base::tcp_info::TcpState;
use crate::engine::observer::ObserverKey;
use crate::handler::Context;
use crate::http::Request;

/// A page shows so many lanes.
const MAX_LANES: usize = 40;

/// The line of time goes back so far, in nanoseconds.
const WINDOW: u64 = 8_000_000_000;

/// Callbacks of a lane that began within the same so many nanoseconds are one tick: the line has
/// some thousand points.
const BIN: u64 = 8_000_000;

/// A look gives so many ticks at most, the newest ones.
const MAX_TICKS: usize = 4_096;

/// Which connections are the most active is seen from so many records at most, of the last so many
/// nanoseconds.
const MAX_COUNTED: usize = 16_384;
const ACTIVE_WINDOW: u64 = 2_000_000_000;

/// A connection that has so many times as many messages takes the place of one that is shown: with
/// less, lanes would come and go all the time.
const STEADINESS: u64 = 4;

/// A lane whose connection has ended keeps its place for so long, in nanoseconds.
const ENDED_SHOWN: u64 = 3_000_000_000;

/// The system is asked for the states of so many connections each time that the pages are told:
/// that takes some 30 µs each.
pub(super) const MAX_ASKED: usize = 8;

/// Which connections have lanes, if there are more than places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Active,
    Oldest,
    Newest,
}

/// The lanes of a page.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    order: Order,
    /// Only connections of this handler, by its index.
    handler: Option<u32>,
    /// Connections that are shown, by place.
    shown: Vec<ConnId>,
    /// The page knows the callbacks of those that ended by then, in nanoseconds.
    told: u64,
}

/// A connection that may have a lane.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    entry: &'a Entry,
    /// When it has ended, in nanoseconds.
    ended: Option<u64>,
    /// The highest ones have lanes: those whose end the page is to see, then by the order, then
    /// the newest.
    rank: (bool, u64, u64),
}

/// What a page is told of its lanes. Numbers are counted as in the view around it.
pub(super) struct Look {
    lanes: Vec<Lane>,
    ticks: Vec<Tick>,
    /// How many connections there are to choose from.
    of: usize,
}

/// A connection.
struct Lane {
    entry: Entry,
    ended: Option<u64>,
    /// The page does not know what its callbacks were.
    is_new: bool,
    is_unix: bool,
    /// Its handler has closed it, or has shut its writing down: FIN follows the output.
    is_ending: bool,
    /// The state that the system has told.
    asked: Option<TcpState>,
}

/// Callbacks of a lane that began at nearly the same time.
struct Tick {
    place: usize,
    count: u32,
    /// Of the longest one: when it began, how long it took, its name.
    at: u64,
    length: u64,
    name: &'static str,
}

impl Lanes {
    /// What a request asks for; `None` if that makes no sense.
    pub(super) fn asked_for(req: &Request<'_>) -> Option<Self> {
        let order = match req.query_value("order").as_deref() {
            None | Some("active") => Order::Active,
            Some("oldest") => Order::Oldest,
            Some("newest") => Order::Newest,
            Some(_) => return None,
        };
        let handler = match req.query_value("handler") {
            None => None,
            Some(index) => Some(index.parse().ok()?),
        };
        Some(Self { order, handler, ..Self::default() })
    }

    /// Looks at the connections; `None` if the key is of another reactor. Of those about which
    /// something is unusual the system is asked for the state, as long as there are `asks` left.
    pub(super) fn look(
        &mut self,
        key: ObserverKey<Recorder>,
        cx: &mut Context<'_>,
        asks: &mut usize,
    ) -> Option<Look> {
        let recorder = cx.observer(key)?;
        recorder.ended.look(recorder.now());
        let (mut lanes, of) = self.choose(recorder);
        let ticks = self.ticks(recorder, &lanes);
        self.shown = lanes.iter().map(|lane| lane.entry.id).collect();
        self.told = recorder.now();
        for lane in lanes.iter_mut().filter(|lane| lane.ended.is_none()) {
            lane.ask(cx, asks);
        }
        Some(Look { lanes, ticks, of })
    }

    /// Connections that have lanes, by place, and of how many they are chosen.
    fn choose(&self, recorder: &Recorder) -> (Vec<Lane>, usize) {
        let counts = match self.order {
            Order::Active => messages_by_slot(recorder),
            Order::Oldest | Order::Newest => Vec::new(),
        };
        let candidate = |entry, ended| self.candidate(entry, ended, &counts);
        let is_asked_for = |entry: &Entry| {
            self.handler.is_none_or(|handler| entry.handler == handler)
                && !recorder.tally.is_ignored(entry.handler)
        };
        let living = recorder.conns.iter().filter(|it| is_asked_for(it));
        let mut candidates: Vec<_> = living.map(|it| candidate(it, None)).collect();
        let of = candidates.len();
        let ended = recorder.ended.since(recorder.now().saturating_sub(ENDED_SHOWN));
        let ended = ended.filter(|(_, entry)| is_asked_for(entry));
        candidates.extend(ended.map(|(at, entry)| candidate(entry, Some(at))));
        let by_rank = |one: &Candidate<'_>, other: &Candidate<'_>| other.rank.cmp(&one.rank);
        if candidates.len() > MAX_LANES {
            candidates.select_nth_unstable_by(MAX_LANES, by_rank);
            candidates.truncate(MAX_LANES);
        }
        candidates.sort_unstable_by(by_rank);
        if self.order == Order::Active {
            candidates = self.in_places(candidates);
        } else {
            candidates.sort_unstable_by_key(|it| std::cmp::Reverse((it.rank.1, it.rank.2)));
        }
        let lane = |it: Candidate<'_>| Lane::new(it, !self.shown.contains(&it.entry.id));
        (candidates.into_iter().map(lane).collect(), of)
    }

    fn candidate<'a>(&self, entry: &'a Entry, ended: Option<u64>, counts: &[u64]) -> Candidate<'a> {
        let is_shown = self.shown.contains(&entry.id);
        let count = || counts.get(entry.id.slot()).copied().unwrap_or(0);
        let rank = match self.order {
            Order::Active if is_shown => STEADINESS * (count() + 1),
            Order::Active => count(),
            Order::Oldest => u64::MAX - entry.since,
            Order::Newest => entry.since,
        };
        let is_end_to_be_seen = ended.is_some() && is_shown;
        Candidate { entry, ended, rank: (is_end_to_be_seen, rank, entry.since) }
    }

    /// Connections that have a place keep it; the others get those that are free.
    fn in_places<'a>(&self, candidates: Vec<Candidate<'a>>) -> Vec<Candidate<'a>> {
        let place = |it: &Candidate<'_>| self.shown.iter().position(|id| *id == it.entry.id);
        let mut places: Vec<Option<Candidate<'a>>> = vec![None; self.shown.len()];
        let (kept, new): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|it| place(it).is_some());
        for it in kept {
            if let Some(slot) = place(&it).and_then(|place| places.get_mut(place)) {
                *slot = Some(it);
            }
        }
        let mut new = new.into_iter();
        for free in places.iter_mut().filter(|it| it.is_none()) {
            *free = new.next();
        }
        places.into_iter().flatten().chain(new).collect()
    }

    /// The callbacks that the page does not know.
    fn ticks(&self, recorder: &Recorder, lanes: &[Lane]) -> Vec<Tick> {
        let begin = recorder.now().saturating_sub(WINDOW);
        let has_new = lanes.iter().any(|lane| lane.is_new);
        let from = if has_new { begin } else { begin.max(self.told) };
        // Most records are of other connections.
        let slots = lanes.iter().map(|lane| lane.entry.id.slot());
        let mut is_shown = vec![false; slots.clone().max().map_or(0, |most| most + 1)];
        slots.for_each(|slot| is_shown[slot] = true);
        let (mut ticks, mut last) = (Vec::<Tick>::new(), [usize::MAX; MAX_LANES]);
        for record in recorder.ring.iter().rev().take_while(|it| it.end() >= from) {
            let Some((id, name, length)) = record.callback_of_conn() else { continue };
            if !is_shown.get(id.slot()).is_some_and(|is| *is) {
                continue;
            }
            let Some(place) = lanes.iter().position(|lane| lane.entry.id == id) else { continue };
            if !lanes[place].is_new && record.end() <= self.told {
                continue;
            }
            let name = recorder.names.name(name.into());
            let tick = ticks.get_mut(last[place]).filter(|it| it.at / BIN == record.at / BIN);
            if let Some(tick) = tick {
                tick.add(record, length, name);
                continue;
            }
            if ticks.len() == MAX_TICKS {
                break;
            }
            last[place] = ticks.len();
            ticks.push(Tick { place, count: 1, at: record.at, length, name });
        }
        ticks
    }
}

/// Messages of the last seconds, by the slot of their connection.
fn messages_by_slot(recorder: &Recorder) -> Vec<u64> {
    let from = recorder.now().saturating_sub(ACTIVE_WINDOW);
    let recent = recorder.ring.iter().rev().take(MAX_COUNTED).take_while(|it| it.end() >= from);
    let mut counts = Vec::new();
    let callbacks = recent.filter_map(Record::callback_of_conn);
    for (id, ..) in callbacks.filter(|(_, name, _)| *name == ON_DATA) {
        if id.slot() >= counts.len() {
            counts.resize(id.slot() + 1, 0);
        }
        counts[id.slot()] += 1;
    }
    counts
}

impl Tick {
    fn add(&mut self, record: &Record, length: u64, name: &'static str) {
        self.count += 1;
        if length > self.length {
            (self.at, self.length, self.name) = (record.at, length, name);
        }
    }
}

impl Lane {
    fn new(it: Candidate<'_>, is_new: bool) -> Self {
        let Candidate { entry, ended, .. } = it;
        let (is_unix, is_ending, asked) = (false, false, None);
        Self { entry: entry.clone(), ended, is_new, is_unix, is_ending, asked }
    }

    /// Adds what the recorder is not told. The loop has read all that an open connection has given,
    /// so that only of others the system may know more.
    fn ask(&mut self, cx: &mut Context<'_>, asks: &mut usize) {
        let Some(conn) = cx.conn(self.entry.id) else { return };
        let entry = &mut self.entry;
        self.is_unix = conn.is_unix();
        entry.output_bytes = conn.pending_bytes() as u64;
        if conn.peer_addr().port() != 0 {
            entry.peer = Some(conn.peer_addr());
        }
        self.is_ending = entry.is_open && !conn.is_writable();
        let is_plain = entry.is_open
            && !self.is_ending
            && !entry.is_paused
            && !entry.has_peer_ended
            && entry.output_bytes == 0;
        if !is_plain && !self.is_unix && *asks > 0 {
            *asks -= 1;
            self.asked = conn.tcp_info().ok().map(|info| info.state);
        }
    }

    /// The state of TCP as far as the loop knows it.
    fn known_state(&self) -> &'static str {
        let Entry { is_open, is_outgoing, has_peer_ended, output_bytes, .. } = self.entry;
        match (self.is_ending && output_bytes == 0, has_peer_ended) {
            _ if self.is_unix => "none",
            _ if self.ended.is_some() => "CLOSED",
            _ if !is_open => {
                if is_outgoing {
                    "SYN_SENT"
                } else {
                    "ESTABLISHED"
                }
            }
            (false, false) => "ESTABLISHED",
            (false, true) => "CLOSE_WAIT",
            (true, false) => "FIN_WAIT",
            (true, true) => "LAST_ACK",
        }
    }

    fn phase(&self) -> &'static str {
        match self.ended {
            Some(_) => "ended",
            None if self.is_ending => "ending",
            None => phase(&self.entry),
        }
    }
}

/// The last member of the object that a page is sent.
impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ",\"lanes\":{{\"of\":{},\"shown\":", self.of)?;
        list(f, &self.lanes, |f, it| write!(f, "{it}"))?;
        f.write_str(",\"ticks\":")?;
        list(f, &self.ticks, |f, it| {
            let Tick { place, at, length, count, name } = it;
            write!(f, "[{place},{at},{length},{count},{}]", Quoted(name))
        })?;
        f.write_str("}}")
    }
}

/// Id, handler, phase, state of TCP, whether the system has told it, peer, since when, when ended,
/// bytes in and out, queued bytes, callbacks, why ended, unsent bytes, whether it was begun here.
impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (it, phase) = (&self.entry, self.phase());
        write!(f, "[\"{}\",{},\"{phase}\",", it.id, handler(it))?;
        match self.asked {
            Some(state) => write!(f, "\"{state}\",true,")?,
            None => write!(f, "\"{}\",false,", self.known_state())?,
        }
        match it.peer.filter(|peer| peer.port() != 0) {
            Some(peer) => write!(f, "\"{peer}\",")?,
            None => f.write_str("null,")?,
        }
        write!(f, "{},", it.since)?;
        match self.ended {
            Some(at) => write!(f, "{at},")?,
            None => f.write_str("null,")?,
        }
        let (read, written, output) = (it.bytes_read, it.bytes_written, it.output_bytes);
        write!(f, "{read},{written},{output},{},", it.callbacks)?;
        match (self.ended, it.end) {
            (None, _) => f.write_str("null")?,
            (Some(_), Some(why)) => write!(f, "{}", Quoted(&why.to_string()))?,
            // A connection that was up is always told why.
            (Some(_), None) => f.write_str("\"the connect failed\"")?,
        }
        write!(f, ",{},{}]", it.unsent_bytes, it.is_outgoing)
    }
}
