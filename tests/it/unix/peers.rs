//! Who is at the other end.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;

use waterwheel::ConnectOptions;
use waterwheel::unix::UnixAddr;

use super::{Folder, client_at, client_of, listen, own_uid, rig_at};
use crate::support::{End, Rig, Script};

#[test]
fn a_unix_peer_has_names_and_no_addresses() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = Rig::new(Script::echo().accept(|peer| {
        assert_eq!(peer.addr.to_string(), "0.0.0.0:0");
        peer.is_unix
    }));
    listen(&mut rig, &path).unwrap();
    let (_client, id) = client_at(&mut rig, &path);
    let mut cx = rig.reactor.context();
    let conn = cx.conn(id).unwrap();
    assert!(conn.is_unix());
    assert_eq!(conn.peer_addr().to_string(), "0.0.0.0:0");
    assert_eq!(conn.local_addr().unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(conn.local_unix_addr(), Some(UnixAddr::path(&path)));
    assert_eq!(conn.peer_unix_addr(), None);
}

#[test]
fn a_tcp_peer_has_addresses_and_no_names() {
    let mut rig = Rig::new(Script::echo().accept(|peer| {
        assert_eq!(peer.credentials, None);
        !peer.is_unix
    }));
    let (_client, id) = rig.client();
    let mut cx = rig.reactor.context();
    let conn = cx.conn(id).unwrap();
    assert!(!conn.is_unix());
    assert_eq!((conn.local_unix_addr(), conn.peer_unix_addr()), (None, None));
    assert_eq!(conn.peer_credentials(), None);
}

#[cfg(target_os = "linux")]
#[test]
fn the_kernel_vouches_for_the_peer() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = rig_at(&path, Script::echo());
    let (_client, accepted) = client_at(&mut rig, &path);
    let connected = rig.connect(UnixAddr::path(&path), 0, &ConnectOptions::default());
    rig.until("up", |rig| rig.journal.opened().contains(&connected));
    for id in [accepted, connected] {
        let mut cx = rig.reactor.context();
        let who = cx.conn(id).unwrap().peer_credentials().unwrap();
        assert_eq!((who.uid, who.pid), (own_uid(), Some(std::process::id())));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_handler_may_refuse_by_user() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    for allowed in [own_uid(), own_uid() + 1] {
        let mut rig = Rig::new(Script::echo().accept(move |peer| {
            let who = peer.credentials.expect("Linux tells");
            who.uid == allowed
        }));
        listen(&mut rig, &path).unwrap();
        let mut client = client_of(UnixStream::connect(&path).unwrap());
        if allowed == own_uid() {
            client.send(b"hello");
            rig.expect(&mut client, b"hello");
        } else {
            assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
            assert_eq!(rig.reactor.stats().refused, 1);
        }
    }
}
