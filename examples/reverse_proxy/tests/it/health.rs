//! Which servers behind the proxy get requests.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Instant;

use crate::process::{PATIENCE, Process};
use crate::servers::{Client, expect_clean_end};
use crate::{accept, expect_end, head, listen, serve};

#[test]
fn a_server_that_fails_gets_no_requests_until_it_answers_again() {
    let (web, one) = Process::serve("web", &[]);
    let (gone, two) = listen();
    drop(gone);
    let (server, addr) = serve(&[one, two], &["--every", "0.05", "--check", "/plaintext"]);
    let ask = || {
        let mut client = Client::connect(addr);
        client.send("GET /plaintext HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        head(&mut client)[0].split(' ').nth(1).unwrap().to_owned()
    };
    let began = Instant::now();
    // Both are asked in turn.
    while (0..8).any(|_| ask() != "200") {
        assert!(began.elapsed() < PATIENCE, "it still gets requests");
    }
    expect_end(web);
    while ask() != "502" || ask() != "502" || ask() != "502" {
        assert!(began.elapsed() < PATIENCE, "nobody is there, and there are answers");
    }
    let again = Process::start("web", &["--listen", &two.to_string()]);
    again.line();
    while (0..8).any(|_| ask() != "200") {
        assert!(began.elapsed() < PATIENCE, "it gets no requests");
    }
    expect_clean_end(server);
    expect_end(again);
}

/// Listens at an address again, whose port may be held up for a moment.
fn listen_at(addr: SocketAddr) -> TcpListener {
    let began = Instant::now();
    loop {
        match TcpListener::bind(addr) {
            Ok(listener) => return listener,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
    }
}

/// Asks once; the status.
#[track_caller]
fn status(addr: SocketAddr) -> String {
    let mut client = Client::connect(addr);
    client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    head(&mut client)[0].split(' ').nth(1).unwrap().to_owned()
}

/// Asks once what a server there answers, which ends its connection behind that.
#[track_caller]
fn expect_answer(addr: SocketAddr, listener: &TcpListener) {
    let listener = listener.try_clone().unwrap();
    let server = thread::spawn(move || {
        let mut upstream = accept(&listener);
        head(&mut upstream);
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    });
    assert_eq!(status(addr), "200");
    server.join().unwrap(); // nothing listens any more when the listener is dropped
}

/// Nobody would see that it lives again.
#[test]
fn without_checks_a_server_that_failed_gets_requests_when_it_is_back() {
    let (listener, behind) = listen();
    drop(listener);
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    for _ in 0..3 {
        assert_eq!(status(addr), "502");
    }
    let listener = listen_at(behind);
    expect_answer(addr, &listener);
    expect_end(server);
}

#[test]
fn failures_with_an_answer_between_them_are_not_in_a_row() {
    let (listener, behind) = listen();
    // Checks are far away.
    let (server, addr) = serve(&[behind], &["--every", "3600"]);
    let mut listener = Some(listener);
    for _ in 0..3 {
        listener = None;
        assert_eq!(status(addr), "502");
        expect_answer(addr, listener.insert(listen_at(behind)));
    }
    drop(listener);
    expect_end(server);
}
