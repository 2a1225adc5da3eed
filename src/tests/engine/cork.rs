//! What gathers in a callback, and whose it is.

use crate::base::id::ConnId;
use crate::engine::cork::{CORK_BYTES, Cork};

fn id(index: u32) -> ConnId {
    ConnId::new(index, 1)
}

fn cork(room: usize) -> Cork {
    let mut cork = Cork::new();
    cork.begin(id(1), room);
    cork
}

#[test]
fn a_write_gathers_whole_or_not_at_all() {
    let mut cork = cork(10);
    assert!(cork.gather(&[1; 6]) && !cork.gather(&[2; 4]) && cork.gather(&[3; 3]));
    assert!(!cork.gather(&[4; 1]) && cork.gather(&[]));
    assert_eq!(cork.bytes(), [1, 1, 1, 1, 1, 1, 3, 3, 3]);
    cork.clear();
    assert!(cork.bytes().is_empty());
    cork.set_room(8);
    assert!(!cork.gather_parts(&[&[5; 4], &[6; 4]]) && cork.gather_parts(&[&[5; 4], &[6; 2]]));
    assert!(!cork.gather_parts(&[&[7], &[8]]) && cork.gather_parts(&[&[7]]));
    assert_eq!(cork.bytes(), [5, 5, 5, 5, 6, 6, 7]);
}

#[test]
fn only_the_connection_whose_callback_runs_owns_it() {
    let mut cork = cork(10);
    assert!(cork.is_owner(id(1)) && !cork.is_owner(id(2)));
    assert_eq!((cork.owner(), cork.owner_id()), (Some(id(1)), id(1)));
    cork.gather(b"abc");
    assert_eq!((cork.gathered(id(1)), cork.gathered(id(2))), (3, 0));
    cork.shut(id(2));
    assert!(cork.gather(b"d"));
    assert_eq!((cork.take_back(id(2)), cork.bytes()), (0, &b"abcd"[..]));
    assert_eq!((cork.take_back(id(1)), cork.bytes()), (4, &b""[..]));
    assert!(!cork.gather(b"e"), "it cannot send it");
    cork.set_room(10);
    cork.shut(id(1));
    assert!(!cork.gather(b"e"), "it takes no more output");
    cork.set_room(10);
    cork.end();
    assert!(!cork.gather(b"e") && cork.owner().is_none() && !cork.is_owner(id(1)));
}

#[test]
fn a_write_shares_a_record_with_what_gathered_unless_it_is_long_and_alone() {
    let long = [1; CORK_BYTES];
    let mut cork = cork(0);
    assert_eq!(cork.fill_up(&long), 0);
    assert_eq!(cork.fill_up(&long[1..]), CORK_BYTES - 1);
    assert_eq!(cork.fill_up(&long), 1);
    assert_eq!((cork.fill_up(&long), cork.bytes().len()), (0, CORK_BYTES));
}

#[test]
fn what_is_taken_back_from_the_end_has_room_again() {
    let mut cork = cork(10);
    cork.gather(b"abcdefghi");
    cork.take_tail(0, |_| panic!("nothing is taken"));
    let mut tail = Vec::new();
    cork.take_tail(3, |bytes| tail.extend_from_slice(bytes));
    assert_eq!((tail.as_slice(), cork.bytes()), (&b"ghi"[..], &b"abcdef"[..]));
    assert!(!cork.gather(&[0; 4]) && cork.gather(b"xyz"));
    assert_eq!(cork.bytes(), b"abcdefxyz");
}
