//! Our side: a handler in a reactor, a channel, and the door for closures.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use waterwheel::{Context, HandlerKey, Reactor, Receive, Remote, Sender};

use crate::place;
use crate::throughput::CAPACITY;
use crate::wake::{Sleeper, Times, note, times};

/// Adds up what comes.
struct Total {
    sum: u64,
    ended: Option<Instant>,
}

impl Receive<u64> for Total {
    fn on_message(&mut self, number: u64, _: &mut Context<'_>) {
        self.sum += number;
    }

    fn on_senders_gone(&mut self, cx: &mut Context<'_>) {
        self.ended = Some(Instant::now());
        cx.stop();
    }
}

pub(crate) fn flood(messages: u64) -> Duration {
    let (give, receive) = mpsc::channel();
    let receiving = thread::spawn(move || {
        place::run_on(place::LOOP);
        let mut reactor = Reactor::new().expect("a reactor");
        let total = reactor.register(Total { sum: 0, ended: None });
        give.send(reactor.channel(total, CAPACITY).expect("a channel")).expect("it is waited for");
        reactor.run().expect("no error");
        let total = reactor.handler_mut(total).expect("it is registered");
        (total.sum, total.ended.expect("the sender has ended"))
    });
    let sender = receive.recv().expect("the reactor starts");
    let began = Instant::now();
    for number in 0..messages {
        sender.send(number).expect("the reactor runs");
    }
    drop(sender);
    let (sum, ended) = receiving.join().expect("no panic");
    assert_eq!(sum, (0..messages).sum());
    ended - began
}

/// Notes how late each post is.
struct Noting {
    times: Times,
}

impl Receive<Instant> for Noting {
    fn on_message(&mut self, posted: Instant, _: &mut Context<'_>) {
        note(&mut self.times, posted);
    }
}

/// A reactor on a thread of its own.
struct Sleeping {
    sender: Sender<Instant>,
    remote: Remote,
    service: HandlerKey<Noting>,
    thread: JoinHandle<Times>,
}

impl Sleeping {
    fn new() -> Self {
        let (give, receive) = mpsc::channel();
        let thread = thread::spawn(move || {
            place::run_on(place::LOOP);
            let mut reactor = Reactor::new().expect("a reactor");
            let service = reactor.register(Noting { times: times() });
            let sender = reactor.channel(service, CAPACITY).expect("a channel");
            give.send((sender, reactor.remote(), service)).expect("it is waited for");
            reactor.run().expect("no error");
            reactor.handler_mut(service).expect("it is registered").times.clone()
        });
        let (sender, remote, service) = receive.recv().expect("the reactor starts");
        Self { sender, remote, service, thread }
    }

    fn end(self) -> Times {
        let stop = |_: &mut Noting, cx: &mut Context<'_>| cx.stop();
        self.remote.with(self.service, stop).expect("the reactor runs");
        self.thread.join().expect("no panic")
    }
}

/// One that is sent to through a channel.
pub(crate) struct Channel(Sleeping);

impl Channel {
    pub(crate) fn new() -> Self {
        Self(Sleeping::new())
    }
}

impl Sleeper for Channel {
    fn post(&mut self) {
        self.0.sender.try_send(Instant::now()).expect("the reactor runs");
    }

    fn end(self: Box<Self>) -> Times {
        self.0.end()
    }
}

/// One that closures are posted to.
pub(crate) struct Posted(Sleeping);

impl Posted {
    pub(crate) fn new() -> Self {
        Self(Sleeping::new())
    }
}

impl Sleeper for Posted {
    fn post(&mut self) {
        let posted = Instant::now();
        let post = move |noting: &mut Noting, _: &mut Context<'_>| note(&mut noting.times, posted);
        self.0.remote.with(self.0.service, post).expect("the reactor runs");
    }

    fn end(self: Box<Self>) -> Times {
        self.0.end()
    }
}
