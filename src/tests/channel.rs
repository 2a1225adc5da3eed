//! Every interleaving of senders and a loop that sleeps, takes, makes room and ends.
//!
//! A wake that is lost, of the loop or of a blocked sender, leaves it asleep for ever, which the
//! checker reports as a deadlock.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::sync::MutexGuard;
use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread;

use super::queue::{Announce, Patience, Queue, Refusal, Taken};
use crate::engine::mailbox::{Mailbox, Wake};

/// The checker's, with what the standard library's has beside it. There is no time in the model:
/// who waits for a while waits.
#[derive(Debug)]
pub(super) struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub(super) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub(super) fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut must_wait: impl FnMut(&mut T) -> bool,
    ) -> std::sync::LockResult<MutexGuard<'a, T>> {
        while must_wait(&mut guard) {
            guard = self.0.wait(guard).unwrap();
        }
        Ok(guard)
    }

    pub(super) fn wait_timeout_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _: std::time::Duration,
        must_wait: impl FnMut(&mut T) -> bool,
    ) -> std::sync::LockResult<(MutexGuard<'a, T>, ())> {
        self.wait_while(guard, must_wait).map(|guard| (guard, ())).map_err(|_| unreachable!())
    }

    pub(super) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(super) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Wakes by sending to the poll: a poll that comes after it does not block.
#[derive(Debug)]
struct Bell(Sender<()>);

impl Wake for Bell {
    fn wake(&self) -> io::Result<()> {
        self.0.send(()).map_err(io::Error::other)
    }
}

/// The way to the loop.
struct Door {
    mailbox: Arc<Mailbox<(), Bell>>,
    /// Not modelled: only for counting.
    announcements: Arc<AtomicU64>,
}

impl Announce for Door {
    fn announce(&self) {
        self.announcements.fetch_add(1, Ordering::Relaxed);
        self.mailbox.post(());
    }
}

/// The sender, and how many it has sent before.
type Numbered = (usize, usize);

/// A loop and its channel.
struct Rig {
    queue: Arc<Queue<Numbered, Door>>,
    mailbox: Arc<Mailbox<(), Bell>>,
    poll: Receiver<()>,
    announcements: Arc<AtomicU64>,
    batches: u64,
    taken: Vec<Numbered>,
    is_over: bool,
}

impl Rig {
    fn new(capacity: usize) -> Self {
        let (ring, poll) = channel();
        let mailbox = Mailbox::new(Bell(ring));
        let announcements = Arc::default();
        let door =
            Door { mailbox: Arc::clone(&mailbox), announcements: Arc::clone(&announcements) };
        let queue = Arc::new(Queue::new(capacity, door));
        let taken = Vec::new();
        Self { queue, mailbox, poll, announcements, batches: 0, taken, is_over: false }
    }

    /// A thread for each of these.
    fn send_all(&self, counts: &[usize]) -> Vec<thread::JoinHandle<usize>> {
        // A queue begins with one sender.
        (1..counts.len()).for_each(|_| self.queue.add_sender());
        counts.iter().enumerate().map(|(sender, &count)| self.send(sender, count)).collect()
    }

    /// A thread that sends so many and drops its end; it says how many were accepted.
    fn send(&self, sender: usize, count: usize) -> thread::JoinHandle<usize> {
        let queue = Arc::clone(&self.queue);
        thread::spawn(move || {
            let send = |at: &usize| match queue.push((sender, *at), Patience::Forever) {
                Ok(()) => true,
                Err((_, refusal)) => {
                    assert_eq!(refusal, Refusal::Closed);
                    false
                }
            };
            let accepted = (0..count).take_while(send).count();
            queue.remove_sender();
            accepted
        })
    }

    /// As the reactor does it: sleep if nothing waits, poll, deliver what was announced.
    fn turn(&mut self) {
        if self.mailbox.fall_asleep() {
            self.poll.recv().unwrap();
            self.mailbox.awake();
        }
        let mut announced = VecDeque::new();
        if self.mailbox.has_messages() {
            self.mailbox.take(&mut announced);
        }
        assert!(announced.len() <= 1, "announced twice");
        if !announced.is_empty() {
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        let mut batch = VecDeque::new();
        loop {
            match self.queue.take(&mut batch) {
                Taken::Messages => self.batches += 1,
                Taken::Nothing => return,
                Taken::Gone => {
                    assert!(!self.is_over, "told twice");
                    self.is_over = true;
                    return;
                }
            }
            let mut unreleased = 0;
            while let Some(message) = batch.pop_front() {
                self.taken.push(message);
                unreleased += 1;
                if unreleased >= self.queue.step() {
                    self.queue.release(std::mem::take(&mut unreleased));
                }
            }
        }
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

/// How many messages of each were accepted.
fn join(senders: Vec<thread::JoinHandle<usize>>) -> Vec<usize> {
    senders.into_iter().map(|sender| sender.join().unwrap()).collect()
}

/// Runs every interleaving, or every one in which the threads are interrupted at most so often.
fn check(name: &str, preemptions: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
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

/// No message is lost and none is slept over; no blocked sender is forgotten; the end is told once,
/// after the last message; and there are no more announcements than batches and an end.
fn deliver(capacity: usize, counts: &[usize]) {
    let mut rig = Rig::new(capacity);
    let senders = rig.send_all(counts);
    while !rig.is_over {
        rig.turn();
    }
    let accepted = join(senders);
    assert_eq!(accepted, counts);
    rig.expect_all(&accepted);
    let announcements = rig.announcements.load(Ordering::Relaxed);
    assert!(announcements <= rig.batches + 1, "{announcements} for {} batches", rig.batches);
}

/// A loop that ends between messages: what was accepted is taken or given back, every blocked
/// sender is woken, and the rest is refused.
fn close(capacity: usize, counts: &[usize]) {
    let mut rig = Rig::new(capacity);
    let senders = rig.send_all(counts);
    rig.turn();
    rig.mailbox.close();
    let left = rig.queue.close();
    rig.taken.extend(left);
    let refused = rig.queue.push((2, 0), Patience::Forever);
    assert_eq!(refused, Err(((2, 0), Refusal::Closed)));
    rig.expect_all(&join(senders));
}

/// Three senders wait for room, and the loop takes one message at a time from then on: less than
/// what it gives room back for, until its next look. No sender is forgotten.
fn wait_for_the_next_look() {
    let mut rig = Rig::new(3);
    let full = (0..3).map(|at| rig.queue.push((0, at), Patience::Never));
    assert!(full.into_iter().all(|pushed| pushed.is_ok()));
    (0..3).for_each(|_| rig.queue.add_sender());
    let senders = (1..4).map(|sender| rig.send(sender, 1)).collect();
    rig.queue.remove_sender();
    while !rig.is_over {
        rig.turn();
    }
    let accepted = [vec![3], join(senders)].concat();
    assert_eq!(accepted, [3, 1, 1, 1]);
    rig.expect_all(&accepted);
}

/// Is told, and looks by itself.
struct Nobody;

impl Announce for Nobody {
    fn announce(&self) {}
}

/// Three senders wait, and there is room for two: both go on before the loop looks again.
fn wake_as_many_as_fit() {
    let queue = Arc::new(Queue::new(2, Nobody));
    assert!((0..2).all(|at| queue.push(at, Patience::Never).is_ok()));
    let (tell, told) = channel();
    let push = |at| {
        let (queue, tell) = (Arc::clone(&queue), tell.clone());
        thread::spawn(move || {
            assert!(queue.push(at, Patience::Forever).is_ok());
            tell.send(()).unwrap();
        })
    };
    let senders: Vec<_> = (2..5).map(push).collect();
    for accepted in [2, 1] {
        let mut batch = VecDeque::new();
        assert_eq!(queue.take(&mut batch), Taken::Messages);
        queue.release(batch.len());
        (0..accepted).for_each(|_| told.recv().unwrap());
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn every_interleaving_of_one_sender_delivers() {
    check("one message", None, || deliver(1, &[1]));
    check("two messages", None, || deliver(usize::MAX, &[2]));
}

#[test]
fn every_interleaving_of_one_sender_with_the_end_accounts_for_all() {
    check("two messages, room for one, and the end", None, || close(1, &[2]));
}

#[test]
fn with_few_interruptions_one_sender_waits_for_room() {
    check("two messages, room for one", Some(4), || deliver(1, &[2]));
    check("three messages, room for two", Some(3), || deliver(2, &[3]));
}

#[test]
fn with_few_interruptions_two_senders_deliver() {
    check("a message each", Some(3), || deliver(usize::MAX, &[1, 1]));
    check("a message each, room for one", Some(3), || deliver(1, &[1, 1]));
    check("two messages and one, room for one", Some(2), || deliver(1, &[2, 1]));
    check("two messages each, room for two", Some(2), || deliver(2, &[2, 2]));
}

#[test]
fn with_few_interruptions_the_end_accounts_for_all() {
    check("a message each, and the end", Some(3), || close(1, &[1, 1]));
    check("two messages each, room for one, and the end", Some(2), || close(1, &[2, 2]));
}

#[test]
fn with_few_interruptions_of_three_senders_that_wait_all_go_on() {
    check("three wait for the next look of the loop", Some(2), wait_for_the_next_look);
    check("three wait for room for two", Some(3), wake_as_many_as_fit);
}
