//! The echo servers on Unix sockets.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use crate::process::{PATIENCE, Process};
use crate::{expect_clean_end, failure};

/// A path of the test's own; nothing is there when it begins and when it ends.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ww-echo-{}-{name}", std::process::id()));
        Self(path)
    }

    #[track_caller]
    fn serve(&self) -> Process {
        let server = Process::start("echo", &["--unix", self.0.to_str().unwrap()]);
        assert_eq!(server.line(), format!("listening on unix:{}", self.0.display()));
        server
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[track_caller]
fn expect_echo(path: &Path) {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"hello");
}

#[test]
fn echo_serves_a_unix_socket_and_removes_it() {
    let place = Place::new("once");
    let server = place.serve();
    expect_echo(&place.0);
    let (code, text) = failure("echo", &["--unix", place.0.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("somebody listens there"), "{text}");
    expect_echo(&place.0);
    expect_clean_end(server);
    assert!(!place.0.exists());
}

#[test]
fn echo_comes_back_after_it_was_killed() {
    let place = Place::new("killed");
    drop(place.serve()); // with SIGKILL
    assert!(place.0.exists());
    let server = place.serve();
    expect_echo(&place.0);
    expect_clean_end(server);
}

#[test]
fn echo_serves_both_at_once() {
    let place = Place::new("both");
    let (server, _) = Process::serve("echo", &["--unix", place.0.to_str().unwrap()]);
    assert_eq!(server.line(), format!("listening on unix:{}", place.0.display()));
    expect_echo(&place.0);
    expect_clean_end(server);
}

#[test]
fn datagrams_come_back_over_a_unix_socket_and_it_is_removed() {
    let (place, own) = (Place::new("datagrams"), Place::new("client"));
    let server = Process::start("udp_echo", &["--unix", place.0.to_str().unwrap()]);
    assert_eq!(server.line(), format!("listening on unix:{}", place.0.display()));
    let client = UnixDatagram::bind(&own.0).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(&place.0).unwrap();
    UnixDatagram::unbound().unwrap().send_to(b"no answer wanted", &place.0).unwrap();
    for text in ["hello", "", "again"] {
        client.send(text.as_bytes()).unwrap();
        let mut buffer = [0; 64];
        let count = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], text.as_bytes());
    }
    let (code, text) = failure("udp_echo", &["--unix", place.0.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("somebody receives there"), "{text}");
    let output = expect_clean_end(server);
    let last = output.last().unwrap();
    assert!(last.starts_with("received 4 datagrams (26 bytes), sent 3 (10 bytes)"), "{last}");
    assert!(!place.0.exists());
}
