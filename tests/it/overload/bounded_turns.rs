//! However many connections have something to send, or to end, at once: a turn does a part of it,
//! so that the others do not wait for all.

use std::sync::Arc;
use std::time::Duration;

use waterwheel::{AtCapacity, ConnId, ListenOptions, Reactor};

use crate::support::{Client, End, Rig, Script, many_descriptors, pattern, scratch_file};

/// Bytes of queued output that a phase sends, and phases that send some.
const ROOM: u64 = 1 << 20;
const PHASES: u64 = 3;

/// Bytes of a file that one connection sends, however many are ready.
const SHARE: u64 = 64 << 10;

#[test]
fn a_turn_sends_a_bounded_part_of_files_however_many_ask_for_them() {
    const READERS: usize = 60;
    const LENGTH: usize = 512 << 10;
    let bytes = pattern(LENGTH);
    let file = Arc::new(scratch_file(&bytes));
    let mut rig = Rig::new(Script::new().data(move |conn, input| {
        conn.write(b"here: ");
        conn.send_file(Arc::clone(&file), ..).unwrap();
        input.len()
    }));
    let mut readers: Vec<(Client, Vec<u8>)> =
        (0..READERS).map(|_| (rig.client().0, Vec::new())).collect();
    for (client, _) in &mut readers {
        client.send(b"?");
    }
    let mut longest = 0;
    rig.until("all have the file", |rig| {
        let before = rig.reactor.stats().bytes_written;
        rig.turn();
        longest = longest.max(rig.reactor.stats().bytes_written - before);
        for (client, got) in &mut readers {
            got.extend(client.try_read(LENGTH).unwrap());
        }
        readers.iter().all(|(_, got)| got.len() == LENGTH + 6)
    });
    // The last one in each phase has its share whatever is left, and what stands before its file.
    assert!(longest <= PHASES * (ROOM + SHARE + 6), "{longest} bytes in a turn");
    assert!(longest > ROOM / 2, "only {longest} bytes in a turn");
    for (_, got) in &readers {
        assert_eq!(got[..6], *b"here: ");
        assert!(got[6..] == bytes, "other bytes");
    }
}

/// The poll says once of each that its socket takes more. Those for whom the turn has no room left
/// have to have theirs without another word of it.
#[test]
fn readers_who_are_all_ready_again_at_once_have_the_whole_file() {
    const READERS: usize = 12;
    const LENGTH: usize = 12 << 20;
    let file = Arc::new(scratch_file(&pattern(LENGTH)));
    let mut rig = Rig::new(Script::new().data(move |conn, input| {
        conn.send_file(Arc::clone(&file), ..).unwrap();
        input.len()
    }));
    let mut readers: Vec<(Client, usize)> = (0..READERS).map(|_| (rig.client().0, 0)).collect();
    for (client, _) in &mut readers {
        client.send(b"?");
    }
    let mut before = u64::MAX;
    rig.until("all sockets are full", |rig| {
        let now = rig.reactor.stats().bytes_written;
        now > 0 && std::mem::replace(&mut before, now) == now
    });
    rig.until("all have the file", |_| {
        for (client, got) in &mut readers {
            *got += client.try_read(LENGTH).unwrap().len();
        }
        readers.iter().all(|&(_, got)| got == LENGTH)
    });
}

/// An echo server with so many members, and the ids of all.
fn with_members(count: usize) -> (Rig, Vec<Client>, Vec<ConnId>) {
    let mut rig = Rig::new(Script::echo());
    let members = (0..count).map(|_| Client::connect(rig.addr)).collect();
    rig.until("all are members", |rig| rig.journal.opened().len() == count);
    rig.turn(); // the poll says once of each that it takes output
    rig.turn();
    let ids = rig.journal.opened();
    (rig, members, ids)
}

fn tell_all(reactor: &mut Reactor, ids: &[ConnId], message: &[u8]) {
    let mut cx = reactor.context();
    for &id in ids {
        assert!(cx.conn(id).unwrap().write(message).is_accepted());
    }
}

#[test]
fn a_message_to_many_leaves_in_several_turns_and_in_order() {
    const MEMBERS: usize = 1_000;
    let _many = many_descriptors();
    let (mut rig, mut members, ids) = with_members(MEMBERS);
    tell_all(&mut rig.reactor, &ids, b"one ");
    let mut writes = Vec::new();
    let mut turn = |rig: &mut Rig| {
        let before = rig.reactor.stats().writes;
        rig.reactor.run_once(Some(Duration::from_secs(60))).unwrap(); // it does not sleep
        writes.push(rig.reactor.stats().writes - before);
    };
    turn(&mut rig);
    // Behind what waits, in its order; and who asks meanwhile is answered before the rest.
    tell_all(&mut rig.reactor, &ids, b"two ");
    let last = members.last_mut().unwrap();
    last.send(b"hello");
    while rig.journal.data_of(ids[MEMBERS - 1]).is_empty() {
        turn(&mut rig);
        assert!(writes_of(&rig) < MEMBERS as u64, "the last one waits for all");
    }
    while writes_of(&rig) < MEMBERS as u64 {
        turn(&mut rig);
    }
    rig.turn();
    // The last one sends for itself what waits for it, and its answer.
    assert!(writes.iter().all(|&count| count <= 64 + 2), "{writes:?}");
    let (last, others) = members.split_last_mut().unwrap();
    for client in others {
        client.expect(b"one two ");
    }
    last.expect(b"one two hello");
}

fn writes_of(rig: &Rig) -> u64 {
    rig.reactor.stats().writes
}

#[test]
fn many_that_end_at_once_are_torn_down_in_several_turns() {
    const MEMBERS: usize = 1_000;
    const CLOSES: usize = 256;
    let _many = many_descriptors();
    let (mut rig, members, ids) = with_members(MEMBERS);
    let mut cx = rig.reactor.context();
    for &id in &ids {
        cx.conn(id).unwrap().abort();
        assert!(cx.conn(id).is_none(), "it is gone at once for all who ask");
    }
    let mut newcomer = Client::connect(rig.addr);
    newcomer.send(b"hello");
    let mut turns = 0;
    while rig.journal.closes() < MEMBERS {
        let before = rig.journal.closes();
        rig.reactor.run_once(Some(Duration::from_secs(60))).unwrap();
        turns += 1;
        assert!(rig.journal.closes() - before <= CLOSES);
    }
    assert!((4..=8).contains(&turns), "{turns} turns");
    rig.expect(&mut newcomer, b"hello");
    drop(members);
}

/// Their FINs leave in several turns as well, the same number in each, and none is forgotten: as
/// many turns as they take are all that they have.
#[test]
fn many_that_end_in_order_send_their_ends_in_several_turns() {
    const MEMBERS: usize = 600;
    const ENDS: usize = 256;
    let _many = many_descriptors();
    let (mut rig, mut members, ids) = with_members(MEMBERS);
    let mut cx = rig.reactor.context();
    ids.iter().for_each(|&id| cx.conn(id).unwrap().close());
    let mut ended = vec![false; MEMBERS];
    for turn in 1..=MEMBERS.div_ceil(ENDS) {
        rig.reactor.run_once(Some(Duration::from_secs(60))).unwrap(); // it does not sleep
        for (client, ended) in members.iter_mut().zip(&mut ended) {
            *ended = *ended || client.try_read(1) == Err(End::Fin);
        }
        let count = ended.iter().filter(|&&ended| ended).count();
        assert!(count <= turn * ENDS, "{count} ends after {turn} turns");
    }
    for (client, _) in members.iter_mut().zip(ended).filter(|(_, ended)| !ended) {
        client.expect_end(End::Fin);
    }
}

/// Those that come wait in the backlog until no more have ended than a turn tears down.
#[test]
fn nobody_is_accepted_while_more_have_ended_than_a_turn_tears_down() {
    const CLOSES: usize = 256;
    for (ending, expected) in [(CLOSES, [10, 10]), (CLOSES + 1, [0, 10])] {
        let _many = many_descriptors();
        let (mut rig, members, ids) = with_members(ending);
        let mut cx = rig.reactor.context();
        ids.iter().for_each(|&id| cx.conn(id).unwrap().abort());
        let newcomers: Vec<_> = (0..10).map(|_| Client::connect(rig.addr)).collect();
        let accepted = expected.map(|_| {
            rig.turn();
            rig.reactor.stats().accepted as usize - ending
        });
        assert_eq!(accepted, expected, "{ending} have ended");
        drop((members, newcomers));
    }
}

/// Turns later their places are free: nobody is refused because of them.
#[test]
fn those_who_come_while_many_end_are_not_refused() {
    const MEMBERS: usize = 300;
    let _many = many_descriptors();
    let listen = ListenOptions::default().max_connections(Some(MEMBERS)).accept_budget(1_000);
    let listen = listen.at_capacity(AtCapacity::Refuse);
    let mut rig = Rig::with_listen(Script::echo(), listen);
    let members: Vec<_> = (0..MEMBERS).map(|_| Client::connect(rig.addr)).collect();
    rig.until("all are members", |rig| rig.journal.opened().len() == MEMBERS);
    let ids = rig.journal.opened();
    let mut cx = rig.reactor.context();
    ids.iter().for_each(|&id| cx.conn(id).unwrap().abort());
    let mut newcomers: Vec<_> = (0..MEMBERS).map(|_| Client::connect(rig.addr)).collect();
    rig.until("all are there", |rig| rig.journal.opened().len() == 2 * MEMBERS);
    for client in &mut newcomers {
        client.send(b"hello");
        rig.expect(client, b"hello");
    }
    assert_eq!(rig.reactor.stats().refused, 0);
    drop(members);
}

/// When the loop ends, nothing is left for a turn that does not come.
#[test]
fn a_stop_sends_and_ends_all_in_its_turn() {
    const MEMBERS: usize = 300;
    let (mut rig, mut members, ids) = with_members(MEMBERS);
    tell_all(&mut rig.reactor, &ids, b"good bye");
    let bytes = pattern(32 << 10);
    let file = Arc::new(scratch_file(&bytes));
    let mut cx = rig.reactor.context();
    for &id in &ids {
        cx.conn(id).unwrap().send_file(Arc::clone(&file), ..).unwrap();
    }
    cx.stop();
    rig.reactor.run().unwrap();
    assert_eq!(rig.journal.closes(), MEMBERS);
    for client in &mut members {
        client.expect(b"good bye");
        client.expect(&bytes);
    }
}
