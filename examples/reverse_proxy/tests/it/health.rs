//! Which servers behind the proxy get requests.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use crate::process::{PATIENCE, Process};
use crate::servers::{Client, expect_clean_end};
use crate::{OK, accept, expect_end, head, listen, serve};

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

/// Answers all that is asked on a connection, but hands it over when it is asked for `/held`.
fn serve_one(mut upstream: Client, is_ill: &AtomicBool, held: &Sender<Client>) {
    loop {
        let request = head(&mut upstream);
        match request.first().and_then(|line| line.split(' ').nth(1)) {
            Some("/held") => return held.send(upstream).unwrap(),
            Some("/health") if is_ill.load(Ordering::SeqCst) => {
                upstream.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
            }
            Some(_) => upstream.send(OK),
            None => return, // it has ended
        }
    }
}

/// A server whose checks can be made to fail, and its connections on which `/held` was asked.
fn serve_behind(listener: TcpListener) -> (Arc<AtomicBool>, Receiver<Client>) {
    let (is_ill, (sender, held)) = (Arc::new(AtomicBool::new(false)), channel());
    let shared = Arc::clone(&is_ill);
    thread::spawn(move || {
        loop {
            let (upstream, is_ill, sender) =
                (accept(&listener), Arc::clone(&shared), sender.clone());
            thread::spawn(move || serve_one(upstream, &is_ill, &sender));
        }
    });
    (is_ill, held)
}

/// Asks for what a server behind holds back.
#[track_caller]
fn ask_held(addr: SocketAddr) -> Client {
    let mut client = Client::connect(addr);
    client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    client
}

/// So a server is taken out before it is ended: it fails the checks, and answers what still comes.
#[test]
fn a_server_that_fails_its_checks_is_taken_out_also_if_it_answers_clients() {
    let (listener, behind) = listen();
    let (is_ill, held) = serve_behind(listener);
    let (server, addr) = serve(&[behind], &["--every", "0.05", "--check", "/health"]);
    let mut client = ask_held(addr);
    let mut upstream = held.recv_timeout(PATIENCE).unwrap();
    assert_eq!(status(addr), "200");
    is_ill.store(true, Ordering::SeqCst);
    let began = Instant::now();
    while status(addr) != "502" {
        assert!(began.elapsed() < PATIENCE, "it still gets requests");
    }
    // An answer to what was asked before does not bring it back.
    upstream.send(OK);
    assert_eq!(head(&mut client)[0], "HTTP/1.1 200 OK");
    assert_eq!(status(addr), "502");
    is_ill.store(false, Ordering::SeqCst);
    while status(addr) != "200" {
        assert!(began.elapsed() < PATIENCE, "it gets no requests");
    }
    drop((client, upstream));
    expect_end(server);
}

#[test]
fn a_late_answer_does_not_bring_a_server_back_that_takes_no_connections() {
    let (listener, behind) = listen();
    // Checks are far away.
    let (server, addr) = serve(&[behind], &["--every", "3600"]);
    let mut client = ask_held(addr);
    let mut upstream = accept(&listener);
    head(&mut upstream);
    drop(listener);
    for _ in 0..2 {
        assert_eq!(status(addr), "502");
    }
    upstream.send(OK);
    assert_eq!(head(&mut client)[0], "HTTP/1.1 200 OK");
    let listener = listen_at(behind);
    assert_eq!(status(addr), "502");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it was asked");
    drop((client, upstream));
    expect_end(server);
}
