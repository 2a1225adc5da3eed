//! The state of one process with a reactor, and what its poll reports.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::link::Link;
use crate::options::TurnBudgets;
use crate::sys::Readiness;

/// A process with a reactor.
#[derive(Debug)]
pub(crate) struct HostState {
    pub(crate) name: String,
    /// How far its clock is ahead of the world.
    pub(crate) skew: u64,
    /// `skew` when its last poll began.
    pub(crate) poll_skew: u64,
    /// Most descriptors, how many it has, and how many are taken from it for now.
    pub(crate) files: u64,
    pub(crate) used: u64,
    pub(super) taken: u64,
    /// Sockets with news for its poll, each not before a time.
    pub(super) listed: VecDeque<(u32, u64)>,
    /// Its waker: the token, and whether it was woken.
    pub(crate) waker: Option<(usize, Arc<AtomicBool>)>,
    /// Tokens of closed sockets, for events that come too late.
    pub(super) stale: Vec<usize>,
    pub(crate) edges_are_native: bool,
    /// How much of what waits a turn of its reactor does.
    pub(crate) budgets: TurnBudgets,
    pub(crate) stage: Stage,
    /// Its poll has just begun.
    pub(super) has_begun: bool,
    /// When its poll ends by itself, while it polls.
    pub(super) poll_end: u64,
    /// System calls since the last poll, and polls in a row without any or an event.
    pub(super) calls: u32,
    pub(crate) empty_polls: u32,
    /// The socket that it has accepted last.
    pub(super) accepted: Option<u32>,
    /// Sockets that the poll can report.
    pub(super) registered: Vec<u32>,
    pub(super) link: Link,
    /// Time that faults took from it: jumps and standstills.
    pub(crate) stolen_nanos: u64,
    /// When its last poll began, and was asked to end at the latest.
    pub(crate) asked: (u64, u64),
    pub(crate) polls: u64,
    pub(crate) system_calls: u64,
}

/// What a host is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not driven.
    Idle,
    /// Between two turns.
    Between,
    /// In a turn, and not in its poll.
    Turning,
    /// In its poll.
    Polling,
}

/// What a poll says of one socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    token: usize,
    readiness: Readiness,
}

impl HostState {
    pub(super) fn new(name: String, files: u64, link: Link, edges_are_native: bool) -> Self {
        Self {
            name,
            skew: 0,
            poll_skew: 0,
            files,
            used: 0,
            taken: 0,
            listed: VecDeque::new(),
            waker: None,
            stale: Vec::new(),
            edges_are_native,
            budgets: TurnBudgets::USUAL,
            stage: Stage::Idle,
            has_begun: false,
            poll_end: 0,
            calls: 0,
            empty_polls: 0,
            accepted: None,
            registered: Vec::new(),
            link,
            stolen_nanos: 0,
            asked: (0, 0),
            polls: 0,
            system_calls: 0,
        }
    }

    /// Descriptors that are taken from it for now.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether its poll would return.
    pub(super) fn has_news(&self, now: u64) -> bool {
        self.listed.iter().any(|&(_, from)| from <= now)
            || self.waker.as_ref().is_some_and(|(_, woken)| woken.load(Ordering::SeqCst))
    }
}

impl Event {
    pub(crate) fn token(self) -> usize {
        self.token
    }

    pub(crate) fn readiness(self) -> Readiness {
        self.readiness
    }

    pub(super) fn new(token: usize, bits: u8) -> Self {
        let readiness = Readiness {
            readable: bits & 1 != 0,
            writable: bits & 2 != 0,
            urgent: false, // a simulated peer sends none
            hung_up: bits & 4 != 0,
            broken: bits & 8 != 0,
        };
        Self { token, readiness }
    }
}
