//! A recording of a run for the page on which it is stepped through: what happened, and what that
//! changed. Nothing of it counts in the hash, and without it a run costs one test a note.

use std::collections::BTreeMap;

use super::chance::Fault;
use super::socket::Segment;
use super::trace::Note;
use super::world::World;

/// Something that happened.
#[derive(Debug)]
pub(crate) struct Step {
    /// Nanoseconds since the beginning.
    pub(crate) at: u64,
    pub(crate) host: Option<u32>,
    pub(crate) what: What,
    /// What it changed.
    pub(crate) patches: Vec<Patch>,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum What {
    /// What the trace has too.
    Note(Note),
    /// A fault has struck.
    Struck(Fault),
    /// A packet has left a socket.
    Packet(Packet),
    /// Something on the network, in words.
    Network { text: String, socket: u32 },
    /// Something in a loop, in words: of which kind, and of which slot.
    Loop { kind: &'static str, text: String, slot: Option<u32> },
}

/// A packet of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) from: u32,
    /// `None` while no socket answers.
    pub(crate) to: Option<u32>,
    pub(crate) kind: &'static str,
    pub(crate) bytes: u32,
    /// When it arrives; `None` if it is lost.
    pub(crate) arrives: Option<u64>,
}

/// A part of the state that has another value now: whose it is, by its name and the number of a
/// slot or socket, and the value as JSON.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    pub(crate) host: Option<u32>,
    pub(crate) name: &'static str,
    pub(crate) key: u32,
    pub(crate) value: String,
}

/// A recording.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) steps: Vec<Step>,
    /// The last value of each part of the state.
    last: BTreeMap<(Option<u32>, &'static str, u32), String>,
    /// The state of each TCP socket.
    states: BTreeMap<u32, &'static str>,
}

impl Replay {
    fn push(&mut self, at: u64, host: Option<u32>, what: What) {
        self.steps.push(Step { at, host, what, patches: Vec::new() });
    }

    /// A part of the state, which may have changed; counts to the last step.
    fn patch(&mut self, patch: Patch) {
        let key = (patch.host, patch.name, patch.key);
        if self.last.get(&key).is_some_and(|last| *last == patch.value) {
            return;
        }
        let Some(step) = self.steps.last_mut() else { return };
        self.last.insert(key, patch.value.clone());
        step.patches.push(patch);
    }
}

impl World {
    /// Keeps a replay from now on.
    pub(crate) fn keep_replay(&mut self) {
        self.replay = Some(Box::default());
        self.chance.keeps_struck = true;
    }

    /// Adds a step to the replay, if one is kept; faults that have struck come before it.
    pub(crate) fn record(&mut self, host: Option<usize>, what: impl FnOnce() -> What) {
        let Some(replay) = &mut self.replay else { return };
        let host = host.map(|host| host as u32);
        for fault in self.chance.fresh.drain(..) {
            replay.push(self.now, host, What::Struck(fault));
        }
        replay.push(self.now, host, what());
    }

    /// Tells the replay how a part of a host's state stands.
    pub(crate) fn patch(&mut self, host: usize, name: &'static str, key: u32, value: String) {
        if let Some(replay) = &mut self.replay {
            replay.patch(Patch { host: Some(host as u32), name, key, value });
        }
    }

    /// A TCP socket is in this state now.
    pub(super) fn enter_state(&mut self, socket: u32, state: &'static str) {
        let Some(replay) = &mut self.replay else { return };
        if state == "CLOSED" && replay.states.get(&socket) == Some(&"TIME_WAIT") {
            return; // a program that lets go of it ends no TIME_WAIT
        }
        replay.states.insert(socket, state);
        replay.patch(Patch { host: None, name: "tcp", key: socket, value: format!("\"{state}\"") });
    }

    fn state_of(&self, socket: u32) -> &'static str {
        let states = self.replay.as_ref().map(|replay| &replay.states);
        states.and_then(|states| states.get(&socket)).copied().unwrap_or("CLOSED")
    }

    /// Connections that wait in the queue of a listener.
    pub(super) fn record_queue(&mut self, listener: u32) {
        let Some(replay) = &mut self.replay else { return };
        let socket = &self.sockets[listener as usize];
        let value = format!("[{},{}]", socket.waiting.len(), socket.backlog);
        replay.patch(Patch { host: None, name: "accept", key: listener, value });
    }

    pub(super) fn record_packet(&mut self, packet: Packet) {
        self.record(None, || What::Packet(packet));
    }

    /// A segment leaves.
    pub(super) fn record_segment(&mut self, from: u32, to: u32, segment: &Segment, arrives: u64) {
        if self.replay.is_none() {
            return;
        }
        let (kind, bytes) = match segment {
            Segment::Data(bytes) => ("data", bytes.len() as u32),
            Segment::Fin => ("FIN", 0),
            Segment::Rst => ("RST", 0),
        };
        self.record_packet(Packet { from, to: Some(to), kind, bytes, arrives: Some(arrives) });
        match (segment, self.state_of(from)) {
            (Segment::Fin, "CLOSE_WAIT") => self.enter_state(from, "LAST_ACK"),
            (Segment::Fin, _) => self.enter_state(from, "FIN_WAIT_1"),
            (Segment::Rst, _) => self.enter_state(from, "CLOSED"),
            (Segment::Data(_), _) => {}
        }
    }

    /// A FIN has arrived. Acknowledgements are no packets of this world: the sender of a FIN has
    /// its acknowledgement when the FIN arrives.
    pub(super) fn record_fin(&mut self, socket: u32) {
        let other = self.sockets[socket as usize].other;
        match self.state_of(socket) {
            "FIN_WAIT_2" => self.enter_state(socket, "TIME_WAIT"),
            "FIN_WAIT_1" => self.enter_state(socket, "CLOSING"),
            "ESTABLISHED" => self.enter_state(socket, "CLOSE_WAIT"),
            _ => {}
        }
        let Some(other) = other else { return };
        match self.state_of(other) {
            "FIN_WAIT_1" => self.enter_state(other, "FIN_WAIT_2"),
            "CLOSING" => self.enter_state(other, "TIME_WAIT"),
            "LAST_ACK" => self.enter_state(other, "CLOSED"),
            _ => {}
        }
    }
}
