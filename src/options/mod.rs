//! What can be set for a reactor, a listener, a connection and its socket: plain data.
//!
//! Options are checked where they are used (`Reactor::with_options`, `listen`, `connect`); a value
//! out of range is an [`io::Error`] of kind `InvalidInput` that names the option, the value and
//! what would do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Builder methods for public fields: each sets the field of its name.
macro_rules! setters {
    ($($field:ident: $type:ty),* $(,)?) => { $(
        #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.",
            stringify!($field), ").")]
        #[must_use]
        pub fn $field(mut self, $field: $type) -> Self {
            self.$field = $field;
            self
        }
    )* };
}

pub(crate) use setters;

mod connect;
mod filter;
mod internet;
mod layer;
#[cfg_attr(not(feature = "proxy-protocol"), path = "proxy_protocol_stub.rs")]
mod proxy_protocol;
mod turn_budgets;
mod udp;
#[cfg_attr(not(unix), path = "unix_stub.rs")]
pub(crate) mod unix;
#[cfg(unix)]
mod unix_datagram;

pub(crate) use connect::Place;
pub use connect::{ConnectOptions, Destination, Reconnect};
pub use filter::DestinationFilter;
pub(crate) use layer::{
    Decoded, HandshakeFailure, Layer, LayerFactory, LayerOption, LayerStage, MAX_PLAIN_BYTES,
    MAX_UNCONSUMED_BYTES, PIECE_BYTES,
};
pub(crate) use turn_budgets::TurnBudgets;
pub use udp::{DEFAULT_DATAGRAM_BUDGET, Group, SessionOptions, UdpOptions};
#[cfg(unix)]
pub use {
    unix::{UnixAddr, UnixListenOptions},
    unix_datagram::UnixDatagramOptions,
};

/// Options of a TCP socket.
///
/// # Platform notes
/// On Linux an accepted socket inherits all of these from its listener, so they cost nothing per
/// connection; elsewhere they are set on each accepted socket.
///
/// # Examples
/// ```
/// use waterwheel::TcpOptions;
/// let bulk = TcpOptions::default().nodelay(false).send_buffer_bytes(Some(1 << 20));
/// assert!(!bulk.nodelay);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpOptions {
    /// `TCP_NODELAY`: send small segments at once. Default on.
    pub nodelay: bool,
    /// `SO_KEEPALIVE` and its times: the kernel finds out that a silent peer is gone. Default
    /// [`Keepalive::default()`]; `None` leaves it off.
    pub keepalive: Option<Keepalive>,
    /// `TCP_USER_TIMEOUT`: how long sent data may stay unacknowledged. Default: the system's. Linux
    /// and Android only; elsewhere the option has no effect.
    pub user_timeout: Option<Duration>,
    /// `SO_SNDBUF`, in bytes. Default: the system's, which adapts it on most systems.
    ///
    /// Output that a peer does not read fills this buffer first. On Linux the buffer may grow to
    /// the last value of `tcp_wmem`, 4 MiB, for each connection. When the buffers of all
    /// connections reach `tcp_mem`, the system slows down every connection. Set this option where
    /// many peers may read slowly.
    pub send_buffer_bytes: Option<usize>,
    /// `SO_RCVBUF`, in bytes. Default: the system's, which adapts it on most systems.
    pub receive_buffer_bytes: Option<usize>,
    /// `SO_LINGER`, in whole seconds, at most 32,767. Default: off, which is nearly always right:
    /// `Conn::close` already waits, without blocking, until the output has left.
    ///
    /// The option governs the moment at which the socket itself is closed. Zero: if the peer
    /// finished first, what the kernel has not sent by then is thrown away. The peer sees a reset,
    /// and nothing is reported here. If this end closed first, zero changes nothing, not
    /// even `TIME_WAIT`. More than zero: that moment blocks the whole loop, on Linux also for
    /// sockets that do not block, until the peer has acknowledged everything or the time has
    /// passed. See [`closing`](crate::tcp::closing).
    pub linger: Option<Duration>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: Some(Keepalive::default()),
            user_timeout: None,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            linger: None,
        }
    }
}

impl TcpOptions {
    setters! {
        nodelay: bool,
        keepalive: Option<Keepalive>,
        user_timeout: Option<Duration>,
        send_buffer_bytes: Option<usize>,
        receive_buffer_bytes: Option<usize>,
        linger: Option<Duration>,
    }

    fn check(&self) -> io::Result<()> {
        if let Some(keepalive) = &self.keepalive {
            keepalive.check()?;
        }
        at_least_1ms("user_timeout", self.user_timeout)?;
        at_most("user_timeout", self.user_timeout, Duration::from_millis(i32::MAX as u64))?;
        // The kernel takes a C int.
        within("send_buffer_bytes", self.send_buffer_bytes, i32::MAX as usize)?;
        within("receive_buffer_bytes", self.receive_buffer_bytes, i32::MAX as usize)?;
        if let Some(linger) = self.linger.filter(|linger| linger.subsec_nanos() != 0) {
            let wanted = "whole seconds, which are all that the system counts, or None";
            return Err(out_of_range("linger", format!("{linger:?}"), wanted));
        }
        at_most("linger", self.linger, Duration::from_secs(32_767))
    }
}

/// When TCP itself probes a silent peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// Silence before the first probe, in whole seconds. Default 60 s.
    pub idle: Duration,
    /// Time between probes, in whole seconds. Default 15 s.
    pub interval: Duration,
    /// Probes without an answer before the connection is given up. Default 4.
    pub probes: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(15), probes: 4 }
    }
}

impl Keepalive {
    setters! { idle: Duration, interval: Duration, probes: u32 }

    fn check(&self) -> io::Result<()> {
        // The kernel's own bounds: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT.
        for (name, value) in [("keepalive.idle", self.idle), ("keepalive.interval", self.interval)]
        {
            if !(1..=32_767).contains(&value.as_secs()) {
                return Err(out_of_range(name, format!("{value:?}"), "1 s to 32,767 s"));
            }
        }
        if !(1..=127).contains(&self.probes) {
            return Err(out_of_range("keepalive.probes", self.probes, "1 to 127"));
        }
        Ok(())
    }
}

/// A minimum transfer rate, against peers that send or read very slowly on purpose.
///
/// A peer has a credit of time. When the wait begins, the credit is `grace`. It decreases as time
/// passes, and each byte that moves adds `1 / bytes_per_second` seconds, up to `grace` at most. The
/// connection ends when the credit is used up:
///
/// | the peer moves | ends |
/// |---|---|
/// | nothing | after `grace`, however much it has moved before |
/// | a part `p` of the rate, steadily | after `grace / (1 - p)` |
/// | the rate or more, with gaps of at most `grace` | never |
///
/// # Platform notes
/// A receiver announces free room in its buffer in steps. On Linux a step is at least a sixteenth
/// of the receive buffer, which may be some hundred KiB. So choose a grace in which a peer at the
/// minimum rate takes that much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    bytes_per_second: u32,
    grace: Duration,
}

impl MinRate {
    /// At least `bytes_per_second`, with a credit of `grace`.
    #[must_use]
    pub const fn new(bytes_per_second: u32, grace: Duration) -> Self {
        Self { bytes_per_second, grace }
    }

    /// Bytes a second.
    #[must_use]
    pub const fn bytes_per_second(&self) -> u32 {
        self.bytes_per_second
    }

    /// The longest time without a byte, and the largest credit.
    #[must_use]
    pub const fn grace(&self) -> Duration {
        self.grace
    }

    fn check(name: &str, rate: Option<Self>) -> io::Result<()> {
        let Some(rate) = rate else { return Ok(()) };
        if rate.bytes_per_second == 0 {
            return Err(out_of_range(
                name,
                "0 bytes a second",
                "at least 1, or None for no minimum",
            ));
        }
        at_least_1ms(name, Some(rate.grace))?;
        at_most(name, Some(rate.grace), MAX_LIMIT)
    }
}

/// What happens to a write that would overrun [`Limits::max_output_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOverflow {
    /// The write is refused whole and the connection ends with `CloseReason::Overflow`. The
    /// default: a handler that ignores what `write` returns never sends a stream with a hole.
    Close,
    /// The write is refused whole and the connection lives on.
    Refuse,
}

/// What one connection may use and how long it may wait.
///
#[doc = include_str!("clocks.md")]
///
/// By default a connection that is open may be silent for as long as it likes, which suits peers
/// that are trusted. For listeners that anybody can reach there is [`Limits::internet`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::{Limits, ListenOptions};
/// let limits = Limits::default()
///     .all_idle(Some(Duration::from_secs(60)))
///     .message_timeout(Some(Duration::from_secs(10)));
/// let options = ListenOptions::default().limits(limits);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Longest time without a byte read, not counting time in which reading was paused or held
    /// back. Default none. 1 ms to 49 days, as all times here.
    pub read_idle: Option<Duration>,
    /// Longest time without a byte leaving. Default none.
    pub write_idle: Option<Duration>,
    /// Longest time without a byte either way. Default none.
    pub all_idle: Option<Duration>,
    /// Longest wait for the first byte of a new connection. Default none.
    pub first_byte_timeout: Option<Duration>,
    /// Longest wait for the rest of a message. A message is incomplete while `on_data` leaves bytes
    /// unconsumed, or while the handler declares it (`Conn::declare_incomplete`). Time in which
    /// reading is paused or held back does not count, nor does time behind the peer's end. The
    /// connection ends with a reset; to send something first, use `Conn::set_deadline` instead.
    /// Default none.
    pub message_timeout: Option<Duration>,
    /// Minimum rate at which an incomplete message must arrive. Default none.
    pub min_receive_rate: Option<MinRate>,
    /// Minimum rate at which the peer must take queued output. Default none.
    pub min_send_rate: Option<MinRate>,
    /// Max bytes that `on_data` may leave unconsumed. Default 1 MiB.
    pub max_input_bytes: usize,
    /// Max requests that are outstanding: begun with `Conn::begin_request`, and not ended. With so
    /// many, reading is held back until half of them are answered. Default 100.
    pub max_outstanding_requests: u32,
    /// Queued output, files included, from which `write` says `Above`. Default 256 KiB.
    pub high_mark_bytes: usize,
    /// Queued output at which `on_drain` is called after the high mark was reached. Default
    /// 64 KiB.
    pub low_mark_bytes: usize,
    /// Max output queued in memory for a connection, which files are not; a write over it is
    /// refused whole. Default 16 MiB.
    pub max_output_bytes: usize,
    /// What happens when a write is refused because of `max_output_bytes`. Default
    /// [`OnOverflow::Close`].
    pub on_overflow: OnOverflow,
    /// Whether reading pauses by itself while output is above the high mark, and resumes at the low
    /// mark. Default on for accepted connections: a handler that answers what it reads then has
    /// bounded memory with no code of its own. Default off for outgoing ones: if both ends paused
    /// like this, neither would go on. Turn it off where the output of a connection comes from
    /// other connections (a proxy, a chat), because there it would stop reading for no reason.
    pub pause_at_high_mark: bool,
    /// How long `close` waits without progress: first for the socket to take queued output, then
    /// for the peer to finish. After a failed write, input is still delivered for at most this
    /// time. Default 10 s.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            read_idle: None,
            write_idle: None,
            all_idle: None,
            first_byte_timeout: None,
            message_timeout: None,
            min_receive_rate: None,
            min_send_rate: None,
            max_input_bytes: 1 << 20,
            max_outstanding_requests: 100,
            high_mark_bytes: 256 << 10,
            low_mark_bytes: 64 << 10,
            max_output_bytes: 16 << 20,
            on_overflow: OnOverflow::Close,
            pause_at_high_mark: true,
            close_timeout: Duration::from_secs(10),
        }
    }
}

impl Limits {
    setters! {
        read_idle: Option<Duration>,
        write_idle: Option<Duration>,
        all_idle: Option<Duration>,
        first_byte_timeout: Option<Duration>,
        message_timeout: Option<Duration>,
        min_receive_rate: Option<MinRate>,
        min_send_rate: Option<MinRate>,
        max_input_bytes: usize,
        max_outstanding_requests: u32,
        high_mark_bytes: usize,
        low_mark_bytes: usize,
        max_output_bytes: usize,
        on_overflow: OnOverflow,
        pause_at_high_mark: bool,
        close_timeout: Duration,
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        for (name, value) in [
            ("read_idle", self.read_idle),
            ("write_idle", self.write_idle),
            ("all_idle", self.all_idle),
            ("first_byte_timeout", self.first_byte_timeout),
            ("message_timeout", self.message_timeout),
            ("close_timeout", Some(self.close_timeout)),
        ] {
            at_least_1ms(name, value)?;
            at_most(name, value, MAX_LIMIT)?;
        }
        MinRate::check("min_receive_rate", self.min_receive_rate)?;
        MinRate::check("min_send_rate", self.min_send_rate)?;
        positive("max_input_bytes", Some(self.max_input_bytes))?;
        positive("max_outstanding_requests", Some(self.max_outstanding_requests as usize))?;
        positive("high_mark_bytes", Some(self.high_mark_bytes))?;
        positive("max_output_bytes", Some(self.max_output_bytes))?;
        if self.low_mark_bytes >= self.high_mark_bytes {
            let wanted = format!("less than high_mark_bytes ({})", self.high_mark_bytes);
            return Err(out_of_range("low_mark_bytes", self.low_mark_bytes, &wanted));
        }
        if self.high_mark_bytes > self.max_output_bytes {
            let wanted = format!("at most max_output_bytes ({})", self.max_output_bytes);
            return Err(out_of_range("high_mark_bytes", self.high_mark_bytes, &wanted));
        }
        Ok(())
    }
}

/// What a listener does with connections over its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtCapacity {
    /// Accept and reset the connection at once, so that the client learns of it. The default.
    Refuse,
    /// Leave the connections in the backlog until there is room.
    Wait,
}

/// Options of a listener.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::{AtCapacity, ListenOptions};
/// let options = ListenOptions::default()
///     .idle_timeout(Duration::from_secs(60))
///     .max_connections(Some(10_000))
///     .at_capacity(AtCapacity::Wait);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Connections that the kernel may queue for us. Default: the largest the system takes. If
    /// the system caps it lower, both numbers are logged. See [`queues`](crate::tcp::queues).
    pub backlog: Option<u32>,
    /// `SO_REUSEADDR`: bind although old connections of the address are in `TIME_WAIT`; without
    /// it a server that closed connections first cannot be started again for a minute. Default
    /// on, and off on Windows, where it would let two programs listen on one address. See
    /// [`ports`](crate::tcp::ports).
    pub reuse_address: bool,
    /// `SO_REUSEPORT`: several sockets of one user share the address, each with an accept queue of
    /// its own. Linux spreads connections over them by a hash of the addresses; other systems may
    /// give all to the newest. Default off. An error where the platform has no such option. See
    /// [`ports`](crate::tcp::ports).
    ///
    /// A socket that is closed resets the connections that queue in it, although others listen on
    /// the address. Of 48,000 connects by 64 clients, during 100 restarts:
    ///
    /// | how the new process gets its socket | connects that were reset |
    /// |---|---|
    /// | its own, with `SO_REUSEPORT`, before the old one closes | 639 |
    /// | the old process hands its socket on (`send_listeners`) | none |
    ///
    /// `net.ipv4.tcp_migrate_req` of Linux 5.14 moves queued connections to another socket; it is
    /// off by default.
    pub reuse_port: bool,
    /// `IPV6_V6ONLY` of an IPv6 address. Default: the system's.
    pub only_v6: Option<bool>,
    /// Options of the accepted sockets.
    pub tcp: TcpOptions,
    /// Limits of the accepted connections. Without a limit of silence, a listener on another
    /// address than loopback logs a warning: [`Limits::internet`] has one.
    pub limits: Limits,
    /// Max connections of this listener at once. Default: no cap but the reactor's.
    pub max_connections: Option<usize>,
    /// Max connections of this listener from one source at once; more are always refused. A source
    /// is an IPv4 address, or an IPv6 network of [`source_prefix_v6`](Self::source_prefix_v6) bits.
    /// Default none.
    pub max_per_source: Option<usize>,
    /// The length of the IPv6 prefix that `max_per_source` and `max_handshakes` count as one
    /// source, in bits. Default 64: one host has at least so many addresses, and may connect from
    /// each. The hosts of a local network share theirs; 128 counts each address. An IPv4 address
    /// that is mapped into IPv6 counts as IPv4. 1 to 128.
    pub source_prefix_v6: u8,
    /// What to do with connections over a cap. Serving resumes when a tenth of the places is
    /// free again.
    pub at_capacity: AtCapacity,
    /// Whether each connection begins with a balancer's header (PROXY protocol), and from whom.
    /// Default: none does. With the feature `proxy-protocol`.
    #[cfg(feature = "proxy-protocol")]
    pub proxy_protocol: Option<crate::base::proxy_protocol::ProxyProtocol>,
    /// Max connections of this listener that are in a handshake (a balancer's header, TLS) at once.
    /// If one more comes, the source with most of these connections loses its oldest one, with a
    /// reset. So a host that connects and sends nothing does not keep the others out. Default
    /// 4,096.
    pub max_handshakes: usize,
    /// What stands between the sockets and the handler, behind a balancer's header.
    pub(crate) layer: Option<LayerOption>,
    /// Max accepts a turn, so that a storm of connects leaves time for those connected. Default
    /// [`DEFAULT_ACCEPT_BUDGET`].
    pub accept_budget: usize,
    /// Whether what a client has sent by then is read and handled as its connection is accepted,
    /// before the poll is told of it. A connection that ends with its first answer then costs one
    /// system call and one event fewer. A listener finds out whether its clients speak first: of
    /// those who do not, one in 64 is read in vain. Default off.
    ///
    /// A newcomer is then served before `on_close` of connections that have ended in the same turn.
    /// So leave it off where a client that comes back must find its old connection gone, for
    /// instance where a name is free again.
    ///
    /// # Platform notes
    /// For TCP without layers (TLS, a balancer's header). No effect for Unix sockets, nor on
    /// Windows.
    pub read_at_accept: bool,
}

/// Accepts per listener and turn unless set otherwise: about a millisecond's work on a current
/// server core, so that a storm delays those connected by no more.
pub const DEFAULT_ACCEPT_BUDGET: usize = 256;

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: None,
            reuse_address: !cfg!(windows),
            reuse_port: false,
            only_v6: None,
            tcp: TcpOptions::default(),
            limits: Limits::default(),
            max_connections: None,
            max_per_source: None,
            source_prefix_v6: 64,
            at_capacity: AtCapacity::Refuse,
            #[cfg(feature = "proxy-protocol")]
            proxy_protocol: None,
            max_handshakes: 4_096,
            layer: None,
            accept_budget: DEFAULT_ACCEPT_BUDGET,
            read_at_accept: false,
        }
    }
}

impl ListenOptions {
    setters! {
        backlog: Option<u32>,
        reuse_address: bool,
        reuse_port: bool,
        only_v6: Option<bool>,
        tcp: TcpOptions,
        limits: Limits,
        max_connections: Option<usize>,
        max_per_source: Option<usize>,
        source_prefix_v6: u8,
        at_capacity: AtCapacity,
        max_handshakes: usize,
        accept_budget: usize,
        read_at_accept: bool,
    }

    /// Sets [`Limits::all_idle`]: ends connections on which nothing moves for this long.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.all_idle = Some(limit);
        self
    }

    /// What makes the layers of its connections, in order.
    pub(crate) fn layers(&self) -> Box<[Arc<dyn LayerFactory>]> {
        let layer = self.layer.iter().map(|layer| Arc::clone(&layer.0));
        self.header_layer().into_iter().chain(layer).collect()
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        if self.backlog == Some(0) {
            return Err(out_of_range("backlog", 0, "at least 1, or None for the largest"));
        }
        positive("max_connections", self.max_connections)?;
        positive("max_per_source", self.max_per_source)?;
        positive("max_handshakes", Some(self.max_handshakes))?;
        if !(1..=128).contains(&self.source_prefix_v6) {
            return Err(out_of_range("source_prefix_v6", self.source_prefix_v6, "1 to 128"));
        }
        positive("accept_budget", Some(self.accept_budget))?;
        self.check_header()?;
        self.tcp.check()?;
        self.limits.check()
    }
}

/// What happens when a callback panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnPanic {
    /// Its connection ends with `CloseReason::Panic`, and so does one whose state was lent to the
    /// closure that panicked ([`Context::with`](crate::Context::with)); all others are served on.
    /// The default.
    CloseConnection,
    /// The process aborts.
    Abort,
    /// The connections end in the same way, and the panic continues in the caller of `run` or
    /// `run_once`. This is for a [`Fleet`](crate::fleet::Fleet), which reports a thread that
    /// panics. If the caller catches the panic, it can run the reactor again.
    Unwind,
}

/// Options of a reactor.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::{Reactor, ReactorOptions};
/// let options = ReactorOptions::default().busy_poll(Duration::from_micros(50));
/// let reactor = Reactor::with_options(options)?;
/// # drop(reactor);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReactorOptions {
    /// Max connections at once, of all listeners; outgoing ones count, but are not refused.
    /// Default: the open-file limit less a reserve of [`FILE_RESERVE`], so that accept seldom meets
    /// a full table.
    ///
    /// The table of connections grows with the most that are open at once, outgoing ones included,
    /// and keeps that size: about 140 bytes for each. Queues give back what a burst took.
    pub max_connections: Option<usize>,
    /// Max output queued in memory for all connections together. When there is more at the end of a
    /// turn, the connections with the largest queues are reset, among those whose sockets are full,
    /// until there is not; they end with `CloseReason::Overflow`. Files do not count. Nor do bytes
    /// that TLS has already encrypted, at most 64 KiB a connection. Default 256 MiB.
    pub max_queued_bytes: usize,
    /// How long a turn looks for events without sleeping, before it sleeps: lower latency for a
    /// busy core. Default zero; at most 1 s.
    pub busy_poll: Duration,
    /// Events taken from one poll. Default 1,024; at most 1,048,576.
    pub events_per_turn: usize,
    /// Reads of one connection a turn; a read is at most 132 KiB. Default 8: a flooding peer has
    /// about 1 MiB read before others have their turn.
    pub reads_per_turn: usize,
    /// Messages of other threads and posted closures run a turn. Default 1,024.
    pub messages_per_turn: usize,
    /// Timers fired a turn; eight times as many may be moved within the wheel. Default 1,024.
    pub timers_per_turn: usize,
    /// What happens when a callback panics.
    pub on_panic: OnPanic,
}

/// Descriptors that a reactor's default cap leaves for everything else: listeners, files, the
/// standard streams, the poll itself.
pub const FILE_RESERVE: usize = 48;

impl Default for ReactorOptions {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_queued_bytes: 256 << 20,
            busy_poll: Duration::ZERO,
            events_per_turn: 1_024,
            reads_per_turn: 8,
            messages_per_turn: 1_024,
            timers_per_turn: 1_024,
            on_panic: OnPanic::CloseConnection,
        }
    }
}

impl ReactorOptions {
    setters! {
        max_connections: Option<usize>,
        max_queued_bytes: usize,
        busy_poll: Duration,
        events_per_turn: usize,
        reads_per_turn: usize,
        messages_per_turn: usize,
        timers_per_turn: usize,
        on_panic: OnPanic,
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        positive("max_connections", self.max_connections)?;
        positive("max_queued_bytes", Some(self.max_queued_bytes))?;
        at_most("busy_poll", Some(self.busy_poll), Duration::from_secs(1))?;
        within("events_per_turn", Some(self.events_per_turn), 1 << 20)?;
        positive("reads_per_turn", Some(self.reads_per_turn))?;
        positive("messages_per_turn", Some(self.messages_per_turn))?;
        positive("timers_per_turn", Some(self.timers_per_turn))
    }
}

/// The longest limit that fits in 32 bits of milliseconds, in whole days.
pub(crate) const MAX_LIMIT: Duration = Duration::from_secs(49 * SECONDS_A_DAY);

const SECONDS_A_DAY: u64 = 24 * 60 * 60;

pub(crate) fn out_of_range(name: &str, value: impl std::fmt::Display, wanted: &str) -> io::Error {
    let text = format!("option {name} is {value}; it must be {wanted}");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

pub(crate) fn positive(name: &str, value: Option<usize>) -> io::Result<()> {
    match value {
        Some(0) => Err(out_of_range(name, 0, "at least 1")),
        _ => Ok(()),
    }
}

pub(crate) fn within(name: &str, value: Option<usize>, most: usize) -> io::Result<()> {
    match value {
        Some(value) if value == 0 || value > most => {
            Err(out_of_range(name, value, &format!("at least 1 and at most {most}")))
        }
        _ => Ok(()),
    }
}

pub(crate) fn at_least_1ms(name: &str, value: Option<Duration>) -> io::Result<()> {
    match value {
        Some(value) if value < Duration::from_millis(1) => {
            Err(out_of_range(name, format!("{value:?}"), "at least 1 ms"))
        }
        _ => Ok(()),
    }
}

/// Checks a limit against the longest that its holder can express.
pub(crate) fn at_most(name: &str, value: Option<Duration>, most: Duration) -> io::Result<()> {
    match value {
        Some(value) if value > most => {
            let days = most.as_secs() / SECONDS_A_DAY;
            let most = if days > 0 && most == Duration::from_secs(days * SECONDS_A_DAY) {
                format!("at most {days} days")
            } else {
                format!("at most {most:?}")
            };
            Err(out_of_range(name, format!("{value:?}"), &most))
        }
        _ => Ok(()),
    }
}
