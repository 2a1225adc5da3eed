//! The kernel's table of TCP sockets.

use std::net::SocketAddr;

use procfs::net::{TcpNetEntry, TcpState};

/// The state of the socket with these two ends; `None` if there is none.
#[track_caller]
pub(crate) fn state(local: SocketAddr, remote: SocketAddr) -> Option<TcpState> {
    find(|entry| entry.local_address == local && entry.remote_address == remote)
        .map(|entry| entry.state)
}

/// The state of the socket that somebody dials `remote` with, whatever port it has.
#[track_caller]
pub(crate) fn dialling(remote: SocketAddr) -> Option<TcpState> {
    find(|entry| entry.remote_address == remote).map(|entry| entry.state)
}

/// The state of what a listener has for a client that it has not accepted.
#[track_caller]
pub(crate) fn arriving(listener: SocketAddr) -> Option<TcpState> {
    find(|entry| entry.local_address == listener && entry.state != TcpState::Listen)
        .map(|entry| entry.state)
}

/// How many connections to a listener are in a state.
#[track_caller]
pub(crate) fn arriving_in(listener: SocketAddr, state: TcpState) -> usize {
    let entries = procfs::net::tcp().expect("/proc/net/tcp").into_iter();
    entries.filter(|entry| entry.local_address == listener && entry.state == state).count()
}

/// Whether a process holds the socket with these two ends; one that none holds is an orphan.
#[track_caller]
pub(crate) fn is_held(local: SocketAddr, remote: SocketAddr) -> bool {
    find(|entry| entry.local_address == local && entry.remote_address == remote)
        .is_some_and(|entry| entry.inode != 0)
}

/// Connections that wait to be accepted.
#[track_caller]
pub(crate) fn accept_queue(listener: SocketAddr) -> u32 {
    let is_listener =
        |entry: &TcpNetEntry| entry.local_address == listener && entry.state == TcpState::Listen;
    find(is_listener).expect("a listener").rx_queue
}

/// A counter of the group `TcpExt`, of all sockets of this network.
#[track_caller]
pub(crate) fn counter(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/net/netstat").expect("/proc/net/netstat");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs.find(|(other, _)| *other == name).expect(name);
    value.parse().expect("a number")
}

fn find(matching: impl Fn(&TcpNetEntry) -> bool) -> Option<TcpNetEntry> {
    procfs::net::tcp().expect("/proc/net/tcp").into_iter().find(matching)
}
