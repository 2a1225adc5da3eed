//! What Linux knows of a connection.
//!
//! No well-kept crate gives `getsockopt(TCP_INFO)` a safe face. So the kernel is asked through
//! sock_diag(7), as ss(8) does. The question has the addresses of the connection, which is one
//! look into the kernel's hash table, and its cookie, so that the answer is never of another one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::socket_cookie;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::Stream;
use crate::base::tcp_info::TcpInfo;

// Constants of linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const INET_DIAG_INFO: u16 = 2;
const ALL_STATES: u32 = u32::MAX;

/// Bytes of a `nlmsghdr`, an `inet_diag_req_v2`, an `inet_diag_msg`, and of the head of an
/// attribute.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const SOCKET: usize = 72;
const ATTRIBUTE: usize = 4;

/// Room for an answer: some 400 bytes by Linux 6.18.
const ANSWER: usize = 4 << 10;

/// Where a `tcp_info` has the timeouts in a row, the milliseconds since data was sent, and the
/// bytes that were not sent so far (Linux 4.6).
const TIMEOUTS_AT: usize = 2;
const SENT_AGO_AT: usize = 44;
const UNSENT_AT: usize = 144;

/// What the kernel knows of the connection to `peer`.
pub(crate) fn tcp_info(stream: &Stream, peer: SocketAddr) -> io::Result<TcpInfo> {
    let request = request(stream.local_addr()?, peer, socket_cookie(stream)?);
    let mut answer = [0; ANSWER];
    ask(&request, &mut answer).and_then(|count| read(&answer[..count.min(ANSWER)])).map_err(explain)
}

/// How long ago the kernel last sent data, by its own clock, of which a tick may last
/// 10 ms. `None` if the peer does not acknowledge, or if that is not known.
///
/// A peer that reads makes room for the next segment, so the time of the last segment is that of
/// the last progress. Probes of a peer that has no room are no segments with data.
pub(crate) fn sent_ago(stream: &Stream) -> Option<Duration> {
    with_info(stream, sent_ago_in)
}

/// The same, if there is more that waits to be sent.
pub(crate) fn unsent_stall(stream: &Stream) -> Option<Duration> {
    with_info(stream, unsent_stall_in)
}

fn with_info(stream: &Stream, look: fn(&[u8]) -> Option<Duration>) -> Option<Duration> {
    let peer = stream.peer_addr().ok()?;
    let request = request(stream.local_addr().ok()?, peer, socket_cookie(stream).ok()?);
    let mut answer = [0; ANSWER];
    let count = ask(&request, &mut answer).ok()?;
    look(info(&answer[..count.min(ANSWER)]).ok()?)
}

fn unsent_stall_in(info: &[u8]) -> Option<Duration> {
    let has_unsent = u32_at(info, UNSENT_AT)? > 0;
    sent_ago_in(info).filter(|_| has_unsent)
}

fn sent_ago_in(info: &[u8]) -> Option<Duration> {
    let ago = Duration::from_millis(u32_at(info, SENT_AGO_AT)?.into());
    (info[TIMEOUTS_AT] == 0).then_some(ago)
}

fn explain(error: Errno) -> io::Error {
    match error {
        // There is no such connection, or another one by now.
        Errno::NOENT | Errno::STALE => {
            let text = "no TCP_INFO: the connection is not begun or has ended";
            io::Error::new(io::ErrorKind::NotConnected, text)
        }
        error => {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("no TCP_INFO from sock_diag(7): {error}"))
        }
    }
}

/// The kernel has answered when the call that asks returns.
fn ask(request: &[u8], answer: &mut [u8]) -> Result<usize, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(netlink::SOCK_DIAG);
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
    send(&kernel, request, SendFlags::empty())?;
    Ok(recv(&kernel, answer, RecvFlags::empty())?.1)
}

/// A question for one socket: `nlmsghdr`, then `inet_diag_req_v2`.
fn request(local: SocketAddr, peer: SocketAddr, cookie: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    bytes.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]); // a sequence number and a port, both unused
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    bytes.extend([family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
    bytes.extend(ALL_STATES.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(peer.port().to_be_bytes());
    bytes.extend(padded(local.ip()));
    bytes.extend(padded(peer.ip()));
    let interface = match local {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(local) => local.scope_id(),
    };
    bytes.extend(interface.to_ne_bytes());
    // The low half of the cookie comes first, whatever the order of bytes.
    bytes.extend((cookie as u32).to_ne_bytes());
    bytes.extend(((cookie >> 32) as u32).to_ne_bytes());
    bytes
}

fn padded(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The `tcp_info` of an answer, read.
fn read(answer: &[u8]) -> Result<TcpInfo, Errno> {
    TcpInfo::from_bytes(info(answer)?).ok_or(Errno::BADMSG)
}

/// The `tcp_info` of an answer.
fn info(answer: &[u8]) -> Result<&[u8], Errno> {
    let kind = u16_at(answer, 4).ok_or(Errno::BADMSG)?;
    if kind == NLMSG_ERROR {
        let code = answer.get(HEADER..HEADER + 4).and_then(|code| code.try_into().ok());
        let code = code.map_or(0, i32::from_ne_bytes);
        return Err(Errno::from_raw_os_error(-code));
    }
    let mut attributes = answer.get(HEADER + SOCKET..).unwrap_or_default();
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length);
        if kind == INET_DIAG_INFO {
            return attributes.get(ATTRIBUTE..length).ok_or(Errno::BADMSG);
        }
        let next = length.next_multiple_of(4).max(ATTRIBUTE);
        attributes = attributes.get(next..).unwrap_or_default();
    }
    // What is in TIME_WAIT has none.
    Err(Errno::NOENT)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_is_not_acknowledged_is_no_progress() {
        let mut info = vec![0; 104];
        info[SENT_AGO_AT..][..4].copy_from_slice(&510u32.to_ne_bytes());
        assert_eq!(sent_ago_in(&info), Some(Duration::from_millis(510)));
        assert_eq!(sent_ago_in(&info[..SENT_AGO_AT + 3]), None);
        info.resize(160, 0);
        assert_eq!(unsent_stall_in(&info), None);
        info[UNSENT_AT] = 1;
        assert_eq!(unsent_stall_in(&info), Some(Duration::from_millis(510)));
        info[TIMEOUTS_AT] = 1;
        assert_eq!((sent_ago_in(&info), unsent_stall_in(&info)), (None, None));
    }

    #[test]
    fn an_answer_that_is_cut_off_or_nonsense_is_an_error() {
        let mut answer = vec![0; HEADER + SOCKET];
        // Another attribute, padded, and that of the answer.
        for number in [5, 9, 1, 0, ATTRIBUTE as u16 + 104, INET_DIAG_INFO] {
            answer.extend(number.to_ne_bytes());
        }
        answer.extend([1; 104]);
        assert_eq!(u16_at(&answer, 0), Some(0));
        assert_eq!(read(&answer).unwrap().lost_segments, 0x0101_0101);
        for length in 0..answer.len() {
            assert!(read(&answer[..length]).is_err(), "{length} bytes");
        }
        for byte in 0..=255 {
            for at in HEADER + SOCKET..HEADER + SOCKET + 12 {
                let mut answer = answer.clone();
                answer[at] = byte;
                let _ = read(&answer); // comes to an end
            }
        }
    }

    #[test]
    fn an_error_of_the_kernel_is_told() {
        let mut answer = vec![0; HEADER];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        answer.extend((-Errno::ACCESS.raw_os_error()).to_ne_bytes());
        assert_eq!(read(&answer).unwrap_err(), Errno::ACCESS);
    }
}
