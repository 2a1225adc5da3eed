//! What `send_file` is given, and what it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Instant;

use super::{Place, Process, fs, send, text};
use crate::SEND_FILE;
use crate::process::PATIENCE;
use crate::servers::failure;

/// All of the file below is there, with a checksum that it may have.
const ALL_THERE: &str = "ok 1099511627776 00000000\n";

/// A file so long that it is not read within any test.
const ENDLESS: u64 = 1 << 40;

/// A receiver that hears one line and then says what it is told to.
fn scripted_receiver(answer: &'static str) -> (SocketAddr, thread::JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (addr, thread::spawn(move || answer_one(&listener, answer)))
}

fn answer_one(listener: &TcpListener, answer: &str) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0];
    while byte[0] != b'\n' {
        stream.read_exact(&mut byte).unwrap();
    }
    stream.write_all(answer.as_bytes()).unwrap();
    stream
}

#[test]
fn what_the_system_makes_up_is_no_file() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    let pipe = text(&place.from("pipe"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut cases = vec![(pipe.as_str(), "it is not a file; give files only")];
    if cfg!(target_os = "linux") {
        let reason = "it says that it is empty and is not; copy it first";
        cases.push(("/proc/self/status", reason));
    }
    for (path, reason) in cases {
        let end = send(addr, &[path]);
        let line = format!("send_file: {path}: {reason}\n");
        assert_eq!((end.code, end.errors), (Some(1), line));
    }
}

#[test]
fn more_at_once_than_there_is_takes_no_more() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    let paths: Vec<_> = (0..40).map(|n| place.file(&n.to_string(), b"bytes")).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let addr = addr.to_string();
    let args = [&["--connect", &addr, "--at-once", "100000000000"], &paths[..]].concat();
    // With as few files open as leave room for a transfer or two, and little memory.
    let by = ["sh", "-c", "ulimit -n 40; ulimit -v 1000000; exec \"$0\" \"$@\""];
    let end = Process::start_by(&by, SEND_FILE, &args).end();
    assert_eq!((end.code, end.errors.as_str(), end.output.len()), (Some(0), "", 40));
}

#[test]
fn names_are_shown_on_one_line() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    let path = place.file("a\n\x1b[2J\u{202e}'\\ \u{e4}", b"bytes");
    let end = send(addr, &[&path]);
    let shown = format!("{}/a\\n\\u{{1b}}[2J\\u{{202e}}'\\ \u{e4}", text(&place.root.join("from")));
    let line = format!("send_file: {shown}: the name has a separator in it\n");
    assert_eq!((end.code, end.errors), (Some(1), line));
}

#[test]
fn every_answer_makes_one_short_line() {
    let place = Place::new();
    let path = place.file("file", b"bytes");
    for (answer, reason) in [
        ("no \n", "refused, and it is not said why".to_owned()),
        (
            "ok 99999999999 00000000\n",
            "the receiver says that it has 99999999999 bytes of 5".into(),
        ),
        ("done\n", "the receiver says `done` out of turn".to_owned()),
        ("ok 0 00000000\nok 0 00000000\n", "the receiver says `ok` out of turn".to_owned()),
        ("fine\n", "what answers is no recv_file".to_owned()),
    ] {
        let (addr, receiver) = scripted_receiver(answer);
        let end = send(addr, &[&path]);
        assert_eq!((end.code, end.errors), (Some(1), format!("send_file: {path}: {reason}\n")));
        receiver.join().unwrap();
    }
    let long: &str = format!("no {}\n", "\u{e4}".repeat(2_000)).leak();
    let (addr, _receiver) = scripted_receiver(long);
    let reason = format!("refused: {}", "\u{e4}".repeat(300));
    assert_eq!(send(addr, &[&path]).errors, format!("send_file: {path}: {reason}\n"));
}

#[test]
fn limits_of_nothing_are_told_with_what_would_do() {
    let connect = ["--connect", "127.0.0.1:1", "file"];
    for option in ["--at-once", "--timeout"] {
        let (code, line) = failure(SEND_FILE, &[&connect[..], &[option, "0"]].concat());
        assert_eq!(code, Some(2));
        assert!(line.contains(&format!("{option} 0 ")) && line.contains("at least 1"), "{line}");
    }
}

#[test]
fn a_sender_that_is_asked_for_patience_has_it() {
    let place = Place::new();
    let path = place.file("file", b"bytes");
    let (addr, receiver) = scripted_receiver("wait\nok 0 00000000\nwait\n");
    let sender = Process::start(SEND_FILE, &["--connect", &addr.to_string(), &path]);
    let mut stream = receiver.join().unwrap();
    let mut sent = [0; 25];
    stream.read_exact(&mut sent).unwrap();
    assert!(sent.starts_with(b"from 0\nbytessum "), "{}", sent.escape_ascii());
    stream.write_all(b"wait\ndone\n").unwrap();
    let end = sender.end();
    assert_eq!((end.code, end.errors.as_str(), end.output.len()), (Some(0), "", 1));
}

#[test]
fn a_sender_that_reads_a_large_file_asks_for_patience() {
    let place = Place::new();
    let path = place.sparse("file", ENDLESS);
    let (addr, receiver) = scripted_receiver(ALL_THERE);
    let _sender = Process::start(SEND_FILE, &["--connect", &addr.to_string(), &path]);
    let mut sent = [0; 5];
    receiver.join().unwrap().read_exact(&mut sent).unwrap();
    assert_eq!(sent.escape_ascii().to_string(), "wait\\n");
}

#[test]
fn no_file_is_read_on_when_its_transfer_has_ended() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let place = Place::new();
    let (large, small) = (place.sparse("large", ENDLESS), place.file("small", b"bytes"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let args = ["--connect", &addr, "--at-once", "1", &large, &small];
    let sender = Process::start(SEND_FILE, &args);
    let start = Instant::now();
    let wait_for_threads = |count| {
        while fs::read_dir(format!("/proc/{}/task", sender.id())).unwrap().count() != count {
            assert!(start.elapsed() < PATIENCE, "there are not {count} threads");
        }
    };
    let mut stream = answer_one(&listener, ALL_THERE);
    wait_for_threads(2);
    stream.write_all(b"no room\n").unwrap();
    let _next = answer_one(&listener, "wait\n");
    wait_for_threads(1);
}
