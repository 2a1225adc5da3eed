//! What an offload has done.

/// The counters of an [`Offload`](super::Offload): jobs now, and jobs so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffloadStats {
    /// Jobs that wait now.
    pub queued: usize,
    /// Jobs that run now.
    pub running: usize,
    /// Jobs that have ended so far, those that panicked included.
    pub finished: u64,
    /// Jobs whose work panicked.
    pub panicked: u64,
    /// Jobs that were refused because the queue was full.
    pub refused: u64,
    /// Jobs that were cancelled before they began.
    pub cancelled: u64,
}
