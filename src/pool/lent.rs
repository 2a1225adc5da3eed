//! The state of a connection while a callback of the client has it.

use std::time::Duration;

use crate::handler::Context;
use crate::pool::slot::Phase;
use crate::pool::{PoolClient, PoolHandle};

/// A state that is out of its seat, because a callback has it and the desk at once. If the callback
/// panics, the state goes back, and `on_lost` gets it.
pub(super) struct Lent<'a, C: PoolClient> {
    desk: &'a mut PoolHandle<C>,
    seat: u32,
    /// `None` once it is back.
    state: Option<C::State>,
}

impl<C: PoolClient> PoolHandle<C> {
    /// A callback of a connection begins: its state is lent to it.
    #[inline]
    pub(super) fn begin(&mut self, index: u32, now: Duration) -> Lent<'_, C> {
        self.current = Some((index, None));
        let state = self.seats.get_mut(index as usize).and_then(|seat| {
            seat.active_at = now;
            seat.state.take()
        });
        Lent { desk: self, seat: index, state: Some(state.unwrap_or_default()) }
    }

    /// A callback of a connection has panicked. If the connection is lent, it is lost, whatever
    /// the panic does with the lease.
    #[cold]
    fn lose(&mut self, index: u32, state: C::State) {
        self.current = None;
        if self.phase(index) == Phase::Leased {
            self.enter(index, Phase::Lost);
        }
        if let Some(seat) = self.seats.get_mut(index as usize) {
            seat.state = Some(state);
        }
    }

    /// The pool's code begins to run. A callback has panicked before, perhaps, and never ended.
    #[inline]
    pub(super) fn wake(&mut self) {
        self.current = None;
    }
}

impl<C: PoolClient> Lent<'_, C> {
    /// What the callback gets.
    #[inline]
    pub(super) fn parts(&mut self) -> (&mut C::State, &mut PoolHandle<C>) {
        (self.state.get_or_insert_default(), self.desk)
    }

    /// The callback has returned. A lease that was released in it has ended now.
    #[inline]
    pub(super) fn end(mut self, is_left: bool, cx: &mut Context<'_>) {
        if let Some(seat) = self.desk.seats.get_mut(self.seat as usize) {
            seat.state = self.state.take();
        }
        if !self.desk.returns.is_empty() {
            self.desk.absorb(cx);
        }
        if let Some((_, Some(ending))) = self.desk.current.take() {
            self.desk.take_back(self.seat, ending, is_left, cx);
        }
    }
}

impl<C: PoolClient> Drop for Lent<'_, C> {
    #[inline]
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.desk.lose(self.seat, state);
        }
    }
}
