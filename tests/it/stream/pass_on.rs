//! What one connection says is passed on to another.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use waterwheel::{ConnId, Limits};

use crate::support::{Client, End, Rig, Script, pattern};

const HIGH_MARK: usize = 64 << 10;

/// What is read at a time, at most.
const READ: usize = 256 << 10;

/// Two clients of which each hears what the other one says.
fn pair(limits: Limits) -> (Rig<Script>, [Client; 2], [ConnId; 2]) {
    let ids = Rc::new(Cell::new(None));
    let others = ids.clone();
    let other = move |id| {
        let [one, two]: [ConnId; 2] = others.get().expect("both are there");
        if id == one { two } else { one }
    };
    let for_drain = other.clone();
    let script =
        Script::new().data(move |conn, input| conn.pass_on(other(conn.id()), input)).drain(
            move |conn| conn.other_conn(for_drain(conn.id())).expect("it lives").resume_reading(),
        );
    let mut rig = Rig::with_limits(script, limits.pause_at_high_mark(false));
    let (one, one_id) = rig.client();
    let (two, two_id) = rig.client();
    ids.set(Some([one_id, two_id]));
    (rig, [one, two], [one_id, two_id])
}

#[test]
fn a_side_that_is_faster_than_the_other_one_is_held_back_and_loses_nothing() {
    let limits = Limits::default().high_mark_bytes(HIGH_MARK).low_mark_bytes(HIGH_MARK / 4);
    let (mut rig, [mut one, mut two], [_, two_id]) = pair(limits);
    // More than the largest buffers of both ends.
    let sent = pattern(24 << 20);
    let (mut taken, mut got, mut turns_behind) = (0, Vec::new(), 0);
    rig.until("all is passed on", |rig| {
        taken += one.try_send(&sent[taken..]);
        let waits = rig.reactor.context().conn(two_id).expect("it lives").pending_bytes();
        assert!(waits <= HIGH_MARK + READ, "{waits} bytes wait");
        turns_behind += usize::from(waits >= HIGH_MARK);
        if turns_behind >= 20 {
            got.extend(two.try_read(1 << 20).expect("goes on"));
        }
        got.len() == sent.len()
    });
    assert!(got == sent, "something else was passed on");
    // The other direction was never held back.
    two.send(b"thanks");
    rig.expect(&mut one, b"thanks");
}

#[test]
fn what_cannot_be_passed_on_ends_in_a_reset() {
    let (mut rig, [mut one, _two], [_, two_id]) = pair(Limits::default());
    rig.reactor.context().conn(two_id).expect("it lives").close();
    one.send(b"too late");
    assert_eq!(rig.read_to_end(&mut one), (Vec::new(), End::Reset));

    let limits = Limits::default().low_mark_bytes(1).high_mark_bytes(9).max_output_bytes(9);
    let (mut rig, [mut one, mut two], [one_id, _]) = pair(limits);
    one.send(b"in order");
    rig.expect(&mut two, b"in order");
    one.send(b"a byte more");
    assert_eq!(rig.read_to_end(&mut one), (Vec::new(), End::Reset));
    assert!(!rig.lives(one_id));
}

/// What comes in one large piece is not kept for the end of the turn: the read, the write and the
/// other side's input follow each other.
#[test]
fn a_large_piece_is_sent_at_once() {
    const LENGTH: usize = 64 << 10;
    let waits = Rc::new(RefCell::new(Vec::new()));
    let seen = waits.clone();
    let ids: Rc<Cell<Option<ConnId>>> = Rc::default();
    let to = ids.clone();
    let script = Script::new().data(move |conn, input| {
        let to = to.get().expect("both are there");
        let taken = conn.pass_on(to, input);
        let left = conn.other_conn(to).expect("it lives").pending_bytes();
        seen.borrow_mut().push((input.len(), left));
        taken
    });
    let mut rig = Rig::with_limits(script, Limits::default().pause_at_high_mark(false));
    let (mut one, _) = rig.client();
    let (mut two, two_id) = rig.client();
    ids.set(Some(two_id));
    let sent = pattern(LENGTH);
    for length in [100, LENGTH] {
        one.send(&sent[..length]);
        rig.expect(&mut two, &sent[..length]);
    }
    let waits = waits.borrow();
    assert!(waits.contains(&(100, 100)), "little waits for more: {waits:?}");
    let mut large = waits.iter().filter(|(length, _)| *length >= 16 << 10).peekable();
    assert!(large.peek().is_some() && large.all(|(_, left)| *left == 0), "{waits:?}");
}
