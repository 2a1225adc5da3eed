//! Storms of connects: nobody is lost, nobody is refused, and clients that go at once do no harm.

use waterwheel::ListenOptions;

use crate::support::{Call, Client, End, Rig, Script, many_descriptors};

/// Connects of one burst: with both ends in this process it needs twice as many descriptors, and
/// they must fit in the smallest backlog that systems have by default.
const BURST: usize = 128;

/// Connects all in all.
const STORM: usize = 10_240;

#[test]
fn ten_thousand_connects_in_bursts_are_all_greeted() {
    let _many = many_descriptors();
    let mut rig = Rig::new(Script::new().open(|conn| {
        conn.write(b"!");
    }));
    for _ in 0..STORM / BURST {
        let mut burst: Vec<_> = (0..BURST).map(|_| Client::connect(rig.addr)).collect();
        for client in &mut burst {
            rig.expect(client, b"!");
        }
        // A reset leaves no TIME_WAIT behind, of which so many would fill the machine's table.
        burst.into_iter().for_each(Client::reset);
    }
    rig.until("all have ended", |rig| rig.reactor.stats().closed == STORM as u64);
    let stats = rig.reactor.stats();
    assert_eq!(stats.accepted, STORM as u64);
    assert_eq!((stats.refused, stats.accept_errors, stats.panics), (0, 0, 0));
    assert_eq!(stats.connections, 0);
    assert!(stats.connections_peak <= 2 * BURST as u64, "{stats:?}");
}

#[test]
fn a_burst_is_accepted_in_few_turns() {
    let _many = many_descriptors();
    let mut rig = Rig::with_listen(Script::new(), ListenOptions::default());
    let before = rig.reactor.stats().turns;
    let burst: Vec<_> = (0..BURST).map(|_| Client::connect(rig.addr)).collect();
    rig.until("all are accepted", |rig| rig.reactor.stats().accepted == BURST as u64);
    let turns = rig.reactor.stats().turns - before;
    assert!(turns <= 2, "{turns} turns for {BURST} connects that waited");
    drop(burst);
}

#[test]
fn clients_that_reset_at_once_do_no_harm() {
    let _many = many_descriptors();
    let mut rig = Rig::new(Script::echo());
    let (mut steady, _) = rig.client();
    for round in 0..20u8 {
        for _ in 0..BURST / 2 {
            Client::connect(rig.addr).reset();
            let mut hasty = Client::connect(rig.addr);
            hasty.send(b"no time for an answer");
            hasty.reset();
        }
        steady.send(&[round]);
        rig.expect(&mut steady, &[round]);
    }
    rig.until("only one is left", |rig| rig.reactor.stats().connections == 1);
    let stats = rig.reactor.stats();
    assert_eq!((stats.accept_errors, stats.panics), (0, 0));
    assert_eq!(stats.accepted, stats.closed + 1);
    assert_eq!(stats.closed_broken, stats.closed, "all ended by reset");
    // Whatever was sent before the reset was delivered, where the kernel still had it.
    let odd = |call: &Call| matches!(call, Call::Data(bytes) if bytes.len() > 21);
    assert_eq!(rig.journal.count(odd), 0);
    rig.expect_quiet();
}

#[test]
fn clients_that_leave_at_once_get_a_whole_life() {
    let _many = many_descriptors();
    let mut rig = Rig::new(Script::new());
    for _ in 0..BURST {
        drop(Client::connect(rig.addr));
    }
    rig.until("all have ended", |rig| rig.journal.closes() == BURST);
    let by_peer = Call::Close("Peer".to_owned(), 0);
    assert_eq!(rig.journal.count(|call| *call == by_peer), BURST);
    assert_eq!(rig.journal.count(|call| *call == Call::Eof), BURST);
}

/// Accepts, answers and ends of many bursts run into each other here.
#[test]
fn a_storm_leaves_the_answers_of_others_alone() {
    let _many = many_descriptors();
    let mut rig = Rig::new(Script::echo().data(|conn, input| {
        conn.write(input);
        conn.close();
        input.len()
    }));
    let mut waiting: Vec<(Client, [u8; 2])> = Vec::new();
    for number in 0..2_000u16 {
        let mut client = Client::connect(rig.addr);
        client.send(&number.to_le_bytes());
        waiting.push((client, number.to_le_bytes()));
        rig.turn();
        if waiting.len() == BURST {
            for (mut client, sent) in waiting.drain(..) {
                assert_eq!(rig.read_to_end(&mut client), (sent.to_vec(), End::Fin));
                client.reset(); // see above
            }
        }
    }
    drop(waiting);
    rig.until("all have ended", |rig| rig.reactor.stats().connections == 0);
    assert_eq!(rig.reactor.stats().refused, 0);
}
