//! Tasks that send: order, room, wakes, and the end of either side.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use waterwheel::SendError;

use super::taker::Loop;

/// Wakes the thread that drives a task.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a task on this thread.
fn block_on<F: Future>(task: F) -> F::Output {
    let mut task = pin!(task);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Counts its wakes.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Polls a task once, on behalf of a count.
fn poll<F: Future>(task: &mut Pin<Box<F>>, count: &Arc<Count>) -> Poll<F::Output> {
    task.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(count))))
}

/// A loop that keeps what comes.
fn keeping_loop() -> (Loop<u32>, Rc<RefCell<Vec<u32>>>) {
    let kept = Rc::new(RefCell::new(Vec::new()));
    let keeps = Rc::clone(&kept);
    (Loop::new(move |message, _| keeps.borrow_mut().push(message)), kept)
}

#[test]
fn messages_of_tasks_and_threads_keep_their_order_and_none_waits_for_ever() {
    const MESSAGES: u32 = 2_000;
    for capacity in [1, 2, 64] {
        let next = Rc::new(RefCell::new([0; 6]));
        let counts = Rc::clone(&next);
        let mut rig = Loop::new(move |(sender, number): (usize, u32), _| {
            assert_eq!(std::mem::replace(&mut counts.borrow_mut()[sender], number + 1), number);
        });
        let sender = rig.channel(capacity);
        let threads: Vec<_> = (0..6)
            .map(|place| {
                let sender = sender.clone();
                thread::spawn(move || {
                    block_on(async {
                        for number in 0..MESSAGES {
                            let message = (place, number);
                            if place < 4 {
                                sender.send_async(message).await.expect("it runs");
                            } else {
                                sender.send(message).expect("it runs");
                            }
                        }
                    });
                })
            })
            .collect();
        drop(sender);
        rig.until("the end", |rig| rig.told() == 1);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*next.borrow(), [MESSAGES; 6]);
    }
}

#[test]
fn a_task_waits_while_the_channel_is_full_and_is_woken_once_there_is_room() {
    let (mut rig, kept) = keeping_loop();
    let sender = rig.channel(2);
    let count = Arc::new(Count::default());
    for message in [1, 2] {
        assert_eq!(poll(&mut Box::pin(sender.send_async(message)), &count), Poll::Ready(Ok(())));
    }
    let mut task = Box::pin(sender.send_async(3));
    for _ in 0..3 {
        assert!(poll(&mut task, &count).is_pending());
    }
    assert_eq!(count.0.load(SeqCst), 0);
    rig.until("the messages", |_| kept.borrow().len() == 2);
    assert_eq!(count.0.load(SeqCst), 1);
    assert_eq!(poll(&mut task, &count), Poll::Ready(Ok(())));
    rig.until("the last one", |_| *kept.borrow() == [1, 2, 3]);
    drop(task);
    assert_eq!((count.0.load(SeqCst), Arc::strong_count(&count)), (1, 1));
}

#[test]
fn a_task_that_is_dropped_sends_nothing_and_costs_no_other_its_wake() {
    let (mut rig, kept) = keeping_loop();
    let sender = rig.channel(1);
    sender.try_send(1).unwrap();
    let counts: Vec<Arc<Count>> = (0..6).map(|_| Arc::default()).collect();
    let mut tasks: Vec<_> = (2..8).map(|message| Box::pin(sender.send_async(message))).collect();
    for (task, count) in tasks.iter_mut().zip(&counts) {
        assert!(poll(task, count).is_pending());
    }
    drop(tasks.remove(0)); // before there is room
    assert_eq!(Arc::strong_count(&counts[0]), 1, "the channel has forgotten it");
    rig.until("the message", |_| kept.borrow().len() == 1);
    tasks.drain(..4); // after their wakes
    let wakes: Vec<_> = counts.iter().map(|count| count.0.load(SeqCst)).collect();
    assert_eq!(wakes, [0, 1, 1, 1, 1, 1]);
    assert_eq!(poll(&mut tasks[0], &counts[5]), Poll::Ready(Ok(())));
    rig.until("the last one", |_| *kept.borrow() == [1, 7]);
}

#[test]
fn a_task_that_waits_is_told_that_the_reactor_has_stopped() {
    let (mut rig, _) = keeping_loop();
    let sender = rig.channel(1);
    sender.try_send(1).unwrap();
    let count = Arc::new(Count::default());
    let mut task = Box::pin(sender.send_async(2));
    assert!(poll(&mut task, &count).is_pending());
    drop(rig);
    assert_eq!(count.0.load(SeqCst), 1);
    assert_eq!(poll(&mut task, &count), Poll::Ready(Err(SendError::Stopped(2))));
    assert!(poll(&mut task, &count).is_pending(), "it is over");
}
