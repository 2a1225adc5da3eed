//! The sockets of a port, from the kernel by sock_diag(7): what ss(8) uses. Unlike /proc/net/tcp
//! it tells a listener's limit, and a table of a million connections does not pass as text.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use crate::state::State;

/// One socket of the kernel's table.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) state: State,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// Of a listener: connections that wait to be accepted. Of others: bytes to read.
    pub(crate) receive_queue: u32,
    /// Of a listener: the limit of the other. Of others: bytes that are not acknowledged.
    pub(crate) send_queue: u32,
    /// The number that /proc has for it; 0 if no process holds it.
    pub(crate) inode: u64,
}

// Constants of linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const ALL_STATES: u32 = 0xfff;

/// Bytes of a `nlmsghdr`, an `inet_diag_req_v2` and an `inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const SOCKET: usize = 72;

/// The kernel fills no more than this at a time.
const ANSWER: usize = 64 << 10;

/// Every TCP socket of this network with the port at either end.
pub(crate) fn sockets(port: u16) -> io::Result<Vec<Socket>> {
    let flags = SocketFlags::CLOEXEC;
    let netlink = Some(netlink::SOCK_DIAG);
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, netlink)?;
    let mut sockets = Vec::new();
    for family in [AF_INET, AF_INET6] {
        dump(&kernel, family, |socket| {
            if socket.local.port() == port || socket.remote.port() == port {
                sockets.push(socket);
            }
        })?;
    }
    Ok(sockets)
}

/// Calls `each` with every socket of a family.
fn dump(kernel: &OwnedFd, family: u8, mut each: impl FnMut(Socket)) -> io::Result<()> {
    let mut request = Vec::with_capacity(HEADER + REQUEST);
    request.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend([0; 8]); // a number and an address that nobody needs
    request.extend([family, IPPROTO_TCP, 0, 0]);
    request.extend(ALL_STATES.to_ne_bytes());
    request.resize(HEADER + REQUEST, 0); // of any address and port
    send(kernel, &request, SendFlags::empty())?;
    let mut buffer = vec![0; ANSWER];
    loop {
        let (_, count) = recv(kernel, &mut buffer[..], RecvFlags::empty())?;
        let mut answer = &buffer[..count.min(ANSWER)];
        while let Some((kind, body, rest)) = split_message(answer) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return Err(refusal(body)),
                _ => parse(body).into_iter().for_each(&mut each),
            }
            answer = rest;
        }
    }
}

/// The first message: its kind, its body, and what follows it.
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    let next = length.next_multiple_of(4).min(bytes.len());
    Some((kind, body, &bytes[next..]))
}

fn refusal(body: &[u8]) -> io::Error {
    let code = u32_at(body, 0).map_or(0, |code| code as i32);
    let error = io::Error::from_raw_os_error(-code);
    io::Error::new(error.kind(), format!("the kernel does not list its sockets: {error}"))
}

/// An `inet_diag_msg`; `None` for a state or a family that is not known.
fn parse(body: &[u8]) -> Option<Socket> {
    let message = body.get(..SOCKET)?;
    let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    Some(Socket {
        state: State::from_number(message[1])?,
        local: SocketAddr::new(ip(message[0], &message[8..24])?, port(4)),
        remote: SocketAddr::new(ip(message[0], &message[24..40])?, port(6)),
        receive_queue: u32_at(message, 56)?,
        send_queue: u32_at(message, 60)?,
        inode: u32_at(message, 68)?.into(),
    })
}

fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?).into()),
        AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
