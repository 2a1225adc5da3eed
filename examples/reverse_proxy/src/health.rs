//! Which servers live: they are asked every now and then.

use std::time::Duration;

use waterwheel::http::{Call, Client, Server};
use waterwheel::{Context, HandlerKey, Reactor, Timer, TimerHandler};

use crate::Proxy;

/// Failures in a row after which a server gets no requests.
const MAX_FAILURES: u32 = 2;

/// What is known of a server.
pub(crate) struct Health {
    /// How often it has failed in a row.
    failures: u32,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { failures: 0 }
    }

    fn is_up(&self) -> bool {
        self.failures < MAX_FAILURES
    }
}

impl Proxy {
    /// The next server that lives.
    pub(crate) fn choose(&mut self) -> Option<usize> {
        let count = self.servers.len();
        let mut next = (1..=count).map(|step| (self.last + step) % count);
        self.last = next.find(|&at| self.servers[at].health.is_up())?;
        Some(self.last)
    }

    /// Whether a server has answered.
    pub(crate) fn note(&mut self, at: usize, is_well: bool) {
        if !self.checks {
            return; // nobody would ask it again once it gets no requests
        }
        let server = &mut self.servers[at];
        let was_up = server.health.is_up();
        server.health.failures = if is_well { 0 } else { server.health.failures.saturating_add(1) };
        match (was_up, server.health.is_up()) {
            (true, false) => log::warn!("{} is down", server.name),
            (false, true) => log::info!("{} is up again", server.name),
            _ => {}
        }
    }

    /// A server has answered a client: whatever failed before was not in a row.
    pub(crate) fn note_answer(&mut self, at: usize, status: u16) {
        if status < 500 && self.servers[at].health.failures > 0 {
            self.note(at, true);
        }
    }
}

/// Asks the servers.
pub(crate) struct Checker {
    web: HandlerKey<Server<Proxy>>,
    clients: Vec<Client>,
    path: String,
}

impl Checker {
    pub(crate) fn start(
        reactor: &mut Reactor,
        web: HandlerKey<Server<Proxy>>,
        clients: Vec<Client>,
        path: String,
        every: Duration,
    ) {
        let key = reactor.register(Self { web, clients, path });
        if !every.is_zero() {
            reactor.context().set_periodic_timer(key, every, 0);
        }
    }
}

impl TimerHandler for Checker {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        for (at, client) in self.clients.iter().enumerate() {
            let web = self.web;
            client.send(cx, Call::get(self.path.clone()), move |answer, cx| {
                let is_well = answer.is_ok_and(|answer| answer.status() < 500);
                cx.post(web, move |web, _| web.app().note(at, is_well));
            });
        }
    }
}
