//! recvmmsg(2) and sendmmsg(2), and segments: several datagrams of one length that pass through
//! the system as one (`UDP_SEGMENT` and `UDP_GRO`, see udp(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6,
    SockaddrLike, SockaddrStorage, getsockopt, recvmmsg, sendmsg, setsockopt, sockopt,
};
use rustix::net::addr::SocketAddrArg;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use super::datagram::{Arrival, BATCH, DatagramSocket};

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
    getsockopt(socket, sockopt::UdpGsoSegment).is_ok()
}

/// Receives into as many slots as there are.
pub(crate) fn receive_batch<'a>(
    socket: &DatagramSocket,
    is_v4: bool,
    slots: impl ExactSizeIterator<Item = &'a mut [u8]>,
    arrivals: &mut Vec<Arrival>,
) -> io::Result<()> {
    let socket = socket.as_raw_fd();
    if is_v4 {
        receive::<SockaddrIn>(socket, slots, arrivals)
    } else {
        receive::<SockaddrIn6>(socket, slots, arrivals)
    }
}

fn receive<'a, S>(
    socket: RawFd,
    mut slots: impl ExactSizeIterator<Item = &'a mut [u8]>,
    arrivals: &mut Vec<Arrival>,
) -> io::Result<()>
where
    S: SockaddrLike + Copy + Into<SocketAddr>,
{
    let most = slots.len().min(BATCH);
    // Anew each time: the room for what comes beside the bytes shrinks to what came the last time.
    let mut headers = MultiHeaders::<S>::preallocate(most, Some(cmsg_space!(i32)));
    let mut slices: [_; BATCH] =
        std::array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
    let slices = slices.iter_mut().take(most);
    for (slot, message) in
        recvmmsg(socket, &mut headers, slices, MsgFlags::empty(), None)?.enumerate()
    {
        // A UDP socket names the sender of each datagram.
        let from = message.address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let segment = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::UdpGroSegments(bytes) => usize::try_from(bytes).ok(),
            _ => None,
        });
        let segment = segment.filter(|&bytes| bytes > 0);
        arrivals.push(Arrival { slot, bytes: message.bytes, segment, from: from.into() });
    }
    Ok(())
}

/// Sends several, until the system takes no more: how many it has taken, or what was wrong with
/// the first.
pub(crate) fn send_batch<'a>(
    socket: &DatagramSocket,
    datagrams: impl Iterator<Item = (Option<SocketAddr>, &'a [u8])>,
) -> io::Result<usize> {
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
    Ok(sendmmsg(socket, &mut headers, SendFlags::NOSIGNAL)?)
}

/// Sends datagrams of `segment` bytes each, the last one perhaps of fewer, as one.
pub(crate) fn send_segments(
    socket: &DatagramSocket,
    to: Option<SocketAddr>,
    bytes: &[u8],
    segment: u16,
) -> io::Result<()> {
    let to = to.map(SockaddrStorage::from);
    let control = [ControlMessage::UdpGsoSegments(&segment)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], &control, flags, to.as_ref())?;
    Ok(())
}
