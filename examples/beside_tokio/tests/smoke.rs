//! The example as a process: tokio answers the clients of the reactor, and the reactor those of
//! tokio.
#![cfg(unix)]

#[path = "../../../tests/examples/process.rs"]
mod process;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use process::{PATIENCE, Process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_beside_tokio");

/// The program, where its reactor listens, and where tokio does.
#[track_caller]
fn start() -> (Process, SocketAddr, SocketAddr) {
    let program = Process::start(PROGRAM, &["--listen", "127.0.0.1:0", "--status", "127.0.0.1:0"]);
    let line = program.line();
    let status = line.strip_prefix("status on ").expect(&line).parse().expect(&line);
    let (program, addr) = program.listening();
    (program, addr, status)
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[track_caller]
fn read_all(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn each_side_asks_the_other_one() {
    let (program, addr, status) = start();
    let mut client = connect(addr);
    // In one segment, with the end behind it: every line is answered, and in its order.
    client.write_all(b"one\ntwo\nthree\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(client), "ONE\nTWO\nTHREE\n");

    let mut stays = connect(addr);
    stays.write_all(b"four\n").unwrap();
    let mut answer = [0; 5];
    stays.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"FOUR\n");
    assert_eq!(read_all(connect(status)), "connections 1, answered 4, too late 0\n");
    drop(stays);
    program.terminate();
    assert_eq!(program.end().code, Some(0));
}

#[test]
fn what_is_mistyped_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, code, parts) in [
        (["--listen", &taken], 1, [&*taken, "in use", "take another port"]),
        (["--status", &taken], 1, ["--status", &taken, "in use"]),
        (["--status", "7001"], 1, ["--status", "cannot listen on 7001", "invalid"]),
        (["--listen", "7000"], 2, ["--listen", "7000", "give \"host:port\""]),
        (["--stauts", "127.0.0.1:0"], 2, ["--stauts", "invalid option", "see --help"]),
        (["--drain", "soon"], 2, ["--drain", "soon", "see --help"]),
    ] {
        let free = ["--listen", "127.0.0.1:0", "--status", "127.0.0.1:0"];
        let end = Process::start(PROGRAM, &[&free[..], &args].concat()).end();
        assert_eq!(end.code, Some(code), "{args:?}: {end:?}");
        for part in parts {
            assert!(end.errors.contains(part), "{args:?}: {:?} does not say {part:?}", end.errors);
        }
    }
}
