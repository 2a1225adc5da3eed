//! Which servers live: they are asked every now and then.

use std::time::Duration;

use waterwheel::http::{Call, Client, Server};
use waterwheel::{Context, HandlerKey, Reactor, Timer, TimerHandler};

use crate::Proxy;

/// Failures in a row after which a server gets no requests.
const MAX_FAILURES: u32 = 2;

/// What is known of a server. An answer to a client says nothing of the checks: a server that wants
/// to be taken out fails them, and answers what still comes.
pub(crate) struct Health {
    /// How many checks have failed in a row.
    failed_checks: u32,
    /// How many connects have failed in a row that were for clients.
    failed_connects: u32,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { failed_checks: 0, failed_connects: 0 }
    }

    fn is_up(&self) -> bool {
        self.failed_checks.max(self.failed_connects) < MAX_FAILURES
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

    /// A check has ended. A good one is the only way back for a server that is down.
    fn note_check(&mut self, at: usize, is_well: bool) {
        self.change(at, |health| {
            if is_well {
                *health = Health::new();
            } else {
                health.failed_checks = health.failed_checks.saturating_add(1);
            }
        });
    }

    /// A server took no connection for a client.
    pub(crate) fn note_failed_connect(&mut self, at: usize) {
        if !self.checks {
            return; // no check would bring it back once it gets no requests
        }
        self.change(at, |health| health.failed_connects = health.failed_connects.saturating_add(1));
    }

    /// A server has answered a client: connects that failed before were not in a row. An answer
    /// that comes late says nothing of a server that is down by now.
    pub(crate) fn note_answer(&mut self, at: usize, status: u16) {
        let health = &mut self.servers[at].health;
        if status < 500 && health.is_up() {
            health.failed_connects = 0;
        }
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut Health)) {
        let server = &mut self.servers[at];
        let was_up = server.health.is_up();
        change(&mut server.health);
        match (was_up, server.health.is_up()) {
            (true, false) => log::warn!("{} is down", server.name),
            (false, true) => log::info!("{} is up again", server.name),
            _ => {}
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
                cx.post(web, move |web, _| web.app().note_check(at, is_well));
            });
        }
    }
}
