//! Input that a handler has consumed and gives back.

use waterwheel::{Conn, ConnId, Limits};

use crate::support::{Call, End, Rig, Script};

fn data(text: &str) -> Call {
    Call::Data(text.as_bytes().to_vec())
}

fn with<H: waterwheel::Handler>(rig: &mut Rig<H>, id: ConnId, run: impl FnOnce(&mut Conn<'_>)) {
    run(&mut rig.reactor.context().conn(id).expect("the connection lives"));
}

#[test]
fn what_is_given_back_in_on_data_comes_again_and_the_last_call_stands_first() {
    let mut calls = 0;
    let mut rig = Rig::new(Script::new().data(move |conn, input| {
        calls += 1;
        if calls > 1 {
            return input.len();
        }
        conn.give_back(b"def");
        conn.give_back(b"abc"); // before the one above
        6
    }));
    let (mut client, id) = rig.client();
    client.send(b"abcdef");
    rig.until("all of it", |rig| rig.journal.has(&data("abcdef")));
    rig.expect_quiet();
    assert_eq!(rig.journal.calls_of(id)[1..], [data("abcdef"), data("abcdef")]);
    client.send(b"ghi"); // by the ordinary path
    rig.until("more", |rig| rig.journal.has(&data("ghi")));
}

#[test]
fn what_is_given_back_outside_of_on_data_comes_in_the_next_turn_and_before_what_is_new() {
    let mut rig = Rig::new(Script::new());
    let (mut client, id) = rig.client();
    client.send(b"abc");
    rig.until("read", |rig| rig.journal.has(&data("abc")));
    with(&mut rig, id, |conn| conn.give_back(b"bc"));
    rig.turn();
    with(&mut rig, id, |conn| {
        conn.pause_reading();
        conn.give_back(b"c");
    });
    client.send(b"d");
    rig.expect_quiet();
    assert_eq!(rig.journal.calls_of(id)[1..], [data("abc"), data("bc")]);
    with(&mut rig, id, |conn| conn.resume_reading());
    rig.until("new input", |rig| rig.journal.has(&data("d")));
    let wanted = [data("abc"), data("bc"), data("c"), data("d")];
    assert_eq!(rig.journal.calls_of(id)[1..], wanted);
    assert_eq!(rig.reactor.stats().bytes_read, 4, "no byte counts twice");
}

/// The poll tells of the reset once.
#[test]
fn a_reset_is_told_behind_an_end_that_was_given_back_in_a_pause() {
    let mut rig = Rig::new(Script::new().eof(|_| {}));
    let (mut client, id) = rig.client();
    client.send(b"abc");
    client.finish();
    rig.until("told", |rig| rig.journal.has(&Call::Eof));
    rig.journal.note_end_given_back(id);
    with(&mut rig, id, |conn| {
        conn.pause_reading();
        conn.give_back(b"bc");
    });
    rig.expect_quiet();
    client.reset();
    rig.expect_end(id, "Reset");
    let calls = rig.journal.calls_of(id);
    assert_eq!(calls[1..4], [data("abc"), Call::Eof, data("bc")]);
    if cfg!(target_os = "linux") {
        assert_eq!(calls[4], Call::Eof); // its reads give no error behind an end, but the end
    }
    rig.expect_quiet();
}

/// What would hold reading back holds nothing back any more.
#[test]
fn what_is_given_back_after_a_reset_comes_before_the_close() {
    for pauses in [true, false] {
        let mut is_first = true;
        let script = Script::new().data(move |conn, input| {
            if std::mem::replace(&mut is_first, false) {
                conn.give_back(input);
                match pauses {
                    true => conn.pause_reading(),
                    false => conn.begin_request(),
                }
            }
            input.len()
        });
        let limits = Limits::default().max_outstanding_requests(1);
        let mut rig = Rig::with_limits(script, limits);
        let (mut client, id) = rig.client();
        with(&mut rig, id, |conn| conn.pause_reading());
        client.send(b"abc");
        client.reset();
        rig.expect_end(id, "Reset");
        assert_eq!(rig.journal.calls_of(id)[1..3], [data("abc"), data("abc")], "{pauses}");
    }
}

#[test]
fn a_connection_that_is_closed_takes_nothing_back() {
    let mut rig = Rig::new(Script::new().data(|conn, input| {
        conn.close();
        conn.give_back(input);
        input.len()
    }));
    let (mut client, id) = rig.client();
    client.send(b"abc");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
    drop(client);
    rig.expect_end(id, "Local");
    assert_eq!(rig.journal.data_of(id), b"abc");
}
