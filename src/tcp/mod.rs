//! The states of a TCP connection: what the kernel does, what this crate does, which option governs
//! it, and the command that shows it.
//!
//! A connection is in one of eleven states (RFC 9293, 3.3.2), at each of its ends in one of its
//! own. The kernel keeps them; a program sees them in its tables, and feels them as connects that
//! hang, ports that are taken, and descriptors that run out.
//!
//! ```text
//!                            CLOSED
//!             listen │         │         │ connect
//!                  LISTEN      │      SYN_SENT         [handshake]
//!       SYN arrives  │         │         │ SYN and ACK arrive
//!             SYN_RECEIVED     │         │             [queues]
//!       ACK arrives  └──── ESTABLISHED ──┘
//!                close first │       │ the peer closes first
//!                     FIN_WAIT_1   CLOSE_WAIT          [closing]
//!   ACK arrives │   FIN arrives │    │ close
//!         FIN_WAIT_2     CLOSING   LAST_ACK
//!   FIN arrives │   ACK arrives │    │ ACK arrives
//!               └── TIME_WAIT ──┘    │                 [ports]
//!           60 s later  │            │
//!                     CLOSED       CLOSED
//! ```
//!
//! | state | who waits for whom | when it piles up |
//! |---|---|---|
//! | `LISTEN` | a server for clients | |
//! | `SYN_SENT` | we for the peer's answer | it is down, filtered, or its accept queue is full |
//! | `SYN_RECEIVED` | we for the client's last ACK | a SYN flood, or no way back to the client |
//! | `ESTABLISHED` | nobody | silent peers: set an idle limit |
//! | `FIN_WAIT_1` | we for the ACK of our FIN | peers that do not read, or have vanished |
//! | `FIN_WAIT_2` | we for the peer's FIN | the peer does not close: look there for `CLOSE_WAIT` |
//! | `CLOSING` | we for the ACK of our FIN, after the peer's | peers that have vanished |
//! | `TIME_WAIT` | we for late packets | this end closes first; ports may run out |
//! | `CLOSE_WAIT` | the peer for us | a leak here: what has ended is not closed |
//! | `LAST_ACK` | we for the last ACK | peers that do not read, or have vanished |
//!
//! The kernel and its tools write `SYN_RECV` for `SYN_RECEIVED`, and ss(8) writes `SYN-RECV`,
//! `FIN-WAIT-1` and so on.
//!
//! The example `tcpstat` shows all of this for one port, with what to do about it:
//! ```text
//! cargo run --release -p tcpstat -- 7000 --watch 1
//! ```
//! For a single connection [`Conn::tcp_info`](crate::Conn::tcp_info) returns its state.
//!
//! What is said of the kernel is said of Linux, and was tried on 6.18. The tests in
//! `tests/process/states` take a connection of this crate through every state, from either side,
//! and see it in the kernel's table.
//!
//! # Sources
//! RFC 9293; tcp(7), listen(2), socket(7), accept(2), getrlimit(2), proc(5); the kernel's
//! `Documentation/networking/ip-sysctl.rst`.

mod info;

#[doc = include_str!("handshake.md")]
pub mod handshake {}

#[doc = include_str!("queues.md")]
pub mod queues {}

#[doc = include_str!("closing.md")]
pub mod closing {}

#[doc = include_str!("ports.md")]
pub mod ports {}

#[doc = include_str!("files.md")]
pub mod files {}

pub use info::{TcpInfo, TcpState};
