//! A callback-style network runtime: one thread, one poll, a slab and a timer wheel.
#![forbid(unsafe_code)]

mod buffer;
mod close;
mod connection;
mod engine;
pub mod frame;
mod handler;
mod id;
mod listener;
mod mailbox;
mod options;
mod profile;
mod reactor;
mod stats;
mod sys;
pub mod wheel;

pub use close::{CloseReason, Closed, Idle, IdleKind, TimeoutKind};
pub use engine::Written;
pub use handler::{Conn, Context, DeadlineKind, Handler, Peer, Remote, Service, Stopped};
pub use id::{ConnId, TimerId};
pub use options::{
    AtCapacity, ConnectOptions, DEFAULT_ACCEPT_BUDGET, FILE_RESERVE, Keepalive, Limits,
    ListenOptions, MinRate, OnOverflow, OnPanic, ReactorOptions, TcpOptions,
};
pub use reactor::{Address, Reactor};
pub use stats::Stats;
pub use sys::raise_open_file_limit;
