//! Scenes of ends: half-closed, reset, drained, in order.

use std::time::Duration;

use waterwheel::ListenOptions;
use waterwheel::sim::Script;

use super::Scene;
use super::actor::{Actor, ms, server};
use super::code::code;

pub(super) static HALF_CLOSE: Scene = Scene {
    name: "half-close",
    title: "half-close",
    lead: "A FIN says that the peer sends no more, and nothing about whether it reads. The server \
        learns of it by `on_eof`, and may still answer: here the answer is written behind the \
        peer's end, and arrives whole.",
    seed: 11,
    run: |sim| {
        let mut actor = Actor::echo();
        actor.data = |_, _, input| input.len();
        actor.eof = |conn| {
            conn.write(b"all of it has come");
            conn.close();
        };
        let server = server(sim, actor, ListenOptions::default())?;
        sim.peer(server.addr, Script::new().send("question").wait(ms(5)).finish().read_to_end());
        sim.run(ms(5_000));
        Ok(())
    },
    stops: &[
        ("on_data c0, 8 bytes", "The question."),
        ("FIN leaves s1", "The peer ends its side, and goes on reading: `FIN_WAIT_1`."),
        ("\"CLOSE_WAIT\"", "The server's kernel is in `CLOSE_WAIT` until the server ends too."),
        ("Receive s2 -> 0", "A read of 0 bytes is the end."),
        ("on_eof c0", "`on_eof` is told once, behind the last byte."),
        ("data leaves s2", "The answer leaves,"),
        ("FIN leaves s2", "and behind it the FIN of the server: `LAST_ACK`."),
        ("\"TIME_WAIT\"", "The side that has ended first waits in `TIME_WAIT`."),
    ],
    holds: |replay| replay.count("on_eof c0") == 1 && replay.count("RST leaves") == 0,
    code: &[
        code!("src/reactor/dispatch.rs", "on_end", "tell_end"),
        code!("src/stream/write.rs", "close", "advance_close"),
    ],
    exercise: "Close in `on_data` instead of `on_eof`. Which side is in `TIME_WAIT` then?",
};

pub(super) static RESET: Scene = Scene {
    name: "reset",
    title: "a reset with bytes behind it",
    lead: "A peer sends and resets at once, and both are there before the server looks. The poll \
        says readable, hung up and broken together. What the kernel still has is delivered first: \
        `on_data`, and only then `on_close` with `Reset`.",
    seed: 12,
    run: |sim| {
        let server = server(sim, Actor::echo(), ListenOptions::default())?;
        let script = Script::new().wait(ms(5)).send("last words").reset();
        sim.peer(server.addr, script);
        let clock = sim.clock(server.host);
        sim.run(ms(4));
        clock.spend(ms(20));
        sim.run(ms(5_000));
        Ok(())
    },
    stops: &[
        ("RST leaves s1", "Ten bytes are on their way, and the reset behind them."),
        ("hung-up", "One event says all: readable, hung up, broken."),
        ("Receive s2 -> 10", "The bytes are read although the connection is gone."),
        ("on_data c0, 10 bytes", "The handler sees them."),
        ("c0 ends: Reset", "Only then has the connection ended."),
        ("on_close c0", "The last callback of its life."),
    ],
    holds: |replay| replay.count("on_data c0, 10 bytes") == 1,
    code: &[code!("src/reactor/dispatch.rs", "on_any_io", "read_within", "on_received")],
    exercise: "Send 300 KiB before the reset, with a window of that size. Is all of it delivered?",
};

pub(super) static DRAIN: Scene = Scene {
    name: "drain",
    title: "a graceful drain",
    lead: "The program asks the reactor to drain, from another thread. The listener closes, each \
        connection is asked by `on_shutdown` how it wants to end, output leaves, and the loop \
        ends when the last connection has.",
    seed: 13,
    run: |sim| {
        let mut actor = Actor::echo();
        actor.shutdown = |conn| {
            conn.write(b"goodbye");
            conn.close();
        };
        let server = server(sim, actor, ListenOptions::default())?;
        for number in 0..3 {
            sim.peer_after(ms(number), server.addr, Script::new().send("hello").read_to_end());
        }
        let remote = server.remote;
        sim.call_after(ms(100), move || {
            // The reactor runs until it is drained.
            let _ = remote.drain(Duration::from_secs(5));
        });
        sim.run(ms(20_000));
        Ok(())
    },
    stops: &[
        ("on_data c0", "Three peers are served."),
        ("event waker", "Another thread has posted the stop and woken the loop."),
        ("phase 4: mailbox", "The mailbox has it."),
        ("Close s0", "The listener is closed first: no new work."),
        ("on_shutdown c2", "Each connection is asked how it wants to end."),
        ("on_shutdown c0", "All three."),
        ("7 bytes", "What they have written leaves,"),
        ("FIN leaves", "with a FIN behind it."),
        ("ends: Shutdown", "A connection is over when its peer has ended too."),
        ("ends: Shutdown", "And the next."),
        ("ends: Shutdown", "With the last one the loop ends, long before the deadline of 5 s."),
    ],
    holds: |replay| {
        replay.count("ends: Shutdown") == 3
            && replay.count("RST leaves") == 0
            && replay.time(replay.len() - 1) < Duration::from_secs(5)
    },
    code: &[code!("src/reactor/stop.rs", "begin_stop", "offer_shutdown", "end_stop")],
    exercise: "Let one peer never end (`stop_reading` and no end). What cuts it, and when?",
};

pub(super) static FOUR_WAY: Scene = Scene {
    name: "four-way-close",
    title: "the four-way close, and TIME_WAIT",
    lead: "Each direction of a connection ends by itself: a FIN and its acknowledgement, twice. \
        The side that ends first keeps the connection in `TIME_WAIT` (60 s on Linux), so that a \
        late packet finds no successor. A server that ends first collects these. \
        Acknowledgements are no packets in this world: a FIN counts as acknowledged when it \
        arrives.",
    seed: 14,
    run: |sim| {
        let mut actor = Actor::echo();
        actor.data = |_, conn, input| {
            conn.write(input);
            conn.close();
            input.len()
        };
        let server = server(sim, actor, ListenOptions::default())?;
        sim.peer(server.addr, Script::new().send("hello").read_to_end().wait(ms(50)).close());
        sim.run(ms(5_000));
        Ok(())
    },
    stops: &[
        ("\"SYN_SENT\"", "The peer connects: SYN."),
        ("\"SYN_RECEIVED\"", "The server's kernel answers with SYN, ACK."),
        ("\"ESTABLISHED\"", "Both are connected."),
        ("on_data c0, 5 bytes", "The handler answers and closes: the server ends first."),
        ("\"FIN_WAIT_1\"", "Its FIN is on the way."),
        ("\"CLOSE_WAIT\"", "The peer has it. It need not answer at once."),
        ("\"LAST_ACK\"", "The peer ends too, and waits for the last acknowledgement."),
        ("\"TIME_WAIT\"", "The FIN of the peer is there: the server's side goes into `TIME_WAIT`."),
        (
            "slab c0 null",
            "The slot is free and the descriptor closed: the kernel alone keeps what \
            is in `TIME_WAIT`.",
        ),
    ],
    holds: |replay| {
        replay.count("tcp s2 \"TIME_WAIT\"") == 1 && replay.count("tcp s2 \"FIN_WAIT_2\"") == 1
    },
    code: &[code!("src/stream/write.rs", "close", "advance_close", "linger", "send_fin")],
    exercise: "Let the server close in `on_eof` and the peer send its end first. On which side is \
        `TIME_WAIT` now, and which side would you want it on?",
};
