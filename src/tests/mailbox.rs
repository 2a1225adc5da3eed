//! Every interleaving of two threads that post and a loop that sleeps, takes and ends.
//!
//! A wake that is lost leaves the loop asleep for ever, which the checker reports as a deadlock.

use std::sync::atomic::AtomicU64;

use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread;

use super::*;

/// Wakes by sending to the poll: a poll that comes after it does not block.
#[derive(Debug)]
struct Bell {
    ring: Sender<()>,
    /// Not modelled: only for counting.
    rings: Arc<AtomicU64>,
}

impl Wake for Bell {
    fn wake(&self) -> io::Result<()> {
        self.rings.fetch_add(1, Ordering::Relaxed);
        self.ring.send(()).map_err(io::Error::other)
    }
}

/// The sender, and how many it has posted before.
type Message = (usize, usize);

/// A loop and its mailbox.
struct Rig {
    mailbox: Arc<Mailbox<Message, Bell>>,
    poll: Receiver<()>,
    rings: Arc<AtomicU64>,
    turns: u64,
    taken: VecDeque<Message>,
}

impl Rig {
    fn new() -> Self {
        let (ring, poll) = channel();
        let rings = Arc::default();
        let mailbox = Mailbox::new(Bell { ring, rings: Arc::clone(&rings) });
        Self { mailbox, poll, rings, turns: 0, taken: VecDeque::new() }
    }

    /// A thread that posts so many; it says how many were accepted.
    fn post(&self, sender: usize, count: usize) -> thread::JoinHandle<usize> {
        let mailbox = Arc::clone(&self.mailbox);
        thread::spawn(move || (0..count).take_while(|&at| mailbox.post((sender, at))).count())
    }

    /// As the reactor does it: sleep if nothing waits, poll, take what there is.
    fn turn(&mut self) {
        if self.mailbox.fall_asleep() {
            self.poll.recv().unwrap();
            self.mailbox.awake();
        }
        if self.mailbox.has_messages() {
            self.mailbox.take(&mut self.taken);
        }
        self.turns += 1;
    }

    /// Each sender's messages came in order, each once, and these were all.
    fn expect_all(&self, accepted: &[usize]) {
        assert_eq!(self.taken.len(), accepted.iter().sum::<usize>());
        for (sender, &count) in accepted.iter().enumerate() {
            let of_sender = self.taken.iter().filter(|message| message.0 == sender);
            assert!(of_sender.map(|message| message.1).eq(0..count), "{:?}", self.taken);
        }
    }
}

/// Runs every interleaving, or every one in which the threads are interrupted at most so often.
fn check(name: &str, preemptions: Option<usize>, run: fn()) {
    let runs = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&runs);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        run();
    });
    println!("{name}: {} interleavings", runs.load(Ordering::Relaxed));
}

/// No message is lost and none is slept over; each sender's come in its order; and a loop is woken
/// at most once for each time that it wanted to sleep, however many post.
fn deliver<const FIRST: usize, const SECOND: usize>() {
    let mut rig = Rig::new();
    let senders = [rig.post(0, FIRST), rig.post(1, SECOND)];
    while rig.taken.len() < FIRST + SECOND {
        rig.turn();
    }
    let accepted = senders.map(|sender| sender.join().unwrap());
    assert_eq!(accepted, [FIRST, SECOND]);
    rig.expect_all(&accepted);
    let rings = rig.rings.load(Ordering::Relaxed);
    assert!(rings <= rig.turns, "{rings} rings in {} turns", rig.turns);
}

/// A loop that ends between posts: what was accepted is taken or given back, the rest refused.
fn close<const FIRST: usize, const SECOND: usize>() {
    let mut rig = Rig::new();
    let senders = [rig.post(0, FIRST), rig.post(1, SECOND)];
    rig.turn();
    let left = rig.mailbox.close();
    rig.taken.extend(left);
    assert!(!rig.mailbox.post((2, 0)) && !rig.mailbox.has_messages());
    let accepted = senders.map(|sender| sender.join().unwrap());
    assert!(accepted.iter().sum::<usize>() > 0, "it had slept until a message came");
    rig.expect_all(&accepted);
}

#[test]
fn every_interleaving_delivers() {
    check("a post each", None, deliver::<1, 1>);
}

#[test]
fn every_interleaving_with_the_end_accounts_for_all() {
    check("a post each, and the end", None, close::<1, 1>);
}

#[test]
fn with_few_interruptions_more_posts_are_delivered() {
    check("two posts and one", Some(4), deliver::<2, 1>);
    check("two posts each", Some(3), deliver::<2, 2>);
}

#[test]
fn with_few_interruptions_more_posts_and_the_end_account_for_all() {
    check("two posts each, and the end", Some(3), close::<2, 2>);
}
