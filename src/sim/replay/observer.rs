//! What a loop does, as steps of a replay.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::state;
use crate::base::id::{ConnId, TimerId};
use crate::engine::observer::{Callback, ConnEnd, Observer, Outcome, Phase, Span, What as Of};
use crate::reactor::Reactor;
use crate::sys::sim::{What, World};

/// Keeps what the reactor of a host does.
pub(in crate::sim) struct Keeper {
    world: Rc<RefCell<World>>,
    host: usize,
    /// The types of its handlers, by index.
    handlers: Vec<&'static str>,
    turns: u64,
}

impl Keeper {
    /// Has everything kept that a reactor does.
    pub(in crate::sim) fn install(world: &Rc<RefCell<World>>, host: usize, reactor: &mut Reactor) {
        let keeper = Self { world: Rc::clone(world), host, handlers: Vec::new(), turns: 0 };
        let observers = &mut reactor.event_loop_mut().engine.observers;
        observers.add(Box::new(keeper));
        let world = Rc::clone(world);
        observers.show_parts_to(Box::new(move |parts| state::keep_parts(&world, host, parts)));
    }

    fn step(&self, kind: &'static str, conn: Option<ConnId>, text: impl FnOnce() -> String) {
        let slot = conn.map(|id| id.slot() as u32);
        let mut world = self.world.borrow_mut();
        world.record(Some(self.host), || What::Loop { kind, text: text(), slot });
    }

    fn patch_slot(&self, id: ConnId, value: String) {
        self.world.borrow_mut().patch(self.host, "slab", id.slot() as u32, value);
    }

    fn handler(&self, index: u32) -> &'static str {
        let name = self.handlers.get(index as usize).copied().unwrap_or("?");
        name.rsplit("::").find(|it| !it.starts_with('{')).unwrap_or(name)
    }
}

fn name(id: ConnId) -> String {
    format!("c{}", id.slot())
}

impl Observer for Keeper {
    fn on_handler(&mut self, _: u32, type_name: &'static str) {
        self.handlers.push(type_name);
    }

    fn on_turn_begin(&mut self, _: Duration) {
        self.turns += 1;
        self.step("turn", None, || format!("turn {} begins", self.turns));
    }

    fn on_turn_end(&mut self, _: Duration) {
        self.step("turn", None, || format!("turn {} ends", self.turns));
    }

    fn on_phase_begin(&mut self, phase: Phase, _: Duration) {
        let name = match phase {
            Phase::Events => "events",
            Phase::Ready => "ready queue",
            Phase::Mailbox => "mailbox",
            Phase::Timers => "timers",
            Phase::FlushAndClose => "flush and close",
        };
        self.step("phase", None, || format!("phase {}: {name}", phase as usize + 2));
    }

    fn on_phase_end(&mut self, phase: Phase, count: usize, _: Duration) {
        self.step("phase", None, || format!("phase {} has done {count}", phase as usize + 2));
    }

    fn on_callback_begin(&mut self, callback: &Callback<'_>, _: Duration) {
        let (what, id) = (callback.what.name(), callback.what.conn_id());
        self.step("callback", id, || {
            let whose = id.map_or_else(String::new, |id| format!(" {}", name(id)));
            let more = match callback.what {
                Of::Accept { peer } => format!(" from {peer}"),
                Of::Data { input, .. } => format!(", {} bytes", input.len()),
                Of::Idle { kind, .. } => format!(", {kind:?}"),
                Of::Close { unsent_bytes: 1.., .. } => ", with unsent bytes".to_owned(),
                Of::ConnectRetry { tries, .. } => format!(", after {tries} tries"),
                _ => String::new(),
            };
            format!("{what}{whose}{more} ({})", self.handler(callback.handler))
        });
    }

    fn on_callback_end(&mut self, callback: &Callback<'_>, outcome: Outcome, _: Span) {
        let id = callback.what.conn_id();
        let what = callback.what.name();
        self.step("returned", id, || match outcome {
            Outcome::Returned => format!("{what} returns"),
            Outcome::Accepted(true) => format!("{what} accepts"),
            Outcome::Accepted(false) => format!("{what} refuses"),
            Outcome::Consumed(count) => format!("{what} has consumed {count} bytes"),
            Outcome::Idle(idle) => format!("{what} says {idle:?}"),
            Outcome::Deadline(deadline) => format!("{what} says {deadline:?}"),
            Outcome::Delivered(count) => format!("{count} messages are delivered"),
        });
        match (id, &callback.conn) {
            (Some(id), Some(facts)) => self.patch_slot(id, state::lent(id, facts)),
            (Some(id), None) if matches!(callback.what, Of::Close { .. }) => {
                self.patch_slot(id, "null".to_owned());
            }
            _ => {}
        }
    }

    fn on_accepted(&mut self, id: ConnId, peer: SocketAddr) {
        self.step("loop", Some(id), || format!("{} is accepted from {peer}", name(id)));
        self.patch_slot(id, format!("[\"{id}\",\"accepted\",0,0,[],null]"));
    }

    fn on_connecting(&mut self, id: ConnId) {
        self.step("loop", Some(id), || format!("{} connects", name(id)));
        self.patch_slot(id, format!("[\"{id}\",\"connecting\",0,0,[],null]"));
    }

    fn on_opened(&mut self, id: ConnId) {
        self.step("loop", Some(id), || format!("{} is up", name(id)));
    }

    fn on_closed(&mut self, id: ConnId, end: &ConnEnd<'_>) {
        self.step("closed", Some(id), || {
            let how = if end.must_reset || end.unsent_bytes > 0 { "; it must reset" } else { "" };
            format!("{} ends: {:?}, {} bytes unsent{how}", name(id), end.reason, end.unsent_bytes)
        });
    }

    fn on_read(&mut self, id: ConnId, bytes: usize) {
        self.step("bytes", Some(id), || format!("{} bytes of {} are read", bytes, name(id)));
    }

    fn on_written(&mut self, id: ConnId, bytes: usize) {
        self.step("bytes", Some(id), || format!("{} bytes of {} are taken", bytes, name(id)));
    }

    fn on_timer_armed(&mut self, _: Option<u32>, _: TimerId, wait: Duration) {
        self.step("timer", None, || format!("a timer is set, for {wait:?}"));
    }

    fn on_timer_fired(&mut self, late: Duration) {
        self.step("timer", None, || format!("a timer fires, {late:?} late"));
    }

    fn on_woken(&mut self) {
        self.step("loop", None, || "another thread has woken the loop".to_owned());
    }

    fn on_panic(&mut self, _: Option<u32>, text: &str) {
        self.step("broken", None, || format!("a callback panics: {text}"));
    }

    fn on_mark(&mut self, name: &'static str) {
        self.step("mark", None, || format!("mark: {name}"));
    }
}
