//! Input that a handler does not consume: it is kept, comes again in front, and has a cap.

use std::cell::RefCell;
use std::rc::Rc;

use waterwheel::Limits;

use crate::support::{Call, End, PATIENCE, Rig, Script, pattern};

#[test]
fn what_is_not_consumed_comes_again_in_front_of_the_next_bytes() {
    // Lines: only whole ones are taken.
    let lines = Rc::new(RefCell::new(Vec::new()));
    let found = lines.clone();
    let mut rig = Rig::new(Script::new().data(move |_, input| {
        let mut taken = 0;
        while let Some(end) = input[taken..].iter().position(|&byte| byte == b'\n') {
            let line = String::from_utf8(input[taken..taken + end].to_vec());
            found.borrow_mut().push(line.unwrap());
            taken += end + 1;
        }
        taken
    }));
    let (mut client, id) = rig.client();
    for part in ["on", "e\ntw", "o\nthree\nfo", "", "ur", "\n"] {
        let before = rig.reactor.stats().bytes_read;
        client.send(part.as_bytes());
        let after = before + part.len() as u64;
        rig.until("read", |rig| rig.reactor.stats().bytes_read == after);
    }
    assert_eq!(*lines.borrow(), ["one", "two", "three", "four"]);
    let data = |text: &str| Call::Data(text.as_bytes().to_vec());
    let calls = rig.journal.calls_of(id);
    let expected = ["on", "one\ntw", "two\nthree\nfo", "four", "four\n"];
    assert_eq!(calls[1..], expected.map(data));
}

#[test]
fn a_sender_of_single_bytes_is_understood() {
    const LENGTH: usize = 300;
    let message = pattern(LENGTH);
    let expected = message.clone();
    let mut rig = Rig::new(Script::new().data(move |conn, input| {
        assert!(expected.starts_with(input));
        if input.len() < LENGTH {
            return 0;
        }
        conn.write(b"understood");
        LENGTH
    }));
    let (mut client, _) = rig.client();
    for (count, byte) in message.iter().enumerate() {
        client.send(&[*byte]);
        rig.until("read", |rig| rig.reactor.stats().bytes_read == count as u64 + 1);
    }
    rig.expect(&mut client, b"understood");
}

#[test]
fn leaving_exactly_the_cap_is_allowed_and_one_byte_more_is_overflow() {
    let limits = Limits::default().max_input_bytes(1000);
    let mut rig = Rig::with_limits(Script::new().data(|_, _| 0), limits);
    let (mut client, id) = rig.client();
    client.send(&[1; 1000]);
    rig.until("read", |rig| rig.reactor.stats().bytes_read == 1000);
    rig.expect_quiet();
    assert!(rig.lives(id));
    client.send(&[1]);
    rig.expect_end(id, "Overflow");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Reset));
    assert_eq!(rig.reactor.stats().closed_overflow, 1);
}

#[test]
fn the_cap_counts_what_is_left_and_not_what_came() {
    let limits = Limits::default().max_input_bytes(10);
    let script = Script::new().data(|_, input| input.len().saturating_sub(10));
    let mut rig = Rig::with_limits(script, limits);
    let (mut client, id) = rig.client();
    let bytes = pattern(1 << 20);
    let mut sent = 0;
    rig.until("all sent", |_| {
        sent += client.try_send(&bytes[sent..]);
        sent == bytes.len()
    });
    client.finish();
    rig.expect_end(id, "Peer");
    assert_eq!(rig.reactor.stats().bytes_read, 1 << 20);
}

#[test]
fn one_read_larger_than_the_cap_overflows_in_the_same_turn() {
    let limits = Limits::default().max_input_bytes(1);
    let mut rig = Rig::with_limits(Script::new().data(|_, _| 0), limits);
    let (mut client, id) = rig.client();
    client.send(b"12");
    rig.expect_end(id, "Overflow");
}

#[test]
fn consuming_more_than_there_was_counts_as_all() {
    // With a time for messages and a timer the loop looks at what is left, also if nothing is.
    let timed = Limits::default().message_timeout(Some(PATIENCE));
    for limits in [Limits::default(), timed] {
        let script = Script::new().data(|_, input| match input {
            b"ab" => 1,
            _ => usize::MAX,
        });
        let script = script.open(|conn| {
            conn.set_timer(PATIENCE, 0);
        });
        let mut rig = Rig::with_limits(script, limits);
        let (mut client, id) = rig.client();
        for (part, all) in [("ab", 2), ("c", 3), ("d", 4)] {
            client.send(part.as_bytes());
            rig.until("read", |rig| rig.reactor.stats().bytes_read == all);
        }
        let data = |text: &str| Call::Data(text.as_bytes().to_vec());
        let calls = rig.journal.calls_of(id);
        assert_eq!(calls[1..], ["ab", "bc", "d"].map(data));
        assert_eq!(rig.reactor.stats().panics, 0);
    }
}

#[test]
fn large_input_arrives_whole_whatever_is_left_each_time() {
    let bytes = pattern(3 << 20);
    let got = Rc::new(RefCell::new(Vec::new()));
    let taken = got.clone();
    let mut round = 0;
    let mut rig = Rig::new(Script::new().data(move |_, input| {
        round += 1;
        let count = input.len() - (round * 7919) % input.len().min(50_000);
        taken.borrow_mut().extend(&input[..count]);
        count
    }));
    let (mut client, _) = rig.client();
    let mut sent = 0;
    rig.until("all sent", |_| {
        sent += client.try_send(&bytes[sent..]);
        sent == bytes.len()
    });
    rig.until("all read", |rig| rig.reactor.stats().bytes_read == 3 << 20);
    // What was left last comes with the next byte, and is left in part again.
    let got = got.borrow();
    assert!(got.len() > bytes.len() - 50_000);
    assert!(bytes.starts_with(&got));
}

#[test]
fn closing_with_input_left_drops_it_and_delivers_no_more() {
    let mut rig = Rig::new(Script::new().data(|conn, _| {
        conn.close();
        0
    }));
    let (mut client, id) = rig.client();
    client.send(b"left");
    rig.until("data", |rig| rig.journal.data_of(id) == b"left");
    client.send(b" and more");
    client.finish();
    rig.expect_end(id, "Local");
    assert_eq!(rig.journal.data_of(id), b"left");
}
