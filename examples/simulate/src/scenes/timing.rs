//! Scenes of time and of ids: idle limits, the cascade, an id that has outlived its connection.

use std::time::Duration;

use waterwheel::ListenOptions;
use waterwheel::sim::Script;

use super::Scene;
use super::actor::{Actor, ms, server};
use super::code::code;

pub(super) static IDLE: Scene = Scene {
    name: "idle",
    title: "idle expiry without wheel work",
    lead: "A connection may be silent for ten seconds. A naive loop would move its timer at each \
        message. Here a read stores a time stamp and nothing else; the entry in the wheel fires at \
        its old deadline, sees that it is too early, and is set again for the rest.",
    seed: 8,
    run: |sim| {
        let options = ListenOptions::default().idle_timeout(Duration::from_secs(10));
        let server = server(sim, Actor::echo(), options)?;
        let script = Script::new().send("one").wait(ms(4_000)).send("two").wait(ms(4_000));
        sim.peer(server.addr, script.send("three").read_to_end());
        sim.run(Duration::from_secs(60));
        Ok(())
    },
    stops: &[
        ("on_open c0", "A new connection. Most end soon, so it has no entry in the wheel yet."),
        ("\"connection\",0]", "After 100 to 200 ms it gets one, for ten seconds after it opened."),
        ("on_data c0", "A message after four seconds: the wheel does not change."),
        ("on_data c0", "And after eight. The entry still says ten seconds."),
        ("a timer fires", "Ten seconds are over, and the connection has been silent for two only."),
        ("\"connection\",0]", "So the entry is set again, for ten seconds after the last byte."),
        ("on_idle c0", "Now it has been silent for ten seconds."),
        ("ends: Idle", "The handler has said `Close`: the connection ends, with a FIN."),
    ],
    holds: |replay| {
        let firings = replay.count("a timer fires");
        replay.count("on_data c0,") == 3 && (3..=4).contains(&firings)
    },
    code: &[
        code!("src/engine/timers/mod.rs", "arm", "defer"),
        code!("src/reactor/expiry.rs", "on_deadline", "on_idle"),
    ],
    exercise: "Have the peer send every second for a minute. How often does the entry fire, and \
        how often would a timer have been moved?",
};

pub(super) static CASCADE: Scene = Scene {
    name: "cascade",
    title: "the wheel cascades",
    lead: "Level 0 of the wheel has a slot a millisecond; a slot of each further level is 64 times \
        as wide. A timer waits on the lowest level that tells its deadline from now. When the hand \
        enters a wide slot, its timers move down to narrower ones: that is a cascade.",
    seed: 9,
    run: |sim| {
        let server = server(sim, Actor::echo(), ListenOptions::default())?;
        sim.with(server.host, |reactor| {
            for (token, wait) in [(1, 40), (2, 300), (3, 5_000), (4, 5_010)] {
                reactor.set_timer(server.key, ms(wait), token);
            }
        });
        sim.run(Duration::from_secs(10));
        Ok(())
    },
    stops: &[
        (
            "wheel [[0,",
            "Four timers, of 40 ms, 300 ms, 5.000 s and 5.010 s, stand on the levels 0, \
            1 and 2.",
        ),
        ("on_handler_timer", "The first one fires from level 0."),
        (
            "on_handler_timer",
            "The second one fires. A lone timer is not moved down step by step: \
            the hand goes to its deadline at once.",
        ),
        ("a timer fires", "The third one is due."),
        (
            "wheel [[0,",
            "The hand has entered the wide slot of both: the fourth has moved from level \
            2 to level 0.",
        ),
        ("on_handler_timer", "It fires ten milliseconds later."),
        ("wheel []", "The wheel is empty, and the poll may sleep for ever."),
    ],
    holds: |replay| {
        replay.count("on_handler_timer returns") == 4
            && replay.find(0, "[1,").is_some()
            && replay.find(0, "[2,").is_some()
    },
    code: &[code!("src/base/wheel.rs", "place", "open", "cascade", "pop_due")],
    exercise: "Add a timer of ten minutes. On which level does it stand, and how often is it moved \
        before it fires?",
};

pub(super) static STALE_ID: Scene = Scene {
    name: "stale-id",
    title: "a stale id finds nothing",
    lead: "The server remembers the id of a connection. That connection ends, and a new one gets \
        its slot. An id has a generation beside the slot: the old id finds nothing, and never the \
        new connection.",
    seed: 10,
    run: |sim| {
        let mut actor = Actor::echo();
        actor.data = |actor, conn, input| {
            let id = *actor.known.get_or_insert(conn.id());
            if id != conn.id() && conn.context().conn(id).is_none() {
                conn.context().mark("the id that was remembered finds nothing");
            }
            conn.write(input);
            input.len()
        };
        let server = server(sim, actor, ListenOptions::default())?;
        for start in [0, 100] {
            let script = Script::new().send("hello").read(5).finish().read_to_end();
            sim.peer_after(ms(start), server.addr, script);
        }
        sim.run(ms(5_000));
        Ok(())
    },
    stops: &[
        ("on_data c0", "The server remembers the id of c0."),
        ("slab c0 null", "c0 ends: its slot is free, and its generation is over."),
        (
            "c0 is accepted",
            "The next peer gets the same slot, with a new generation: look at the id \
            in the slab.",
        ),
        (
            "mark: the id that was remembered finds nothing",
            "The old id names the old generation: \
            `Context::conn` returns `None`.",
        ),
    ],
    holds: |replay| replay.count("c0 is accepted") == 2,
    code: &[code!("src/handler/context.rs", "conn")],
    exercise: "Let the first peer stay (`wait` before `finish`). Which slot does the second one \
        get, and what does the old id find?",
};
