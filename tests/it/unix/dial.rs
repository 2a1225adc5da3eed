//! Connections that go out.

use std::io::ErrorKind;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use waterwheel::unix::UnixAddr;
use waterwheel::{ConnectOptions, Destination, Limits, Reconnect};

use super::{Folder, client_of, rig_at, with_full_queue};
use crate::support::{Call, Rig, Script, pattern};

#[test]
fn a_connection_goes_out_to_a_path_by_name_and_by_text() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut rig = Rig::new(Script::echo());
    let by_name = Destination::from(UnixAddr::path(&path));
    let by_text = Destination::parse_with_unix(&format!("unix:{}", path.display()));
    assert_eq!(by_name, by_text);
    for to in [by_name, by_text] {
        let id = rig.connect(to, 7, &ConnectOptions::default());
        rig.reactor.context().conn(id).unwrap().write(b"early");
        rig.until("up", |rig| rig.journal.opened().contains(&id));
        let mut peer = client_of(listener.accept().unwrap().0);
        rig.expect(&mut peer, b"early");
        peer.send(b"hello");
        rig.expect(&mut peer, b"hello");
        let mut cx = rig.reactor.context();
        assert_eq!(cx.conn(id).unwrap().peer_unix_addr(), Some(UnixAddr::path(&path)));
        peer.finish();
        rig.expect_end(id, "Peer");
    }
}

#[test]
fn a_connect_that_fails_says_where_to_and_why() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = Rig::new(Script::echo());
    let mut failure = |to: &Destination, options: &ConnectOptions| {
        let before = rig.journal.count(|call| matches!(call, Call::ConnectFailed(..)));
        rig.connect(to, 0, options);
        let failed = |call: &Call| matches!(call, Call::ConnectFailed(..));
        rig.until("it has failed", |rig| rig.journal.count(failed) > before);
        match rig.journal.calls().into_iter().rfind(failed) {
            Some(Call::ConnectFailed(kind, text)) => (kind, text),
            _ => unreachable!(),
        }
    };
    let to = Destination::from(UnixAddr::path(&path));
    let (kind, text) = failure(&to, &ConnectOptions::default());
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(text.starts_with(&format!("cannot connect to unix:{}: ", path.display())), "{text}");
    drop(UnixListener::bind(&path).unwrap());
    let (kind, _) = failure(&to, &ConnectOptions::default());
    assert_eq!(kind, ErrorKind::ConnectionRefused);
    let options = ConnectOptions::default().source(Some("127.0.0.1:0".parse().unwrap()));
    let (kind, text) = failure(&to, &options);
    assert_eq!(kind, ErrorKind::InvalidInput);
    assert!(text.contains("option source is 127.0.0.1:0"), "{text}");
    let long = UnixAddr::path("x".repeat(200));
    let (kind, _) = failure(&long.into(), &ConnectOptions::default());
    assert_eq!(kind, ErrorKind::InvalidInput);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_queue_is_waited_for() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let (listener, clients) = with_full_queue(&path);
    let mut rig = Rig::new(Script::echo());
    let short = ConnectOptions::default().timeout(Duration::from_millis(40));
    rig.connect(UnixAddr::path(&path), 0, &short);
    let failed = |call: &Call| {
        matches!(call, Call::ConnectFailed(ErrorKind::TimedOut, text)
            if text.ends_with("the queue of its listener is full"))
    };
    rig.until("it has timed out", |rig| rig.journal.count(failed) == 1);

    let id = rig.connect(UnixAddr::path(&path), 0, &ConnectOptions::default());
    for _ in 0..5 {
        rig.turn();
    }
    assert!(rig.journal.opened().is_empty());
    for _ in 0..clients.len() {
        drop(listener.accept().unwrap());
    }
    rig.until("up", |rig| rig.journal.opened().contains(&id));
    let mut peer = client_of(listener.accept().unwrap().0);
    peer.send(b"hello");
    rig.expect(&mut peer, b"hello");
}

#[test]
fn a_server_that_is_not_there_yet_is_tried_again() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = Rig::new(Script::echo());
    let policy = Reconnect::default().base_delay(Duration::from_millis(2)).max_attempts(None);
    let options = ConnectOptions::default().reconnect(Some(policy));
    let id = rig.connect(UnixAddr::path(&path), 0, &options);
    rig.until("some tries", |rig| rig.reactor.stats().connect_retries > 2);
    let listener = UnixListener::bind(&path).unwrap();
    rig.until("up", |rig| rig.journal.opened().contains(&id));
    let mut peer = client_of(listener.accept().unwrap().0);
    peer.send(b"hello");
    rig.expect(&mut peer, b"hello");
}

#[test]
fn both_ends_in_one_reactor_talk_to_each_other() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let bytes = pattern(3 << 20);
    let wanted = bytes.clone();
    let mut rig = rig_at(&path, Script::echo());
    let limits = Limits::default().pause_at_high_mark(false);
    let options = ConnectOptions::default().limits(limits);
    let collect = Script::new().open(move |conn| {
        conn.write(&bytes);
        conn.shutdown_write();
    });
    let service = rig.reactor.register(rig.journal.watch(collect));
    let life = rig.journal.life(0);
    let id = rig.reactor.connect(UnixAddr::path(&path), service, life, &options);
    rig.expect_end(id, "Peer");
    assert!(rig.journal.data_of(id) == wanted);
}
