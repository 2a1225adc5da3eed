//! Scenes of reading and writing: edges, short reads, slow readers, floods.

use waterwheel::sim::Script;
use waterwheel::{Limits, ListenOptions, ReactorOptions};

use super::Scene;
use super::actor::{Actor, ms, server, server_with};
use super::code::code;

/// So many bytes that one look at a connection does not suffice.
const MUCH: usize = 600 << 10;

pub(super) static EDGE: Scene = Scene {
    name: "ready-queue",
    title: "an edge lost and found",
    lead: "The poll reports that a socket has become readable, and not that it still is. A \
        connection that stops before `WouldBlock`, because its reads of one turn are used up, must \
        remember that itself: it goes on the ready queue, and the next poll does not sleep.",
    seed: 15,
    run: |sim| {
        let mut actor = Actor::echo();
        actor.data = |_, _, input| input.len();
        let options = ReactorOptions::default().reads_per_turn(1);
        let server = server_with(sim, actor, ListenOptions::default(), options, 256)?;
        for _ in 0..2 {
            sim.peer(server.addr, Script::new().send(vec![1; MUCH]).finish().read_to_end());
        }
        sim.clock(server.host).spend(ms(20));
        sim.run(ms(20_000));
        Ok(())
    },
    stops: &[
        ("readable", "An edge: bytes are there."),
        (
            "Receive s",
            "One read; a connection may make one read a turn in this scene \
            (`reads_per_turn`).",
        ),
        (
            "ready [",
            "The buffer was filled, so there may be more, and no edge will tell. The \
            connection queues itself.",
        ),
        (
            "poll for 0.000000 ms",
            "The queue is not empty: the poll only looks, and does not sleep.",
        ),
        ("phase 3: ready queue", "Phase 3 gives one more budget to those that wait."),
        ("Receive s", "Here is what an edge-triggered loop without such a queue would have lost."),
        (
            "ready []",
            "A read that did not fill the buffer: the socket is drained, and the queue \
            is empty.",
        ),
    ],
    holds: |replay| replay.count("phase 3: ready queue") >= 2 && replay.count("on_eof c") == 2,
    code: &[
        code!("src/reactor/dispatch.rs", "read_within", "on_ready"),
        code!("src/reactor/turn.rs", "run_ready"),
    ],
    exercise: "Set `reads_per_turn(16)` and count the turns until both peers have ended.",
};

pub(super) static SHORT_READ: Scene = Scene {
    name: "short-read",
    title: "a short read means drained",
    lead: "A read that returns less than it was given room for has emptied the socket: what comes \
        after it makes a new edge. So a small message costs one read, and not a second one whose \
        only result would be `WouldBlock`.",
    seed: 5,
    run: |sim| {
        let server = server(sim, Actor::echo(), ListenOptions::default())?;
        let script = Script::new().wait(ms(5)).send("hello").read(5).wait(ms(5));
        sim.peer(server.addr, script.send("again").read(10).finish().read_to_end());
        sim.run(ms(1_000));
        Ok(())
    },
    stops: &[
        ("5 bytes", "The peer sends five bytes."),
        ("readable", "The poll reports the edge."),
        (
            "Receive s2 -> 5",
            "One read, into a buffer of 128 KiB: five bytes. That is short, so \
            there is no second read.",
        ),
        ("on_data c0, 5 bytes", "The handler is lent the bytes where they are."),
        ("Send s2 -> 5", "What it has written leaves when it returns, in one call."),
        ("poll", "Poll, read, write: three system calls for a message."),
        ("Receive s2 -> 5", "The next message made an edge of its own."),
    ],
    holds: |replay| replay.count("Receive s2 -> WouldBlock") == 0,
    code: &[
        code!("src/reactor/dispatch.rs", "on_io", "deliver_fast"),
        code!("src/stream/connection/mod.rs", "receive"),
    ],
    exercise: "Allow the fault `ShortRead` (`Faults::none().with(Fault::ShortRead)` in \
        `scenes/mod.rs`): reads are then short although there is more. What does the simulated \
        kernel do so that nothing is lost?",
};

pub(super) static BACKPRESSURE: Scene = Scene {
    name: "backpressure",
    title: "backpressure and drain",
    lead: "A peer asks for much and does not read. The kernel takes what its buffers hold, the \
        rest queues in the connection, and above the high mark the handler should stop making \
        more. When the queue has fallen to the low mark, `on_drain` says so.",
    seed: 6,
    run: |sim| {
        let mut actor = Actor::echo();
        actor.data = |_, conn, input| {
            conn.write(&vec![7; 400 << 10]);
            input.len()
        };
        let server = server(sim, actor, ListenOptions::default().limits(Limits::default()))?;
        let script = Script::new().stop_reading().send("give").wait(ms(500)).resume_reading();
        sim.peer(server.addr, script.read(400 << 10).finish().read_to_end());
        sim.run(ms(10_000));
        Ok(())
    },
    stops: &[
        ("on_data c0, 4 bytes", "The request: four bytes. The answer is 400 KiB."),
        ("Send s2 -> ", "The kernel takes what there is room for."),
        (
            "above the mark",
            "The rest is queued, more than the high mark. `write` has returned \
            `Written::Above`: a handler stops here.",
        ),
        ("writable", "The peer reads again, and the poll reports room."),
        ("Send s2 -> ", "The loop flushes by itself; the handler need not ask."),
        ("on_drain c0", "The queue has fallen to the low mark: go on."),
    ],
    holds: |replay| replay.count("on_drain c0") == 1,
    code: &[
        code!("src/stream/write.rs", "write", "check_high_mark", "after_draining"),
        code!("src/stream/connection/mod.rs", "crosses_high_mark", "crosses_low_mark"),
    ],
    exercise: "Set `limits.high_mark_bytes` to 512 KiB. Why is there no `on_drain` now?",
};

pub(super) static FLOOD: Scene = Scene {
    name: "flood",
    title: "a flood beside quiet ones",
    lead: "One peer sends without a pause; two others say a word now and then. Budgets bound how \
        long the loop stays with one connection, so the quiet ones are answered in between.",
    seed: 3,
    run: |sim| {
        let mut actor = Actor::echo();
        actor.data = |_, conn, input| {
            if input.len() < 100 {
                conn.write(input);
            }
            input.len()
        };
        let options = ReactorOptions::default().reads_per_turn(1);
        let server = server_with(sim, actor, ListenOptions::default(), options, 256)?;
        sim.peer(server.addr, Script::new().send(vec![1; 2 * MUCH]).finish().read_to_end());
        for _ in 0..2 {
            let script = Script::new().send("quiet").read(5).wait(ms(2)).send("quiet").read(10);
            sim.peer_after(ms(5), server.addr, script.finish().read_to_end());
        }
        sim.clock(server.host).spend(ms(20));
        sim.run(ms(20_000));
        Ok(())
    },
    stops: &[
        ("on_open c0", "The flood is connection c0."),
        ("on_data c0", "It has its budget: one read in this scene."),
        ("on_data c1, 5 bytes", "In the same turn the first quiet peer is answered,"),
        ("on_data c2, 5 bytes", "and the second one."),
        ("on_data c0", "The flood has its next read."),
        ("on_data c1, 5 bytes", "The second word of a quiet one, between two reads of the flood."),
        ("on_eof c0", "The flood ends."),
    ],
    holds: |replay| replay.count("on_data c1, 5 bytes") == 2 && replay.count("on_data c0") > 4,
    code: &[
        code!("src/reactor/turn.rs", "run_events", "run_ready"),
        code!("src/reactor/dispatch.rs", "read_within"),
    ],
    exercise: "Set `reads_per_turn(64)` and compare how many reads of the flood lie between a word \
        of c1 and its answer.",
};
