//! The state of a simulated world: time, what is to happen, hosts, peers and sockets.
//!
//! Files before this one hold the state of one thing and know nothing of the world. Files behind
//! it are what happens to the state, each a part of `impl World`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use super::chance::{Chance, Fault, Faults};
use super::event::SimEvent;
use super::link::Link;
use super::post::Post;
use super::process::HostState;
use super::replay::{Replay, What};
use super::script::Peer;
use super::socket::{Owner, Socket};
use super::trace::{Call, Note, Outcome, Trace};

/// Network faults, jumps of clocks and standstills of one run: after them there are no more, so
/// that every run comes to its end.
const MAX_FAULTS: u32 = 12;

/// Everything there is.
pub(crate) struct World {
    /// Nanoseconds since the beginning.
    pub(crate) now: u64,
    /// What is to happen, by time and then by order of arrangement.
    pub(super) agenda: BinaryHeap<Reverse<(u64, u64, SimEvent)>>,
    /// The number of the next arrangement.
    arranged: u64,
    /// When the run is over.
    pub(crate) end: u64,
    /// Whether the run goes on.
    pub(crate) rest: Rest,
    pub(crate) chance: Chance,
    pub(crate) trace: Trace,
    /// Every step, if a replay is kept.
    pub(crate) replay: Option<Box<Replay>>,
    /// All sockets that ever were; their numbers are not used again.
    pub(crate) sockets: Vec<Socket>,
    pub(crate) hosts: Vec<HostState>,
    pub(crate) peers: Vec<Peer>,
    pub(super) post: Post,
    /// What names stand for.
    pub(crate) names: BTreeMap<String, Vec<IpAddr>>,
    /// What other threads do, and is not done yet.
    pub(super) calls: Vec<Option<Box<dyn FnOnce()>>>,
    /// What broke a rule that the world itself watches.
    pub(crate) violations: Vec<String>,
    /// Runs one turn of a host that is not in its poll.
    pub(crate) driver: Option<Rc<dyn Fn(usize)>>,
    /// How many network faults, jumps and standstills are left.
    pub(super) faults_left: u32,
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Something is to happen.
    Busy,
    /// Nothing will ever happen again.
    Quiet,
    /// The end of the run has come.
    Over,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.now).finish_non_exhaustive()
    }
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut world = Self {
            now: 0,
            agenda: BinaryHeap::new(),
            arranged: 0,
            end: u64::MAX,
            rest: Rest::Busy,
            chance: Chance::new(seed, faults),
            trace: Trace::new(),
            replay: None,
            sockets: Vec::new(),
            hosts: Vec::new(),
            peers: Vec::new(),
            post: Post::default(),
            names: BTreeMap::new(),
            calls: Vec::new(),
            violations: Vec::new(),
            driver: None,
            faults_left: MAX_FAULTS,
        };
        world.arrange_fault();
        world
    }

    /// Adds a host and returns its number.
    pub(crate) fn add_host(&mut self, name: &str, files: u64) -> usize {
        let link = Link::draw(&mut self.chance);
        let is_emulated = self.chance.is_on(Fault::EmulatedEdges) && self.chance.one_in(2);
        self.chance.struck[Fault::EmulatedEdges as usize] += u64::from(is_emulated);
        let mut host = HostState::new(name.to_owned(), files, link, !is_emulated);
        host.budgets = self.chance.draw_budgets(self.hosts.len() as u64);
        self.hosts.push(host);
        self.hosts.len() - 1
    }

    /// The address of a host.
    pub(crate) fn ip_of(host: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + host as u32))
    }

    /// All addresses of a host: a second one is for datagrams only.
    pub(crate) fn ips_of(host: usize) -> [IpAddr; 2] {
        [Self::ip_of(host), IpAddr::V4(Ipv4Addr::from(0x0a02_0001 + host as u32))]
    }

    /// What a name stands for, if it is known.
    pub(super) fn addresses(&self, name: &str, port: u16) -> Option<Vec<SocketAddr>> {
        let ips = self.names.get(name)?;
        Some(ips.iter().map(|&ip| SocketAddr::new(ip, port)).collect())
    }

    pub(super) fn arrange(&mut self, at: u64, event: SimEvent) {
        self.arranged += 1;
        self.agenda.push(Reverse((at.max(self.now), self.arranged, event)));
    }

    /// Has another thread do something at a time.
    pub(crate) fn arrange_call(&mut self, at: u64, call: Box<dyn FnOnce()>) {
        self.calls.push(Some(call));
        self.arrange(at, SimEvent::Call(self.calls.len() as u32 - 1));
    }

    pub(crate) fn note(&mut self, host: Option<usize>, note: Note) {
        self.trace.note(self.now, host.map(|host| host as u32), note);
        // Callbacks are told in more words by their own observer.
        if !matches!(note, Note::Callback { .. }) {
            self.record(host, || What::Note(note));
        }
    }

    pub(crate) fn violate(&mut self, text: String) {
        if self.violations.len() < 20 {
            self.violations.push(text);
        }
    }

    /// What the clock of a host shows.
    pub(crate) fn clock(&self, host: usize) -> u64 {
        self.now + self.hosts[host].skew
    }

    /// What the clock of a socket's owner shows; peers go by the world's clock.
    pub(super) fn clock_of(&self, owner: Owner) -> u64 {
        match owner {
            Owner::Host(host) => self.clock(host as usize),
            _ => self.now,
        }
    }

    /// Takes a descriptor of a host; `false` if there is none.
    pub(super) fn open_file(&mut self, host: usize) -> bool {
        let host = &mut self.hosts[host];
        let has_one = host.used + host.taken < host.files;
        host.used += u64::from(has_one);
        has_one
    }

    pub(super) fn close_file(&mut self, host: usize) {
        self.hosts[host].used -= 1;
    }

    pub(super) fn add_socket(&mut self, mut socket: Socket) -> u32 {
        let is_small = self.chance.strikes(Fault::SmallWindow);
        let least = if is_small { 1 } else { 16 << 10 };
        socket.window = self.chance.spread(least, 256 << 10) as usize;
        self.sockets.push(socket);
        self.sockets.len() as u32 - 1
    }

    pub(super) fn socket(&mut self, socket: u32) -> &mut Socket {
        &mut self.sockets[socket as usize]
    }

    pub(super) fn tell(&mut self, socket: u32, call: Call, result: Outcome) {
        if let Owner::Host(host) = self.sockets[socket as usize].owner {
            self.note(Some(host as usize), Note::Call { socket, call, result });
        }
    }
}
