//! One direction ends before the other, on either side.

use waterwheel::{ConnectOptions, ListenOptions, ReactorOptions, Written};

use crate::support::{Call, Client, End, Journal, Rig, Script, pattern};

#[test]
fn on_eof_closes_by_default_and_the_reason_is_the_peer() {
    let mut rig = Rig::new(|_: &mut waterwheel::Conn<'_>, input: &[u8]| input.len());
    let (mut client, id) = rig.client();
    client.send(b"all");
    client.finish();
    rig.expect_end(id, "Peer");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
}

#[test]
fn on_eof_comes_after_all_bytes_and_what_was_written_still_leaves() {
    let bytes = pattern(5 << 20);
    let sent = bytes.clone();
    let mut rig = Rig::new(Script::new().eof(move |conn| {
        assert!(conn.write(&sent).is_accepted());
        conn.close();
    }));
    let (mut client, id) = rig.client();
    let request = pattern(200_000);
    client.send(&request);
    client.finish();
    rig.until("eof", |rig| rig.journal.has(&Call::Eof));
    assert!(rig.journal.data_of(id) == request);
    let (received, end) = rig.read_to_end(&mut client);
    assert!(received == bytes);
    assert_eq!(end, End::Fin);
    rig.expect_end(id, "Peer");
}

#[test]
fn after_the_peers_end_the_handler_may_go_on_writing_until_it_ends_too() {
    let mut rig = Rig::new(Script::new().eof(|_| {}));
    let (mut client, id) = rig.client();
    client.finish();
    rig.until("eof", |rig| rig.journal.has(&Call::Eof));
    for round in 0..3 {
        rig.expect_quiet();
        let mut cx = rig.reactor.context();
        let mut conn = cx.conn(id).expect("still open");
        assert_eq!(conn.write(&[round; 10]), Written::Below);
        rig.expect(&mut client, &[round; 10]);
    }
    rig.reactor.context().conn(id).unwrap().shutdown_write();
    rig.expect_end(id, "Peer");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
    assert_eq!(rig.journal.count(|call| *call == Call::Eof), 1);
}

#[test]
fn after_our_end_the_handler_goes_on_reading_until_the_peer_ends_too() {
    let mut rig = Rig::new(Script::new().open(|conn| {
        conn.write(b"question");
        conn.shutdown_write();
        conn.shutdown_write();
    }));
    let (mut client, id) = rig.client();
    assert_eq!(rig.read_to_end(&mut client), (b"question".to_vec(), End::Fin));
    for round in 1..=3 {
        client.send(b"answer");
        rig.until("more", |rig| rig.journal.data_of(id).len() == 6 * round);
        rig.expect_quiet();
    }
    let mut cx = rig.reactor.context();
    assert_eq!(cx.conn(id).unwrap().write(b"x"), Written::Closed);
    client.finish();
    rig.expect_end(id, "Peer");
}

#[test]
fn both_ended_is_closed_whoever_began_and_whatever_on_eof_does() {
    for ours_first in [true, false] {
        let mut rig = Rig::new(Script::new().eof(|_| {}));
        let (mut client, id) = rig.client();
        if ours_first {
            rig.reactor.context().conn(id).unwrap().shutdown_write();
            assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
            client.finish();
        } else {
            client.finish();
            rig.until("eof", |rig| rig.journal.has(&Call::Eof));
            rig.reactor.context().conn(id).unwrap().shutdown_write();
        }
        rig.expect_end(id, "Peer");
        assert_eq!(rig.journal.count(|call| *call == Call::Eof), 1);
    }
}

#[test]
fn our_end_follows_everything_that_was_queued_before_it() {
    let bytes = pattern(8 << 20);
    let sent = bytes.clone();
    let mut rig = Rig::new(Script::new().open(move |conn| {
        assert_eq!(conn.write(&sent), Written::Above);
        conn.shutdown_write();
        assert_eq!(conn.write(b"late"), Written::Closed);
        assert!(conn.pending_bytes() > 0, "the kernel took all at once");
    }));
    let (mut client, id) = rig.client();
    let (received, end) = rig.read_to_end(&mut client);
    assert!(received == bytes);
    assert_eq!(end, End::Fin);
    assert_eq!(rig.journal.closes(), 0);
    client.finish();
    rig.expect_end(id, "Peer");
}

#[test]
fn a_reset_after_the_peers_end_is_noticed_although_nothing_is_written() {
    let mut rig = Rig::new(Script::new().eof(|_| {}));
    let (mut client, id) = rig.client();
    client.finish();
    rig.until("eof", |rig| rig.journal.has(&Call::Eof));
    rig.expect_quiet();
    client.reset();
    rig.expect_end(id, "Reset");
}

#[test]
fn an_end_behind_unconsumed_input_is_told_and_leaves_the_rest_alone() {
    let mut rig = Rig::new(Script::new().data(|_, _| 0).eof(|_| {}));
    let (mut client, id) = rig.client();
    client.send(b"half a mess");
    client.finish();
    rig.until("eof", |rig| rig.journal.has(&Call::Eof));
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).unwrap();
    // After the end nothing is delivered again.
    conn.pause_reading();
    conn.resume_reading();
    for _ in 0..3 {
        rig.turn();
    }
    rig.expect_quiet();
    assert_eq!(rig.journal.count(|call| matches!(call, Call::Data(_))), 1);
    rig.reactor.context().conn(id).unwrap().close();
    rig.expect_end(id, "Peer");
}

#[test]
fn an_end_asked_for_before_the_connection_is_up_follows_what_was_written() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let mut rig = Rig::new(Script::new());
    let id = rig.connect(addr, 0, &ConnectOptions::default());
    let mut cx = rig.reactor.context();
    let mut conn = cx.conn(id).unwrap();
    conn.write(b"request");
    conn.shutdown_write();
    assert_eq!(conn.write(b"late"), Written::Closed);
    let mut peer = Client::from(server.accept().unwrap().0);
    assert_eq!(rig.read_to_end(&mut peer), (b"request".to_vec(), End::Fin));
    peer.send(b"response");
    peer.finish();
    rig.expect_end(id, "Peer");
    assert_eq!(rig.journal.data_of(id), b"response");
}

#[test]
fn closing_in_on_eof_with_everything_ended_calls_nothing_else() {
    let journal = Journal::default();
    let script = Script::new().open(|conn| conn.shutdown_write());
    let (listen, options) = (ListenOptions::default(), ReactorOptions::default());
    let mut rig = Rig::with(script, journal.clone(), listen, options);
    let (mut client, id) = rig.client();
    client.finish();
    rig.expect_end(id, "Peer");
    let calls = journal.calls_of(id);
    assert!(matches!(calls[..], [Call::Open, Call::Eof, Call::Close(..)]));
}
