//! Held connections, against peers with a script.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::LOAD;
use crate::json::Json;
use crate::process::{End, PATIENCE, Process};

#[track_caller]
fn figure(end: &End, key: &str) -> u64 {
    Json::parse(&end.output.join("\n")).at(&["figures", key]).whole()
}

fn accept(listener: &TcpListener) -> TcpStream {
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_request(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

fn answer(stream: &mut TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
}

/// A reset, and the answer that makes room to ask, are seen in one turn: the connection that has
/// ended is passed over, and is not one of those that were asked.
#[test]
fn one_that_ends_as_it_would_be_asked_is_not_counted_off() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // The idle are asked one after another, in the order in which they were dialled.
    let args = ["hold", &url, "--connections", "3", "--active", "0", "--in-flight", "1"];
    let process = Process::start(LOAD, &[&args[..], &["--duration", "0.5", "--json"]].concat());
    let [mut first, mut second, mut third] = [(); 3].map(|()| accept(&listener));
    for stream in [&mut first, &mut third] {
        read_request(stream);
        answer(stream);
    }
    // What is not read makes its end a reset.
    assert_eq!(second.peek(&mut [0]).unwrap(), 1);
    answer(&mut second);
    read_request(&mut first);
    process.signal("STOP");
    drop(second);
    answer(&mut first);
    process.signal("CONT");
    let server = thread::spawn(move || {
        read_request(&mut third);
        answer(&mut third);
        let _ = third.read(&mut [0]);
    });
    let end = process.end();
    let _ = server.join();
    assert_eq!((figure(&end, "woken"), figure(&end, "lost")), (2, 1), "{end:?}");
    assert_eq!(figure(&end, "unanswered"), 0, "{end:?}");
}

/// An answer of the active connection has shown how long one takes.
#[test]
fn a_slow_answer_in_the_end_is_waited_for() {
    const TAKES: Duration = Duration::from_secs(4);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let args = ["hold", &url, "--connections", "2", "--active", "1", "--duration", "5", "--json"];
    let process = Process::start(LOAD, &args);
    let servers = [(); 2].map(|()| {
        let mut stream = accept(&listener);
        thread::spawn(move || {
            // Each connection has two requests: of the active one the first is measured.
            for _ in 0..2 {
                read_request(&mut stream);
                thread::sleep(TAKES);
                answer(&mut stream);
            }
            let _ = stream.read(&mut [0]);
        })
    });
    let end = process.end();
    let _ = servers.map(thread::JoinHandle::join);
    assert_eq!((figure(&end, "woken"), figure(&end, "unanswered")), (1, 0), "{end:?}");
}
