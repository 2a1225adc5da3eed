//! What all exchanges of a server share.

use super::date::DateLine;
use super::drive::OnFinish;
use super::exchange::{Exchange, Output};
use super::head::KnownHost;
use super::options::Options;
use super::server::Server;
use super::stats::HttpStats;
use crate::handler::HandlerKey;

/// What all exchanges of a server share, and that no two of them use at a time.
pub(super) struct Shared<A> {
    pub(super) options: Options,
    /// Fields of the answer that is being made, as they are sent.
    pub(super) fields: Vec<u8>,
    pub(super) date: DateLine,
    pub(super) known_host: KnownHost,
    /// When the callback began that runs, in ms of the loop, as far as 32 bits go.
    pub(super) now: u32,
    pub(super) stats: HttpStats,
    /// Whether the last write reached the high mark: no further request is begun then.
    pub(super) is_above: bool,
    /// What is told of exchanges that are over.
    pub(super) on_finish: Option<OnFinish<A>>,
    /// The key of the server itself, known from its first later answer on.
    pub(super) key: Option<HandlerKey<Server<A>>>,
}

impl<A> Shared<A> {
    pub(super) fn new() -> Self {
        Self {
            options: Options::default(),
            fields: Vec::new(),
            date: DateLine::new(),
            known_host: KnownHost::default(),
            now: 0,
            stats: HttpStats::default(),
            is_above: false,
            on_finish: None,
            key: None,
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
