//! What `send_file` is given, and what it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use super::{Place, Process, send, text};
use crate::failure;
use crate::process::PATIENCE;

/// A receiver that hears one line and then says what it is told to.
fn scripted_receiver(answer: &'static str) -> (SocketAddr, thread::JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        while byte[0] != b'\n' {
            stream.read_exact(&mut byte).unwrap();
        }
        stream.write_all(answer.as_bytes()).unwrap();
        stream
    });
    (addr, thread)
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
    let end = Process::start_by(&by, "send_file", &args).end();
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
        let (code, line) = failure("send_file", &[&connect[..], &[option, "0"]].concat());
        assert_eq!(code, Some(2));
        assert!(line.contains(&format!("{option} 0 ")) && line.contains("at least 1"), "{line}");
    }
}
