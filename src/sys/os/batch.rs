//! recvmmsg(2) and sendmmsg(2).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg};
use rustix::net::addr::SocketAddrArg;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use super::super::batch::BATCH;
use super::DatagramSocket;

/// What the system fills in for each datagram of a batch. Of each family its own, since the room
/// for an address shrinks to the length of the last one.
pub(in super::super) struct Headers {
    v4: MultiHeaders<SockaddrIn>,
    v6: MultiHeaders<SockaddrIn6>,
}

impl Headers {
    pub(in super::super) fn new() -> Self {
        Self {
            v4: MultiHeaders::preallocate(BATCH, None),
            v6: MultiHeaders::preallocate(BATCH, None),
        }
    }

    /// Receives into as many slots as there are.
    pub(in super::super) fn receive<'a>(
        &'a mut self,
        socket: &DatagramSocket,
        is_v4: bool,
        slots: impl Iterator<Item = &'a mut [u8]>,
        arrivals: &mut Vec<(usize, SocketAddr)>,
    ) -> io::Result<()> {
        let socket = socket.as_raw_fd();
        if is_v4 {
            receive(socket, &mut self.v4, slots, arrivals)
        } else {
            receive(socket, &mut self.v6, slots, arrivals)
        }
    }
}

fn receive<'a, S>(
    socket: RawFd,
    headers: &mut MultiHeaders<S>,
    mut slots: impl Iterator<Item = &'a mut [u8]>,
    arrivals: &mut Vec<(usize, SocketAddr)>,
) -> io::Result<()>
where
    S: SockaddrLike + Copy + Into<SocketAddr>,
{
    let mut count = 0;
    let mut slices: [_; BATCH] = std::array::from_fn(|_| {
        let slot = slots.next().inspect(|_| count += 1);
        [IoSliceMut::new(slot.unwrap_or_default())]
    });
    let slices = slices.iter_mut().take(count);
    for message in recvmmsg(socket, headers, slices, MsgFlags::empty(), None)? {
        // A UDP socket names the sender of each datagram.
        let from = message.address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        arrivals.push((message.bytes, from.into()));
    }
    Ok(())
}

/// Sends several, until the system takes no more: how many it has taken, or what was wrong with
/// the first.
pub(in super::super) fn send_batch<'a>(
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
