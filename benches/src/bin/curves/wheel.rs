//! Curves of timers and channels.

use std::sync::mpsc;
use std::time::Duration;

use waterwheel::{Context, HandlerKey, Reactor, Receive, Timer, TimerHandler};

use crate::curve::{Curve, Measure};
use crate::rig::{Server, cpu_time};

/// Later than any run.
const LATER: Duration = Duration::from_secs(3_600);

#[derive(Default)]
struct Counting {
    received: usize,
}

impl TimerHandler for Counting {
    fn on_handler_timer(&mut self, _: Timer, _: &mut Context<'_>) {}
}

impl Receive<u64> for Counting {
    fn on_message(&mut self, _: u64, _: &mut Context<'_>) {
        self.received += 1;
    }
}

fn start() -> (Server<Counting>, HandlerKey<Counting>) {
    Server::start(|reactor: &mut Reactor| {
        let key = reactor.register(Counting::default());
        (key, key)
    })
}

/// Timers that wait, while another is set and cancelled.
pub(crate) fn handler_timers(measure: &Measure) -> Curve {
    const TIMES: usize = 200_000;
    let what = ("timers that wait", "a timer set and cancelled");
    measure.curve(what, &[10, 1_000, 100_000, 1_000_000], |waiting| {
        let (server, key) = start();
        let cost = server.on_loop(move |_, cx| {
            for number in 0..waiting {
                cx.set_timer(key, LATER + Duration::from_millis(number as u64), 0);
            }
            let before = cpu_time();
            for number in 0..TIMES {
                let timer = cx.set_timer(key, LATER + Duration::from_millis(number as u64), 0);
                cx.cancel_timer(timer);
            }
            cpu_time() - before
        });
        (cost, TIMES)
    })
}

/// Sets its timers again when all have fired.
struct Due {
    key: HandlerKey<Self>,
    count: usize,
    left: usize,
    rounds: usize,
    is_over: mpsc::Sender<()>,
}

impl Due {
    fn set(&mut self, cx: &mut Context<'_>) {
        self.left = self.count;
        for _ in 0..self.count {
            cx.set_timer(self.key, Duration::ZERO, 0);
        }
    }
}

impl TimerHandler for Due {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        self.left -= 1;
        if self.left > 0 {
            return;
        }
        self.rounds -= 1;
        match self.rounds {
            0 => self.is_over.send(()).expect("it is waited for"),
            _ => self.set(cx),
        }
    }
}

/// Timers that are due at the same moment.
pub(crate) fn timers_due_at_once(measure: &Measure) -> Curve {
    let what = ("timers due at once", "a timer set and fired");
    measure.curve(what, &[10, 100, 1_000, 10_000, 100_000, 1_000_000], |count| {
        let (is_over, over) = mpsc::channel();
        let rounds = (200_000 / count).max(1);
        let (server, ()) = Server::start(move |reactor: &mut Reactor| {
            let due = |key| Due { key, count, left: 0, rounds, is_over };
            (reactor.register_with(due), ())
        });
        let cost = server.cost(|| {
            server.on_loop(|due, cx| due.set(cx));
            over.recv().expect("all have fired");
        });
        (cost, count * rounds)
    })
}

/// Channels beside the one that is sent through.
pub(crate) fn channels(measure: &Measure) -> Curve {
    const MESSAGES: usize = 200_000;
    let what = ("channels", "a message of one of them");
    measure.curve(what, &[1, 10, 100, 1_000, 10_000], |channels| {
        let (server, senders) = Server::start(move |reactor: &mut Reactor| {
            let key = reactor.register(Counting::default());
            let channel = |_| reactor.channel(key, 1_024).expect("a channel");
            (key, (0..channels).map(channel).collect::<Vec<_>>())
        });
        let cost = server.cost(|| {
            let sender = senders.last().expect("at least one");
            for number in 0..MESSAGES {
                sender.send(number as u64).expect("the reactor runs");
            }
            while server.on_loop(|counting, _| counting.received) < MESSAGES {}
        });
        (cost, MESSAGES)
    })
}
