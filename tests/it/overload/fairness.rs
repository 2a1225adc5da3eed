//! One connection that floods does not starve the others, and neither does one handler's work.

use std::cell::Cell;
use std::rc::Rc;

use waterwheel::{Conn, ListenOptions, Reactor, ReactorOptions, Remote, TcpOptions};

use crate::support::{Client, Rig, Script, many_descriptors, patiently, pattern};

/// Keeps a client's socket full until the server ends it.
struct Flood {
    client: Client,
    bytes: Vec<u8>,
    sent: u64,
}

impl Flood {
    fn new(client: Client) -> Self {
        let bytes = pattern(1 << 20);
        let mut flood = Self { client, bytes, sent: 0 };
        flood.pour();
        flood
    }

    fn pour(&mut self) {
        loop {
            let count = self.client.try_send(&self.bytes);
            self.sent += count as u64;
            if count == 0 {
                return;
            }
        }
    }
}

#[test]
fn a_turn_reads_no_more_than_its_budget_of_one_connection() {
    const READ: u64 = 132 << 10;
    let options = ReactorOptions::default().reads_per_turn(2);
    let listen = ListenOptions::default();
    let mut rig = Rig::with(Script::new(), Default::default(), listen, options);
    let (client, _) = rig.client();
    let mut flood = Flood::new(client);
    for _ in 0..50 {
        let before = rig.reactor.stats();
        rig.turn();
        let after = rig.reactor.stats();
        // One read and a budget for its event, and a budget from the ready queue.
        assert!(after.reads - before.reads <= 5);
        assert!(after.bytes_read - before.bytes_read <= 5 * READ);
        assert!(after.bytes_read > before.bytes_read, "the flood stalls");
        flood.pour();
    }
}

#[test]
fn a_budget_that_runs_out_loses_nothing() {
    let options = ReactorOptions::default().reads_per_turn(1);
    let listen = ListenOptions::default();
    let mut rig = Rig::with(Script::new(), Default::default(), listen, options);
    let (client, id) = rig.client();
    let mut flood = Flood::new(client);
    flood.client.finish();
    // No event tells of what is left: the loop must not block.
    rig.expect_end(id, "Peer");
    assert_eq!(rig.reactor.stats().bytes_read, flood.sent);
}

#[test]
fn a_thousand_quiet_connections_are_answered_beside_a_flood() {
    const QUIET: usize = 1000;
    let _many = many_descriptors();
    let mut reactor = Reactor::new().unwrap();
    let sink = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        conn.write(input);
        input.len()
    });
    let listen = ListenOptions::default();
    let sink = reactor.listen("127.0.0.1:0", sink, listen.clone()).unwrap();
    let echo = reactor.listen("127.0.0.1:0", echo, listen).unwrap();
    let turn = |reactor: &mut Reactor| {
        reactor.run_once(Some(std::time::Duration::ZERO)).unwrap();
    };
    let mut flood = Flood::new(Client::connect(sink));
    let mut quiet = Vec::new();
    for _ in 0..QUIET {
        quiet.push(Client::connect(echo));
        turn(&mut reactor);
    }
    patiently("all accepted", || {
        turn(&mut reactor);
        (reactor.stats().accepted == QUIET as u64 + 1).then_some(())
    });
    for client in &mut quiet {
        client.send(b"ping");
    }
    let flooded_before = reactor.stats().bytes_read;
    let mut turns = 0;
    let mut waiting: Vec<_> = quiet.iter_mut().collect();
    patiently("all answered", || {
        flood.pour();
        turn(&mut reactor);
        turns += 1;
        waiting.retain_mut(|client| client.try_read(100).unwrap().is_empty());
        waiting.is_empty().then_some(())
    });
    // All of them are ready at once, and a turn takes up to 1,024 events.
    assert!(turns <= 3, "{turns} turns");
    assert!(reactor.stats().bytes_read > flooded_before + 4 * QUIET as u64);
}

/// A handler that posts to itself for ever does not keep others from their turn.
#[test]
fn work_that_is_posted_again_and_again_leaves_room_for_events() {
    fn again(remote: Remote, service: waterwheel::HandlerKey<Spinner>) {
        let next = remote.clone();
        // An error means that the reactor is gone: the end of it.
        let _ = remote.with(service, move |spinner: &mut Spinner, cx| {
            spinner.rounds.set(spinner.rounds.get() + 1);
            cx.post(service, |_, _| {});
            again(next, service);
        });
    }
    let rounds = Rc::new(Cell::new(0));
    let mut rig = Rig::new(Script::echo());
    let spinner = rig.reactor.register(Spinner { rounds: rounds.clone() });
    again(rig.reactor.remote(), spinner);
    let (mut client, _) = rig.client();
    client.send(b"ping");
    rig.expect(&mut client, b"ping");
    assert!(rounds.get() > 0);
    let (turns, before) = (rig.reactor.stats().turns, rounds.get());
    for _ in 0..10 {
        rig.turn();
    }
    assert_eq!(rig.reactor.stats().turns, turns + 10);
    assert_eq!(rounds.get(), before + 10, "once a turn");
}

struct Spinner {
    rounds: Rc<Cell<u32>>,
}

impl waterwheel::Handler for Spinner {
    type State = ();

    fn on_accept(&mut self, _: &waterwheel::Peer) -> Option<()> {
        None
    }

    fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

/// Of two that flood, each gets about half.
#[test]
fn two_floods_share_the_loop() {
    // The room in the kernel is fixed, and more than a turn takes: how fast it would grow by itself
    // differs between two connections.
    let tcp = TcpOptions::default().receive_buffer_bytes(Some(200_000));
    let listen = ListenOptions::default().tcp(tcp);
    let options = ReactorOptions::default().reads_per_turn(1);
    let mut rig = Rig::with(Script::new(), Default::default(), listen, options);
    let mut floods: Vec<_> = (0..2)
        .map(|_| {
            let (client, id) = rig.client();
            (Flood::new(client), id)
        })
        .collect();
    let before = [0, 1].map(|at: usize| rig.journal.data_of(floods[at].1).len());
    for _ in 0..8 {
        rig.turn();
        for (flood, _) in &mut floods {
            flood.pour();
        }
    }
    let [one, two] = [0, 1].map(|at| rig.journal.data_of(floods[at].1).len() - before[at]);
    assert!(one.min(two) * 4 > one.max(two), "{one} and {two} bytes");
}
