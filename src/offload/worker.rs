//! A thread that works, or what stands for it.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;

use super::options::OffloadOptions;
use super::queue::{Queue, Taken, Work};
use crate::base::panics;

/// Makes the state of a thread.
pub(super) type Make<W> = Arc<dyn Fn(usize) -> io::Result<W> + Send + Sync>;

/// The state of a thread, and how it is made anew.
pub(super) struct Worker<W> {
    index: usize,
    state: W,
    make: Make<W>,
}

impl<W> Worker<W> {
    pub(super) fn new(index: usize, make: &Make<W>) -> io::Result<Self> {
        Ok(Self { index, state: make(index)?, make: Arc::clone(make) })
    }

    /// Runs a job; whether it panicked. What it may have left half done is made anew.
    pub(super) fn run(&mut self, work: Work<W>) -> bool {
        let state = &mut self.state;
        // The outer catch is for what is dropped with a job.
        let has_panicked = panics::catch(|| work(state)).unwrap_or_else(|payload| {
            panics::drop_quietly(payload);
            true
        });
        if has_panicked {
            let (make, index) = (&self.make, self.index);
            match panics::catch(|| make(index)) {
                Ok(Ok(state)) => {
                    panics::drop_quietly(mem::replace(&mut self.state, state));
                }
                Ok(Err(error)) => log::error!("offload thread {index} keeps its state: {error}"),
                Err(payload) => {
                    let text = panics::into_text(payload);
                    log::error!("offload thread {index} keeps its state: {text}");
                }
            }
        }
        has_panicked
    }
}

/// Starts the threads, and returns when each has its state.
pub(super) fn start<W: 'static>(
    queue: &Arc<Queue<W>>,
    options: &OffloadOptions,
    make: &Make<W>,
) -> io::Result<()> {
    let (ready, states) = mpsc::channel();
    for index in 0..options.threads {
        let (queue, make, ready) = (Arc::clone(queue), Arc::clone(make), ready.clone());
        let builder = thread::Builder::new().name(format!("{} {index}", options.name));
        builder.spawn(move || work(index, &make, &queue, ready)).map_err(|error| {
            let text = format!("cannot start thread {index} of {}: {error}", options.name);
            io::Error::new(error.kind(), text)
        })?;
    }
    drop(ready);
    for _ in 0..options.threads {
        let gone = || io::Error::other("a thread of an offload panicked while it began");
        states.recv().unwrap_or_else(|_| Err(gone()))?;
    }
    Ok(())
}

/// Tells the queue that a thread has ended, in whatever way.
struct Ended<'a, W>(&'a Queue<W>);

impl<W> Drop for Ended<'_, W> {
    fn drop(&mut self) {
        self.0.thread_ended();
    }
}

fn work<W>(index: usize, make: &Make<W>, queue: &Queue<W>, ready: Sender<io::Result<()>>) {
    let _ended = Ended(queue);
    let mut worker = match Worker::new(index, make) {
        Ok(worker) => worker,
        Err(error) => {
            // The one that asked waits for as many answers as threads.
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    drop(ready);
    while let Some(Taken { work, order }) = queue.wait_and_take() {
        let has_panicked = worker.run(work);
        queue.finish(order, has_panicked);
    }
}
