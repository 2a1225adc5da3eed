//! A listener: how many it may serve, and what to do when accept fails.
//!
//! Under edge triggering a failed accept has used up the event while the connection still queues,
//! so each kind of failure says whether to go on at once or to come back by timer; none of them
//! ends the listener.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use crate::base::id::ConnId;
use crate::base::memory::KEPT_ENTRIES;
use crate::base::tick::OncePerSecond;
use crate::options::{AtCapacity, ListenOptions};
use crate::stream::config::ConnConfig;
use crate::stream::connection::{Connection, Flags};
use crate::stream::first_reads::FirstReads;
use crate::stream::handover::Route;
use crate::stream::handshake_slots::HandshakeSlots;
use crate::stream::room::Wait;
use crate::sys;

/// A listening socket and its connections in numbers.
#[derive(Debug)]
pub(crate) struct Listener {
    /// `None` if another reactor accepts for it.
    socket: Option<sys::Listener>,
    /// Where its connections go if another reactor serves them.
    pub(crate) route: Option<Box<dyn Route>>,
    /// Where it listens, with the real port.
    pub(crate) addr: SocketAddr,
    /// Where it listens, if that is no address.
    pub(crate) name: Option<Box<str>>,
    /// What its connections go by.
    pub(crate) config: Rc<ConnConfig>,
    /// Its cap.
    pub(crate) limit: ConnLimit,
    /// Which of its connections are read at once.
    pub(crate) first_reads: FirstReads,
    /// Its cap for each source; `None` spares the table.
    pub(crate) sources: Option<PerSourceLimit>,
    /// Its connections that are in a handshake; `None` if there is none.
    pub(crate) handshakes: Option<HandshakeSlots>,
    /// Over a cap it leaves connections in the backlog.
    pub(crate) waits_at_capacity: bool,
    /// Accepts a turn.
    pub(crate) budget: usize,
    /// Whether it is on the ready queue.
    pub(crate) is_queued: bool,
    /// What it waits for, if it left connections in the backlog.
    pub(crate) wait: Wait,
    /// A timer will bring it back.
    pub(crate) is_backing_off: bool,
    /// Ticks to wait after the next failure.
    backoff: u64,
    /// Failures that are logged.
    warnings: OncePerSecond,
}

/// First wait after accept failed for want of resources, in ticks. It doubles each time.
const BACKOFF_FIRST: u64 = 1;
/// Longest wait: a queued client is served this soon after resources are back, and a full table
/// costs sixteen tries a second.
const BACKOFF_MOST: u64 = 64;

/// Why accept returned no connection.
#[derive(Debug)]
pub(crate) enum AcceptError {
    /// The queue is empty: the poll will report the next one.
    Empty,
    /// The connection was lost on the way; the next may be there.
    Lost(io::Error),
    /// No descriptor is left, of the process or the system.
    NoDescriptor(io::Error),
    /// Something else is lacking, or the system is in a state that accept does not document.
    Other(io::Error),
}

impl Listener {
    pub(crate) fn new(
        socket: Option<sys::Listener>,
        addr: SocketAddr,
        config: Rc<ConnConfig>,
        options: &ListenOptions,
    ) -> Self {
        Self {
            socket,
            route: None,
            addr,
            name: None,
            handshakes: (!config.layers.is_empty())
                .then(|| HandshakeSlots::new(options.max_handshakes, options.source_prefix_v6)),
            config,
            limit: ConnLimit::new(options.max_connections.unwrap_or(usize::MAX)),
            first_reads: match options.read_at_accept {
                true => FirstReads::new(),
                false => FirstReads::NEVER,
            },
            sources: options
                .max_per_source
                .map(|most| PerSourceLimit::new(most, options.source_prefix_v6)),
            waits_at_capacity: options.at_capacity == AtCapacity::Wait,
            budget: options.accept_budget,
            is_queued: false,
            wait: Wait::No,
            is_backing_off: false,
            backoff: BACKOFF_FIRST,
            warnings: OncePerSecond::default(),
        }
    }

    pub(crate) fn socket(&self) -> Option<&sys::Listener> {
        self.socket.as_ref()
    }

    pub(crate) fn socket_mut(&mut self) -> Option<&mut sys::Listener> {
        self.socket.as_mut()
    }

    #[inline]
    pub(crate) fn accept(&mut self) -> Result<(sys::Stream, SocketAddr), AcceptError> {
        let Some(socket) = &self.socket else { return Err(AcceptError::Empty) };
        match socket.accept() {
            Ok(accepted) => {
                self.backoff = BACKOFF_FIRST;
                Ok(accepted)
            }
            Err(error) => Err(classify(error)),
        }
    }

    /// Where it listens, for people.
    pub(crate) fn display_name(&self) -> String {
        self.name.as_deref().map_or_else(|| self.addr.to_string(), str::to_owned)
    }

    /// How long to wait after another failure.
    pub(crate) fn back_off(&mut self) -> u64 {
        let wait = self.backoff;
        self.backoff = (2 * wait).min(BACKOFF_MOST);
        wait
    }

    /// A connection of it has ended.
    #[inline(always)] // into the end of a turn
    pub(crate) fn note_end(&mut self, id: ConnId, connection: &Connection<sys::Stream>) {
        self.limit.leave();
        if connection.flags.has(Flags::UNOPENED) {
            self.leave_handshake(id, connection);
        }
        let is_counted = !connection.flags.has(Flags::SOURCE_UNKNOWN);
        if let (Some(sources), true) = (&mut self.sources, is_counted) {
            sources.leave(connection.peer().ip());
        }
    }

    /// A connection is in a handshake no longer.
    pub(crate) fn leave_handshake(&mut self, id: ConnId, connection: &Connection<sys::Stream>) {
        if let (Some(slots), Some(source)) = (&mut self.handshakes, connection.handshake_source()) {
            slots.leave(source, id);
        }
    }

    /// Whether a failure now may be logged: a peer could cause it again and again.
    pub(crate) fn may_warn(&mut self, now: u64) -> bool {
        self.warnings.admits(now)
    }
}

/// Sorts the errors of accept4(2): those of the one connection, which Linux hands through from
/// the network, and those of the process or the system.
#[cold]
fn classify(error: io::Error) -> AcceptError {
    if error.kind() == io::ErrorKind::WouldBlock {
        return AcceptError::Empty;
    }
    let is_lost = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            // One that was reset already has no peer to be named: wine's answer.
            | io::ErrorKind::NotConnected
            | io::ErrorKind::Interrupted
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    );
    match sys::Shortage::of(&error) {
        _ if is_lost => AcceptError::Lost(error),
        sys::Shortage::Connection => AcceptError::Lost(error),
        sys::Shortage::Descriptors => AcceptError::NoDescriptor(error),
        sys::Shortage::Other => AcceptError::Other(error),
    }
}

/// A cap on connections that, once reached, stays shut until a tenth of the places is free, so
/// that a full server does not flap with each connection that ends.
#[derive(Debug)]
pub(crate) struct ConnLimit {
    /// Connections inside.
    inside: usize,
    /// Most of them.
    most: usize,
    /// One more may come in while there are fewer than this inside: `most`, or one more than nine
    /// tenths of it since it was full.
    ///
    /// Invariant: at most `most`.
    bound: usize,
}

impl ConnLimit {
    pub(crate) fn new(most: usize) -> Self {
        Self { inside: 0, most, bound: most }
    }

    /// Whether one more may come in.
    pub(crate) fn admits(&mut self) -> bool {
        if self.inside < self.bound {
            self.bound = self.most;
            return true;
        }
        let few = self.most - self.most.div_ceil(10);
        self.bound = self.most.min(few + 1);
        false
    }

    /// How many more may come in now.
    pub(crate) fn places(&mut self) -> usize {
        if self.admits() { self.most - self.inside } else { 0 }
    }

    /// Connections inside.
    pub(crate) fn inside(&self) -> usize {
        self.inside
    }

    pub(crate) fn enter(&mut self) {
        self.inside += 1;
    }

    pub(crate) fn leave(&mut self) {
        debug_assert!(self.inside > 0);
        self.inside -= 1;
    }
}

/// What one source is: an IPv4 address, or a network of IPv6.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources {
    /// The bits of an IPv6 address that name a source.
    mask_v6: u128,
}

impl Sources {
    /// From an option that has been checked: 1 to 128.
    pub(super) fn new(prefix_v6: u8) -> Self {
        Self { mask_v6: u128::MAX << (128 - u32::from(prefix_v6)) }
    }

    /// The source of an address. One that is mapped into IPv6 is of IPv4.
    pub(super) fn of(self, addr: IpAddr) -> IpAddr {
        match addr.to_canonical() {
            IpAddr::V6(addr) => Ipv6Addr::from(u128::from(addr) & self.mask_v6).into(),
            addr => addr,
        }
    }
}

/// How many connections there are from each source: an IPv4 address, or a network of IPv6, all of
/// whose addresses one host may have.
#[derive(Debug)]
pub(crate) struct PerSourceLimit {
    most: usize,
    /// What one source is.
    sources: Sources,
    /// By the first address of each source.
    ///
    /// Invariant: no count is 0, and none is over `most`.
    counts: HashMap<IpAddr, usize>,
}

impl PerSourceLimit {
    /// From options that have been checked: the prefix is 1 to 128.
    fn new(most: usize, prefix_v6: u8) -> Self {
        Self { most, sources: Sources::new(prefix_v6), counts: HashMap::new() }
    }

    pub(crate) fn admits(&self, addr: IpAddr) -> bool {
        self.counts.get(&self.sources.of(addr)).is_none_or(|&count| count < self.most)
    }

    pub(crate) fn enter(&mut self, addr: IpAddr) {
        *self.counts.entry(self.sources.of(addr)).or_insert(0) += 1;
    }

    pub(crate) fn leave(&mut self, addr: IpAddr) {
        let source = self.sources.of(addr);
        let Some(count) = self.counts.get_mut(&source) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&source);
        }
        if self.counts.is_empty() && self.counts.capacity() > KEPT_ENTRIES {
            // A table has room for more than it is asked for.
            self.counts.shrink_to(KEPT_ENTRIES / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::ConnectOptions;

    fn listener() -> Listener {
        let options = ListenOptions::default();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (socket, _) = sys::World::Os.bind(any, &options).unwrap();
        let addr = socket.local_addr().unwrap();
        Listener::new(Some(socket), addr, Rc::new(ConnConfig::new(&options.limits, 0)), &options)
    }

    #[test]
    fn waits_after_failures_double_up_to_a_bound_and_start_again() {
        let mut listener = listener();
        let waits: Vec<u64> = (0..9).map(|_| listener.back_off()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        let options = ConnectOptions::default();
        let _client = sys::World::Os.connect(listener.addr, &options).unwrap();
        // The handshake may take a moment.
        while listener.accept().is_err() {
            std::thread::yield_now();
        }
        assert_eq!(listener.back_off(), BACKOFF_FIRST);
    }

    #[test]
    fn a_failure_is_logged_once_in_a_second_and_says_of_which_listener() {
        let mut listener = listener();
        let logged: Vec<u64> = (5..1_500).filter(|&now| listener.may_warn(now)).collect();
        assert_eq!(logged, [5, 1_005]);
        assert_eq!(listener.display_name(), listener.addr.to_string());
        listener.name = Some("/run/it.sock".into());
        assert_eq!(listener.display_name(), "/run/it.sock");
        assert!(listener.socket().is_some() && listener.socket_mut().is_some());
    }

    #[test]
    fn a_gate_opens_again_at_nine_tenths() {
        let mut gate = ConnLimit::new(20);
        for _ in 0..20 {
            assert!(gate.admits());
            gate.enter();
        }
        assert!(!gate.admits());
        gate.leave();
        assert!(!gate.admits(), "19 of 20 is still shut");
        assert_eq!((gate.inside(), gate.places()), (19, 0));
        gate.leave();
        assert!(gate.admits(), "18 of 20 is open");
        assert_eq!((gate.inside(), gate.places()), (18, 2));
    }

    #[test]
    fn a_gate_of_none_stays_shut() {
        let mut gate = ConnLimit::new(0);
        assert!(!gate.admits() && !gate.admits() && gate.places() == 0);
    }

    #[test]
    fn a_gate_of_one_opens_when_empty() {
        let mut gate = ConnLimit::new(1);
        assert!(gate.admits());
        gate.enter();
        assert!(!gate.admits());
        gate.leave();
        assert!(gate.admits());
    }

    #[test]
    fn sources_are_counted_apart_and_forgotten_at_zero() {
        let mut sources = PerSourceLimit::new(2, 64);
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        sources.enter(a);
        sources.enter(a);
        assert!(!sources.admits(a));
        assert!(sources.admits(b));
        sources.leave(a);
        assert!(sources.admits(a));
        sources.enter(a);
        assert!(!sources.admits(a));
        sources.leave(a);
        sources.leave(a);
        assert!(sources.counts.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_a_mapped_address_is_of_ipv4() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        // The prefix, two addresses, and whether they are of one source.
        let table = [
            (64, "2001:db8::1", "2001:db8::ffff:0:0:1", true),
            (64, "2001:db8::1", "2001:db8:0:1::1", false),
            (56, "2001:db8::1", "2001:db8:0:ff::1", true),
            (56, "2001:db8::1", "2001:db8:0:100::1", false),
            (128, "2001:db8::1", "2001:db8::2", false),
            (1, "2001:db8::1", "7fff::", true),
            (1, "2001:db8::1", "8000::", false),
            (64, "192.0.2.1", "::ffff:192.0.2.1", true),
            (64, "192.0.2.1", "::ffff:192.0.2.2", false),
            (64, "192.0.2.1", "192.0.2.2", false),
        ];
        for (prefix, first, second, is_one) in table {
            for (first, second) in [(first, second), (second, first)] {
                let mut sources = PerSourceLimit::new(1, prefix);
                sources.enter(ip(first));
                assert!(!sources.admits(ip(first)));
                assert_eq!(sources.admits(ip(second)), !is_one, "{first} {second} /{prefix}");
                sources.leave(if is_one { ip(second) } else { ip(first) });
                assert!(sources.counts.is_empty() && sources.admits(ip(first)));
            }
        }
    }

    #[test]
    fn the_memory_of_many_sources_goes_back() {
        let mut sources = PerSourceLimit::new(1, 64);
        let all = (0..8 * KEPT_ENTRIES as u32).map(|number| IpAddr::from(number.to_be_bytes()));
        all.clone().for_each(|source| sources.enter(source));
        assert!(sources.counts.capacity() > 8 * KEPT_ENTRIES);
        all.clone().skip(1).for_each(|source| sources.leave(source));
        assert!(
            sources.counts.capacity() > 8 * KEPT_ENTRIES,
            "the table is not made anew each time"
        );
        all.take(1).for_each(|source| sources.leave(source));
        let room = sources.counts.capacity();
        assert!((1..=KEPT_ENTRIES).contains(&room), "room for {room}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn each_error_of_accept_has_its_answer() {
        let kind = |errno: i32| classify(io::Error::from_raw_os_error(errno));
        // ECONNABORTED, ENOTCONN, EPROTO, EPERM, EINTR, ENETDOWN
        for errno in [103, 107, 71, 1, 4, 100] {
            assert!(matches!(kind(errno), AcceptError::Lost(_)), "{errno}");
        }
        // EMFILE, ENFILE
        for errno in [24, 23] {
            assert!(matches!(kind(errno), AcceptError::NoDescriptor(_)), "{errno}");
        }
        // ENOBUFS, ENOMEM, EINVAL
        for errno in [105, 12, 22] {
            assert!(matches!(kind(errno), AcceptError::Other(_)), "{errno}");
        }
        assert!(matches!(kind(11), AcceptError::Empty), "EAGAIN");
    }
}
