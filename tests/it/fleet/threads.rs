//! A fleet of one, the threads of several, and what is one reactor's own.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use waterwheel::fleet::{Fleet, FleetRemote, Spread};
use waterwheel::{Context, ListenOptions, OnPanic, ReactorOptions, Timer, TimerHandler};

use super::{Running, options, register, served};
use crate::support::{Client, End};

/// A fleet of one is a reactor on the caller's thread.
#[test]
fn a_fleet_of_one_runs_in_place() {
    let here = thread::current().id();
    let (send, receive) = channel::<SocketAddr>();
    let client = thread::spawn(move || {
        let (mut client, index) = served(Client::connect(receive.recv().unwrap()));
        client.send(b"x");
        client.expect(b"x");
        (client, index)
    });
    let threads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&threads);
    let fleet = Fleet::new(options(1, Spread::Shared)).unwrap();
    let stats = fleet.run(move |member| {
        seen.lock().unwrap().push(thread::current().id());
        let service = register(member);
        send.send(member.listen("127.0.0.1:0", service, ListenOptions::default())?).unwrap();
        let fleet = member.fleet();
        let ender = member.reactor().register(Ender(fleet));
        member.reactor().set_periodic_timer(ender, Duration::from_millis(1), 0);
        Ok(())
    });
    let (_client, index) = client.join().unwrap();
    assert_eq!(index, 0);
    assert_eq!(*threads.lock().unwrap(), [here]);
    let stats = stats.unwrap();
    assert_eq!((stats.members.len(), stats.total.bytes_read), (1, 1));
}

/// Stops the fleet once something was read.
struct Ender(FleetRemote);

impl TimerHandler for Ender {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        // The fleet cannot answer while it asks, and says what it knows.
        assert_eq!(self.0.stats().total.bytes_read, 0);
        if cx.stats().bytes_written == 2 {
            self.0.stop();
        }
    }
}

#[test]
fn a_panic_in_a_fleet_of_one_is_an_error_of_its_run() {
    let reactor = ReactorOptions::default().on_panic(OnPanic::Unwind);
    let (send, receive) = channel();
    let client = thread::spawn(move || {
        let (mut client, _) = served(Client::connect(receive.recv().unwrap()));
        client.send(b"boom");
        client.expect_end(End::Reset);
    });
    let fleet = Fleet::new(options(1, Spread::Shared).reactor(reactor)).unwrap();
    let error = fleet.run(move |member| {
        let service = register(member);
        send.send(member.listen("127.0.0.1:0", service, ListenOptions::default())?).unwrap();
        Ok(())
    });
    assert_eq!(error.unwrap_err().to_string(), "wheel-0 failed: it panicked: on purpose");
    client.join().unwrap();
}

#[test]
fn what_one_listens_on_by_itself_is_its_own() {
    let (send, receive) = channel();
    let fleet = Fleet::new(options(2, Spread::Shared)).unwrap();
    let fleet = fleet.start(move |member| {
        let service = register(member);
        let addr = member.listen("127.0.0.1:0", service, ListenOptions::default())?;
        if member.index() == 1 {
            let own = member.reactor().listen("127.0.0.1:0", service, ListenOptions::default())?;
            send.send((addr, own)).unwrap();
        }
        Ok(())
    });
    let (addr, own) = receive.recv().unwrap();
    let running = Running { fleet: Some(fleet.unwrap()), addr };
    for _ in 0..5 {
        assert_eq!(served(Client::connect(own)).1, 1);
    }
    assert_eq!(running.fleet().listeners().unwrap().len(), 1);
}
