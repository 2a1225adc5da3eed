//! tokio's side: a task on the runtime of one thread, and `mpsc`.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::place;
use crate::throughput::CAPACITY;
use crate::wake::{Sleeper, Times, note, times};

fn runtime(has_io: bool) -> Runtime {
    let mut builder = Builder::new_current_thread();
    if has_io {
        builder.enable_io();
    }
    builder.build().expect("a runtime")
}

/// Runs a task on a runtime of its own until it has ended.
fn run<T: Send + 'static>(has_io: bool, task: impl Future<Output = T> + Send + 'static) -> T {
    runtime(has_io).block_on(async { tokio::spawn(task).await.expect("no panic") })
}

pub(crate) fn flood(messages: u64, has_io: bool) -> Duration {
    let (sender, mut receiver) = mpsc::channel::<u64>(CAPACITY);
    let receiving = thread::spawn(move || {
        place::run_on(place::LOOP);
        run(has_io, async move {
            let mut sum = 0;
            while let Some(number) = receiver.recv().await {
                sum += number;
            }
            (sum, Instant::now())
        })
    });
    let began = Instant::now();
    for number in 0..messages {
        sender.blocking_send(number).expect("the task runs");
    }
    drop(sender);
    let (sum, ended) = receiving.join().expect("no panic");
    assert_eq!(sum, (0..messages).sum());
    ended - began
}

pub(crate) struct Sleeping {
    sender: Sender<Instant>,
    thread: JoinHandle<Times>,
}

impl Sleeping {
    pub(crate) fn new(has_io: bool) -> Self {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let thread = thread::spawn(move || {
            place::run_on(place::LOOP);
            run(has_io, receive(receiver))
        });
        Self { sender, thread }
    }
}

async fn receive(mut receiver: Receiver<Instant>) -> Times {
    let mut times = times();
    while let Some(posted) = receiver.recv().await {
        note(&mut times, posted);
    }
    times
}

impl Sleeper for Sleeping {
    fn post(&mut self) {
        self.sender.try_send(Instant::now()).expect("the task runs");
    }

    fn end(self: Box<Self>) -> Times {
        drop(self.sender);
        self.thread.join().expect("no panic")
    }
}
