//! Bugs on purpose, so that the tests can show that they would find them.
//!
//! Only a build with `--cfg waterwheel_teeth` has them; otherwise every question here is the
//! constant `false`, and the compiler drops what hangs on it.

/// A bug that can be planted: the kind that event loops have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(waterwheel_teeth), expect(unreachable_pub, reason = "public where it is planted"))]
pub enum Bug {
    /// Every read counts as having emptied the socket.
    LostReadiness,
    /// An event goes to whoever has the slot now.
    StaleIdDelivered,
    /// A slot is used again under the same generation.
    GenerationNotRaised,
    /// A connection that ends is taken down twice.
    ClosedTwice,
    /// A post does not wake the sleeping loop.
    WakeLost,
    /// Reading stops at its budget, and nobody comes back to it.
    BudgetWithoutReadyQueue,
    /// Accept fails for want of descriptors, and waits for an event that was.
    EdgeConsumed,
    /// A timer is due a tick too soon.
    TimerEarly,
    /// The timers of a slot are not moved down when the wheel enters it.
    CascadeSkipped,
    /// Output drains, and the handler is not told.
    DrainMissed,
    /// A write may overrun the cap by one byte.
    CapOverrun,
    /// An end that is reported while reading is paused is forgotten.
    EndLostWhilePaused,
    /// A reset ends a connection before what came ahead of it is read.
    TailLost,
    /// What a callback has gathered is not sent.
    CorkNotFlushed,
    /// A write goes past what is queued.
    OutputReordered,
    /// A connect that fails at once keeps its slot.
    SlotLeaked,
    /// An idle limit does not look whether there is something to read.
    ExpiryBeatsActivity,
    /// A periodic timer counts from when it was run.
    PeriodicDrift,
    /// Messages are run after the stop.
    MessageAfterStop,
    /// An accept that lost its connection is the last.
    AcceptLoopStops,
}

#[cfg(waterwheel_teeth)]
mod planting {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    impl Bug {
        /// All of them.
        pub const ALL: [Self; 20] = [
            Self::LostReadiness,
            Self::StaleIdDelivered,
            Self::GenerationNotRaised,
            Self::ClosedTwice,
            Self::WakeLost,
            Self::BudgetWithoutReadyQueue,
            Self::EdgeConsumed,
            Self::TimerEarly,
            Self::CascadeSkipped,
            Self::DrainMissed,
            Self::CapOverrun,
            Self::EndLostWhilePaused,
            Self::TailLost,
            Self::CorkNotFlushed,
            Self::OutputReordered,
            Self::SlotLeaked,
            Self::ExpiryBeatsActivity,
            Self::PeriodicDrift,
            Self::MessageAfterStop,
            Self::AcceptLoopStops,
        ];
    }

    /// Plants a bug in the reactors of this thread, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(waterwheel_teeth)]
pub(crate) use planting::is;
#[cfg(waterwheel_teeth)]
pub use planting::plant;

/// Whether a bug is planted.
#[cfg(not(waterwheel_teeth))]
#[inline(always)]
pub(crate) const fn is(_: Bug) -> bool {
    false
}
