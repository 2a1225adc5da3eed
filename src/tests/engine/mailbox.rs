//! Posts of one thread, and whom they wake. Those of several are in `src/tests/mailbox.rs`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::engine::mailbox::{Mailbox, Wake};

/// Counts; what fails wakes nothing.
#[derive(Default)]
struct Bell {
    rings: AtomicUsize,
    is_broken: AtomicBool,
}

impl Bell {
    fn rings(&self) -> usize {
        self.rings.load(Ordering::Relaxed)
    }
}

impl Wake for Arc<Bell> {
    fn wake(&self) -> io::Result<()> {
        self.rings.fetch_add(1, Ordering::Relaxed);
        match self.is_broken.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::Other.into()),
            false => Ok(()),
        }
    }
}

fn mailbox() -> (Arc<Mailbox<u32, Arc<Bell>>>, Arc<Bell>) {
    let bell = Arc::<Bell>::default();
    (Mailbox::new(Arc::clone(&bell)), bell)
}

#[test]
fn a_post_wakes_a_loop_that_sleeps_and_no_other() {
    let (mailbox, bell) = mailbox();
    assert!(mailbox.post(1) && bell.rings() == 0, "it does not sleep");
    assert!(!mailbox.fall_asleep(), "a message waits");
    assert!(mailbox.post(2) && bell.rings() == 0);
    let mut taken = VecDeque::new();
    mailbox.take(&mut taken);
    assert!(mailbox.fall_asleep());
    assert!(mailbox.post(3) && bell.rings() == 1);
    assert!(mailbox.post(4) && bell.rings() == 1, "the first has woken it");
    mailbox.awake();
    mailbox.take(&mut taken);
    assert!(mailbox.fall_asleep());
    mailbox.awake();
    assert!(mailbox.post(5) && bell.rings() == 1, "another event has woken it");
    mailbox.take(&mut taken);
    assert_eq!(taken, [1, 2, 3, 4, 5]);
}

#[test]
fn a_wake_that_fails_is_tried_again_by_the_next_post() {
    let (mailbox, bell) = mailbox();
    bell.is_broken.store(true, Ordering::Relaxed);
    assert!(mailbox.fall_asleep());
    assert!(mailbox.post(1) && mailbox.post(2));
    assert_eq!(bell.rings(), 2);
}

#[test]
fn a_loop_that_has_ended_gives_messages_back() {
    let (mailbox, _) = mailbox();
    assert!(!mailbox.has_messages() && mailbox.post(1) && mailbox.post(2));
    assert!(mailbox.has_messages() && mailbox.len() == 2);
    assert_eq!(mailbox.close(), [1, 2]);
    assert_eq!((mailbox.offer(3), mailbox.post(4)), (Err(3), false));
    assert!(!mailbox.has_messages() && mailbox.len() == 0);
}

/// A loop that has no turn for them all keeps the order, and a burst gives its memory back.
#[test]
fn messages_are_taken_behind_those_that_are_left() {
    let (mailbox, _) = mailbox();
    let mut taken = VecDeque::from([0]);
    for number in 1..100_000 {
        mailbox.post(number);
    }
    mailbox.take(&mut taken);
    assert!(taken.iter().copied().eq(0..100_000) && !mailbox.has_messages());
    assert!(mailbox.room() < 10_000, "{}", mailbox.room());
}
