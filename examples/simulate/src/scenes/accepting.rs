//! Scenes of listeners: many connections, no descriptors, a queue that is full.

use waterwheel::sim::Script;
use waterwheel::{ListenOptions, ReactorOptions};

use super::Scene;
use super::actor::{Actor, ms, server, server_with};
use super::code::code;

pub(super) static STORM: Scene = Scene {
    name: "accept-storm",
    title: "accept storm",
    lead: "Twenty-four peers connect within a blink, and the listener may accept eight in a turn \
        (`accept_budget`). The poll reports the listener once, because it is edge-triggered: what \
        is left in the queue would be forgotten if the listener did not queue itself.",
    seed: 1,
    run: |sim| {
        let options = ListenOptions::default().accept_budget(8);
        let server = server(sim, Actor::echo(), options)?;
        for _ in 0..24 {
            sim.peer(server.addr, Script::new().send("hello").read(5).finish().read_to_end());
        }
        // The process starts late: all of them are in the queue by then.
        sim.clock(server.host).spend(ms(50));
        sim.run(ms(5_000));
        Ok(())
    },
    stops: &[
        (
            "[24,",
            "Twenty-four handshakes are complete. The kernel has done them without us; the \
            connections wait in the accept queue.",
        ),
        ("event s0: readable", "One edge for all of them. It will not come again."),
        ("on_accept from", "The first of eight is accepted."),
        ("listeners 1", "The budget is used up: the listener puts itself on the ready queue."),
        (
            "poll for 0.000000 ms",
            "A ready queue that is not empty has the next poll return at \
            once. The connections that were accepted get their events meanwhile.",
        ),
        ("phase 3: ready queue", "In phase 3 the listener has eight more."),
        (
            "Accept s0 -> WouldBlock",
            "The queue is empty. Only now does the listener wait for the \
            next edge.",
        ),
    ],
    holds: |replay| replay.count("on_accept accepts") == 24 && replay.count("listeners 1") >= 2,
    code: &[code!("src/reactor/accept.rs", "accept", "on_ready_listener", "accept_one")],
    exercise: "Set `accept_budget(24)` in `examples/simulate/src/scenes/accepting.rs` and write \
        the page again. Which phase is gone, and what do the first connections wait for now?",
};

pub(super) static NO_FILES: Scene = Scene {
    name: "no-descriptors",
    title: "EMFILE and the spare descriptor",
    lead: "The process may open eight files, and six peers come. An accept that fails with \
        `EMFILE` leaves the connection in the queue, and the edge is used up: a loop that does \
        nothing more would be deaf, and one that tries again at once would spin. The listener \
        has a spare descriptor. It closes that, accepts the peer, tells it by a reset, and \
        takes the spare back.",
    seed: 2,
    run: |sim| {
        let options = ReactorOptions::default().max_connections(Some(100));
        let server = server_with(sim, Actor::echo(), ListenOptions::default(), options, 8)?;
        for number in 0..6 {
            let script = Script::new().send("hello").wait(ms(2_000)).finish().read_to_end();
            sim.peer_after(ms(20 * number), server.addr, script);
        }
        sim.run(ms(10_000));
        Ok(())
    },
    stops: &[
        ("on_accept accepts", "The first peers are accepted as ever."),
        ("files [8,8]", "The last descriptor is in use."),
        ("Accept s0 -> EMFILE", "The next accept fails. The peer believes that it is connected."),
        (
            "Accept s0 -> ",
            "With the spare descriptor closed there is room for one: the peer is \
            accepted.",
        ),
        (
            "RST leaves",
            "It is reset at once, so that it need not wait for a time-out; and the spare \
            descriptor is opened again.",
        ),
        ("Close", "Later, connections end, and their descriptors come back."),
    ],
    holds: |replay| replay.count("Accept s0 -> EMFILE") < 10 && replay.count("RST leaves") >= 1,
    code: &[code!("src/reactor/accept.rs", "accept_with_spare", "back_off", "refuse")],
    exercise: "Raise the number of files of the host from 8 to 16. At which peer does the first \
        `EMFILE` come now, and does any?",
};

pub(super) static OVERFLOW: Scene = Scene {
    name: "queue-overflow",
    title: "the accept queue overflows",
    lead: "A listener with a backlog of two, and a callback that holds the loop for two and a half \
        seconds. Handshakes are the kernel's work and go on; the queue fills, and then SYNs are \
        dropped. The client's kernel sends them again after 1 s, and after 2 s more: that is why \
        an overflow shows as connects that take one, three or seven seconds. Linux has a second \
        queue before this one, of handshakes that are not complete (`tcp_max_syn_backlog`, SYN \
        cookies); when it is full the peer sees the same. `waterwheel::tcp` tells how to \
        count both.",
    seed: 3,
    run: |sim| {
        let mut actor = Actor::echo();
        actor.data = |actor, conn, input| {
            if let (Some(spend), b"work") = (&actor.spend, input) {
                spend(ms(2_500));
            }
            conn.write(input);
            input.len()
        };
        let server = server(sim, actor, ListenOptions::default().backlog(Some(2)))?;
        let clock = sim.clock(server.host);
        sim.with(server.host, |reactor| {
            if let Some(actor) = reactor.handler_mut(server.key) {
                actor.spend = Some(Box::new(move |time| clock.spend(time)));
            }
        });
        sim.peer(server.addr, Script::new().send("work").read(4).finish().read_to_end());
        for number in 0..4 {
            let script = Script::new().send("hello").read(5).finish().read_to_end();
            sim.peer_after(ms(100 + 10 * number), server.addr, script);
        }
        sim.run(ms(20_000));
        Ok(())
    },
    stops: &[
        (
            "on_data c0, 4 bytes",
            "This callback will work for two and a half seconds. Nothing else \
            of the loop runs meanwhile.",
        ),
        ("accept s0 [1,2]", "The kernel completes handshakes all the same: one connection waits."),
        ("accept s0 [2,2]", "And a second one. The queue is full."),
        ("SYN 1 of", "The next SYN is dropped without a word: its sender knows nothing."),
        ("SYN 2 of", "A second later its kernel has tried again, in vain."),
        ("on_data has consumed 4", "The callback returns."),
        ("on_accept from", "The loop accepts what waits, and the queue has room."),
        ("SYN leaves", "Three seconds after its first SYN, the next one gets through."),
        (
            "on_accept from",
            "That peer is served, three seconds late, and no error was seen anywhere.",
        ),
    ],
    holds: |replay| replay.count("is dropped") >= 4 && replay.count("on_accept accepts") == 5,
    code: &[
        code!("src/sys/sim/handshake.rs", "knock", "queue_child"),
        code!("src/reactor/accept.rs", "accept_one"),
    ],
    exercise: "Set `backlog(Some(8))`. The callback is as slow as before; what do the four peers \
        see now? Then offload the work (`examples/offload`).",
};
