//! The states of TCP.

mod info;

pub use info::{TcpInfo, TcpState};
