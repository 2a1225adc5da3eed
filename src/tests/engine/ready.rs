//! The order of the ready queue, and the room of a phase.

use crate::base::id::{ConnId, SocketId};
use crate::engine::{Queued, ReadyQueue};
use crate::options::TurnBudgets;

const USUAL: TurnBudgets = TurnBudgets::USUAL;

fn id(index: u32) -> ConnId {
    ConnId::new(index, 1)
}

#[test]
fn each_has_its_turn_in_the_order_in_which_it_stopped() {
    let mut queue = ReadyQueue::default();
    assert!(queue.is_empty());
    queue.push(id(1));
    queue.push(id(2));
    assert!(!queue.is_empty() && queue.connections().iter().eq(&[id(1), id(2)]));
    assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(id(1)), Some(id(2)), None]);
    let socket = Queued::Socket(SocketId::new(1, 1));
    for queued in [Queued::Listener(3), socket, Queued::Listener(4)] {
        queue.push_other(queued);
    }
    assert!(!queue.is_empty() && queue.others() == 3);
    assert_eq!(queue.pop_other(), Some(Queued::Listener(3)));
    queue.forget_listeners();
    assert_eq!([queue.pop_other(), queue.pop_other()], [Some(socket), None]);
    assert!(queue.is_empty() && queue.others() == 0);
}

#[test]
fn a_phase_sends_so_much_and_files_share_it() {
    let mut queue = ReadyQueue::default();
    assert!(!queue.has_room(), "no phase has begun");
    assert_eq!(queue.share_of_files(USUAL), USUAL.min_share_bytes, "and yet there is a last look");
    queue.renew_room(USUAL);
    assert_eq!(queue.share_of_files(USUAL), USUAL.room_bytes);
    queue.push(id(1));
    queue.push(id(2));
    queue.push(id(3));
    assert_eq!(queue.share_of_files(USUAL), USUAL.room_bytes / 4);
    queue.use_room(USUAL.room_bytes - 100_000);
    assert!(queue.has_room() && queue.share_of_files(USUAL) == 100_000);
    queue.use_room(99_999);
    assert!(queue.has_room() && queue.share_of_files(USUAL) == USUAL.min_share_bytes);
    queue.use_room(1);
    assert!(!queue.has_room());
    queue.renew_room(USUAL);
    queue.use_room(USUAL.room_bytes + 1);
    assert!(!queue.has_room(), "the last to send may overrun it");
    (3..100).for_each(|index| queue.push(id(index)));
    queue.renew_room(USUAL);
    assert_eq!(queue.share_of_files(USUAL), USUAL.min_share_bytes);
}

#[test]
fn what_a_burst_took_is_given_back() {
    let mut queue = ReadyQueue::default();
    for index in 0..100_000 {
        queue.push(id(index));
        queue.push_other(Queued::Listener(index));
    }
    while queue.pop().is_some() && queue.pop_other().is_some() {}
    assert!(queue.room() >= 100_000);
    queue.give_back();
    assert!(queue.room() < 10_000, "{}", queue.room());
}
