//! Several datagrams in one system call: a batch that comes in, and one that goes out.

use std::io;
use std::net::SocketAddr;

use super::os::{self, Arrival, BATCH, BATCHES_ARE_CALLS};
use super::{DatagramSocket, Ends, Route, SendFault};

/// Bytes that a batch going out may gather, but for its last datagram: what a full batch of
/// datagrams of an Ethernet's length has.
const MAX_BATCH_BYTES: usize = BATCH * 1_500;

/// Bytes of a slot: of the longest datagram, or of several that came as one. Slots of a power of
/// two would lie in the same few lines of a cache, so that each lies one line further.
const SLOT: usize = 65_536 + 64;

/// Room for a batch that comes in, and what is left of the last one.
pub(crate) struct Inbound {
    /// Memory that no datagram has come to lie in is not touched.
    slots: Box<[u8]>,
    arrivals: Vec<Arrival>,
    /// The first arrival that has something left, and where that begins.
    next: usize,
    start: usize,
    /// No more waited.
    is_all: bool,
    /// What ended the batch before its time.
    error: Option<io::Error>,
    /// Slots that one call is given: enough for twice of what the last one brought.
    ask: usize,
}

impl Inbound {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![0; SLOT * BATCH].into_boxed_slice(),
            arrivals: Vec::with_capacity(BATCH),
            next: 0,
            start: 0,
            is_all: false,
            error: None,
            ask: 1,
        }
    }

    /// Receives up to `most` datagrams; those that came as one count as one.
    ///
    /// Invariant: nothing is left of the last batch.
    pub(crate) fn fill(
        &mut self,
        socket: &mut DatagramSocket,
        is_v4: bool,
        most: usize,
    ) -> io::Result<()> {
        self.clear();
        let most = most.min(self.ask);
        let filled = self.receive(socket, is_v4, most);
        self.ask = (2 * self.arrivals.len()).clamp(2, BATCH);
        filled
    }

    fn receive(&mut self, socket: &mut DatagramSocket, is_v4: bool, most: usize) -> io::Result<()> {
        match socket {
            DatagramSocket::Os(socket) if BATCHES_ARE_CALLS => {
                let slots = self.slots.chunks_exact_mut(SLOT).take(most);
                os::receive_batch(socket, is_v4, slots, &mut self.arrivals)?;
                self.is_all = self.arrivals.len() < most;
                Ok(())
            }
            socket => self.receive_each(socket, most),
        }
    }

    /// Receives with one call for each.
    fn receive_each(&mut self, socket: &mut DatagramSocket, most: usize) -> io::Result<()> {
        for (slot, room) in self.slots.chunks_exact_mut(SLOT).enumerate().take(most) {
            let mut ends = Ends::NONE;
            match socket.receive(room, &mut ends) {
                Ok(bytes) => self.arrivals.push(Arrival { slot, segment: None, bytes, ends }),
                Err(error) if self.arrivals.is_empty() => return Err(error),
                Err(error) => {
                    self.is_all = error.kind() == io::ErrorKind::WouldBlock;
                    self.error = Some(error);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether the last batch was all there was. Where one call receives it, an error may be left
    /// that only the next call tells.
    pub(crate) fn is_all(&self) -> bool {
        self.is_all
    }

    /// An error that was met behind the last of them.
    pub(crate) fn take_error(&mut self) -> Option<io::Error> {
        // What is no error for the handler is met again by the next call.
        let is_one = |error: &io::Error| {
            !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
                && !super::is_let_go(error)
        };
        self.error.take().filter(is_one)
    }

    /// Takes the next datagram, and says between which addresses it came.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<(&[u8], &Ends)> {
        let arrival = self.arrivals.get(self.next)?;
        let first = arrival.slot * SLOT;
        let start = self.start;
        let &Arrival { bytes, ref ends, .. } = arrival;
        let end = match arrival.segment {
            Some(segment) if start + segment < bytes => start + segment,
            _ => bytes,
        };
        (self.next, self.start) = if end == bytes { (self.next + 1, 0) } else { (self.next, end) };
        Some((&self.slots[first + start..first + end], ends))
    }

    /// Datagrams that are not taken yet.
    pub(crate) fn len(&self) -> usize {
        let left = self.arrivals[self.next..].iter().map(|arrival| match arrival.segment {
            Some(segment) => arrival.bytes.div_ceil(segment),
            None => 1,
        });
        let taken = match self.arrivals.get(self.next).and_then(|arrival| arrival.segment) {
            Some(segment) => self.start / segment,
            None => 0,
        };
        left.sum::<usize>() - taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.arrivals.len()
    }

    /// Drops what is left; how many datagrams that were.
    pub(crate) fn clear(&mut self) -> usize {
        let left = self.len();
        self.arrivals.clear();
        (self.next, self.start, self.is_all, self.error) = (0, 0, false, None);
        left
    }
}

/// A batch to be sent in order.
#[derive(Debug)]
pub(crate) struct Outbound {
    bytes: Vec<u8>,
    /// Where each ends, and the way that it takes.
    ends: Vec<(usize, Route)>,
    /// Datagrams of more bytes do not go out as segments: the system refuses those that are
    /// longer than what the way to the peer takes whole, and all where it cannot do it. 0 where it
    /// does not know of them.
    longest_segment: usize,
}

impl Outbound {
    /// For what a socket sends.
    pub(crate) fn new(socket: &DatagramSocket) -> Self {
        let longest_segment = if sends_segments(socket) { usize::from(u16::MAX) } else { 0 };
        Self { bytes: Vec::new(), ends: Vec::new(), longest_segment }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has to go out before more is gathered.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.ends.len() == BATCH || self.bytes.len() >= MAX_BATCH_BYTES
    }

    #[inline]
    pub(crate) fn push(&mut self, route: Route, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push((self.bytes.len(), route));
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1].0 }
    }

    /// A datagram of the batch, by its index.
    pub(crate) fn get(&self, index: usize) -> Option<(Route, &[u8])> {
        let &(end, route) = self.ends.get(index)?;
        Some((route, &self.bytes[self.start(index)..end]))
    }

    /// Sends those from `first` on, until the system takes no more: how many it has taken, at
    /// least one, or what was wrong with the first.
    pub(crate) fn send(&mut self, socket: &mut DatagramSocket, first: usize) -> io::Result<usize> {
        match socket {
            DatagramSocket::Os(socket) if BATCHES_ARE_CALLS && self.len() - first > 1 => {
                return self.send_several(socket, first);
            }
            _ => {}
        }
        let Some((route, bytes)) = self.get(first) else { return Ok(0) };
        socket.send(bytes, &route)?;
        Ok(1)
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

fn sends_segments(socket: &DatagramSocket) -> bool {
    matches!(socket, DatagramSocket::Os(socket) if os::sends_segments(socket))
}

impl Outbound {
    /// Sends a run of segments, or what has the same local address before the next one, in a call
    /// of their own.
    fn send_several(&mut self, socket: &os::DatagramSocket, first: usize) -> io::Result<usize> {
        let run = self.run(first);
        let local = self.ends[first].1.local;
        if run > 1 {
            let (start, segment) = (self.start(first), self.length(first));
            let bytes = &self.bytes[start..self.ends[first + run - 1].0];
            let sent = os::send_segments(socket, &self.ends[first].1, bytes, segment as u16);
            match sent {
                Ok(()) => return Ok(run),
                Err(error) if is_no_refusal(&error) => return Err(error),
                Err(_) => {}
            }
            // What one by one can be sent was refused for being segments.
            let sent = os::send_batch(socket, local, self.range(first, first + run))?;
            self.longest_segment = self.longest_segment.min(segment - 1);
            return Ok(sent);
        }
        let ends_run = |&index: &usize| self.ends[index].1.local != local || self.run(index) > 1;
        let end = (first + 1..self.len()).find(ends_run);
        os::send_batch(socket, local, self.range(first, end.unwrap_or(self.len())))
    }

    fn range(&self, start: usize, end: usize) -> impl Iterator<Item = (Option<SocketAddr>, &[u8])> {
        (start..end).filter_map(|index| self.get(index)).map(|(route, bytes)| (route.to, bytes))
    }

    fn length(&self, index: usize) -> usize {
        self.ends[index].0 - self.start(index)
    }

    /// How many from `first` on can leave as segments of one: all by the same way and of the same
    /// length, but for the last one, which may be shorter.
    fn run(&self, first: usize) -> usize {
        let (route, segment) = (self.ends[first].1, self.length(first));
        if segment == 0 || segment > self.longest_segment {
            return 1;
        }
        let mut count = 1;
        let most = (MAX_SEGMENT_BYTES / segment).min(BATCH);
        while count < most && first + count < self.len() {
            let length = self.length(first + count);
            if self.ends[first + count].1 != route || length == 0 || length > segment {
                break;
            }
            count += 1;
            if length < segment {
                break;
            }
        }
        count
    }
}

/// Whether an error says nothing of segments: there is no room now, or the network has answered to
/// an older datagram, which is reported once.
fn is_no_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, WouldBlock};
    SendFault::of(error) == SendFault::NoBuffers
        || matches!(
            error.kind(),
            WouldBlock | ConnectionRefused | HostUnreachable | NetworkUnreachable
        )
}

/// Bytes of segments that go out as one: those of one UDP datagram over IPv4.
const MAX_SEGMENT_BYTES: usize = 65_507;

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound").field("left", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_segments_is_given_none() {
        let gathered = |longest_segment| {
            let mut outbound = Outbound { bytes: Vec::new(), ends: Vec::new(), longest_segment };
            (0..5).for_each(|_| outbound.push(Route::TO_PEER, b"bytes"));
            outbound
        };
        assert_eq!(gathered(usize::from(u16::MAX)).run(0), 5);
        assert_eq!((gathered(5).run(1), gathered(4).run(1)), (4, 1));
        assert_eq!(gathered(0).run(0), 1);
    }
}
