//! Writes in parts: `write!`, and `write_vectored`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use waterwheel::{Conn, Limits, OnOverflow, Written};

use crate::support::{End, Rig, Script};

/// What became of each write.
type Answers = Rc<RefCell<Vec<Written>>>;

/// More than a callback gathers.
const LARGE: usize = 40_000;

/// Another text each time: as many `x` as it has been formatted.
struct Growing(Cell<usize>);

impl fmt::Display for Growing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.set(self.0.get() + 1);
        (0..self.0.get()).try_for_each(|_| f.write_str("x"))
    }
}

/// So many bytes, in pieces of ten.
struct Pieces(usize);

impl fmt::Display for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..self.0 / 10).try_for_each(|number| write!(f, "{number:010}"))
    }
}

/// Says something and fails then, or panics.
struct Broken {
    panics: bool,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half a text")?;
        assert!(!self.panics, "a Display that panics");
        Err(fmt::Error)
    }
}

/// Runs `write` once for each message, after `[`, and writes `]` after it.
fn between_brackets(
    mut write: impl FnMut(&mut Conn<'_>) -> Written + 'static,
) -> (Script, Answers) {
    let answers = Answers::default();
    let noted = Rc::clone(&answers);
    let script = Script::new().data(move |conn, input| {
        conn.write(b"[");
        noted.borrow_mut().push(write(conn));
        conn.write(b"]");
        input.len()
    });
    (script, answers)
}

/// What the client gets for one message.
#[track_caller]
fn expect_between_brackets(rig: &mut Rig, answers: &Answers, text: &[u8]) {
    let (mut client, _) = rig.client();
    client.send(b"go");
    rig.expect(&mut client, &[b"[", text, b"]"].concat());
    assert!(answers.borrow().iter().all(|written| written.is_accepted()), "{answers:?}");
}

fn refusing(max_output_bytes: usize) -> Limits {
    Limits::default()
        .max_output_bytes(max_output_bytes)
        .high_mark_bytes(max_output_bytes)
        .low_mark_bytes(0)
        .on_overflow(OnOverflow::Refuse)
}

#[test]
fn a_formatted_text_leaves_in_its_place_in_one_write() {
    let (script, answers) =
        between_brackets(|conn| write!(conn, "{} and {:?}", 7, conn.is_writable()));
    let mut rig = Rig::new(script);
    let before = rig.reactor.stats().writes;
    expect_between_brackets(&mut rig, &answers, b"7 and true");
    assert_eq!(rig.reactor.stats().writes, before + 1);
    assert_eq!(*answers.borrow(), [Written::Below]);
}

#[test]
fn a_text_without_arguments_and_an_empty_one_are_written_too() {
    let (script, answers) = between_brackets(|conn| {
        write!(conn, "plain");
        let nothing = "";
        write!(conn, "{nothing}")
    });
    expect_between_brackets(&mut Rig::new(script), &answers, b"plain");
}

#[test]
fn a_long_text_leaves_whole_and_in_its_place() {
    let (script, answers) = between_brackets(|conn| write!(conn, "{}", Pieces(LARGE)));
    let text = Pieces(LARGE).to_string();
    expect_between_brackets(&mut Rig::new(script), &answers, text.as_bytes());
}

/// The answer is of the text that was sent, also if another look gives another text.
#[test]
fn a_value_is_formatted_once() {
    let growing = Rc::new(Growing(Cell::new(0)));
    let value = Rc::clone(&growing);
    let (script, answers) =
        between_brackets(move |conn| write!(conn, "{}{value}{value}", Pieces(LARGE)));
    let text = format!("{}xxx", Pieces(LARGE));
    expect_between_brackets(&mut Rig::new(script), &answers, text.as_bytes());
    assert_eq!(growing.0.get(), 2);
}

#[test]
fn a_text_over_the_cap_is_refused_whole() {
    let (script, answers) = between_brackets(|conn| write!(conn, "{}", Pieces(100_000)));
    let mut rig = Rig::with_limits(script, refusing(99_999));
    let (mut client, _) = rig.client();
    client.send(b"go");
    rig.expect(&mut client, b"[]");
    assert_eq!(*answers.borrow(), [Written::Full]);
    assert_eq!(rig.reactor.stats().writes_refused, 1);
}

#[test]
fn a_text_over_the_cap_ends_the_connection_as_any_write_does() {
    let (script, answers) = between_brackets(|conn| write!(conn, "{}", Pieces(100_000)));
    let mut rig = Rig::with_limits(script, refusing(99_999).on_overflow(OnOverflow::Close));
    let (mut client, id) = rig.client();
    client.send(b"go");
    let (reason, _) = rig.end_of(id);
    assert_eq!(reason, "Overflow");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Reset));
    assert_eq!(*answers.borrow(), [Written::Full]);
}

#[test]
fn a_text_for_a_closing_connection_is_not_formatted() {
    let growing = Rc::new(Growing(Cell::new(0)));
    let value = Rc::clone(&growing);
    let (script, answers) = between_brackets(move |conn| {
        conn.close();
        write!(conn, "{value}")
    });
    let mut rig = Rig::new(script);
    let (mut client, _) = rig.client();
    client.send(b"go");
    assert_eq!(rig.read_to_end(&mut client), (b"[".to_vec(), End::Fin));
    assert_eq!((growing.0.get(), answers.borrow().as_slice()), (0, &[Written::Closed][..]));
}

/// A handler may catch the panic, and is not surprised by half a text then.
#[test]
fn nothing_is_sent_of_a_text_whose_formatting_fails() {
    for panics in [true, false] {
        for length in [10, LARGE] {
            let (script, answers) = between_brackets(move |conn| {
                let write = || write!(conn, "{}{}", Pieces(length), Broken { panics });
                assert!(catch_unwind(AssertUnwindSafe(write)).is_err());
                Written::Below
            });
            expect_between_brackets(&mut Rig::new(script), &answers, b"");
        }
    }
}

#[test]
fn both_kinds_reach_another_connection_at_the_end_of_the_turn() {
    let mut rig = Rig::new(Script::new());
    let (mut client, id) = rig.client();
    let (service, _) = rig.add(Script::new(), waterwheel::ListenOptions::default());
    rig.reactor.context().post(service, move |_, cx| {
        let mut conn = cx.conn(id).unwrap();
        assert_eq!(write!(conn, "{}-{}", 1, Pieces(LARGE)), Written::Below);
        assert_eq!(conn.write_vectored(&[b"a", b"", &[b'b'; LARGE]]), Written::Below);
        assert_eq!(conn.pending_bytes(), 2 + LARGE + 1 + LARGE);
    });
    let text = format!("1-{}a{}", Pieces(LARGE), "b".repeat(LARGE));
    rig.expect(&mut client, text.as_bytes());
}

#[test]
fn small_parts_leave_together_with_small_writes() {
    let (script, answers) = between_brackets(|conn| conn.write_vectored(&[b"one", b"", b"two"]));
    let mut rig = Rig::new(script);
    let before = rig.reactor.stats().writes;
    expect_between_brackets(&mut rig, &answers, b"onetwo");
    assert_eq!(rig.reactor.stats().writes, before + 1);
}

#[test]
fn no_parts_are_accepted() {
    let (script, answers) = between_brackets(|conn| {
        conn.write_vectored(&[&[], &[]]);
        conn.write_vectored(&[])
    });
    expect_between_brackets(&mut Rig::new(script), &answers, b"");
}

#[test]
fn large_and_many_parts_leave_in_order() {
    for (count, length) in [(2, LARGE), (200, 1_000), (1_000, 30)] {
        let text: Vec<u8> = (0..count * length).map(|number| number as u8).collect();
        let copy = text.clone();
        let (script, answers) = between_brackets(move |conn| {
            let parts: Vec<&[u8]> = copy.chunks(length).collect();
            conn.write_vectored(&parts)
        });
        expect_between_brackets(&mut Rig::new(script), &answers, &text);
    }
}

/// More than the socket takes: the rest is queued, and cut somewhere in a part.
#[test]
fn parts_that_the_socket_does_not_take_follow_in_order() {
    let text: Vec<u8> = (0..12 << 20).map(|number: usize| (number / 7) as u8).collect();
    let copy = text.clone();
    let (script, _) = between_brackets(move |conn| {
        let parts: Vec<&[u8]> = copy.chunks(100_003).collect();
        conn.write_vectored(&parts)
    });
    let limits = Limits::default().max_output_bytes(16 << 20);
    let mut rig = Rig::with_limits(script, limits);
    let (mut client, _) = rig.client();
    client.send(b"go");
    rig.expect(&mut client, &[b"[", &text[..], b"]"].concat());
}

#[test]
fn parts_over_the_cap_are_refused_whole_and_none_is_taken_after_the_end() {
    let (script, answers) =
        between_brackets(|conn| conn.write_vectored(&[&[b'a'; 50_000], &[b'b'; 50_000]]));
    let mut rig = Rig::with_limits(script, refusing(99_999));
    let (mut client, _) = rig.client();
    client.send(b"go");
    rig.expect(&mut client, b"[]");
    assert_eq!(*answers.borrow(), [Written::Full]);

    let (script, answers) = between_brackets(|conn| {
        conn.shutdown_write();
        conn.write_vectored(&[b"late"])
    });
    let mut rig = Rig::new(script);
    let (mut client, _) = rig.client();
    client.send(b"go");
    assert_eq!(rig.read_to_end(&mut client), (b"[".to_vec(), End::Fin));
    assert_eq!(*answers.borrow(), [Written::Closed]);
}
