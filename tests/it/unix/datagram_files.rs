//! The file of a Unix socket for datagrams: as that of a listener. And the options.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use waterwheel::unix::{UnixAddr, UnixDatagramOptions};

use super::Folder;
use super::post::{Post, Told, client_at};

fn options() -> UnixDatagramOptions {
    UnixDatagramOptions::default()
}

#[track_caller]
fn refusal(path: &Path) -> (ErrorKind, String) {
    Post::refusal(path, options())
}

#[test]
fn a_path_is_made_and_removed_at_the_end() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut post = Post::quiet();
    let id = post.bind(&path);
    assert!(path.exists());
    post.with(id, |socket| socket.close());
    post.expect_told(&Told::Close(id));
    assert!(!path.exists());
    post.bind(&path);
    drop(post);
    assert!(!path.exists());
}

#[test]
fn what_a_dead_server_has_left_is_replaced() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    for leave in
        [|path: &Path| drop(UnixDatagram::bind(path)), |path: &Path| drop(UnixListener::bind(path))]
    {
        leave(&path);
        assert!(path.exists());
        let mut post = Post::quiet();
        post.bind(&path);
        UnixDatagram::unbound().unwrap().send_to(b"hello", &path).unwrap();
        assert_eq!(post.expect_datagrams(1), [b"hello"]);
        drop(post);
        assert!(!path.exists());
    }
}

#[test]
fn a_live_server_is_left_alone_and_the_error_says_so() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut first = Post::quiet();
    first.bind(&path);
    let before = fs::metadata(&path).unwrap().ino();
    let (kind, text) = refusal(&path);
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert!(text.ends_with("somebody receives there; stop what does, or take another path"));
    assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    UnixDatagram::unbound().unwrap().send_to(b"hello", &path).unwrap();
    assert_eq!(first.expect_datagrams(1), [b"hello"]);
}

/// One that has a peer takes nobody else's connection, and lives.
#[test]
fn a_live_socket_with_a_peer_is_left_alone() {
    let folder = Folder::new();
    let (path, peer) = (folder.path("a.sock"), folder.path("peer"));
    let (socket, _peer) = (client_at(&path), client_at(&peer));
    socket.connect(&peer).unwrap();
    let (kind, _) = refusal(&path);
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert!(path.exists());
}

#[test]
fn what_is_no_socket_for_datagrams_is_left_alone() {
    let folder = Folder::new();
    let (file, listening) = (folder.path("file"), folder.path("listening"));
    fs::write(&file, b"precious").unwrap();
    let _listener = UnixListener::bind(&listening).unwrap();
    let (kind, text) = refusal(&file);
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert!(text.contains("no socket, and it is left alone"), "{text}");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let (_, text) = refusal(&listening);
    assert!(text.contains("remove it if it is not"), "{text}");
    assert!(listening.exists());
}

#[test]
fn a_file_that_has_taken_the_place_is_not_removed_at_the_end() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut post = Post::quiet();
    post.bind(&path);
    fs::remove_file(&path).unwrap();
    let _other = client_at(&path);
    drop(post);
    assert!(path.exists(), "the other's socket is gone");
}

#[test]
fn the_mode_is_what_was_asked_for() {
    let folder = Folder::new();
    let server = folder.path("server");
    let mut post = Post::quiet();
    post.bind(&server);
    let mode_of = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for mode in [0o600, 0o660, 0o666, 0o777, 0] {
        let path = folder.path(&format!("{mode:o}.sock"));
        post.bind_with(&path, options().mode(Some(mode)));
        assert_eq!(mode_of(&path), mode);
        let path = folder.path(&format!("{mode:o}.source"));
        let source = Some(UnixAddr::path(&path));
        post.connect(&server, options().mode(Some(mode)).source(source));
        assert_eq!(mode_of(&path), mode);
    }
}

#[test]
fn an_option_out_of_range_is_told_by_name() {
    let folder = Folder::new();
    let expect = |options, name: &str| {
        let (kind, text) = Post::refusal(&folder.path("x"), options);
        assert_eq!(kind, ErrorKind::InvalidInput, "{text}");
        assert!(text.contains(name), "{text}");
        assert!(!folder.path("x").exists());
    };
    expect(options().mode(Some(0o1777)), "option mode is 0o1777");
    expect(options().receive_budget(0), "receive_budget");
    expect(options().max_datagram_bytes(0), "max_datagram_bytes");
    expect(options().max_datagram_bytes(65_536), "max_datagram_bytes");
    expect(options().max_queued_datagrams(0), "max_queued_datagrams");
    expect(options().max_queued_bytes(0), "max_queued_bytes");
    expect(options().send_buffer_bytes(Some(0)), "send_buffer_bytes");
    expect(options().receive_buffer_bytes(Some(usize::MAX)), "receive_buffer_bytes");
    assert_eq!(refusal(Path::new("")).0, ErrorKind::InvalidInput);
    let (kind, text) = refusal(Path::new("/no/such/folder/a.sock"));
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(text.ends_with("; its directory must be there"), "{text}");
}

#[test]
fn a_connect_that_fails_says_why_and_leaves_no_file() {
    let folder = Folder::new();
    let mut post = Post::quiet();
    let dead = folder.path("dead");
    drop(UnixDatagram::bind(&dead).unwrap());
    let source = folder.path("source");
    let mut connect = |to: &Path, options| {
        let error = post.reactor.connect_unix_datagrams(to, post.service, options).unwrap_err();
        (error.kind(), error.to_string())
    };
    let named = options().source(Some(UnixAddr::path(&source)));
    let (kind, text) = connect(&dead, named.clone());
    assert_eq!(kind, ErrorKind::ConnectionRefused);
    assert!(text.contains("nobody is bound to it"), "{text}");
    let (kind, text) = connect(&folder.path("nobody"), named.clone());
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(text.ends_with("; no socket has that name, start what should make it"), "{text}");
    assert!(!source.exists());
    let (kind, text) = connect(&dead, options().mode(Some(0o600)));
    assert_eq!(kind, ErrorKind::InvalidInput);
    assert!(text.contains("has no file"), "{text}");
    fs::write(&source, b"precious").unwrap();
    let (live, _peer) = (folder.path("live"), client_at(&folder.path("live")));
    let (kind, text) = connect(&live, named);
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert!(text.contains("as the name of its own"), "{text}");
    assert_eq!(fs::read(&source).unwrap(), b"precious");
}
