//! A pool of encrypted connections, whose client knows nothing of that.

use waterwheel::pool::PoolOptions;

use super::*;
use crate::pool_rig::{Answer, PoolRig};

/// Options under which nothing happens by itself, for a server of this name.
fn encrypted(name: &str) -> PoolOptions {
    PoolOptions::default()
        .idle_timeout(None)
        .lifetime(None)
        .acquire_timeout(None)
        .retry_base_delay(Duration::from_millis(5))
        .retry_max_delay(Duration::from_millis(20))
        .seed(Some(1))
        .connect(ConnectOptions::default().tls(&client(), name))
}

#[track_caller]
fn expect_answer(rig: &mut PoolRig, number: u32) {
    rig.ask(number);
    rig.until_answered(number, &Answer::Line(number.to_string()));
}

#[test]
fn encrypted_connections_are_made_once_and_lent_again() {
    let listen = ListenOptions::default().tls(&server());
    let mut rig = PoolRig::listening(encrypted("localhost").max_open(2), listen);
    for number in 0..20 {
        rig.ask(number);
    }
    rig.until("all answers", |rig| rig.answers().len() == 20);
    assert_eq!(rig.client().acquired, (0..20).collect::<Vec<_>>());
    let stats = rig.stats();
    assert_eq!((stats.created, stats.leases, stats.reused), (2, 20, 18));
    assert_eq!((rig.accepted(), rig.most_open), (2, 2));
}

/// Tickets come behind the handshake, when the connection is idle: they are no stray bytes.
#[test]
fn what_tls_says_to_an_idle_connection_does_not_evict_it() {
    let listen = ListenOptions::default().tls(&server());
    let mut rig = PoolRig::listening(encrypted("localhost").min_idle(3).max_open(3), listen);
    rig.until("three are idle", |rig| rig.stats().idle == 3 && rig.accepted() == 3);
    rig.until("the tickets have been read", |rig| {
        let stats = rig.reactor.stats();
        stats.bytes_read == stats.bytes_written
    });
    assert_eq!(rig.stats().idle, 3);
    for number in 0..3 {
        expect_answer(&mut rig, number);
    }
    let stats = rig.stats();
    assert_eq!((stats.created, stats.idle, stats.evicted.stray), (3, 3, 0), "{stats:?}");
}

/// The server's `close_notify` and FIN evict, and the next who asks gets another connection.
#[test]
fn one_that_the_server_has_ended_is_replaced() {
    let listen = ListenOptions::default().tls(&server()).idle_timeout(Duration::from_millis(50));
    let mut rig = PoolRig::listening(encrypted("localhost"), listen);
    for number in 0..3 {
        expect_answer(&mut rig, number);
        let ended = u64::from(number) + 1;
        rig.until("the server ends it", |rig| rig.stats().evicted.peer == ended);
        rig.until("its slot is free", |rig| rig.stats().open == 0);
    }
    let stats = rig.stats();
    assert_eq!((stats.created, stats.failed_dials), (3, 0), "{stats:?}");
}

#[test]
fn a_certificate_that_is_not_good_reaches_who_waits() {
    for (served, name, wanted) in [
        ("server", "wrong.example", "of another name"),
        ("foreign", "localhost", "issuer that is not trusted"),
        ("expired", "localhost", "has expired"),
    ] {
        let config = ServerConfig::new(ServerOptions::new(certificate(served))).unwrap();
        let mut rig = PoolRig::listening(encrypted(name), ListenOptions::default().tls(&config));
        rig.ask(1);
        rig.until("it is refused", |rig| !rig.answers().is_empty());
        let answers = rig.answers();
        let [(1, Answer::Refused(text))] = &answers[..] else { panic!("{answers:?}") };
        assert!(text.contains(wanted) && text.contains("127.0.0.1:"), "{text}");
        assert_eq!(rig.accepted(), 0);
    }
}

/// A server that is there again: with another certificate first, and then with the right one.
#[test]
fn it_goes_on_when_the_certificate_has_become_good() {
    let config = ServerConfig::new(ServerOptions::new(certificate("expired"))).unwrap();
    let options = encrypted("localhost").min_idle(1);
    let mut rig = PoolRig::listening(options, ListenOptions::default().tls(&config));
    rig.until("some have failed", |rig| rig.stats().failed_dials >= 3);
    config.replace(super::reload::server_of_rustls());
    rig.until("one is idle", |rig| rig.stats().idle == 1);
    expect_answer(&mut rig, 1);
    assert_eq!(rig.stats().created, 1);
}
