//! What all exchanges of a server share.

use std::time::Duration;

use super::date::DateLine;
use super::drive::{OnFinish, OnGone};
use super::durations::Durations;
use super::exchange::{Exchange, Output};
use super::head::KnownHost;
use super::options::Options;
use super::server::Server;
use super::stats::HttpStats;
use super::usual::UsualAnswer;
use crate::handler::HandlerKey;

/// Requests that one callback begins: some hundred microseconds' work, so that a client that sends
/// thousands at once does not hold up the others. The rest follows in the same turn or the next.
const MAX_REQUESTS_PER_CALL: u32 = 128;

/// Places of exchanges that are kept: some 30 KiB, for as many answers as are given later at a time
/// by a server that is not busy.
const MAX_SPARES: usize = 64;

/// What all exchanges of a server share, and that no two of them use at a time.
pub(super) struct Shared<A> {
    pub(super) options: Options,
    /// Fields of the answer that is being made, as they are sent.
    pub(super) fields: Vec<u8>,
    pub(super) date: DateLine,
    pub(super) usual: UsualAnswer,
    pub(super) known_host: KnownHost,
    /// When the callback began that runs, in ms of the loop, as far as 32 bits go.
    pub(super) now: u32,
    pub(super) stats: HttpStats,
    /// Requests that the callback that runs may still begin: 0 once output has reached the high
    /// mark.
    pub(super) budget: u32,
    /// Whether output has reached the high mark.
    pub(super) is_above: bool,
    #[cfg(feature = "http-gzip")]
    pub(super) compressor: super::gzip::Compressor,
    /// What is told of exchanges that end without their answer, where it was to come later.
    pub(super) on_gone: Option<OnGone<A>>,
    /// What is told of exchanges that are over.
    pub(super) on_finish: Option<OnFinish<A>>,
    /// How long exchanges took, from when `on_finish` is set.
    pub(super) durations: Option<Box<Durations>>,
    /// When an exchange without an answer was logged as an error.
    unanswered_at: Option<Duration>,
    /// The key of the server itself, known from its first later answer, or asked body, on.
    pub(super) key: Option<HandlerKey<Server<A>>>,
    /// Places of exchanges that are over, for those to come.
    #[expect(clippy::vec_box, reason = "the boxes themselves are what is reused")]
    spares: Vec<Box<Exchange<A>>>,
}

impl<A> Shared<A> {
    pub(super) fn new() -> Self {
        Self {
            options: Options::default(),
            fields: Vec::new(),
            date: DateLine::new(),
            usual: UsualAnswer::new(),
            known_host: KnownHost::default(),
            now: 0,
            stats: HttpStats::default(),
            budget: 0,
            is_above: false,
            #[cfg(feature = "http-gzip")]
            compressor: super::gzip::Compressor::default(),
            on_gone: None,
            on_finish: None,
            durations: None,
            unanswered_at: None,
            key: None,
            spares: Vec::new(),
        }
    }

    /// A callback begins at this time.
    #[inline]
    pub(super) fn begin(&mut self, now: Duration) {
        self.now = now.as_millis() as u32;
        self.budget = MAX_REQUESTS_PER_CALL;
        self.is_above = false;
    }

    /// Whether a handler that has not answered may be logged as an error: a client could cause it
    /// again and again.
    pub(super) fn may_log_unanswered(&mut self, now: Duration) -> bool {
        let is_rare = self.unanswered_at.is_none_or(|at| now >= at + Duration::from_secs(1));
        if is_rare {
            self.unanswered_at = Some(now);
        }
        is_rare
    }

    /// Output has reached the high mark: no further request is begun.
    pub(super) fn note_above(&mut self) {
        self.is_above = true;
        self.budget = 0;
    }

    /// A place on the heap for an exchange that goes on behind the callback.
    pub(super) fn place(&mut self, exchange: Exchange<A>) -> Box<Exchange<A>> {
        match self.spares.pop() {
            Some(mut place) => {
                *place = exchange;
                place
            }
            None => Box::new(exchange),
        }
    }

    /// Keeps the place of an exchange that is over, without what it had.
    pub(super) fn put_back(&mut self, mut exchange: Box<Exchange<A>>) {
        if self.spares.len() < MAX_SPARES {
            exchange.clear();
            self.spares.push(exchange);
        }
    }

    /// The answer of an exchange is gone on with: its fields so far are those it had before.
    pub(super) fn load(&mut self, exchange: &Exchange<A>) {
        self.fields.clear();
        self.fields.extend_from_slice(&exchange.fields);
    }

    /// The answer of an exchange is still to be given: what fields it has is kept. Fields are only
    /// added.
    pub(super) fn store(&self, exchange: &mut Exchange<A>) {
        let is_open = exchange.output == Output::Unanswered;
        if is_open && self.fields.len() != exchange.fields.len() {
            exchange.fields.clear();
            exchange.fields.extend_from_slice(&self.fields);
        }
    }
}
