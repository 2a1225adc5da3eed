//! recvmmsg(2) and sendmmsg(2), and segments: several datagrams of one length that pass through
//! the system as one (`UDP_SEGMENT` and `UDP_GRO`, see udp(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6,
    SockaddrLike, SockaddrStorage, getsockopt, recvmmsg, sendmmsg as sendmmsg_with, sendmsg,
    setsockopt, sockopt,
};
use rustix::net::addr::SocketAddrArg;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use super::datagram::{Arrival, BATCH, DatagramSocket, Ends, Route};
use super::pktinfo::{Family, Header, headers};

/// Whether a batch is one call, and not one for each datagram.
pub(crate) const BATCHES_ARE_CALLS: bool = true;

/// Lets the system hand over several datagrams of one sender as one. Linux has it since 5.0;
/// before, they come one by one.
pub(crate) fn take_segments(socket: &impl AsFd) {
    if let Err(error) = setsockopt(socket, sockopt::UdpGroSegment, &true) {
        log::debug!("datagrams are not received in segments: {error}");
    }
}

/// Whether the system sends segments. Linux does since 4.18; before, it passes over what it does
/// not know, and all would leave as one datagram.
pub(crate) fn sends_segments(socket: &DatagramSocket) -> bool {
    getsockopt(&socket.io, sockopt::UdpGsoSegment).is_ok()
}

/// Receives into as many slots as there are.
pub(crate) fn receive_batch<'a>(
    socket: &DatagramSocket,
    is_v4: bool,
    slots: impl ExactSizeIterator<Item = &'a mut [u8]>,
    arrivals: &mut Vec<Arrival>,
) -> io::Result<()> {
    if is_v4 {
        receive::<SockaddrIn>(socket, slots, arrivals)
    } else {
        receive::<SockaddrIn6>(socket, slots, arrivals)
    }
}

fn receive<'a, S>(
    socket: &DatagramSocket,
    mut slots: impl ExactSizeIterator<Item = &'a mut [u8]>,
    arrivals: &mut Vec<Arrival>,
) -> io::Result<()>
where
    S: SockaddrLike + Copy + Into<SocketAddr>,
{
    let most = slots.len().min(BATCH);
    let info = socket.packet_info.as_deref();
    let control = match info {
        Some(_) => cmsg_space!(i32, in_pktinfo, in6_pktinfo),
        None => cmsg_space!(i32),
    };
    // Anew each time: the room for what comes beside the bytes shrinks to what came the last time.
    let mut headers = MultiHeaders::<S>::preallocate(most, Some(control));
    let mut slices: [_; BATCH] =
        std::array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
    let slices = slices.iter_mut().take(most);
    let (fd, flags) = (socket.io.as_raw_fd(), MsgFlags::empty());
    for (slot, message) in recvmmsg(fd, &mut headers, slices, flags, None)?.enumerate() {
        // A UDP socket names the sender of each datagram.
        let peer = message.address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let segment = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::UdpGroSegments(bytes) => usize::try_from(bytes).ok(),
            _ => None,
        });
        let segment = segment.filter(|&bytes| bytes > 0);
        let local = match info {
            Some(info) => info.local_of(message.cmsgs()?),
            None => None,
        };
        let ends = Ends { peer: peer.into(), local };
        arrivals.push(Arrival { slot, segment, bytes: message.bytes, ends });
    }
    Ok(())
}

/// Sends several from one local address, or `None` for the system's choice, until the system takes
/// no more: how many it has taken, or what was wrong with the first.
pub(crate) fn send_batch<'a>(
    socket: &DatagramSocket,
    local: Option<SocketAddr>,
    datagrams: impl Iterator<Item = (Option<SocketAddr>, &'a [u8])>,
) -> io::Result<usize> {
    if let (Some(info), Some(local)) = (&socket.packet_info, local) {
        return match info.header {
            Header::V4(_) => send_batch_from::<SockaddrIn>(socket, local, datagrams),
            Header::V6(_) => send_batch_from::<SockaddrIn6>(socket, local, datagrams),
        };
    }
    let mut parts: Vec<_> = datagrams
        .map(|(to, bytes)| {
            (to.map(|to| to.as_any()), [IoSlice::new(bytes)], SendAncillaryBuffer::default())
        })
        .collect();
    let mut headers: Vec<_> = parts
        .iter_mut()
        .map(|(to, bytes, control)| match to {
            Some(to) => MMsgHdr::new_with_addr(to, &*bytes, control),
            None => MMsgHdr::new(&*bytes, control),
        })
        .collect();
    Ok(sendmmsg(&socket.io, &mut headers, SendFlags::NOSIGNAL)?)
}

/// nix names one local address for all datagrams of a call, and rustix none.
fn send_batch_from<'a, S: Family>(
    socket: &DatagramSocket,
    local: SocketAddr,
    datagrams: impl Iterator<Item = (Option<SocketAddr>, &'a [u8])>,
) -> io::Result<usize> {
    let source = S::source(local)?;
    let (mut to, mut parts) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    for (receiver, bytes) in datagrams {
        match receiver.map(S::receiver).transpose() {
            // It is told when it is the first.
            Err(_) if !to.is_empty() => break,
            receiver => to.push(receiver?),
        }
        parts.push([IoSlice::new(bytes)]);
    }
    let mut headers = headers::<S>(to.len());
    let (fd, flags) = (socket.io.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
    Ok(sendmmsg_with(fd, &mut headers, &parts, &to, [source.control()], flags)?.count())
}

/// Sends datagrams of `segment` bytes each, the last one perhaps of fewer, as one.
pub(crate) fn send_segments(
    socket: &DatagramSocket,
    route: &Route,
    bytes: &[u8],
    segment: u16,
) -> io::Result<()> {
    let to = route.to.map(SockaddrStorage::from);
    let segments = ControlMessage::UdpGsoSegments(&segment);
    let source = match (&socket.packet_info, route.local) {
        (Some(info), Some(local)) => Some(match info.header {
            Header::V4(_) => SockaddrIn::source(local)?,
            Header::V6(_) => SockaddrIn6::source(local)?,
        }),
        _ => None,
    };
    let controls = match &source {
        Some(source) => &[segments, source.control()][..],
        None => &[segments],
    };
    let (fd, flags) = (socket.io.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
    sendmsg(fd, &[IoSlice::new(bytes)], controls, flags, to.as_ref())?;
    Ok(())
}
