//! Requests whose answers come later: how many may be outstanding, and what waits for the last.

use std::time::Duration;

use waterwheel::{Conn, ConnId, Limits, Written};

use crate::support::{Call, Client, End, Rig, Script, pattern};

/// A handler to which each byte is a request, and that answers none by itself.
fn counts(conn: &mut Conn<'_>, input: &[u8]) -> usize {
    let mut taken = 0;
    while conn.is_reading() && taken < input.len() {
        conn.begin_request();
        taken += 1;
    }
    taken
}

type Handler = fn(&mut Conn<'_>, &[u8]) -> usize;

#[track_caller]
fn rig(limits: Limits) -> Rig<Handler> {
    Rig::with_limits(counts, limits)
}

/// A client that has sent as many bytes, of which each is a request.
#[track_caller]
fn client(rig: &mut Rig<Handler>, requests: u32) -> (Client, ConnId) {
    let (mut client, id) = rig.client();
    client.send(&vec![b'?'; requests as usize]);
    rig.until("the requests", |rig| outstanding(rig, id) == requests);
    (client, id)
}

#[track_caller]
fn outstanding(rig: &mut Rig<Handler>, id: ConnId) -> u32 {
    rig.reactor.context().conn(id).expect("it is open").outstanding_requests()
}

#[track_caller]
fn answer(rig: &mut Rig<Handler>, id: ConnId) {
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).expect("it is open");
    assert_eq!(conn.write(b"!"), Written::Below);
    conn.end_request();
}

#[test]
fn with_as_many_requests_as_may_be_reading_waits_until_half_are_answered() {
    let mut rig = rig(Limits::default().max_outstanding_requests(4));
    let (mut client, id) = client(&mut rig, 4);
    client.send(b"567");
    rig.expect_quiet();
    assert_eq!(rig.reactor.stats().bytes_read, 4, "it is not even read");
    answer(&mut rig, id);
    rig.expect_quiet();
    assert_eq!((outstanding(&mut rig, id), rig.reactor.stats().bytes_read), (3, 4));
    answer(&mut rig, id);
    rig.until("more", |rig| outstanding(rig, id) == 4);
    assert_eq!(rig.journal.data_of(id), b"????567");
    rig.expect_quiet();
    assert!(!rig.reactor.context().conn(id).unwrap().is_paused());
    (0..2).for_each(|_| answer(&mut rig, id));
    rig.until("the rest, which was read and left", |rig| outstanding(rig, id) == 3);
    assert_eq!(rig.journal.data_of(id), b"????5677");
    rig.expect(&mut client, b"!!!!");
    client.finish();
    rig.until("eof", |rig| rig.journal.has(&Call::Eof));
    (0..3).for_each(|_| answer(&mut rig, id));
    assert_eq!(rig.read_to_end(&mut client), (b"!!!".to_vec(), End::Fin));
    rig.expect_end(id, "Peer");
}

#[test]
fn requests_and_a_pause_hold_reading_back_independently() {
    let mut rig = rig(Limits::default().max_outstanding_requests(1));
    let (mut client, id) = client(&mut rig, 1);
    client.send(b"?");
    rig.reactor.context().conn(id).unwrap().pause_reading();
    rig.reactor.context().conn(id).unwrap().resume_reading();
    rig.expect_quiet();
    assert_eq!(rig.reactor.stats().bytes_read, 1, "a pause that ends answers nothing");
    rig.reactor.context().conn(id).unwrap().pause_reading();
    answer(&mut rig, id);
    rig.expect_quiet();
    assert_eq!(rig.reactor.stats().bytes_read, 1, "an answer ends no pause");
    rig.reactor.context().conn(id).unwrap().resume_reading();
    rig.until("the second", |rig| outstanding(rig, id) == 1);
}

#[test]
fn after_the_peers_end_the_last_answer_closes() {
    let mut rig = rig(Limits::default());
    let (mut client, id) = client(&mut rig, 2);
    client.finish();
    rig.until("eof", |rig| rig.journal.has(&Call::Eof));
    answer(&mut rig, id);
    rig.expect_quiet();
    rig.expect(&mut client, b"!");
    assert_eq!(client.try_read(1), Ok(Vec::new()), "it has ended before its last answer");
    answer(&mut rig, id);
    assert_eq!(rig.read_to_end(&mut client), (b"!".to_vec(), End::Fin));
    rig.expect_end(id, "Peer");
}

#[test]
fn a_drain_waits_for_the_last_answer() {
    let mut rig = rig(Limits::default());
    let (mut client, id) = client(&mut rig, 1);
    rig.reactor.context().drain(Duration::from_secs(60));
    rig.until("shutdown", |rig| rig.journal.has(&Call::Shutdown));
    client.send(b"more"); // nobody is to take it up any more
    rig.expect_quiet();
    assert_eq!(rig.journal.data_of(id), b"?");
    answer(&mut rig, id);
    assert_eq!(rig.read_to_end(&mut client), (b"!".to_vec(), End::Fin));
    client.finish();
    rig.expect_end(id, "Shutdown");
}

#[test]
fn a_peer_that_waits_for_an_answer_is_not_idle() {
    let mut rig = rig(Limits::default().all_idle(Some(Duration::from_millis(20))));
    let (mut client, id) = client(&mut rig, 1);
    let is_idle = |call: &Call| matches!(call, Call::Idle(_));
    rig.until("two limits", |rig| rig.journal.count(is_idle) == 2);
    answer(&mut rig, id);
    assert_eq!(rig.read_to_end(&mut client), (b"!".to_vec(), End::Fin));
    rig.expect_end(id, "Idle");
}

#[test]
fn a_close_that_waits_for_answers_takes_no_more_requests() {
    let mut rig = Rig::new(Script::new().data(|conn, _| {
        conn.begin_request();
        conn.close_when_answered();
        assert!(!conn.is_reading() && conn.is_writable());
        1
    }));
    let (mut client, id) = rig.client();
    client.send(b"123");
    rig.until("the request", |rig| rig.journal.has(&Call::Data(b"123".to_vec())));
    client.send(b"4");
    rig.expect_quiet();
    rig.reactor.context().conn(id).unwrap().resume_reading();
    rig.expect_quiet();
    rig.reactor.context().conn(id).unwrap().write(b"!");
    rig.reactor.context().conn(id).unwrap().end_request();
    assert_eq!(rig.read_to_end(&mut client), (b"!".to_vec(), End::Fin));
    client.finish();
    rig.expect_end(id, "Local");
    assert_eq!(rig.journal.count(|call| matches!(call, Call::Data(_))), 1);
    // With no request it is an ordinary close.
    let (mut client, id) = rig.client();
    rig.reactor.context().conn(id).unwrap().close_when_answered();
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
}

#[test]
fn a_reset_is_noticed_while_requests_hold_reading_back() {
    let mut rig = rig(Limits::default().max_outstanding_requests(2));
    let (mut client, id) = rig.client();
    client.send(b"????");
    rig.until("two", |rig| outstanding(rig, id) == 2);
    rig.expect_quiet();
    client.reset();
    rig.expect_end(id, "Reset");
    let data = rig.journal.calls_of(id).into_iter().filter(|call| matches!(call, Call::Data(_)));
    let data: Vec<_> = data.collect();
    assert_eq!(data, [Call::Data(b"????".to_vec()), Call::Data(b"??".to_vec())]);
}

#[test]
fn an_end_without_a_beginning_changes_nothing() {
    let mut rig = rig(Limits::default());
    let (mut client, id) = rig.client();
    rig.reactor.context().conn(id).unwrap().end_request();
    assert_eq!(outstanding(&mut rig, id), 0);
    client.send(b"?");
    rig.until("a request", |rig| outstanding(rig, id) == 1);
}

#[test]
fn output_is_above_the_high_mark_until_it_has_fallen_to_the_low_mark() {
    const MARK: usize = 1 << 20;
    let limits = Limits::default().high_mark_bytes(MARK).low_mark_bytes(1);
    let mut rig = rig(limits.max_output_bytes(usize::MAX));
    let (mut client, id) = client(&mut rig, 1);
    let is_above = |rig: &mut Rig<Handler>| {
        rig.reactor.context().conn(id).is_some_and(|conn| conn.is_above_high_mark())
    };
    assert!(!is_above(&mut rig));
    let bytes = pattern(MARK);
    let mut written = 0;
    while !is_above(&mut rig) {
        let mut cx = rig.reactor.context();
        let last = cx.conn(id).unwrap().write(&bytes);
        written += MARK;
        assert_eq!(last == Written::Above, cx.conn(id).unwrap().is_above_high_mark());
        assert_eq!(last == Written::Above, !cx.conn(id).unwrap().is_reading());
        rig.turn();
    }
    // What the kernel took had drained in the turn of its write.
    let drains = |rig: &Rig<Handler>| rig.journal.count(|call| *call == Call::Drain);
    let (before, mut received) = (drains(&rig), 0);
    while drains(&rig) == before {
        assert!(is_above(&mut rig), "{received} of {written}");
        received += client.try_read(64 << 10).unwrap().len();
        rig.turn();
    }
    assert!(!is_above(&mut rig) && received > 0);
}

#[test]
fn what_is_left_comes_again_also_when_the_callback_itself_answers() {
    let script = Script::new().data(|conn, input| {
        let mut taken = 0;
        while conn.is_reading() && taken < input.len() {
            conn.begin_request();
            taken += 1;
        }
        for _ in 0..taken {
            conn.write(b"!");
            conn.end_request();
        }
        taken
    });
    let mut rig = Rig::with_limits(script, Limits::default().max_outstanding_requests(2));
    let (mut client, _) = rig.client();
    client.send(b"????");
    rig.expect(&mut client, b"!!!!");
}

/// Output fails because a file is shorter than was said, while requests hold reading back.
#[test]
fn the_cause_of_a_failed_write_is_told_however_much_is_left() {
    let limits = Limits::default().max_outstanding_requests(1).max_input_bytes(10);
    let mut rig = rig(limits);
    let (mut client, id) = client(&mut rig, 1);
    client.send(&[b'?'; 100]);
    let file = crate::support::scratch_file(&[1; 100]);
    let sent = file.try_clone().unwrap();
    rig.reactor.context().conn(id).unwrap().send_file(sent, 0..100).unwrap();
    file.set_len(50).unwrap();
    let (reason, _) = rig.end_of(id);
    assert!(!reason.contains("Overflow"), "{reason}");
}
