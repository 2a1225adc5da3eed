//! A handler that says only what it must, and what the other callbacks then do; and what a
//! callback may look up and set.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::{
    Conn, ConnectOptions, Context, Handler, HandlerKey, Limits, ListenOptions, Peer, Reactor,
    Timer, TimerHandler, TimerId,
};

use crate::support::{Call, Client, End, Rig, Script, patiently};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Counts its states that are alive.
struct Terse(Rc<()>);

impl Handler for Terse {
    type State = Rc<()>;

    fn on_accept(&mut self, _: &Peer) -> Option<Rc<()>> {
        Some(Rc::clone(&self.0))
    }

    fn on_data(&mut self, _: &mut Rc<()>, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.set_timer(MILLISECOND, 0);
        conn.write(input);
        input.len()
    }
}

#[test]
fn an_idle_connection_is_closed() {
    let limits = Limits::default().read_idle(Some(20 * MILLISECOND));
    let mut rig = Rig::with_limits(Terse(Rc::default()), limits);
    let (mut client, id) = rig.client();
    rig.expect_end(id, "Idle");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
}

#[test]
fn a_timer_does_nothing() {
    let mut rig = Rig::new(Terse(Rc::default()));
    let (mut client, id) = rig.client();
    client.send(b"tick");
    rig.expect(&mut client, b"tick");
    rig.until("the timer", |rig| {
        rig.journal.calls_of(id).iter().any(|call| matches!(call, Call::Timer(_)))
    });
    client.send(b"on");
    rig.expect(&mut client, b"on");
}

#[test]
fn a_failed_connect_drops_the_state() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let state = Rc::new(());
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Terse(Rc::default()));
    reactor.connect(closed, service, Rc::clone(&state), &ConnectOptions::default());
    assert_eq!(Rc::strong_count(&state), 2);
    patiently("dropped", || {
        reactor.run_once(Some(MILLISECOND)).unwrap();
        (Rc::strong_count(&state) == 1).then_some(())
    });
}

/// Ticks by a periodic timer that a callback has set.
struct Ticks {
    service: HandlerKey<Self>,
    timer: Option<TimerId>,
    ticks: Rc<Cell<u32>>,
}

impl Handler for Ticks {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let service = self.service;
        self.timer = Some(conn.context().set_periodic_timer(service, MILLISECOND, 0));
        input.len()
    }
}

impl TimerHandler for Ticks {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        assert_eq!(Some(timer.id), self.timer);
        self.ticks.set(self.ticks.get() + 1);
        if self.ticks.get() == 3 {
            assert!(cx.cancel_timer(timer.id));
        }
    }
}

#[test]
fn a_callback_sets_a_periodic_timer_of_its_handler() -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let ticks = Rc::new(Cell::new(0));
    let shared = Rc::clone(&ticks);
    let service = reactor.register_with(|service| Ticks { service, timer: None, ticks: shared });
    let addr = reactor.listen("127.0.0.1:0", service, ListenOptions::default())?;
    let mut client = Client::connect(addr);
    client.send(b"go");
    patiently("three ticks", || {
        reactor.run_once(Some(MILLISECOND)).unwrap();
        (ticks.get() == 3).then_some(())
    });
    reactor.run_once(Some(5 * MILLISECOND))?;
    assert_eq!(ticks.get(), 3);
    assert_eq!(reactor.stats().panics, 0);
    Ok(())
}

#[test]
fn what_is_left_unconsumed_can_be_asked_for() {
    let left = Rc::new(Cell::new(usize::MAX));
    let seen = Rc::clone(&left);
    let script = Script::new()
        .data(|conn, input| {
            assert!(conn.unconsumed().is_empty(), "it is lent as the input");
            input.len().min(2)
        })
        .eof(move |conn| {
            seen.set(conn.unconsumed_bytes());
            let last = conn.unconsumed().to_vec();
            conn.write(&last);
            conn.close();
        });
    let mut rig = Rig::new(script);
    let (mut client, _) = rig.client();
    client.send(b"hello");
    client.finish();
    rig.until("the end", |_| left.get() != usize::MAX);
    assert_eq!(left.get(), 3);
    rig.expect(&mut client, b"llo");
}
