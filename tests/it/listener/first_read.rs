//! What a connection has with it when it is accepted is served at once, before the poll is told of
//! it; what comes later, and all else, is as it would be without that.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use waterwheel::{Limits, ListenOptions};

use crate::support::{Call, Client, End, Rig, Script, pattern};

/// A rig whose listener reads at accept.
fn reading(script: Script) -> Rig {
    Rig::with_listen(script, ListenOptions::default().read_at_accept(true))
}

/// A client whose first bytes are sent before the reactor turns.
fn speaking(rig: &Rig, bytes: &[u8]) -> Client {
    let mut client = Client::connect(rig.addr);
    client.send(bytes);
    client
}

/// Answers, and ends with the answer.
#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
fn answering_once() -> Script {
    Script::new().data(|conn, input| {
        conn.write(input);
        conn.close_without_waiting();
        input.len()
    })
}

/// Runs `attempt` until it says that it has succeeded: now and then the kernel is late with what a
/// client has sent, and the connection is served as any other.
#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
#[track_caller]
fn once_in_time(mut attempt: impl FnMut() -> bool) {
    let start = Instant::now();
    while !attempt() {
        assert!(start.elapsed() < crate::support::PATIENCE, "in vain");
    }
}

/// A resume in `on_open` has nothing to deliver, and does not hold for what is read then.
#[test]
fn a_resume_before_the_first_read_does_not_deliver_it_twice() {
    let script = Script::new().data(|_, _| 0).open(|conn| {
        conn.pause_reading();
        conn.resume_reading();
    });
    let mut rig = reading(script);
    for _ in 0..5 {
        let _client = speaking(&rig, b"half");
        let data = |call: &Call| matches!(call, Call::Data(_));
        let before = rig.journal.count(data);
        rig.until("data", |rig| rig.journal.count(data) > before);
        rig.expect_quiet();
        assert_eq!(rig.journal.count(data), before + 1);
    }
}

/// What `on_open` gives back stands before all that is read, and before the end.
#[test]
fn what_is_given_back_before_the_first_read_comes_first() {
    for spoken in [&b""[..], b"read"] {
        let mut rig = reading(Script::new().open(|conn| conn.give_back(b"given")));
        let mut client = speaking(&rig, spoken);
        client.finish();
        rig.until("the end", |rig| rig.journal.has(&Call::Eof));
        let is_input = |call: &Call| matches!(call, Call::Data(_) | Call::Eof);
        let calls = rig.journal.calls().into_iter().filter(is_input);
        let wanted = [b"given", spoken].into_iter().filter(|part: &&[u8]| !part.is_empty());
        let wanted = wanted.map(|part| Call::Data(part.to_vec())).chain([Call::Eof]);
        assert_eq!(calls.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    }
}

/// Unless it is asked for, who comes is served behind the end of who has gone.
#[test]
fn who_comes_back_finds_its_old_connection_gone() {
    let mut rig = Rig::new(Script::echo());
    let is_close = |call: &Call| matches!(call, Call::Close(..));
    for round in 1..=20 {
        let (client, _) = rig.client();
        drop(client);
        let mut back = speaking(&rig, b"again");
        rig.expect(&mut back, b"again");
        let calls = rig.journal.calls();
        let served = calls.iter().rposition(|call| matches!(call, Call::Data(_))).unwrap();
        let ends = calls[..served].iter().filter(|call| is_close(call)).count();
        assert_eq!(ends, 2 * round - 1, "the old one has ended before");
        drop(back);
        rig.until("its end", |rig| rig.journal.count(is_close) == 2 * round);
    }
}

#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
#[test]
fn one_that_ends_with_its_first_answer_has_no_event_of_its_own() {
    let mut rig = reading(answering_once());
    once_in_time(|| {
        let before = rig.reactor.stats();
        let mut client = speaking(&rig, b"all there is");
        assert_eq!(rig.read_to_end(&mut client), (b"all there is".to_vec(), End::Fin));
        rig.until("the end", |rig| rig.reactor.stats().connections == 0);
        // The one event is the listener's.
        rig.reactor.stats().events - before.events == 1
    });
}

#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
#[test]
fn one_that_only_looks_whether_somebody_listens_has_none_either() {
    let mut rig = reading(Script::new());
    once_in_time(|| {
        let before = rig.reactor.stats();
        drop(Client::connect(rig.addr));
        rig.until("the end", |rig| rig.journal.closes() as u64 > before.closed);
        rig.reactor.stats().events - before.events == 1
    });
    let life = [Call::Accept, Call::Open, Call::Eof, Call::Close("Peer".to_owned(), 0)];
    let calls = rig.journal.calls();
    assert!(calls.chunks(4).all(|calls| calls == life), "{calls:?}");
}

#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
#[test]
fn a_newcomer_that_says_nothing_costs_no_turn() {
    let mut rig = reading(Script::echo());
    for _ in 0..20 {
        let (mut client, _) = rig.client();
        let before = rig.reactor.stats().events;
        rig.turn();
        assert_eq!(rig.reactor.stats().events, before, "room for output is no news");
        client.send(b"now");
        rig.expect(&mut client, b"now");
    }
}

#[test]
fn its_callbacks_come_in_order_and_what_they_write_too() {
    let mut rig = reading(Script::echo().open(|conn| {
        conn.write(b"welcome ");
    }));
    for _ in 0..20 {
        let mut client = speaking(&rig, b"first");
        rig.expect(&mut client, b"welcome first");
        let id = rig.journal.last();
        client.send(b"second");
        rig.expect(&mut client, b"second");
        let data = |bytes: &[u8]| Call::Data(bytes.to_vec());
        assert_eq!(rig.journal.calls_of(id), [Call::Open, data(b"first"), data(b"second")]);
        client.finish();
        rig.expect_end(id, "Peer");
    }
}

/// The listener guesses right and wrong, changes its mind, and serves all alike.
#[test]
fn those_who_speak_at_once_and_those_who_wait_are_served_alike() {
    let mut rig = reading(Script::echo());
    let mut waiting: Vec<(Client, u8)> = Vec::new();
    for number in 0..200 {
        if number / 20 % 2 == 0 {
            let mut client = speaking(&rig, &[number]);
            rig.expect(&mut client, &[number]);
            waiting.push((client, number));
        } else {
            let (client, _) = rig.client();
            waiting.push((client, number));
        }
    }
    for (client, number) in &mut waiting {
        client.send(&[*number, 0]);
        rig.expect(client, &[*number, 0]);
    }
    rig.expect_quiet();
}

#[test]
fn the_end_behind_the_first_bytes_is_read() {
    let mut rig = reading(Script::echo());
    for _ in 0..20 {
        let mut client = speaking(&rig, b"that is all");
        client.finish();
        assert_eq!(rig.read_to_end(&mut client), (b"that is all".to_vec(), End::Fin));
        let id = rig.journal.last();
        rig.expect_end(id, "Peer");
        let data = Call::Data(b"that is all".to_vec());
        let end = Call::Close("Peer".to_owned(), 0);
        assert_eq!(rig.journal.calls_of(id), [Call::Open, data, Call::Eof, end]);
    }
}

#[test]
fn a_reset_behind_the_first_bytes_is_seen() {
    let mut rig = reading(Script::echo());
    for _ in 0..20 {
        let before = rig.journal.closes();
        speaking(&rig, b"gone").reset();
        rig.until("the end", |rig| rig.journal.closes() > before);
    }
    let stats = rig.reactor.stats();
    assert_eq!((stats.closed_broken, stats.connections), (20, 0));
}

#[test]
fn a_handler_that_takes_nothing_yet_gets_it_later() {
    let mut rig = reading(
        Script::echo()
            .open(|conn| {
                conn.pause_reading();
                conn.set_timer(Duration::from_millis(1), 0);
            })
            .timer(|conn, _| conn.resume_reading()),
    );
    for _ in 0..5 {
        let mut client = speaking(&rig, b"patience");
        rig.expect(&mut client, b"patience");
        let calls = rig.journal.calls_of(rig.journal.last());
        assert!(matches!(calls[..], [Call::Open, Call::Timer(_), Call::Data(_)]), "{calls:?}");
    }
}

/// The peer has said something, and reads what it is told before it is closed on.
#[test]
fn a_handler_that_ends_it_at_once_is_heard() {
    let mut rig = reading(Script::new().open(|conn| {
        conn.write(b"closed today");
        conn.close();
    }));
    for _ in 0..5 {
        let mut client = speaking(&rig, b"hello");
        assert_eq!(rig.read_to_end(&mut client), (b"closed today".to_vec(), End::Fin));
        let id = rig.journal.last();
        client.finish();
        rig.expect_end(id, "Local");
    }
}

/// More than one read takes, and more than the socket takes of the answer.
#[test]
fn much_at_once_comes_in_and_goes_out_whole() {
    const ANSWER: usize = 8 << 20;
    let limits = Limits::default().max_output_bytes(2 * ANSWER).high_mark_bytes(ANSWER);
    let answered = Rc::new(Cell::new(false));
    let is_answered = Rc::clone(&answered);
    let script = Script::new().data(move |conn, input| {
        if !is_answered.replace(true) {
            conn.write(&vec![b'x'; ANSWER]);
        }
        conn.write(input);
        input.len()
    });
    let mut rig = Rig::with_limits(script, limits);
    let mut client = Client::connect(rig.addr);
    let question = vec![b'q'; 300 << 10];
    let mut sent = client.try_send(&question);
    let mut answer = Vec::new();
    rig.until("all of it", |_| {
        sent += client.try_send(&question[sent..]);
        answer.extend(client.try_read(1 << 20).expect("it stays open"));
        answer.len() == ANSWER + question.len()
    });
    assert!(answered.get() && answer[..ANSWER].iter().all(|&byte| byte == b'x'));
    assert!(answer[ANSWER..] == question[..], "the question came back");
    client.send(b"still there");
    rig.expect(&mut client, b"still there");
    rig.expect_quiet();
}

#[test]
fn a_panic_at_the_first_bytes_ends_its_connection_alone() {
    let script = Script::new().data(|conn, input| {
        if input == b"worse" {
            conn.abort();
        }
        assert!(!matches!(input, b"bad" | b"worse"), "on purpose");
        conn.write(input);
        input.len()
    });
    let mut rig = reading(script);
    rig.panics = 6;
    let (mut other, _) = rig.client();
    for words in [b"bad".as_slice(), b"worse"].repeat(3) {
        // The one behind it has its turn although the listener's event is used up.
        let mut bad = speaking(&rig, words);
        let mut good = speaking(&rig, b"good");
        assert_eq!(rig.read_to_end(&mut bad), (Vec::new(), End::Reset));
        rig.expect(&mut good, b"good");
    }
    other.send(b"still there?");
    rig.expect(&mut other, b"still there?");
}

/// The end that follows has a time of its own: neither a slow reader nor one who reads nothing has
/// that of the first byte.
#[test]
fn what_ends_as_it_opens_waits_for_no_first_byte() {
    const LOTS: usize = 24 << 20;
    let (first, close) = (Duration::from_millis(20), Duration::from_millis(600));
    let limits = Limits::default().first_byte_timeout(Some(first)).close_timeout(close);
    let options =
        ListenOptions::default().read_at_accept(true).limits(limits.max_output_bytes(2 * LOTS));
    let script = Script::new().open(|conn| {
        conn.write(&pattern(LOTS));
        conn.close();
    });
    let mut rig = Rig::with_listen(script, options);
    let mut reader = Client::connect(rig.addr);
    let begun = Instant::now();
    rig.until("the time of a first byte is over", |_| begun.elapsed() > 3 * first);
    let (bytes, end) = rig.read_to_end(&mut reader);
    assert!(bytes == pattern(LOTS), "{} bytes", bytes.len());
    assert_eq!(end, End::Fin);
    let silent = speaking(&rig, b"?");
    rig.until("it is there", |rig| rig.journal.opened().len() == 2);
    let (reason, _) = rig.end_of(rig.journal.last());
    assert_eq!(reason, "Timeout(Close)");
    drop(silent);
}

#[test]
fn the_first_byte_has_its_time_where_none_has_come() {
    let limits = Limits::default().first_byte_timeout(Some(Duration::from_millis(20)));
    let mut rig = Rig::with_listen(
        Script::echo(),
        ListenOptions::default().read_at_accept(true).limits(limits),
    );
    for _ in 0..4 {
        let mut early = speaking(&rig, b"early");
        rig.expect(&mut early, b"early");
        let early_id = rig.journal.last();
        let (mut silent, id) = rig.client();
        let (reason, _) = rig.end_of(id);
        assert_eq!(reason, "Timeout(FirstByte)");
        assert_eq!(rig.read_to_end(&mut silent), (Vec::new(), End::Reset));
        assert!(rig.lives(early_id), "its first byte has come, and nothing else is asked for");
    }
}
