//! Stands for `sock_diag.rs` on other systems than Linux.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::Stream;
use crate::base::tcp_info::TcpInfo;

/// What the kernel knows of the connection to `peer`: not to be had here.
pub(crate) fn tcp_info(_: &Stream, _: SocketAddr) -> io::Result<TcpInfo> {
    let text = "TCP_INFO can be had on Linux only";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// How long ago the kernel last sent some of what it has: not to be had here.
pub(crate) fn unsent_stall(_: &Stream) -> Option<Duration> {
    None
}

/// How long ago the kernel last sent data: not to be had here.
pub(crate) fn sent_ago(_: &Stream) -> Option<Duration> {
    None
}
