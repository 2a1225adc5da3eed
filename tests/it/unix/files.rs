//! The file of a socket: made, with its mode, and removed; and what is not ours left alone.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use waterwheel::ConnectOptions;
use waterwheel::unix::{UnixAddr, UnixListenOptions};

use super::{Folder, client_at, client_of, expect_echo, listen, rig_at, with_full_queue};
use crate::support::{End, PATIENCE, Rig, Script};

/// The text of a refusal, which names what was asked for.
#[track_caller]
fn refusal(path: &Path) -> (ErrorKind, String) {
    let mut rig = Rig::new(Script::echo());
    let error = listen(&mut rig, path).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot listen on unix:{}: ", path.display())), "{text}");
    (error.kind(), text)
}

#[test]
fn a_path_is_made_served_and_removed_at_the_end() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = Rig::new(Script::echo());
    let addr = listen(&mut rig, &path).unwrap();
    assert_eq!(addr.as_path(), Some(&*path));
    expect_echo(&mut rig, &path);
    drop(rig);
    assert!(!path.exists());
}

#[test]
fn the_file_goes_when_a_drain_begins() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = rig_at(&path, Script::echo().shutdown(|_| {}));
    let (mut client, id) = client_at(&mut rig, &path);
    rig.reactor.context().drain(PATIENCE);
    rig.until("the file to go", |_| !path.exists());
    client.send(b"still there");
    rig.expect(&mut client, b"still there");
    client.finish();
    rig.end_of(id);
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_is_served_and_goes_with_its_socket() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let name = format!("ww-unix-{}", std::process::id());
    let text = format!("@{name}");
    let mut rig = Rig::new(Script::echo());
    let addr = listen(&mut rig, text.as_str()).unwrap();
    assert_eq!(addr.to_string(), format!("unix:@{name}"));
    let to = SocketAddr::from_abstract_name(&name).unwrap();
    let mut client = client_of(UnixStream::connect_addr(&to).unwrap());
    client.send(b"hello");
    rig.expect(&mut client, b"hello");
    let id = rig.journal.last();
    let mut cx = rig.reactor.context();
    assert_eq!(cx.conn(id).unwrap().local_unix_addr(), Some(addr));

    let error = listen(&mut rig, text.as_str()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    drop(rig);
    assert!(UnixStream::connect_addr(&to).is_err());

    let mut rig = Rig::new(Script::echo());
    let options = UnixListenOptions::default().mode(Some(0o600));
    let error = rig.reactor.listen_unix(text.as_str(), rig.service, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("has none"), "{error}");
}

#[test]
fn what_a_dead_server_has_left_is_replaced() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut rig = rig_at(&path, Script::echo());
    expect_echo(&mut rig, &path);
    drop(rig);
    assert!(!path.exists());
}

#[test]
fn a_live_server_is_left_alone_and_the_error_says_so() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut first = rig_at(&path, Script::echo());
    let before = fs::metadata(&path).unwrap().ino();
    let (kind, text) = refusal(&path);
    assert_eq!(kind, ErrorKind::AddrInUse);
    assert!(text.ends_with("somebody listens there; stop what does, or take another path"));
    assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    expect_echo(&mut first, &path);
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = Folder::new();
    let file = folder.path("file");
    fs::write(&file, b"precious").unwrap();
    let (link, lost) = (folder.path("link"), folder.path("lost"));
    symlink(&file, &link).unwrap();
    symlink(folder.path("nowhere"), &lost).unwrap();
    for path in [&file, &link, &lost, &folder.0] {
        let (kind, text) = refusal(path);
        assert_eq!(kind, ErrorKind::AddrInUse);
        assert!(text.contains("no socket, and it is left alone"), "{text}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    assert!(fs::symlink_metadata(&lost).is_ok());
}

#[test]
fn a_link_to_a_socket_that_is_dead_is_left_alone_too() {
    let folder = Folder::new();
    let (path, link) = (folder.path("a.sock"), folder.path("link"));
    drop(UnixListener::bind(&path).unwrap());
    symlink(&path, &link).unwrap();
    refusal(&link);
    assert!(path.exists());
}

#[test]
fn a_socket_of_another_type_is_left_alone() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let datagrams = UnixDatagram::bind(&path).unwrap();
    let (_, text) = refusal(&path);
    assert!(text.contains("remove it if it is not"), "{text}");
    assert!(path.exists());
    drop(datagrams);
    // Now nobody has it.
    expect_echo(&mut rig_at(&path, Script::echo()), &path);
}

#[test]
fn a_server_with_a_full_queue_is_alive() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let (_listener, _clients) = with_full_queue(&path);
    let (_, text) = refusal(&path);
    assert!(text.contains("somebody listens there"), "{text}");
}

#[test]
fn a_file_that_has_taken_the_place_is_not_removed_at_the_end() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let rig = rig_at(&path, Script::echo());
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(rig);
    assert!(path.exists(), "the other's socket is gone");
    drop(other);
    let rig = rig_at(&path, Script::echo());
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"precious").unwrap();
    drop(rig);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_file_that_is_gone_already_is_no_trouble() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let rig = rig_at(&path, Script::echo());
    fs::remove_file(&path).unwrap();
    drop(rig);
    assert!(!path.exists());
}

#[test]
fn the_mode_is_what_was_asked_for() {
    let folder = Folder::new();
    // Both what a usual umask allows and what it does not.
    for mode in [0o600, 0o660, 0o666, 0o777, 0] {
        let path = folder.path(&format!("{mode:o}.sock"));
        let mut rig = Rig::new(Script::echo());
        let options = UnixListenOptions::default().mode(Some(mode));
        rig.reactor.listen_unix(&path, rig.service, options).unwrap();
        let found = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{found:o} instead of {mode:o}");
    }
    let mut rig = Rig::new(Script::echo());
    let options = UnixListenOptions::default().mode(Some(0o1777));
    let error = rig.reactor.listen_unix(folder.path("x"), rig.service, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("option mode is 0o1777"), "{error}");
    assert!(!folder.path("x").exists());
}

#[test]
fn names_that_cannot_be_are_told() {
    let (kind, text) = refusal(&PathBuf::from(format!("/tmp/{}", "x".repeat(120))));
    assert_eq!(kind, ErrorKind::InvalidInput);
    assert!(text.contains("the path has 125 bytes"), "{text}");
    assert_eq!(refusal(Path::new("")).0, ErrorKind::InvalidInput);
    assert_eq!(refusal(Path::new("a\0b")).0, ErrorKind::InvalidInput);
    let (kind, text) = refusal(Path::new("/no/such/folder/a.sock"));
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(text.ends_with("; its directory must be there"), "{text}");
}

#[test]
fn the_longest_path_is_served() {
    let folder = Folder::new();
    let room = if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };
    let name = "x".repeat(room - folder.0.as_os_str().len() - 1);
    let path = folder.path(&name);
    let mut rig = rig_at(&path, Script::echo());
    expect_echo(&mut rig, &path);
    let id = rig.connect(UnixAddr::path(&path), 0, &ConnectOptions::default());
    rig.until("up", |rig| rig.journal.opened().contains(&id));
}

#[test]
fn an_adopted_listener_is_served_and_its_file_stays() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut rig = Rig::new(Script::echo());
    let options = UnixListenOptions::default();
    let addr = rig.reactor.adopt_unix(listener, rig.service, options).unwrap();
    assert_eq!(addr, UnixAddr::path(&path));
    expect_echo(&mut rig, &path);
    drop(rig);
    assert!(path.exists());
}
