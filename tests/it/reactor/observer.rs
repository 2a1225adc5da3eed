//! What an observer is told.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::observer::{Callback, ConnEnd, Observer, Outcome, Phase, Span};
use waterwheel::{Conn, ConnId, Context, Reactor, TimerId};

use crate::support::{Client, Rig, Script};

/// What was told, a line each, and what has begun and not ended.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Lines>>);

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    /// The last time that was told.
    at: Duration,
    turn: bool,
    phase: Option<Phase>,
    callback: Option<&'static str>,
}

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.borrow_mut().lines.push(line.into());
    }

    /// The time never goes back.
    #[track_caller]
    fn advance(&self, at: Duration) {
        let mut lines = self.0.borrow_mut();
        assert!(at >= lines.at, "{at:?} after {:?}", lines.at);
        lines.at = at;
    }

    /// The lines so far, which are forgotten.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().lines)
    }
}

/// Nesting is checked as it happens; a failure is found as a panic of the reactor's.
impl Observer for Log {
    fn on_turn_begin(&mut self, at: Duration) {
        self.advance(at);
        assert!(!std::mem::replace(&mut self.0.borrow_mut().turn, true));
    }

    fn on_turn_end(&mut self, at: Duration) {
        self.advance(at);
        let mut lines = self.0.borrow_mut();
        assert!(std::mem::replace(&mut lines.turn, false));
        assert_eq!(lines.phase, None);
    }

    fn on_phase_begin(&mut self, phase: Phase, at: Duration) {
        self.advance(at);
        let mut lines = self.0.borrow_mut();
        assert!(lines.turn);
        assert_eq!(lines.phase.replace(phase), None);
    }

    fn on_phase_end(&mut self, phase: Phase, count: usize, at: Duration) {
        self.advance(at);
        assert_eq!(self.0.borrow_mut().phase.take(), Some(phase));
        if count > 0 {
            self.add(format!("{phase:?}: {count}"));
        }
    }

    fn on_callback_begin(&mut self, callback: &Callback<'_>, at: Duration) {
        self.advance(at);
        let name = callback.what.name();
        assert_eq!(self.0.borrow_mut().callback.replace(name), None);
    }

    fn on_callback_end(&mut self, callback: &Callback<'_>, outcome: Outcome, span: Span) {
        self.advance(span.begun());
        self.advance(span.ended());
        let name = callback.what.name();
        assert_eq!(self.0.borrow_mut().callback.take(), Some(name));
        self.add(format!("{name}: {outcome:?}"));
    }

    fn on_accepted(&mut self, _: ConnId, peer: SocketAddr) {
        assert!(peer.ip().is_loopback());
        self.add("accepted");
    }

    fn on_opened(&mut self, _: ConnId) {
        self.add("opened");
    }

    fn on_closed(&mut self, _: ConnId, end: &ConnEnd<'_>) {
        self.add(format!("closed: {}, {} unsent", end.reason, end.unsent_bytes));
    }

    fn on_read(&mut self, _: ConnId, bytes: usize) {
        self.add(format!("read: {bytes}"));
    }

    fn on_written(&mut self, _: ConnId, bytes: usize) {
        self.add(format!("written: {bytes}"));
    }

    fn on_timer_armed(&mut self, _: Option<u32>, _: TimerId, wait: Duration) {
        self.add(format!("armed: {wait:?}"));
    }

    fn on_timer_fired(&mut self, late: Duration) {
        assert!(late < Duration::from_secs(60), "{late:?}");
        self.add("fired");
    }

    fn on_woken(&mut self) {
        self.add("woken");
    }

    fn on_panic(&mut self, _: Option<u32>, text: &str) {
        let mut lines = self.0.borrow_mut();
        (lines.phase, lines.callback) = (None, None);
        drop(lines);
        self.add(format!("panic: {text}"));
    }

    fn on_mark(&mut self, name: &'static str) {
        self.add(format!("mark: {name}"));
    }
}

/// A rig whose handler answers with two writes and a mark.
fn observed(script: Script) -> (Rig, Log) {
    let (mut rig, log) = (Rig::new(script), Log::default());
    rig.reactor.observe(log.clone());
    (rig, log)
}

fn twice() -> Script {
    Script::new().data(|conn: &mut Conn<'_>, input: &[u8]| {
        conn.context().mark("twice");
        conn.write(input);
        conn.write(input);
        input.len()
    })
}

#[test]
fn a_connection_is_told_from_its_accept_to_its_close() {
    let (mut rig, log) = observed(twice());
    let (mut client, id) = rig.client();
    let told = log.take();
    let expected =
        ["on_accept: Accepted(true)", "accepted", "opened", "on_open: Returned", "Events: 1"];
    assert_eq!(told, expected);
    client.send(b"hello");
    rig.expect(&mut client, b"hellohello");
    let expected = ["read: 5", "mark: twice", "written: 10", "on_data: Consumed(5)", "Events: 1"];
    assert_eq!(log.take(), expected);
    assert_eq!(rig.reactor.stats().writes, 1, "both writes still leave together");
    client.finish();
    rig.end_of(id);
    let told = log.take();
    assert!(told.contains(&"on_eof: Returned".to_owned()), "{told:?}");
    let closed = told.iter().position(|line| line == "closed: closed by the peer, 0 unsent");
    assert_eq!(told[closed.expect("it is told") + 1], "on_close: Returned");
}

#[test]
fn connections_that_were_there_before_are_told_as_well() {
    let mut rig = Rig::new(twice());
    let (mut client, _) = rig.client();
    client.send(b"hello");
    rig.expect(&mut client, b"hellohello");
    let log = Log::default();
    rig.reactor.observe(log.clone());
    client.send(b"hello");
    rig.expect(&mut client, b"hellohello");
    assert!(log.take().contains(&"on_data: Consumed(5)".to_owned()));
}

#[test]
fn several_observers_are_told_the_same() {
    let (mut rig, log) = observed(twice());
    let other = Log::default();
    rig.reactor.observe(other.clone());
    let (mut client, _) = rig.client();
    client.send(b"hello");
    rig.expect(&mut client, b"hellohello");
    assert_eq!(log.take(), other.take());
}

/// Where edges are emulated a short read does not say that a message is whole.
#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
mod whole_messages {
    use waterwheel::observer::Message;

    use super::*;

    /// A [`Log`] that is told of messages in one call.
    struct WholeLog(Log);

    impl Observer for WholeLog {
        fn takes_whole_messages(&self) -> bool {
            true
        }

        fn on_message(&mut self, message: &Message<'_>) {
            let Message { input, consumed, written, span, .. } = *message;
            self.0.advance(span.begun());
            self.0.advance(span.ended());
            let read = input.len();
            self.0.add(format!("message: {read} read, {consumed} consumed, {written} written"));
        }

        fn on_callback_begin(&mut self, callback: &Callback<'_>, at: Duration) {
            self.0.on_callback_begin(callback, at);
        }

        fn on_callback_end(&mut self, callback: &Callback<'_>, outcome: Outcome, span: Span) {
            self.0.on_callback_end(callback, outcome, span);
        }

        fn on_read(&mut self, id: ConnId, bytes: usize) {
            self.0.on_read(id, bytes);
        }

        fn on_written(&mut self, id: ConnId, bytes: usize) {
            self.0.on_written(id, bytes);
        }

        fn on_mark(&mut self, name: &'static str) {
            self.0.on_mark(name);
        }

        fn on_timer_armed(&mut self, handler: Option<u32>, _: TimerId, _: Duration) {
            self.0.add(format!("armed by {handler:?}"));
        }

        fn on_panic(&mut self, handler: Option<u32>, text: &str) {
            self.0.add(format!("handler {handler:?}"));
            self.0.on_panic(handler, text);
        }
    }

    #[test]
    fn a_message_is_told_in_one_call_if_all_observers_ask_for_that() {
        let (mut rig, log) = (Rig::new(twice()), Log::default());
        rig.reactor.observe(WholeLog(log.clone()));
        let (mut client, _) = rig.client();
        log.take();
        client.send(b"hello");
        rig.expect(&mut client, b"hellohello");
        assert_eq!(log.take(), ["mark: twice", "message: 5 read, 5 consumed, 10 written"]);
        rig.reactor.observe(Log::default());
        client.send(b"hello");
        rig.expect(&mut client, b"hellohello");
        assert_eq!(log.take(), ["read: 5", "mark: twice", "written: 10", "on_data: Consumed(5)"]);
    }

    #[test]
    fn a_timer_is_told_with_the_handler_whose_message_has_set_it() {
        const LONG: Duration = Duration::from_secs(3_600);
        let script = Script::new().data(|conn: &mut Conn<'_>, input: &[u8]| {
            conn.set_timer(LONG, 0);
            conn.write(input);
            input.len()
        });
        let (mut rig, log) = (Rig::new(script), Log::default());
        rig.reactor.observe(WholeLog(log.clone()));
        let (mut client, id) = rig.client();
        log.take();
        client.send(b"hello");
        rig.expect(&mut client, b"hello");
        assert_eq!(log.take()[..2], ["armed by Some(0)", "read: 5"]);
        rig.reactor.context().conn(id).expect("it lives").set_timer(LONG, 0);
        assert_eq!(log.take(), ["armed by None"], "no callback runs");
    }

    #[test]
    fn a_message_that_leaves_something_unusual_is_told_in_four() {
        let script = Script::new().data(|conn: &mut Conn<'_>, input: &[u8]| match input {
            b"pause" => {
                conn.pause_reading();
                conn.write(input);
                input.len()
            }
            b"panic" => panic!("on purpose"),
            _ => 0,
        });
        let (mut rig, log) = (Rig::new(script), Log::default());
        rig.panics = 1;
        rig.reactor.observe(WholeLog(log.clone()));
        let (mut pausing, _) = rig.client();
        let (mut keeping, _) = rig.client();
        let (mut panicking, id) = rig.client();
        log.take();
        pausing.send(b"pause");
        rig.expect(&mut pausing, b"pause");
        assert_eq!(log.take(), ["read: 5", "written: 5", "on_data: Consumed(5)"]);
        keeping.send(b"keep");
        rig.until("it is read", |rig| rig.reactor.stats().bytes_read == 9);
        assert_eq!(log.take(), ["read: 4", "on_data: Consumed(0)"]);
        panicking.send(b"panic");
        rig.end_of(id);
        let told = log.take();
        assert_eq!(told[..2], ["handler Some(0)", "panic: on purpose"], "{told:?}");
    }
}

#[test]
fn timers_wakes_and_posts_are_told() {
    let (mut rig, log) = observed(Script::echo());
    let (_client, id) = rig.client();
    let wait = Duration::from_millis(2);
    rig.reactor.context().conn(id).expect("it lives").set_timer(wait, 0);
    let (remote, service) = (rig.reactor.remote(), rig.service);
    std::thread::spawn(move || remote.with(service, |_, cx| cx.mark("from afar")));
    let mut told = log.take();
    rig.until("both", |_| {
        told.extend(log.take());
        ["on_timer: Returned", "mark: from afar"].iter().all(|it| told.iter().any(|t| t == it))
    });
    assert!(told.contains(&"armed: 2ms".to_owned()), "{told:?}");
    let fired = told.iter().position(|line| line == "fired").expect("it is told");
    let timer = told.iter().position(|line| line == "on_timer: Returned").expect("it is told");
    assert!(fired < timer, "{told:?}");
    assert!(told.contains(&"(posted closure): Returned".to_owned()), "{told:?}");
}

#[test]
fn a_panic_is_told_and_the_turn_goes_on() {
    let script = Script::new().data(|_: &mut Conn<'_>, input: &[u8]| {
        assert!(input != b"boom", "on purpose");
        input.len()
    });
    let (mut rig, log) = observed(script);
    rig.panics = 1;
    let (mut client, _) = rig.client();
    let id = rig.journal.last();
    log.take();
    client.send(b"boom");
    rig.end_of(id);
    let told = log.take();
    let panic = told.iter().position(|line| line == "panic: on purpose");
    let closed = told.iter().position(|line| line == "closed: a callback panicked, 0 unsent");
    assert!(panic.expect("it is told") < closed.expect("it is told"), "{told:?}");
    let mut other = Client::connect(rig.addr);
    other.send(b"hello");
    rig.until("the other is served", |_| log.take().contains(&"on_data: Consumed(5)".to_owned()));
}

#[test]
fn a_reactor_that_is_dropped_tells_its_last_callbacks() {
    let (mut rig, log) = observed(Script::echo());
    let (_client, _) = rig.client();
    log.take();
    drop(rig);
    let expected = ["closed: the reactor was stopped, 0 unsent", "on_close: Returned"];
    assert_eq!(log.take(), expected);
}

/// Counts callbacks, and keeps the names of handlers.
#[derive(Default)]
struct Counter {
    callbacks: u32,
    handlers: Vec<(u32, &'static str)>,
}

impl Observer for Counter {
    fn on_handler(&mut self, index: u32, type_name: &'static str) {
        self.handlers.push((index, type_name));
    }

    fn on_callback_end(&mut self, _: &Callback<'_>, _: Outcome, _: Span) {
        self.callbacks += 1;
    }
}

#[test]
fn an_observer_is_found_by_its_key_also_from_another_thread() {
    let mut rig = Rig::new(twice());
    let log = rig.reactor.observe(Log::default());
    let key = rig.reactor.observe(Counter::default());
    let (_client, _) = rig.client();
    let so_far = rig.reactor.observer_mut(key).expect("it is there").callbacks;
    assert_eq!(so_far, 2, "on_accept and on_open");
    assert!(rig.reactor.observer_mut(log).is_some());
    let mut other = Reactor::new().unwrap();
    assert!(other.observer_mut(key).is_none());
    let (remote, service) = (rig.reactor.remote(), rig.service);
    let (sender, receiver) = std::sync::mpsc::channel();
    let ask = move || {
        let look = move |_: &mut _, cx: &mut Context<'_>| {
            let _ = sender.send(cx.observer(key).map(|counter| counter.callbacks));
        };
        remote.with(service, look)
    };
    std::thread::spawn(ask);
    let mut seen = None;
    rig.until("it is seen", |_| {
        seen = receiver.try_recv().ok();
        seen.is_some()
    });
    assert_eq!(seen, Some(Some(so_far)));
}

#[test]
fn handlers_are_told_with_their_names_before_and_after() {
    let mut reactor = Reactor::new().unwrap();
    reactor.register(Script::echo());
    let key = reactor.observe(Counter::default());
    let late = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    let handlers = &reactor.observer_mut(key).expect("it is there").handlers;
    assert_eq!(handlers.len(), 2);
    assert!(handlers[0].0 == 0 && handlers[0].1.ends_with("Script"), "{handlers:?}");
    assert!(handlers[1].0 == late.index() && handlers[1].1.contains("closure"), "{handlers:?}");
}

/// What a handler has left comes again, with what follows, also where an observer is told of each
/// message.
#[test]
fn what_an_observed_handler_leaves_is_kept() {
    use std::io::{Read, Write};

    struct Nothing;
    impl waterwheel::observer::Observer for Nothing {}

    let mut reactor = waterwheel::Reactor::new().unwrap();
    reactor.observe(Nothing);
    let whole = reactor.register(|conn: &mut waterwheel::Conn<'_>, input: &[u8]| {
        if input.len() < 4 {
            return 0;
        }
        conn.write(input);
        input.len()
    });
    let options = waterwheel::ListenOptions::default();
    let addr = reactor.listen("127.0.0.1:0", whole, options).unwrap();
    let mut client = std::net::TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    for (part, read) in [(b"ab", 2), (b"cd", 4)] {
        client.write_all(part).unwrap();
        while reactor.stats().bytes_read < read {
            reactor.run_once(Some(std::time::Duration::from_secs(30))).unwrap();
        }
    }
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"abcd");
}
