//! `Reconnect` over TLS: the handshake is a part of each try.

use std::cell::Cell;

use waterwheel::{Closed, Context, Handler, Peer, Reconnect};

use super::*;

/// Tries again at once, and so often at the most.
fn often(max_attempts: u32) -> ConnectOptions {
    let reconnect = Reconnect::default()
        .base_delay(Duration::from_millis(1))
        .max_delay(Duration::from_millis(2))
        .max_attempts(Some(max_attempts));
    ConnectOptions::default().tls(&client(), "localhost").reconnect(Some(reconnect))
}

#[test]
fn a_handshake_that_fails_is_tried_again_until_the_certificate_is_good() {
    let config = ServerConfig::new(ServerOptions::new(certificate("expired"))).unwrap();
    let (tries, changed) = (Rc::new(Cell::new(0)), config.clone());
    let told = Rc::clone(&tries);
    let script = Script::echo().connect_retry(move |_, retry| {
        assert!(retry.error.to_string().contains("has expired"), "{}", retry.error);
        told.set(told.get() + 1);
        if told.get() == 3 {
            changed.replace(super::reload::server_of_rustls());
        }
    });
    let mut rig = rig(script, &config);
    let addr = rig.addr;
    let id = rig.connect(addr, 0, &often(1_000));
    // What was written before the first try is sent once, on the one that is up.
    rig.reactor.context().conn(id).unwrap().write(b"early");
    rig.until("both are open", |rig| rig.journal.opened().len() == 2);
    let accepted = rig.journal.opened().into_iter().find(|other| *other != id).unwrap();
    rig.until("it has come", |rig| rig.journal.data_of(accepted).len() >= 5);
    assert_eq!(rig.journal.data_of(accepted), b"early");
    assert_eq!(tries.get(), 3);
    let stats = rig.reactor.stats();
    assert_eq!((stats.connect_retries, stats.connected, stats.connect_failures), (3, 1, 0));
}

#[test]
fn the_last_of_the_tries_tells_its_reason() {
    let config = ServerConfig::new(ServerOptions::new(certificate("expired"))).unwrap();
    let mut rig = rig(Script::echo(), &config);
    let addr = rig.addr;
    rig.connect(addr, 0, &often(4));
    rig.until("it has failed", |rig| rig.reactor.stats().connect_failures == 1);
    let calls = rig.journal.calls();
    let told = calls.iter().find_map(|call| match call {
        Call::ConnectFailed(_, text) => Some(text.clone()),
        _ => None,
    });
    let told = told.expect("the handler is told");
    assert!(told.contains("has expired"), "{told}");
    assert_eq!(rig.reactor.stats().connect_retries, 3);
    rig.until("the server has counted", |_| config.failures().refused_by_client == 4);
}

/// A client that connects again when its connection has ended.
struct Feed(Rc<RefCell<Vec<bool>>>);

impl Handler for Feed {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        None
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        self.0.borrow_mut().push(conn.tls().expect("it is encrypted").is_resumed);
        conn.write(b"x");
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, (): (), closed: Closed, cx: &mut Context<'_>) {
        if self.0.borrow().len() < 4 {
            cx.reconnect(&closed, ()).expect("it has a policy");
        }
    }
}

/// What is made again is encrypted, and resumes the session.
#[test]
fn a_connection_that_the_server_has_ended_is_made_again() {
    let script = Script::new().data(|conn, input| {
        conn.write(input);
        conn.close();
        input.len()
    });
    let mut rig = rig(script, &server());
    let resumed = Rc::default();
    let feed = rig.reactor.register(Feed(Rc::clone(&resumed)));
    rig.reactor.connect(rig.addr, feed, (), &often(1_000));
    rig.until("four have been up", |rig| rig.reactor.stats().connected == 4);
    rig.until("all are gone", |rig| rig.reactor.stats().connections == 0);
    assert_eq!(*resumed.borrow(), [false, true, true, true]);
}
