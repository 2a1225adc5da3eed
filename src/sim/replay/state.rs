//! How a loop stands, as parts of a replay: each is JSON that the page knows.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;

use crate::base::id::ConnId;
use crate::base::tick::NEVER;
use crate::engine::observer::ConnFacts;
use crate::engine::{Due, Owner, Parts};
use crate::handler::Loop;
use crate::stream::connection::{Connection, Flags};
use crate::sys::Stream;
use crate::sys::sim::World;

/// Entries of a wheel that a replay shows: those with the earliest deadlines.
const MAX_ENTRIES: usize = 256;

/// What a callback or a phase has left: the wheel, the queues.
pub(super) fn keep_parts(world: &RefCell<World>, host: usize, parts: &Parts<'_>) {
    let mut world = world.borrow_mut();
    world.patch(host, "tick", 0, parts.timers.now().to_string());
    world.patch(host, "wheel", 0, wheel(parts));
    world.patch(host, "ready", 0, ids(parts.ready.connections().iter().copied()));
    world.patch(host, "listeners", 0, parts.ready.others().to_string());
    world.patch(host, "flush", 0, ids(parts.end_of_turn.flushes().iter().copied()));
    let closed = parts.end_of_turn.closed().iter().map(|&(id, _)| id);
    world.patch(host, "closed", 0, ids(closed));
    world.patch(host, "retries", 0, parts.end_of_turn.retries().to_string());
    world.patch(host, "deferred", 0, ids(parts.timers.deferred().iter().copied()));
}

/// What a turn has left: the slab, and what else a turn alone does not show.
pub(in crate::sim) fn keep_loop(world: &Rc<RefCell<World>>, host: usize, lp: &Loop) {
    let parts = Parts {
        timers: &lp.engine.timers,
        ready: &lp.engine.ready,
        end_of_turn: &lp.engine.end_of_turn,
    };
    keep_parts(world, host, &parts);
    let mut world = world.borrow_mut();
    let messages = lp.posts.mailbox.len() + lp.posts.calls.len();
    world.patch(host, "mail", 0, messages.to_string());
    let files = &world.hosts[host];
    let files = format!("[{},{}]", files.used + files.taken(), files.files);
    world.patch(host, "files", 0, files);
    for (id, connection) in lp.streams.iter() {
        world.patch(host, "slab", id.slot() as u32, slot(id, connection));
    }
}

/// A connection by what a callback tells of it, until the turn ends.
pub(super) fn lent(id: ConnId, facts: &ConnFacts) -> String {
    let (input, output) = (facts.input_bytes, facts.output_bytes);
    let flag = if facts.is_paused { "\"paused\"" } else { "" };
    format!("[\"{id}\",\"open\",{input},{output},[{flag}],null]")
}

/// A connection: id, phase, bytes of input and of output, what is unusual, its tick in the wheel.
fn slot(id: ConnId, connection: &Connection<Stream>) -> String {
    let phase = format!("{:?}", connection.phase()).to_lowercase();
    let phase = phase.split('(').next().unwrap_or_default();
    let flags = [
        ("paused", Flags::PAUSED),
        ("peer ended", Flags::READ_CLOSED),
        ("above the mark", Flags::ABOVE_MARK),
        ("ready", Flags::IN_READY_QUEUE),
        ("to flush", Flags::IN_FLUSH_LIST),
        ("layered", Flags::LAYERED),
    ];
    let flags = flags.iter().filter(|(_, flag)| connection.flags.has(*flag));
    let mut flags: Vec<String> = flags.map(|(name, _)| format!("\"{name}\"")).collect();
    flags.extend((connection.armed.tick() == NEVER).then(|| "\"no timer\"".to_owned()));
    let (input, output) = (connection.input().len(), connection.output_in_memory());
    let tick = match connection.armed.tick() {
        NEVER => "null".to_owned(),
        tick => tick.to_string(),
    };
    format!("[\"{id}\",\"{phase}\",{input},{output},[{}],{tick}]", flags.join(","))
}

/// Entries of the wheel: level, slot, deadline, what for, whose.
fn wheel(parts: &Parts<'_>) -> String {
    let mut entries: Vec<_> = parts.timers.entries().collect();
    entries.sort_by_key(|&(place, deadline, _)| (deadline, place));
    entries.truncate(MAX_ENTRIES);
    let mut text = String::from("[");
    for (at, (place, deadline, due)) in entries.into_iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let (level, slot) = place.map_or((-1, 0), |(level, slot)| (level as i32, slot));
        let (what, whose) = match due {
            Due::Connection(slot) => ("connection", i64::from(slot)),
            Due::User(Owner::Connection(id), _) => ("timer of a connection", id.slot() as i64),
            Due::User(..) => ("timer of a handler", -1),
            Due::Accept(slot) => ("accept again", i64::from(slot)),
            Due::Deferred => ("deferred connections", -1),
            Due::Drained => ("end of the drain", -1),
            _ => ("datagrams", -1),
        };
        // A string takes all that is written.
        let _ = write!(text, "{comma}[{level},{slot},{deadline},\"{what}\",{whose}]");
    }
    text + "]"
}

/// Slots as a list.
fn ids(ids: impl Iterator<Item = ConnId>) -> String {
    let slots: Vec<String> = ids.map(|id| id.slot().to_string()).collect();
    format!("[{}]", slots.join(","))
}
