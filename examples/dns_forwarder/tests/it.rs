//! The forwarder as a process, with a server upstream that counts.
#![cfg(unix)]

#[path = "../../../tests/examples/process.rs"]
mod process;

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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

/// A server upstream that a test answers for, a forwarder that asks it, and where that listens.
fn manual() -> (Process, UdpSocket, SocketAddr) {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let program = env!("CARGO_BIN_EXE_dns_forwarder");
    let at = server.local_addr().unwrap().to_string();
    let (process, addr) = Process::start(program, &["127.0.0.1:0", &at]).listening();
    (process, server, addr)
}

fn client(addr: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A query for `a.` with this id, and what stands behind the question.
fn query(id: u8, more: &[u8]) -> Vec<u8> {
    let head = [0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!more.is_empty())];
    [&head[..], &[1, b'a', 0, 0, 1, 0, 1], more].concat()
}

/// The next query that is asked upstream, and who asks.
#[track_caller]
fn asked(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 512];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), from)
}

/// Who can have the same question asked with many ids at once has as many chances to guess one.
#[test]
fn a_question_that_many_ask_is_asked_once() {
    let (_forwarder, server, addr) = manual();
    let clients: Vec<_> = (0..50).map(|_| client(addr)).collect();
    for (id, client) in (0..).zip(&clients) {
        client.send(&query(id, &[])).unwrap();
    }
    let (first, forwarder) = asked(&server);
    // One that asks again has it sent again, with the same id.
    clients[0].send(&query(0, &[])).unwrap();
    assert_eq!(asked(&server).0, first);
    // Another one that is asked behind them shows that no more came before.
    let marker = client(addr);
    let other = [&query(7, &[])[..13], b"z", &query(7, &[])[14..]].concat();
    marker.send(&other).unwrap();
    assert_eq!(asked(&server).0[2..], other[2..]);
    answer_all(&server, first, forwarder, &clients);
}

/// Answers what was asked upstream: every client hears of it under its own id, the first under 0.
#[track_caller]
fn answer_all(server: &UdpSocket, asked: Vec<u8>, forwarder: SocketAddr, clients: &[UdpSocket]) {
    let mut answer = asked;
    answer[2] |= 0x80;
    server.send_to(&answer, forwarder).unwrap();
    for (id, client) in (0..).zip(clients) {
        let mut buffer = [0; 512];
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!((length, &buffer[..2]), (answer.len(), &[0, id][..]));
    }
}

/// Else all who ask for a name that many want would wait for it in vain.
#[test]
fn a_question_that_was_lost_is_asked_again_for_those_who_come_later() {
    let (_forwarder, server, addr) = manual();
    let began = Instant::now();
    let (first, later) = (client(addr), client(addr));
    first.send(&query(0, &[])).unwrap();
    let lost = asked(&server).0;
    // Each with an id of its own, as one client after another that asks once.
    server.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut buffer = [0; 512];
    let (sent, (length, forwarder)) = (1..)
        .find_map(|id| {
            later.send(&query(id, &[])).unwrap();
            Some((id, server.recv_from(&mut buffer).ok()?))
        })
        .unwrap();
    // With the same id: one more would be one more to guess. And no flood of queries.
    assert_eq!(buffer[..length], lost);
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    let mut answer = lost;
    answer[2] |= 0x80;
    server.send_to(&answer, forwarder).unwrap();
    for (client, ids) in [(&first, 0..1), (&later, 1..sent + 1)] {
        for id in ids {
            client.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..2], [0, id]);
        }
    }
}

/// Options of a client's own make queries differ that are the same question.
#[test]
fn one_question_of_clients_with_cookies_is_asked_once_and_answers_all() {
    let (_forwarder, server, addr) = manual();
    let clients: Vec<_> = (0..20).map(|_| client(addr)).collect();
    let plain = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    for (id, client) in (0..).zip(&clients) {
        let cookie = [&plain[..10], &[5, 0, 10, 0, 1, id]].concat();
        client.send(&query(id, &cookie)).unwrap();
    }
    let (first, forwarder) = asked(&server);
    assert_eq!(first[2..], query(0, &plain)[2..], "a cookie is for the forwarder");
    let marker = client(addr);
    marker.send(&query(99, &[])).unwrap(); // it differs in what it can take
    assert_eq!(asked(&server).0[2..], query(0, &[])[2..]);
    answer_all(&server, first, forwarder, &clients);
}

/// Waits until the forwarder has read what a client has sent: a question of another kind, which it
/// refuses, is behind it.
#[track_caller]
fn expect_read(client: &UdpSocket) {
    client.send(&[&query(255, &[])[..2], &[0x29], &query(255, &[])[3..]].concat()).unwrap();
    let mut buffer = [0; 512];
    while buffer[..4] != [0, 255, 0xa9, 0x84] {
        client.recv(&mut buffer).unwrap();
    }
}

/// As many clients as may wait for an answer: 250 ids of each of four sockets, so many that no
/// kernel drops one of them.
fn crowd(addr: SocketAddr) -> [UdpSocket; 4] {
    [(); 4].map(|()| {
        let client = client(addr);
        for id in 0..250 {
            client.send(&query(id, &[])).unwrap();
        }
        expect_read(&client);
        client
    })
}

#[test]
fn one_client_too_many_for_a_question_is_told_of_a_failure() {
    let (_forwarder, server, addr) = manual();
    let (clients, late) = (crowd(addr), client(addr));
    let (mut answer, forwarder) = asked(&server);
    let mut buffer = [0; 512];
    late.send(&query(7, &[])).unwrap();
    let length = late.recv(&mut buffer).unwrap();
    let failure = [&[0, 7, 0x81, 0x82][..], &query(7, &[])[4..]].concat();
    assert_eq!(buffer[..length], failure);
    answer[2] |= 0x80;
    server.send_to(&answer, forwarder).unwrap();
    for client in &clients {
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(buffer[2..length], answer[2..]);
    }
}

/// Else one datagram that is lost upstream fails all of them.
#[test]
fn one_of_as_many_clients_as_may_wait_has_the_question_sent_again() {
    let (_forwarder, server, addr) = manual();
    let clients = crowd(addr);
    let lost = asked(&server).0;
    clients[0].send(&query(0, &[])).unwrap();
    let (mut answer, forwarder) = asked(&server);
    assert_eq!(answer, lost);
    answer[2] |= 0x80;
    server.send_to(&answer, forwarder).unwrap();
    let mut buffer = [0; 512];
    let length = clients[0].recv(&mut buffer).unwrap();
    assert_eq!(buffer[..length], [&[0, 0], &answer[2..]].concat(), "an answer, no failure");
}

/// Has more questions under way than answers are kept, since the server answers none.
fn flood(addr: SocketAddr) {
    let client = client(addr);
    for number in 0..12_000 {
        client.send(&query_for(number)).unwrap();
        if number % 100 == 99 {
            expect_read(&client); // else a kernel may drop some
        }
    }
}

#[test]
fn questions_that_get_no_answer_leave_room_for_those_that_do() {
    let (_forwarder, server, addr) = manual();
    let client = client(addr);
    client.send(&query(1, &[])).unwrap();
    let (question, forwarder) = asked(&server);
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 10, 0, 0, 1];
    let mut answer = [&question[..], &record].concat();
    (answer[2], answer[7]) = (0x80, 1);
    server.send_to(&answer, forwarder).unwrap();
    let mut buffer = [0; 512];
    client.recv(&mut buffer).unwrap();
    flood(addr);
    client.send(&query(2, &[])).unwrap();
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!((length, buffer[1]), (answer.len(), 2), "it was kept");
}

/// With a second id it would be twice as easy to forge, and who asked last would wait in vain.
#[test]
fn a_question_under_way_keeps_its_id_however_many_others_are() {
    let mut buffer = [0; 512];
    for _ in 0..5 {
        let (_forwarder, server, addr) = manual();
        let (first, last) = (client(addr), client(addr));
        first.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        first.send(&query(0, &[])).unwrap();
        let (mut answer, forwarder) = asked(&server);
        flood(addr);
        last.send(&query(1, &[])).unwrap();
        expect_read(&last);
        answer[2] |= 0x80;
        server.send_to(&answer, forwarder).unwrap();
        // On a slow machine it was given up by now, after 4 seconds, which proves nothing.
        let Ok(length) = first.recv(&mut buffer) else { continue };
        assert_eq!(buffer[..length], [&[0, 0], &answer[2..]].concat());
        let length = last.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], [&[0, 1], &answer[2..]].concat());
        return;
    }
    panic!("the question was given up each time");
}

/// A server that sends back what it was sent has not answered.
#[test]
fn a_query_is_no_answer() {
    let (_forwarder, server, addr) = manual();
    let client = client(addr);
    client.send(&query(1, &[])).unwrap();
    let (mut query, forwarder) = asked(&server);
    server.send_to(&query, forwarder).unwrap();
    query[2] |= 0x80;
    server.send_to(&query, forwarder).unwrap();
    let mut buffer = [0; 512];
    client.recv(&mut buffer).unwrap();
    assert_eq!(buffer[2] & 0x80, 0x80);
}

/// Who knew the port had but an id to guess.
#[test]
fn questions_leave_from_many_ports_which_change() {
    let (_forwarder, server, addr) = manual();
    let (client, begun, mut ports) = (client(addr), Instant::now(), HashSet::new());
    for number in 0.. {
        client.send(&query_for(number)).unwrap();
        ports.insert(asked(&server).1);
        if ports.len() > 16 {
            break; // all sixteen of the beginning, and one of later
        }
        assert!(begun.elapsed() < PATIENCE, "{} ports", ports.len());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_answer_to_another_port_is_none() {
    let (_forwarder, server, addr) = manual();
    let client = client(addr);
    client.send(&query(1, &[])).unwrap();
    let (question, from) = asked(&server);
    let other = (0..).map(|number| {
        client.send(&query_for(number)).unwrap();
        asked(&server).1
    });
    let other = { other }.find(|&other| other != from).unwrap();
    let answer = |address: u8| {
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 10, 0, 0, address];
        let mut answer = [&question[..], &record].concat();
        (answer[2], answer[7]) = (0x80, 1);
        answer
    };
    server.send_to(&answer(6), other).unwrap();
    server.send_to(&answer(1), from).unwrap();
    let mut buffer = [0; 512];
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(buffer[length - 4..length], [10, 0, 0, 1]);
}

#[test]
fn what_gets_no_answer_is_not_under_way() {
    let (_forwarder, _server, addr) = manual();
    let mut client = TcpStream::connect(addr).unwrap();
    // No queries, and one that cannot be asked: nobody listens upstream.
    for _ in 0..50 {
        client.write_all(&[0, 2, 0, 0]).unwrap();
    }
    client.write_all(&framed(&query(1, &[]))).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(next(&mut client), failure(&query(1, &[])));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// The next message of a stream.
#[track_caller]
fn next(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    message
}

/// The answer that a query has failed.
fn failure(query: &[u8]) -> Vec<u8> {
    [&query[..2], &[0x81, 0x82], &query[4..]].concat()
}

/// A query for a name of five digits.
fn query_for(number: usize) -> Vec<u8> {
    let name = format!("{number:05}");
    [&query(0, &[])[..12], &[5], name.as_bytes(), &[0, 0, 1, 0, 1]].concat()
}

/// A forwarder of what comes over TCP, and the server that it asks.
fn over_tcp() -> (Process, TcpListener, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap().to_string();
    let program = env!("CARGO_BIN_EXE_dns_forwarder");
    let (process, addr) = Process::start(program, &["127.0.0.1:0", &at]).listening();
    let client = TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (process, server, client)
}

/// The next connection upstream.
#[track_caller]
fn accept(server: &TcpListener) -> TcpStream {
    server.set_nonblocking(true).unwrap();
    let begun = Instant::now();
    let (stream, _) = loop {
        match server.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(begun.elapsed() < PATIENCE, "nothing is asked upstream");
                thread::sleep(Duration::from_millis(1));
            }
            accepted => break accepted.unwrap(),
        }
    };
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Each has a connection upstream, and the server there takes its time.
#[test]
fn questions_over_tcp_are_bounded_and_all_are_answered() {
    const MOST: usize = 256;
    let (_forwarder, server, client) = over_tcp();
    let upstreams = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&upstreams);
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in server.incoming() {
            held.push(stream.unwrap());
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let addr = client.peer_addr().unwrap();
    let mut clients: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        // As many as may be outstanding on a connection.
        let queries = (0..100).flat_map(|number| framed(&query_for(100 * at + number)));
        client.write_all(&queries.collect::<Vec<_>>()).unwrap();
    }
    for client in &mut clients {
        for _ in 0..100 {
            let answer = next(client);
            assert_eq!(answer[2..4], [0x81, 0x82], "{answer:?}");
        }
    }
    assert_eq!(upstreams.load(Ordering::SeqCst), MOST);
    // There is room again.
    clients[0].write_all(&framed(&query_for(1_000))).unwrap();
    assert_eq!(next(&mut clients[0]), failure(&query_for(1_000)));
    assert_eq!(upstreams.load(Ordering::SeqCst), MOST + 1);
}

/// A zone comes in many messages; the first one alone would be no answer, and would be kept.
#[test]
fn a_transfer_of_a_zone_is_refused_in_so_many_words() {
    let (_forwarder, server, mut client) = over_tcp();
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    for (kind, more) in [(252, &[][..]), (251, &[]), (252, &opt)] {
        let mut transfer = query(9, more);
        transfer[16] = kind;
        client.write_all(&framed(&transfer)).unwrap();
        let refused = next(&mut client);
        (transfer[2], transfer[3]) = (0x81, 0x84);
        assert_eq!(refused, transfer, "{kind}");
    }
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_server_that_hangs_up_without_an_answer_is_a_failure_at_once() {
    let (_forwarder, server, mut client) = over_tcp();
    let begun = Instant::now();
    for number in 0..10 {
        client.write_all(&framed(&query_for(number))).unwrap();
        let mut upstream = accept(&server);
        assert_eq!(next(&mut upstream)[2..], query_for(number)[2..]);
        drop(upstream);
        assert_eq!(next(&mut client), failure(&query_for(number)));
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

/// 10,000 answers may have 650 MB.
#[test]
fn the_cache_is_bounded_in_bytes() {
    const LARGE: usize = 60_000;
    const BRIEF: usize = 99_999; // it is never valid, and replaced each time
    let (_forwarder, server, mut client) = over_tcp();
    let mut ask = |number: usize, is_kept: bool| {
        client.write_all(&framed(&query_for(number))).unwrap();
        if !is_kept {
            let mut upstream = accept(&server);
            let mut answer = next(&mut upstream);
            (answer[2], answer[7]) = (0x80, 1);
            let ttl = if number == BRIEF { [0, 0] } else { [14, 16] };
            answer.extend([&[0xc0, 12, 0, 16, 0, 1, 0, 0][..], &ttl].concat());
            answer.extend((LARGE as u16).to_be_bytes());
            answer.resize(answer.len() + LARGE, b'x');
            upstream.write_all(&framed(&answer)).unwrap();
        }
        assert!(next(&mut client).len() > LARGE);
    };
    let most = (32 << 20) / (LARGE + 100);
    for number in 0..most {
        ask(number, false);
    }
    ask(0, true);
    for number in most..most + 10 {
        ask(number, false);
    }
    ask(0, true); // it was asked for again meanwhile
    ask(most, true);
    for _ in 0..most {
        ask(BRIEF, false);
    }
    ask(0, true);
    ask(1, false);
}

/// A tenth of all ids is taken.
#[test]
fn no_question_is_refused_because_an_id_is_taken() {
    let (_forwarder, _server, addr) = manual();
    let client = client(addr);
    let mut buffer = [0; 512];
    for number in 0..6_500 {
        client.send(&query_for(number)).unwrap();
        if number % 100 == 99 {
            let marker = [&query(255, &[])[..2], &[0x29], &query(255, &[])[3..]].concat();
            client.send(&marker).unwrap();
            client.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..4], [0, 255, 0xa9, 0x84], "no answer but that to the marker");
        }
    }
}
