//! Several datagrams in one system call: a batch that comes in, and one that goes out.

use std::io;
use std::net::SocketAddr;

use super::DatagramSocket;
#[cfg(all(feature = "batch", target_os = "linux", not(mio_unsupported_force_poll_poll)))]
use super::os;

/// Most datagrams of one batch.
pub(crate) const BATCH: usize = 64;

/// Bytes that a batch going out may gather, but for its last datagram: what a full batch of
/// datagrams of an Ethernet's length has.
const GATHERED_BYTES: usize = BATCH * 1_500;

/// Room for a batch that comes in, and what is left of the last one.
pub(crate) struct Inbound {
    slots: Box<[u8]>,
    /// Bytes of a slot.
    stride: usize,
    /// How long each is, and who sent it.
    arrivals: Vec<(usize, SocketAddr)>,
    /// The first that nobody has taken.
    next: usize,
    /// No more waited.
    is_all: bool,
    /// What ended the batch before its time.
    error: Option<io::Error>,
    #[cfg(all(feature = "batch", target_os = "linux", not(mio_unsupported_force_poll_poll)))]
    headers: os::Headers,
}

impl Inbound {
    pub(crate) fn new() -> Self {
        Self {
            slots: Box::default(),
            stride: 0,
            arrivals: Vec::with_capacity(BATCH),
            next: 0,
            is_all: false,
            error: None,
            #[cfg(all(
                feature = "batch",
                target_os = "linux",
                not(mio_unsupported_force_poll_poll)
            ))]
            headers: os::Headers::new(),
        }
    }

    /// Makes room for datagrams of so many bytes. Memory that no datagram has come to lie in is
    /// not touched.
    pub(crate) fn fit(&mut self, bytes: usize) {
        if bytes > self.stride {
            // The lengths that are usual are powers of two; slots that far apart would share the
            // few cache lines of one set, so that each lies one line further.
            self.stride = bytes.next_multiple_of(64) + 64;
            self.slots = vec![0; self.stride * BATCH].into_boxed_slice();
        }
    }

    /// Receives up to `most` datagrams, of up to `room` bytes each.
    ///
    /// Invariant: nothing is left of the last batch, and `fit` was called for `room`.
    pub(crate) fn fill(
        &mut self,
        socket: &mut DatagramSocket,
        is_v4: bool,
        room: usize,
        most: usize,
    ) -> io::Result<()> {
        self.clear();
        #[cfg(all(feature = "batch", target_os = "linux", not(mio_unsupported_force_poll_poll)))]
        #[cfg_attr(not(feature = "sim"), expect(irrefutable_let_patterns))]
        if let DatagramSocket::Os(socket) = socket {
            let slots = self.slots.chunks_mut(self.stride).map(|slot| &mut slot[..room]).take(most);
            self.headers.receive(socket, is_v4, slots, &mut self.arrivals)?;
            self.is_all = self.arrivals.len() < most;
            return Ok(());
        }
        let _ = is_v4;
        for slot in self.slots.chunks_mut(self.stride).take(most) {
            match socket.receive(&mut slot[..room]) {
                Ok(arrival) => self.arrivals.push(arrival),
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

    /// Datagrams that nobody has taken.
    pub(crate) fn len(&self) -> usize {
        self.arrivals.len() - self.next
    }

    /// Whether the last batch was all there was. Where one call receives it, an error may be left
    /// that only the next call tells.
    pub(crate) fn is_all(&self) -> bool {
        self.is_all
    }

    /// An error that was met behind the last of them.
    pub(crate) fn take_error(&mut self) -> Option<io::Error> {
        let is_one = |error: &io::Error| {
            !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        };
        self.error.take().filter(is_one)
    }

    /// Takes the next one: all of its bytes that there was room for.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<(&[u8], SocketAddr)> {
        let &(count, from) = self.arrivals.get(self.next)?;
        let start = self.next * self.stride;
        self.next += 1;
        Some((&self.slots[start..start + count], from))
    }

    /// Drops what is left; how many.
    pub(crate) fn clear(&mut self) -> usize {
        let left = self.len();
        self.arrivals.clear();
        (self.next, self.is_all, self.error) = (0, false, None);
        left
    }
}

/// A batch that is gathered, to go out in order.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    bytes: Vec<u8>,
    /// Where each ends, and whom it is for; `None` for the peer.
    ends: Vec<(usize, Option<SocketAddr>)>,
}

impl Outbound {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has to go out before more is gathered.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.ends.len() == BATCH || self.bytes.len() >= GATHERED_BYTES
    }

    #[inline]
    pub(crate) fn push(&mut self, to: Option<SocketAddr>, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push((self.bytes.len(), to));
    }

    /// One of them.
    pub(crate) fn get(&self, index: usize) -> Option<(Option<SocketAddr>, &[u8])> {
        let &(end, to) = self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1].0 };
        Some((to, &self.bytes[start..end]))
    }

    /// Sends those from `first` on, until the system takes no more: how many it has taken, at
    /// least one, or what was wrong with the first.
    pub(crate) fn send(&self, socket: &mut DatagramSocket, first: usize) -> io::Result<usize> {
        #[cfg(all(feature = "batch", target_os = "linux", not(mio_unsupported_force_poll_poll)))]
        if let (DatagramSocket::Os(socket), 2..) = (&*socket, self.len() - first) {
            let rest = (first..self.len()).filter_map(|index| self.get(index));
            return os::send_batch(socket, rest);
        }
        let Some((to, bytes)) = self.get(first) else { return Ok(0) };
        socket.send(bytes, to)?;
        Ok(1)
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound")
            .field("stride", &self.stride)
            .field("left", &self.len())
            .finish_non_exhaustive()
    }
}
