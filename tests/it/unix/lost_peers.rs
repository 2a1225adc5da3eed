//! Connected Unix sockets for datagrams whose peer goes: only what the peer sends is handed on,
//! also while there is none and once another socket has its path.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;

use waterwheel::udp::{SendStatus, SocketId};
use waterwheel::unix::{UnixAddr, UnixDatagramOptions};

use super::Folder;
use super::post::{Post, client_at, try_receive};

/// A connected socket with a name, and the place of its peer.
struct Connected {
    folder: Folder,
    post: Post,
    id: SocketId,
}

impl Connected {
    fn to(peer: &str, options: UnixDatagramOptions) -> (Self, UnixDatagram) {
        let folder = Folder::new();
        let peer_socket = client_at(&folder.path(peer));
        let mut post = Post::quiet();
        let options = options.source(Some(UnixAddr::path(folder.path("ours"))));
        let id = post.connect(&folder.path(peer), options);
        (Self { folder, post, id }, peer_socket)
    }

    fn send(&mut self, bytes: &[u8]) -> SendStatus {
        self.post.with(self.id, |socket| socket.send(bytes))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    /// What the handler got, from whom.
    #[track_caller]
    fn expect_only(&mut self, expected: &[(&str, &[u8])]) {
        self.post.expect_datagrams(expected.len());
        let expected: Vec<_> = expected
            .iter()
            .map(|&(from, bytes)| (Some(UnixAddr::path(self.path(from))), bytes.to_vec(), false))
            .collect();
        assert_eq!(self.post.datagrams(), expected);
    }
}

fn options() -> UnixDatagramOptions {
    UnixDatagramOptions::default()
}

/// Turns until a stranger's datagrams are out of the way: the last of them would not fit before.
#[track_caller]
fn expect_taken(connected: &mut Connected, stranger: &UnixDatagram) {
    stranger.set_nonblocking(true).unwrap();
    let ours = connected.path("ours");
    while stranger.send_to(b"full", &ours).is_ok() {}
    connected.post.until("room", |_| stranger.send_to(b"room", &ours).is_ok());
}

/// Linux lets a socket whose peer has gone hear anybody.
#[cfg(target_os = "linux")]
#[test]
fn nobody_stands_in_for_a_peer_that_has_gone() {
    for credentials in [false, true] {
        let (mut connected, peer) = Connected::to("peer", options().credentials(credentials));
        let stranger = client_at(&connected.path("stranger"));
        let ours = connected.path("ours");
        let error = stranger.send_to(b"too early", &ours).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(connected.send(b"hello"), SendStatus::Sent);
        drop(peer);
        let refused = SendStatus::Failed(ErrorKind::ConnectionRefused);
        assert_eq!(connected.send(b"hello?"), refused);
        expect_taken(&mut connected, &stranger);
        expect_taken(&mut connected, &UnixDatagram::unbound().unwrap());
        assert_eq!(connected.send(b"hello??"), refused);
        // It comes back, and what strangers have sent is there when it is found.
        fs::remove_file(connected.path("peer")).unwrap();
        let peer = client_at(&connected.path("peer"));
        while stranger.send_to(b"at the last moment", &ours).is_ok() {}
        assert_eq!(connected.send(b"hello again"), SendStatus::Sent);
        assert_eq!(try_receive(&peer).unwrap(), b"hello again");
        let error = stranger.send_to(b"too late", &ours).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        for bytes in [&b"one"[..], b"two"] {
            peer.send_to(bytes, &ours).unwrap();
        }
        connected.expect_only(&[("peer", b"one"), ("peer", b"two")]);
    }
}

/// While there is no peer, a socket with its very name is a stranger too: a name is only a text.
#[cfg(target_os = "linux")]
#[test]
fn a_stranger_with_the_name_of_the_peer_is_one() {
    let (mut connected, peer) = Connected::to("peer", options());
    let ours = connected.path("ours");
    drop(peer);
    assert!(matches!(connected.send(b"hello?"), SendStatus::Failed(_)));
    fs::remove_file(connected.path("peer")).unwrap();
    let namesake = client_at(&connected.path("peer"));
    expect_taken(&mut connected, &namesake);
    while namesake.send_to(b"not the peer yet", &ours).is_ok() {}
    fs::remove_file(connected.path("peer")).unwrap();
    let peer = client_at(&connected.path("peer"));
    assert_eq!(connected.send(b"hello"), SendStatus::Sent);
    peer.send_to(b"the peer", &ours).unwrap();
    connected.expect_only(&[("peer", b"the peer")]);
}

/// A peer lives on without its path: what sits there then is heard of once the peer has ended.
#[cfg(target_os = "linux")]
#[test]
fn who_takes_the_path_of_a_peer_that_lives_is_not_heard() {
    let (mut connected, peer) = Connected::to("peer", options());
    let ours = connected.path("ours");
    fs::remove_file(connected.path("peer")).unwrap();
    let next = client_at(&connected.path("peer"));
    assert_eq!(next.send_to(b"me", &ours).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(connected.send(b"hello"), SendStatus::Sent);
    assert_eq!(try_receive(&peer).unwrap(), b"hello");
    peer.send_to(b"old", &ours).unwrap();
    connected.expect_only(&[("peer", b"old")]);
    drop(peer);
    assert_eq!(connected.send(b"hello again"), SendStatus::Sent);
    assert_eq!(try_receive(&next).unwrap(), b"hello again");
    next.send_to(b"new", &ours).unwrap();
    connected.expect_only(&[("peer", b"old"), ("peer", b"new")]);
}

/// The name that a peer gave its socket is told, and need not be the one that leads to it.
#[test]
fn a_peer_that_is_found_by_a_link_is_heard() {
    let folder = Folder::new();
    let peer = client_at(&folder.path("peer"));
    std::os::unix::fs::symlink(folder.path("peer"), folder.path("link")).unwrap();
    let mut post = Post::quiet();
    let source = Some(UnixAddr::path(folder.path("ours")));
    let id = post.connect(&folder.path("link"), options().source(source));
    assert_eq!(post.with(id, |socket| socket.send(b"hello")), SendStatus::Sent);
    assert_eq!(try_receive(&peer).unwrap(), b"hello");
    peer.send_to(b"answer", folder.path("ours")).unwrap();
    post.expect_datagrams(1);
    let from = Some(UnixAddr::path(folder.path("peer")));
    assert_eq!(post.datagrams(), [(from, b"answer".to_vec(), false)]);
    let to = post.with(id, |socket| socket.peer_addr());
    assert_eq!(to, Some(UnixAddr::path(folder.path("link"))));
}

/// Others that end are nothing to the peer, whose datagrams are there still.
#[test]
fn a_send_to_nobody_costs_nothing_of_the_peer() {
    let (mut connected, peer) = Connected::to("peer", options());
    drop(client_at(&connected.path("dead")));
    peer.send_to(b"unread", connected.path("ours")).unwrap();
    let dead = UnixAddr::path(connected.path("dead"));
    let status = connected.post.with(connected.id, |socket| socket.send_to(&dead, b"hello?"));
    assert!(matches!(status, SendStatus::Failed(_)), "{status:?}");
    assert_eq!(connected.send(b"hello"), SendStatus::Sent);
    connected.expect_only(&[("peer", b"unread")]);
}

/// A socket has no name before it has a peer: nobody finds it before its peer does, not even one
/// that has the peer's name.
#[cfg(target_os = "linux")]
#[test]
fn nobody_is_heard_before_the_peer() {
    let (mut connected, namesake) = Connected::to("peer", options());
    let (peer, source) = (connected.path("peer"), connected.path("source"));
    fs::remove_file(&peer).unwrap();
    let _peer = client_at(&peer);
    let (is_over, refused) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                let sent = namesake.send_to(b"let me in", &source); // or it is not there
                let is_refused = sent.is_err_and(|it| it.kind() == ErrorKind::PermissionDenied);
                refused.fetch_add(u32::from(is_refused), SeqCst);
            }
        });
        let _over = SetOnDrop(&is_over); // a panic too: else the stranger would go on for ever
        // Some of them while it sends, however the system runs the two.
        while refused.load(SeqCst) < 2_000 {
            let options = options().source(Some(UnixAddr::path(&source)));
            let id = connected.post.connect(&peer, options);
            connected.post.turn();
            connected.post.with(id, |socket| socket.close());
            connected.post.turn();
        }
    });
    assert_eq!(connected.post.stats().datagrams_received, 0);
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
