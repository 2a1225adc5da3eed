//! `send_file` and `recv_file`: files arrive whole or not at all, and nowhere but in the folder.
#![cfg(unix)]

mod broken;
mod ending;
mod names;
mod parts;
mod patience;
#[path = "../../../../tests/examples/process.rs"]
mod process;
mod retry;
mod sender;
#[path = "../../../../tests/examples/servers.rs"]
mod servers;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use process::{End, Process};
use servers::Client;

const RECV_FILE: &str = env!("CARGO_BIN_EXE_recv_file");
const SEND_FILE: &str = env!("CARGO_BIN_EXE_send_file");

/// A folder of a test with one to send from and one to receive in; it goes with its value.
struct Place {
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("waterwheel-transfer-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let place = Self { root };
        fs::create_dir(&place.root).unwrap();
        fs::create_dir(place.from("")).unwrap();
        fs::create_dir(place.to("")).unwrap();
        place
    }

    /// A file to send.
    fn from(&self, name: &str) -> PathBuf {
        self.root.join("from").join(name)
    }

    /// A file that was received.
    fn to(&self, name: &str) -> PathBuf {
        self.root.join("to").join(name)
    }

    /// Makes a file to send; its path, as an argument.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.from(name), bytes).unwrap();
        text(&self.from(name))
    }

    /// Makes a large file of zeros to send that takes no room.
    fn sparse(&self, name: &str, length: u64) -> String {
        File::create(self.from(name)).unwrap().set_len(length).unwrap();
        text(&self.from(name))
    }

    fn receiver(&self, more: &[&str]) -> (Process, SocketAddr) {
        self.receiver_by(&[], more)
    }

    fn receiver_by(&self, by: &[&str], more: &[&str]) -> (Process, SocketAddr) {
        let dir = text(&self.to(""));
        Process::serve_by(by, RECV_FILE, &[&["--dir", &dir], more].concat())
    }

    /// What is in the folder that files are received in.
    fn received(&self) -> BTreeSet<String> {
        names_in(&self.to(""))
    }

    /// Nothing is where nothing should be.
    #[track_caller]
    fn expect_nothing_outside(&self) {
        let expected: BTreeSet<_> = ["from".to_owned(), "to".to_owned()].into();
        assert_eq!(names_in(&self.root), expected);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left is of a test that has failed.
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs the sender to its end.
#[track_caller]
fn send(addr: SocketAddr, args: &[&str]) -> End {
    let addr = addr.to_string();
    Process::start(SEND_FILE, &[&["--connect", &addr], args].concat()).end()
}

/// The next line that is more than a call for patience, as a busy disk may bring about.
#[track_caller]
fn answer_of(client: &mut Client) -> String {
    loop {
        let line = client.line();
        if line != "wait" {
            return line;
        }
    }
}

/// Bytes that begin anew nowhere near.
fn content(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

#[test]
fn files_arrive_as_they_are() {
    let place = Place::new();
    let (server, addr) = place.receiver(&[]);
    let long = "n".repeat(255);
    let files = [
        ("empty", content(0, 1)),
        ("one byte", content(1, 2)),
        ("not.hidden", content(4_096, 3)),
        ("gr\u{f6}\u{df}er.bin", content(3_000_001, 4)),
        (&long, content(70_000, 5)),
        ("again", content(65_536, 6)),
    ];
    let paths: Vec<_> = files.iter().map(|(name, bytes)| place.file(name, bytes)).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let end = send(addr, &paths);
    assert_eq!((end.code, end.errors.as_str()), (Some(0), ""));
    assert_eq!(end.output.len(), files.len());
    for (name, bytes) in &files {
        assert!(fs::read(place.to(name)).unwrap() == *bytes, "{name} is another one");
    }
    let names: BTreeSet<_> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(place.received(), names, "more than was sent");
    place.expect_nothing_outside();
    server.terminate();
    let end = server.end();
    assert_eq!((end.code, end.errors.as_str()), (Some(0), ""));
    assert_eq!(end.output.len(), files.len());
}

#[test]
fn a_receiver_ends_after_as_many_as_it_is_told() {
    let place = Place::new();
    let (server, addr) = place.receiver(&["--count", "2"]);
    let (one, two) = (place.file("one", b"1"), place.file("two", b"2"));
    assert_eq!(send(addr, &["--no-checksum", &one, &two]).code, Some(0));
    let end = server.end();
    assert_eq!((end.code, end.output.len()), (Some(0), 2));
}

#[test]
fn nothing_is_replaced_without_force() {
    let place = Place::new();
    fs::write(place.to("kept"), b"old").unwrap();
    let path = place.file("kept", b"new");
    let (server, addr) = place.receiver(&["--count", "1"]);
    let sent = send(addr, &[&path]);
    let reason = "there is a file of that name; recv_file --force replaces it";
    assert_eq!(
        (sent.code, sent.errors),
        (Some(1), format!("send_file: {path}: refused: {reason}\n"))
    );
    let end = server.end();
    assert_eq!(end.code, Some(1));
    assert!(end.errors.lines().count() == 1 && end.errors.contains(reason), "{}", end.errors);
    assert_eq!(fs::read(place.to("kept")).unwrap(), b"old");

    let (server, addr) = place.receiver(&["--count", "1", "--force"]);
    assert_eq!(send(addr, &[&path]).code, Some(0));
    assert_eq!(server.end().code, Some(0));
    assert_eq!(fs::read(place.to("kept")).unwrap(), b"new");
    assert_eq!(place.received(), ["kept".to_owned()].into());
}

#[test]
fn what_cannot_be_sent_is_said_in_one_line() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    let folder = text(&place.from(""));
    let gone = text(&place.from("gone"));
    let device = place.file("nul.txt", b"");
    let hidden = place.file(".bashrc", b"");
    for (path, reason) in [
        (&hidden, "the name begins with a dot, as names do that a login shell obeys"),
        (&folder, "it is not a file; give files only"),
        (&gone, "cannot open it: No such file or directory (os error 2)"),
        (&device, "the name is of a device"),
    ] {
        let end = send(addr, &[path]);
        let line = format!("send_file: {path}: {reason}\n");
        assert_eq!((end.code, end.errors), (Some(1), line));
    }
    // Others are sent all the same.
    let good = place.file("good", b"good");
    let end = send(addr, &[&gone, &good, &folder]);
    assert_eq!((end.code, end.errors.lines().count(), end.output.len()), (Some(1), 2, 1));
    assert_eq!(place.received(), ["good".to_owned()].into());
}

#[test]
fn nobody_there_is_said_in_one_line() {
    let place = Place::new();
    let path = place.file("file", b"bytes");
    let addr = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let end = send(addr, &[&path]);
    assert_eq!((end.code, end.errors.lines().count()), (Some(1), 1), "{end:?}");
    assert!(end.errors.starts_with(&format!("send_file: {path}: cannot connect to {addr}: ")));
}

#[test]
fn the_receiver_does_what_every_server_does() {
    servers::expect_a_server(RECV_FILE, false);
}

#[test]
fn the_sender_does_not_panic_without_a_reader() {
    servers::expect_no_panic_without_a_reader(SEND_FILE);
}
