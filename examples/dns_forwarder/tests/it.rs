//! The forwarder as a process, with a server upstream that counts.
#![cfg(unix)]

#[path = "../../../tests/examples/process.rs"]
mod process;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use process::{PATIENCE, Process};

/// A server that knows all names, and counts what it is asked.
fn upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (addr, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 10, 0, 0, 1];
            let mut answer = [&buffer[..length], &record].concat();
            (answer[2], answer[7]) = (0x80, 1);
            socket.send_to(&answer, peer).unwrap();
        }
    });
    (addr, asked)
}

/// The forwarder, a client of it, and how often the server upstream was asked.
fn forwarder() -> (Process, UdpSocket, Arc<AtomicUsize>) {
    let (server, asked) = upstream();
    let program = env!("CARGO_BIN_EXE_dns_forwarder");
    let (process, addr) =
        Process::start(program, &["127.0.0.1:0", &server.to_string()]).listening();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    (process, socket, asked)
}

#[track_caller]
fn ask(socket: &UdpSocket, name: &str) {
    ask_with(socket, name, &[]);
}

/// Asks with what stands behind the question.
#[track_caller]
fn ask_with(socket: &UdpSocket, name: &str, more: &[u8]) {
    let additional = u8::from(!more.is_empty());
    let head = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, additional, name.len() as u8];
    socket.send(&[&head, name.as_bytes(), &[0, 0, 1, 0, 1], more].concat()).unwrap();
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).unwrap();
    assert!(answer[..length].ends_with(&[10, 0, 0, 1]));
}

/// Whoever asks for so many names would end the cache for all others.
#[test]
fn a_cache_that_was_full_once_keeps_what_comes_later() {
    let (_forwarder, socket, asked) = forwarder();
    for number in 0..10_001 {
        ask(&socket, &format!("name{number}"));
    }
    let before = asked.load(Ordering::SeqCst);
    for _ in 0..3 {
        ask(&socket, "later");
    }
    assert_eq!(asked.load(Ordering::SeqCst), before + 1);
}

/// An answer with signatures, or one of 4,096 bytes, is not for who has not asked for it (EDNS).
#[test]
fn an_answer_is_kept_for_those_who_ask_the_same_way() {
    let (_forwarder, socket, asked) = forwarder();
    let (small, large) =
        ([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0], [0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    let signed = [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0];
    for more in [&[][..], &small, &large, &signed] {
        let before = asked.load(Ordering::SeqCst);
        ask_with(&socket, "name", more);
        ask_with(&socket, "name", more);
        assert_eq!(asked.load(Ordering::SeqCst), before + 1, "{more:?}");
    }
}
