//! What an offload has done.

/// What there is and what was done, of an [`Offload`](super::Offload).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffloadStats {
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that run.
    pub running: usize,
    /// Jobs that have come to their end, with those that panicked.
    pub finished: u64,
    /// Jobs whose work panicked.
    pub panicked: u64,
    /// Jobs that were refused because the queue was full.
    pub refused: u64,
    /// Jobs that were cancelled before they began.
    pub cancelled: u64,
}
