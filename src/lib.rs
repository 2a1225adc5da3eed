//! A callback-style network runtime: one thread, one poll, connections in a slab, a timer wheel.
//!
//! You register callbacks, and the [`Reactor`] calls them: when a connection opens, when bytes come
//! in, when queued output has left, when a connection is silent for too long, and when it ends.
//! There are no futures, handlers need no locks, and the only hidden threads are those that look
//! host names up, which end soon after. What a callback writes to its connection is sent when the
//! callback returns. What the kernel does not take then is queued, and the reactor sends it later.
//!
//! # Examples
//! The whole of an echo server:
//! ```no_run
//! use waterwheel::{Conn, Limits, ListenOptions, Reactor};
//!
//! let mut reactor = Reactor::new()?;
//! let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
//!     conn.write(input);
//!     input.len() // consumed; the rest would come back
//! });
//! let options = ListenOptions::default().limits(Limits::internet());
//! reactor.listen("127.0.0.1:7000", echo, options)?;
//! reactor.run()?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A server that answers lines, and says goodbye to those who fall silent:
//! ```
//! use std::time::Duration;
//! use waterwheel::{Conn, Handler, Idle, IdleKind, ListenOptions, Peer, Reactor, frame};
//!
//! struct Greeter;
//!
//! impl Handler for Greeter {
//!     type State = u32; // how many lines this connection has sent
//!
//!     fn on_accept(&mut self, _: &Peer) -> Option<u32> {
//!         Some(0)
//!     }
//!
//!     fn on_data(&mut self, lines_so_far: &mut u32, conn: &mut Conn<'_>, input: &[u8]) -> usize {
//!         let mut lines = frame::lines(input, 1024);
//!         for line in lines.by_ref() {
//!             let Ok(line) = line else {
//!                 conn.close(); // too long
//!                 break;
//!             };
//!             *lines_so_far += 1;
//!             conn.write(b"hello, ");
//!             conn.write(line);
//!             conn.write(b"\n"); // one packet for all three
//!         }
//!         lines.consumed()
//!     }
//!
//!     fn on_idle(&mut self, _: &mut u32, conn: &mut Conn<'_>, _: IdleKind) -> Idle {
//!         conn.write(b"goodbye\n");
//!         conn.close();
//!         Idle::Close
//!     }
//! }
//!
//! let mut reactor = Reactor::new()?;
//! let greeter = reactor.register(Greeter);
//! let options = ListenOptions::default().idle_timeout(Duration::from_secs(60));
//! let addr = reactor.listen("127.0.0.1:0", greeter, options)?;
//! println!("listening on {addr}");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Where to go from here
//! [`tour`] has chapters by question: [coming from tokio, Go, Node or libuv](tour::coming_from),
//! [which limit ends my connection](tour::limits),
//! [how to reach another connection, handler or thread](tour::doors),
//! [which options for which load](tour::choosing), and
//! [testing in a simulated world](tour::simulated). Other protocols have modules of their own:
//! [`udp`], [`unix`], and by a feature `tls`, `http` and `ws`.
//!
//! # Guarantees
//! - Callbacks never nest: nothing that a handler calls runs a handler before it returns. For the
//!   order of callbacks see [`Handler`].
//! - A [`ConnId`] or [`TimerId`] that has outlived what it named finds nothing, and never another
//!   connection or timer.
//! - When the peer finishes or resets, every byte that the kernel still has is delivered before
//!   `on_close`, unless this side has ended the connection already.
//! - Every byte that [`Conn::write`] accepted is passed to the kernel, or `on_close` gets the
//!   number of bytes that were not.
//! - A TCP stream that was cut short ends with a reset, never with a FIN, so the peer cannot
//!   mistake a part for the whole. A Unix socket has no reset.
//! - A message costs no allocation and does not touch the timers; an idle connection holds no
//!   buffer; an idle process makes no system calls.
//! - With [`Limits::internet`] no peer can hold a connection for ever by sending nothing, or very
//!   little. Without it an open connection may be silent.
//! - The memory of each connection is bounded by default: output by [`Limits::max_output_bytes`],
//!   unconsumed input by [`Limits::max_input_bytes`]. [`ReactorOptions::max_queued_bytes`] bounds
//!   the output of all connections together. Their input is bounded by the number of connections
//!   alone, so set [`ListenOptions::max_connections`] to what your memory allows. Messages of other
//!   threads have a bound in a channel, but none in a [`Remote`].
//!
//! # Layout
//! A room is a module directly under `src/`. The rooms stand in four storeys, and the list begins
//! with the lowest room. A file names only its own room and those above it in the list; a
//! test enforces that.
//!
//! | storey | room | what is in it |
//! |---|---|---|
//! | ground | `base` | ids, ticks, timer wheel, byte queue, frames, counters, TCP states: pure |
//! | | `options` | what can be set, as plain data |
//! | | `sys` | the outside world, of the system or simulated: sockets, the poll, the clock |
//! | loop | `engine` | what any socket needs: timers, ready queue, mailbox, end of the turn |
//! | | `stream` | connections and listeners: reading, writing, closing, and what each waits for |
//! | | `datagram` | datagram sockets of UDP and Unix; a first reading can skip them |
//! | | `handler` | `Handler`, `Conn`, `Context`, `Remote`: what user code sees |
//! | | `reactor` | the turn, and the one door to user code |
//! | on top | `channel` | typed messages of other threads, in a queue with an end at each side |
//! | | `pool` | outgoing connections that are kept and lent |
//! | | `fleet` | several reactors on several threads that serve the same addresses |
//! | | `offload` | blocking work on threads of its own, with the answer as a callback |
//! | | `tls` | TLS as a layer under any handler (feature `tls`) |
//! | | `http` | HTTP/1.1 as a handler (feature `http`) |
//! | | `ws` | WebSocket, as server and as client (feature `ws`) |
//! | | `inspect` | the recorder, warnings and the live page (feature `inspect`) |
//! | proofs | `guide` | how the loop works, the states of TCP, a tour: documentation |
//! | | `sim` | a simulated world to test handlers in (feature `sim`) |
//! | | `tests` | scripts of a connection, models of interleavings, and targets of the fuzzers |
//!
//! To learn how the loop works, read these in this order. It is one afternoon: some 3,600 lines of
//! code.
//!
//! | | file | lines of code | what it shows |
//! |---|---|---|---|
//! | 1 | `reactor/turn.rs` | 410 | one turn: the poll, then five phases |
//! | 2 | `reactor/dispatch.rs` | 450 | from an event to a callback, the fast path first |
//! | 3 | `reactor/callback.rs` | 240 | the one door to user code, and what follows a panic |
//! | 4 | `stream/connection/flags.rs` | 80 | all that can be unusual about a connection |
//! | 5 | `stream/connection/mod.rs` | 440 | the phases of a connection |
//! | 6 | `stream/link.rs` | 70 | a connection and the engine, borrowed together |
//! | 7 | `stream/write.rs` | 390 | from `write` to the kernel, and the three ways to end |
//! | 8 | `stream/connection/deadlines.rs` | 200 | what a connection waits for, and until when |
//! | 9 | `engine/timers/mod.rs` | 280 | the clock, and what each timer is for |
//! | 10 | `base/wheel.rs` | 480 | the timer wheel |
//! | 11 | `reactor/accept.rs` | 280 | accepting, within a budget and within the caps |
//! | 12 | `reactor/teardown.rs` | 190 | the end of a turn, and of a connection |
//!
//! # Features
//! None is on by default. To enable some: `cargo add waterwheel --features http,ws`.
//!
//! | feature | what it adds |
//! |---|---|
//! | `activation` | `activated_listeners`: listening sockets from systemd |
//! | `async-sender` | `Sender::send_async`, for tasks of any async runtime (experimental) |
//! | `batch` | [`udp::UdpOptions::batch`] takes up to 64 datagrams in a system call (Linux) |
//! | `http` | the module `http`: an HTTP/1.1 server with routes |
//! | `http-files` | `http::Files`: the files of a directory, with ranges, conditions and a cache |
//! | `http-forms` | `Response::form`, `receive_multipart`, `receive_files`: forms, with files |
//! | `http-gzip` | `http::Gzip`: answers that are compressed as they are made |
//! | `http-session` | `Request::cookie`, `Response::set_cookie`, `http::Sessions` |
//! | `inspect` | the module `inspect`: a recorder of the loop, and a page that shows it |
//! | `proxy-protocol` | `ListenOptions::proxy_protocol`: the client behind a balancer |
//! | `signals` | `drain_on_signals`, of a reactor and of a fleet: a clean end at SIGTERM (Unix) |
//! | `sim` | the module `sim`: the same reactor in a simulated world, by a seed |
//! | `systemd` | `Reactor::notify_systemd`: ready, watchdog and stopping for systemd (Unix) |
//! | `tls` | `tls` of `ListenOptions`, `ConnectOptions`, `Conn`: TLS under any handler |
//! | `tls-aws-lc`, `tls-ring` | `tls` with its cryptography, which wants a C compiler: take one |
//! | `ws` | the module `ws`: WebSocket, both sides, with compression |
//!
//! The compiler does not say which feature a missing method belongs to: this table does.
//!
//! # Logging
//! The crate logs through `log`: errors, and warnings such as limits that are not set, a callback
//! that blocks, or a full table of files. The level `debug` has each connection, and why it ended.
//! The program installs a logger. `env_logger::init()` shows errors only: set `RUST_LOG=warn` or
//! `RUST_LOG=debug` for the rest.
//!
//! # Platforms
//! Linux first: there it is measured. It builds on whatever `mio` supports; where the poll emulates
//! edges (Windows, and poll(2)), a read is repeated until `WouldBlock`, and writability is asked
//! for only while output waits. Platform notes stand at the items that differ.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
// The documentation site labels what belongs to a feature, which only nightly compilers can do.

mod base;

mod options;

mod sys;

mod engine;

mod stream;

mod datagram;

mod handler;

mod reactor;

mod channel;

pub mod pool;

pub mod fleet;

pub mod offload;

#[cfg(feature = "tls")]
pub mod tls;

#[cfg(feature = "http")]
pub mod http;

#[cfg(feature = "ws")]
pub mod ws;

#[cfg(feature = "inspect")]
pub mod inspect;

pub mod guide;

#[cfg(feature = "sim")]
pub mod sim;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod tests;

pub use base::close::{CloseReason, Deadline, Idle, IdleKind, TimeoutKind};
pub use base::id::{ConnId, Timer, TimerId};
pub use base::stats::Stats;
pub use base::{frame, wheel};
pub use channel::{Receive, SendError, Sender};
pub use engine::observer;
#[doc(inline)]
pub use guide::tour;
pub use handler::{
    Conn, Context, DeadlineKind, Handler, HandlerKey, Peer, Remote, Stopped, TimerHandler,
};
pub use options::{
    AtCapacity, ConnectOptions, DEFAULT_ACCEPT_BUDGET, Destination, FILE_RESERVE, Keepalive,
    Limits, ListenOptions, MinRate, OnOverflow, OnPanic, ReactorOptions, Reconnect, TcpOptions,
};
pub use reactor::Reactor;
pub use stream::happy_eyeballs::ConnectRetry;
pub use stream::{Closed, Written};
#[cfg(feature = "activation")]
pub use sys::activated_listeners;
pub use sys::raise_open_file_limit;
#[cfg(unix)]
pub use sys::{receive_listeners, send_listeners};

/// What [`Stats`] is made of.
pub mod stats {
    pub use crate::base::histogram::Histogram;
}

/// Destinations that a program refuses to connect to although a stranger names them.
pub mod filter {
    pub use crate::options::DestinationFilter;
}

#[doc = include_str!("guide/tcp/states.md")]
pub mod tcp {
    pub use crate::base::tcp_info::{TcpInfo, TcpState};
    pub use crate::guide::tcp::{closing, files, handshake, ports, queues};
}

/// Datagrams of UDP: sockets, handlers, and sessions by peer.
///
/// | you want | take |
/// |---|---|
/// | to answer datagrams | a [`DatagramHandler`], or a closure, and [`Reactor::bind_udp`] |
/// | a state for each peer | a [`SessionHandler`], and [`Reactor::bind_sessions`] |
/// | to ask one server | [`Reactor::connect_udp`] and [`DatagramSocket::send`] |
/// | to ask a server by its name | [`Context::resolve`] before that |
/// | several sockets in one handler | [`DatagramSocket::id`] tells them apart |
/// | to send by another socket | [`Context::socket`] |
/// | to send and receive in a multicast group | [`UdpOptions::groups`], and [`Group`] |
/// | a time limit for an answer | [`Context::set_timer`], as the example of [`Timer`] does |
/// | to answer later | [`DatagramSocket::send_from`] |
/// | UDP and TCP in one handler | both traits for one type: see [`Reactor::register`] |
/// | a test with lost datagrams | [`tour::simulated`] |
///
/// UDP loses, doubles and reorders datagrams, and the address of a sender can be forged. The
/// program `examples/dns_forwarder` asks a server with a time limit, and keeps the answers.
///
/// [`DatagramHandler`]: udp::DatagramHandler
/// [`SessionHandler`]: udp::SessionHandler
/// [`DatagramSocket::send`]: udp::DatagramSocket::send
/// [`DatagramSocket::id`]: udp::DatagramSocket::id
/// [`DatagramSocket::send_from`]: udp::DatagramSocket::send_from
/// [`UdpOptions::groups`]: udp::UdpOptions::groups
/// [`Group`]: udp::Group
pub mod udp {
    pub use crate::base::id::SocketId;
    pub use crate::datagram::{SendStatus, Sessions};
    pub use crate::handler::{
        DatagramHandler, DatagramSocket, Session, SessionEnd, SessionHandler,
    };
    pub use crate::options::{DEFAULT_DATAGRAM_BUDGET, Group, SessionOptions, UdpOptions};
}

/// Unix sockets: names, listeners, datagrams, and the user of the peer's process.
pub mod unix {
    pub use crate::sys::Credentials;
    #[cfg(unix)]
    pub use crate::{
        handler::datagram::unix::{UnixDatagramHandler, UnixDatagramSocket},
        options::{UnixAddr, UnixDatagramOptions, UnixListenOptions},
    };
}

/// The header that a balancer sends before the bytes of its client.
#[cfg(feature = "proxy-protocol")]
pub mod proxy_protocol {
    pub use crate::base::proxy_protocol::ProxyProtocol;
}
