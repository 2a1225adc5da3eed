//! Making connections, so many at a time.

use std::net::SocketAddr;

use waterwheel::{ConnectOptions, Context, Handler, HandlerKey};

use crate::plan::Plan;

/// Makes connections for a handler, with a bound on those that are in flight: a server's backlog
/// is finite, and what overflows it waits a second for TCP to try again.
pub(crate) struct Dialer<H> {
    /// The handler's own key, which it learns only after it was registered.
    service: Option<HandlerKey<H>>,
    target: SocketAddr,
    /// Used in turn: each has another source address.
    options: Vec<ConnectOptions>,
    /// How many there are to be in all.
    wanted: u64,
    /// How many were begun.
    begun: u64,
    in_flight: usize,
    most_in_flight: usize,
}

impl<H: Handler> Dialer<H> {
    pub(crate) fn new(plan: &Plan, target: SocketAddr, wanted: u64) -> Self {
        Self {
            service: None,
            target,
            options: plan.connect_options(),
            wanted,
            begun: 0,
            in_flight: 0,
            most_in_flight: plan.in_flight,
        }
    }

    /// Begins as many connections as may be in flight; `state` makes the state of each from its
    /// number.
    pub(crate) fn begin(
        &mut self,
        service: HandlerKey<H>,
        cx: &mut Context<'_>,
        state: impl FnMut(u64) -> H::State,
    ) {
        self.service = Some(service);
        self.fill(cx, state);
    }

    /// Begins as many as have become free.
    pub(crate) fn fill(&mut self, cx: &mut Context<'_>, mut state: impl FnMut(u64) -> H::State) {
        let Some(service) = self.service else {
            return;
        };
        while self.in_flight < self.most_in_flight && self.begun < self.wanted {
            let options = &self.options[self.begun as usize % self.options.len()];
            cx.connect(self.target, service, state(self.begun), options);
            self.begun += 1;
            self.in_flight += 1;
        }
    }

    /// Makes a connection again that has ended in order, whose number this is. It is not one of
    /// those that are begun.
    pub(crate) fn redial(&self, number: u64, state: H::State, cx: &mut Context<'_>) {
        if let Some(service) = self.service {
            let options = &self.options[number as usize % self.options.len()];
            cx.connect(self.target, service, state, options);
        }
    }

    /// So many may have been begun by now, of those that are to be.
    pub(crate) fn allow(&mut self, wanted: u64) {
        self.wanted = wanted;
    }

    /// One is no longer in flight.
    pub(crate) fn settle(&mut self) {
        self.in_flight -= 1;
    }

    /// Begins no more.
    pub(crate) fn stop(&mut self) {
        self.wanted = self.begun;
    }

    /// How many there are to be in all, as far as that is known.
    pub(crate) fn wanted(&self) -> u64 {
        self.wanted
    }

    /// How many were begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether all that there are to be are up, or have failed.
    pub(crate) fn is_done(&self) -> bool {
        self.begun == self.wanted && self.in_flight == 0
    }
}
