//! A recorded run: its steps, and the page on which it is stepped through.

mod observer;
mod page;
pub(super) mod state;
mod text;

use std::cell::Ref;
use std::time::Duration;

use crate::sys::sim::{Patch, Step, What, World};

pub(super) use observer::Keeper;
pub use page::Tour;

/// A run that was recorded step by step ([`Simulation::keep_replay`]).
///
/// A step is one thing that happened: a poll, an event, a system call, a packet, a fault, a phase
/// or a callback. Each step has its changes: of the timer wheel, of the queues, of the table of
/// connections, of the state of a socket.
///
/// [`Simulation::keep_replay`]: super::Simulation::keep_replay
#[derive(Debug)]
pub struct Replay<'a> {
    pub(super) seed: u64,
    pub(super) world: Ref<'a, World>,
    /// Why the run has failed, if it has.
    pub(super) failure: Option<String>,
}

impl Replay<'_> {
    fn recorded(&self) -> &[Step] {
        self.world.replay.as_ref().map_or(&[], |replay| &replay.steps)
    }

    /// The number of steps; 0 if no replay was kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.recorded().len()
    }

    /// Whether there is no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.recorded().is_empty()
    }

    /// The virtual time of a step.
    ///
    /// # Panics
    /// If there is no step with this number.
    #[must_use]
    pub fn time(&self, step: usize) -> Duration {
        Duration::from_nanos(self.recorded()[step].at)
    }

    /// A step in words.
    ///
    /// # Panics
    /// If there is no step with this number.
    #[must_use]
    pub fn text(&self, step: usize) -> String {
        words(&self.recorded()[step])
    }

    /// What a step has changed, each as `NAME VALUE`: `ready [0,3]`, `tcp s5 "TIME_WAIT"`,
    /// `slab c0 null`. `VALUE` is JSON. Names are `tick`, `wheel`, `ready`, `listeners`, `flush`,
    /// `closed`, `retries`, `deferred`, `mail`, `files`, `slab`, `tcp` and `accept`.
    ///
    /// # Panics
    /// If there is no step with this number.
    #[must_use]
    pub fn changes(&self, step: usize) -> Vec<String> {
        self.recorded()[step].patches.iter().map(change).collect()
    }

    /// The first step from `from` on whose words, or one of whose changes, contain a text.
    #[must_use]
    pub fn find(&self, from: usize, text: &str) -> Option<usize> {
        let mut steps = self.recorded().iter().enumerate().skip(from);
        let has = |step: &Step| {
            words(step).contains(text) || step.patches.iter().any(|it| change(it).contains(text))
        };
        steps.find(|(_, step)| has(step)).map(|(at, _)| at)
    }

    /// How many steps and changes contain a text; both count.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        let all = self.recorded().iter().map(|step| {
            let changes = step.patches.iter().filter(|it| change(it).contains(text)).count();
            usize::from(words(step).contains(text)) + changes
        });
        all.sum()
    }
}

fn change(patch: &Patch) -> String {
    let Patch { name, key, value, .. } = patch;
    match *name {
        "slab" => format!("slab c{key} {value}"),
        "tcp" | "accept" => format!("{name} s{key} {value}"),
        _ => format!("{name} {value}"),
    }
}

fn words(step: &Step) -> String {
    match &step.what {
        What::Note(note) => note.to_string().trim_start().to_owned(),
        What::Struck(fault) => format!("fault: {fault}"),
        What::Packet(packet) => {
            let to = packet.to.map_or_else(String::new, |to| format!(" to s{to}"));
            let bytes = match packet.bytes {
                0 => String::new(),
                bytes => format!(", {bytes} bytes"),
            };
            format!("{} leaves s{}{to}{bytes}", packet.kind, packet.from)
        }
        What::Network { text, .. } | What::Loop { text, .. } => text.clone(),
    }
}
