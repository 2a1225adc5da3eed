//! The kernel's table of TCP sockets of IPv4, `/proc/net/tcp` (proc(5)).

use std::net::{Ipv4Addr, SocketAddr};

/// The states, with the numbers that the kernel gives them (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpState {
    Established = 1,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynRecv,
}

const STATES: [TcpState; 12] = [
    TcpState::Established,
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::TimeWait,
    TcpState::Close,
    TcpState::CloseWait,
    TcpState::LastAck,
    TcpState::Listen,
    TcpState::Closing,
    TcpState::NewSynRecv,
];

/// A line of the table.
struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    state: TcpState,
    /// Bytes to be read; of a listener, connections to be accepted.
    receive_queue: u32,
    /// The file of the process that holds the socket; 0 if none does.
    inode: u64,
}

impl Row {
    /// The fields: number, local address, remote address, state, `send:receive` queue,
    /// `timer:when`, retransmissions, user, timeouts, inode.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let state = usize::from_str_radix(fields.get(3)?, 16).ok()?;
        let (_, receive_queue) = fields.get(4)?.split_once(':')?;
        Some(Self {
            local: address(fields.get(1)?)?,
            remote: address(fields.get(2)?)?,
            state: *STATES.get(state.checked_sub(1)?)?,
            receive_queue: u32::from_str_radix(receive_queue, 16).ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    }
}

/// The kernel writes the four bytes of an address as one number of the machine's byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
    Some((Ipv4Addr::from(ip), u16::from_str_radix(port, 16).ok()?).into())
}

/// The state of the socket with these two ends; `None` if there is none.
#[track_caller]
pub(crate) fn state(local: SocketAddr, remote: SocketAddr) -> Option<TcpState> {
    find(|row| row.local == local && row.remote == remote).map(|row| row.state)
}

/// The state of the socket that somebody dials `remote` with, whatever port it has.
#[track_caller]
pub(crate) fn dialling(remote: SocketAddr) -> Option<TcpState> {
    find(|row| row.remote == remote).map(|row| row.state)
}

/// The state of what a listener has for a client that it has not accepted.
#[track_caller]
pub(crate) fn arriving(listener: SocketAddr) -> Option<TcpState> {
    find(|row| row.local == listener && row.state != TcpState::Listen).map(|row| row.state)
}

/// How many connections to a listener are in a state.
#[track_caller]
pub(crate) fn arriving_in(listener: SocketAddr, state: TcpState) -> usize {
    rows().into_iter().filter(|row| row.local == listener && row.state == state).count()
}

/// Whether a process holds the socket with these two ends; one that none holds is an orphan.
#[track_caller]
pub(crate) fn is_held(local: SocketAddr, remote: SocketAddr) -> bool {
    find(|row| row.local == local && row.remote == remote).is_some_and(|row| row.inode != 0)
}

/// Connections that wait to be accepted.
#[track_caller]
pub(crate) fn accept_queue(listener: SocketAddr) -> u32 {
    let is_listener = |row: &Row| row.local == listener && row.state == TcpState::Listen;
    find(is_listener).expect("a listener").receive_queue
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

fn find(matching: impl Fn(&Row) -> bool) -> Option<Row> {
    rows().into_iter().find(matching)
}

#[track_caller]
fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    text.lines().skip(1).map(|line| Row::parse(line).expect(line)).collect()
}
