//! A layer between the socket and the handler: what passes through it, what it says by itself, and
//! how its connections begin and end. What the peer does by hand is what `TestLayer` says.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::sim::TestLayer;
use waterwheel::{ConnectOptions, Limits, ListenOptions, ReactorOptions, Reconnect, Written};

use crate::support::{Call, Client, End, Journal, Rig, Script, pattern, scratch_file};

fn options() -> ListenOptions {
    TestLayer::new().listen(ListenOptions::default())
}

fn rig(script: Script, options: ListenOptions) -> Rig {
    Rig::with(script, Journal::default(), options, ReactorOptions::default())
}

/// Connects, and goes through the handshake.
fn greeted(rig: &mut Rig) -> Client {
    let mut client = Client::connect(rig.addr);
    client.send(&TestLayer::hello());
    assert_eq!(rig.read(&mut client, TestLayer::ANSWER_BYTES).len(), TestLayer::ANSWER_BYTES);
    client.send(&TestLayer::confirmation());
    rig.until("it is open", |rig| !rig.journal.opened().is_empty());
    client
}

/// What a client is sent until the end: the plaintext, whether its end was said, and the end.
fn rest(rig: &mut Rig, client: &mut Client) -> (Vec<u8>, bool, End) {
    let (bytes, end) = rig.read_to_end(client);
    let (plain, is_whole) = TestLayer::plain(&bytes);
    (plain, is_whole, end)
}

#[test]
fn a_handler_sees_plaintext_and_is_asked_after_the_handshake() {
    let mut rig = rig(Script::echo(), options());
    let mut client = Client::connect(rig.addr);
    for byte in TestLayer::hello() {
        client.send(&[byte]);
        rig.turn();
    }
    rig.read(&mut client, TestLayer::ANSWER_BYTES);
    assert_eq!(rig.journal.calls(), [], "nobody is asked before");
    client.send(&[TestLayer::confirmation(), TestLayer::data(b"hel")].concat());
    rig.until("data", |rig| !rig.journal.opened().is_empty());
    let id = rig.journal.last();
    client.send(&[TestLayer::data(b"lo"), TestLayer::end()].concat());
    client.finish();
    assert_eq!(rest(&mut rig, &mut client), (b"hello".to_vec(), true, End::Fin));
    rig.expect_end(id, "Peer");
    assert_eq!(rig.journal.calls()[..2], [Call::Accept, Call::Open]);
}

#[test]
fn small_writes_of_a_callback_are_one_record() {
    let mut rig = rig(
        Script::new().data(|conn, input| {
            for byte in input {
                conn.write(&[*byte]);
            }
            input.len()
        }),
        options(),
    );
    let mut client = greeted(&mut rig);
    rig.until("the ticket", |rig| rig.reactor.stats().writes == 2);
    client.send(&TestLayer::data(&[7; 1_000]));
    rig.until("an answer", |rig| rig.reactor.stats().writes == 3);
    client.send(&TestLayer::end());
    client.finish();
    let (bytes, _) = rig.read_to_end(&mut client);
    let data = TestLayer::data(&[7; 1_000]);
    assert!(bytes.windows(data.len()).any(|part| part == data), "one record of 1,000 bytes");
}

/// Each part leaves by calls of its own.
#[test]
fn all_that_a_write_in_parts_has_sent_is_counted() {
    let script = Script::new().data(|conn, input| {
        let parts: [&[u8]; 3] = [&[1; 40_000], &[2; 40_000], &[3; 40_000]];
        assert!(conn.write_vectored(&parts).is_accepted());
        input.len()
    });
    let mut rig = rig(script, options());
    let mut client = greeted(&mut rig);
    rig.until("the ticket", |rig| rig.reactor.stats().writes == 2);
    client.send(&[TestLayer::data(b"?"), TestLayer::end()].concat());
    client.finish();
    let (bytes, _) = rig.read_to_end(&mut client);
    assert_eq!(TestLayer::plain(&bytes).0.len(), 120_000);
    let counted = rig.reactor.stats().bytes_written as usize;
    assert_eq!(counted, TestLayer::ANSWER_BYTES + bytes.len());
}

#[test]
fn much_in_both_directions_with_files_between_keeps_its_order() {
    let bytes = pattern(3 << 20);
    let (head, body) = bytes.split_at(1_000);
    let (file, tail) = body.split_at(2 << 20);
    let (head, file, tail) = (head.to_vec(), file.to_vec(), tail.to_vec());
    let script = Script::new().open(move |conn| {
        assert!(conn.write(&head).is_accepted());
        let file = scratch_file(&file);
        assert!(conn.send_file(file, ..2 << 20).unwrap().is_accepted());
        assert!(conn.write(&tail).is_accepted());
        assert_eq!(conn.pending_bytes(), 3 << 20);
    });
    let mut rig = rig(script.eof(|conn| conn.close()), options());
    let mut client = greeted(&mut rig);
    client.send(&[TestLayer::data(&bytes[..70_000]), TestLayer::end()].concat());
    let (plain, is_whole, end) = rest(&mut rig, &mut client);
    assert!(plain == bytes, "{} of {} bytes", plain.len(), bytes.len());
    assert_eq!((is_whole, end), (true, End::Fin));
    assert!(rig.journal.data_of(rig.journal.last()) == bytes[..70_000]);
}

#[test]
fn a_file_that_is_cut_short_ends_with_a_reset() {
    let script = Script::new().open(|conn| {
        let file = scratch_file(&[1; 1_000]);
        conn.send_file(file.try_clone().unwrap(), ..1_000).unwrap();
        file.set_len(10).unwrap();
    });
    let mut rig = rig(script, options());
    let mut client = greeted(&mut rig);
    let id = rig.journal.last();
    assert_eq!(rig.read_to_end(&mut client).1, End::Reset);
    let (reason, unsent) = rig.end_of(id);
    assert!(reason.contains("cut short") && unsent >= 990, "{reason} {unsent}");
}

#[test]
fn a_layer_answers_although_the_handler_is_silent() {
    let mut rig = rig(Script::new().data(|_, input| input.len()), options());
    let mut client = greeted(&mut rig);
    let before = rig.reactor.stats().writes;
    client.send(&TestLayer::ping());
    rig.until("an answer", |rig| rig.reactor.stats().writes > before);
    assert_eq!(rig.journal.data_of(rig.journal.last()), b"");
}

#[test]
fn a_fin_without_a_word_is_a_truncation_and_one_with_it_is_none() {
    for is_said in [false, true] {
        let seen = Rc::new(Cell::new(None));
        let told = Rc::clone(&seen);
        let script = Script::echo().eof(move |conn| {
            told.set(Some(conn.is_truncated()));
            conn.close();
        });
        let mut rig = rig(script, options());
        let mut client = greeted(&mut rig);
        client.send(&TestLayer::data(b"half"));
        if is_said {
            client.send(&TestLayer::end());
        }
        client.finish();
        assert_eq!(rest(&mut rig, &mut client), (b"half".to_vec(), true, End::Fin));
        assert_eq!(seen.get(), Some(!is_said));
    }
}

#[test]
fn the_end_waits_for_a_handler_that_has_paused() {
    let script = Script::new().data(|conn, input| {
        if input.len() > 1 {
            conn.pause_reading();
        }
        1
    });
    let mut rig = rig(script.eof(|conn| conn.close()), options());
    let mut client = greeted(&mut rig);
    let id = rig.journal.last();
    client.send(&[TestLayer::data(b"ab"), TestLayer::end()].concat());
    client.finish();
    rig.until("data", |rig| !rig.journal.data_of(id).is_empty());
    for _ in 0..5 {
        rig.turn();
    }
    assert!(!rig.journal.has(&Call::Eof), "not before it reads again");
    rig.reactor.context().conn(id).unwrap().resume_reading();
    rig.until("the end", |rig| rig.journal.has(&Call::Eof));
    let data: Vec<_> = rig.journal.calls_of(id).into_iter().take(4).collect();
    let (first, again) = (Call::Data(b"ab".to_vec()), Call::Data(b"b".to_vec()));
    assert_eq!(data[1..], [first, again, Call::Eof], "{data:?}");
}

#[test]
fn what_a_callback_leaves_that_pauses_and_resumes_is_delivered_without_new_bytes() {
    let script = Script::new().data(|conn, _| {
        conn.pause_reading();
        conn.resume_reading();
        1
    });
    let mut rig = rig(script, options());
    let mut client = greeted(&mut rig);
    let id = rig.journal.last();
    client.send(&[TestLayer::data(b"abc"), TestLayer::data(b"d")].concat());
    rig.until("all", |rig| rig.journal.has(&Call::Data(b"d".to_vec())));
    rig.expect_quiet();
    assert_eq!(rig.journal.calls_of(id).len(), 5, "open, and each byte once in front");
    client.send(&[TestLayer::data(b"efg"), TestLayer::end()].concat());
    client.finish();
    rig.expect_end(id, "Peer");
    let calls = rig.journal.calls_of(id);
    let data = [&b"efg"[..], b"fg", b"g"].map(|bytes| Call::Data(bytes.to_vec()));
    assert_eq!(calls[5..8], data);
    assert_eq!(calls[8], Call::Eof);
}

#[test]
fn shutdown_write_says_the_end_and_reading_goes_on() {
    let mut rig = rig(
        Script::new().open(|conn| {
            conn.write(b"bye");
            conn.shutdown_write();
            assert_eq!(conn.write(b"more"), Written::Closed);
        }),
        options(),
    );
    let mut client = greeted(&mut rig);
    let id = rig.journal.last();
    assert_eq!(rest(&mut rig, &mut client), (b"bye".to_vec(), true, End::Fin));
    client.send(&[TestLayer::data(b"still here"), TestLayer::end()].concat());
    client.finish();
    rig.expect_end(id, "Peer");
    assert_eq!(rig.journal.data_of(id), b"still here");
}

#[test]
fn an_idle_end_is_said_and_an_abort_is_not() {
    let limits = Limits::default().all_idle(Some(Duration::from_millis(20)));
    let mut rig_of_idle = rig(Script::new(), options().limits(limits));
    let mut client = greeted(&mut rig_of_idle);
    assert_eq!(rest(&mut rig_of_idle, &mut client), (vec![], true, End::Fin));
    let mut rig = rig(Script::new().open(|conn| conn.abort()), options());
    let mut client = greeted(&mut rig);
    let (_, is_whole, end) = rest(&mut rig, &mut client);
    assert_eq!((is_whole, end), (false, End::Reset));
}

/// The peer reads what was wrong, and then the end.
#[test]
fn a_handshake_that_fails_has_the_last_word() {
    for wrong in [&b"GET / HTTP/1.1\r\n\r\n"[..], &TestLayer::confirmation()] {
        let mut rig = rig(Script::echo(), options());
        let mut client = Client::connect(rig.addr);
        client.send(wrong);
        let (bytes, end) = rig.read_to_end(&mut client);
        assert_eq!((bytes.len(), bytes[0], end), (4, 9, End::Fin), "an alert");
        client.finish();
        rig.until("it is gone", |rig| rig.reactor.stats().connections == 0);
        let stats = rig.reactor.stats();
        assert_eq!((stats.refused, stats.handshakes_failed, stats.accepted), (1, 1, 0));
        assert_eq!(rig.journal.calls(), []);
    }
}

/// The peer reads what was wrong although it has sent far more, and then the end.
#[test]
fn a_record_that_is_wrong_is_told_to_the_peer_of_an_open_connection() {
    let mut rig = rig(Script::echo(), options());
    let mut client = greeted(&mut rig);
    let id = rig.journal.last();
    client.send(&[TestLayer::hello(), vec![7; 200_000]].concat());
    let (bytes, end) = rig.read_to_end(&mut client);
    assert_eq!((bytes[bytes.len() - 4], end), (9, End::Fin), "an alert");
    client.send(&[7; 100_000]);
    client.finish();
    let (reason, _) = rig.end_of(id);
    assert!(reason.contains("InvalidData"), "{reason}");
    assert_eq!(rig.reactor.stats().closed_broken, 1);
}

#[test]
fn a_late_handshake_is_refused() {
    let layer = TestLayer::new().timeout(Duration::from_millis(30));
    for sent in [vec![], TestLayer::hello()] {
        let mut rig = rig(Script::echo(), layer.clone().listen(ListenOptions::default()));
        let mut client = Client::connect(rig.addr);
        client.send(&sent);
        assert_eq!(rig.read_to_end(&mut client).1, End::Reset);
        assert_eq!(rig.reactor.stats().handshakes_failed, 1);
    }
}

/// One host that says nothing holds all places; another still gets in.
#[cfg(target_os = "linux")]
#[test]
fn the_source_with_most_handshakes_gives_its_oldest_up() {
    let mut rig = rig(Script::echo(), options().max_handshakes(3));
    let mut silent: Vec<Client> = (0..3).map(|_| Client::connect(rig.addr)).collect();
    rig.until("all hold a place", |rig| rig.reactor.stats().connections == 3);
    let other = connect_from("127.0.0.2:0", rig.addr);
    rig.until("the oldest is gone", |rig| rig.reactor.stats().handshakes_failed == 1);
    assert_eq!(rig.read_to_end(&mut silent[0]), (vec![], End::Reset));
    rig.until("it has gone", |rig| rig.reactor.stats().connections == 3);
    drop(other);
}

/// A place is for the handshake alone: those who are through have given theirs back.
#[test]
fn an_open_connection_gives_its_place_up_to_nobody() {
    let mut rig = rig(Script::echo(), options().max_handshakes(1));
    let mut clients = Vec::new();
    for open in 1..=4 {
        clients.push(greeted(&mut rig));
        rig.until("it is open", |rig| rig.journal.opened().len() == open);
    }
    for client in &mut clients {
        client.send(&[TestLayer::data(b"there"), TestLayer::end()].concat());
        client.finish();
        assert_eq!(rest(&mut rig, client), (b"there".to_vec(), true, End::Fin));
    }
    assert_eq!(rig.reactor.stats().handshakes_failed, 0);
}

#[cfg(target_os = "linux")]
fn connect_from(from: &str, to: std::net::SocketAddr) -> std::net::TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&from.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[test]
fn costly_handshakes_leave_time_for_those_who_are_connected() {
    let layer = TestLayer::new().costly(true);
    let mut rig = rig(Script::echo(), layer.listen(ListenOptions::default()));
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(rig.addr)).collect();
    rig.until("all are there", |rig| rig.reactor.stats().connections == 40);
    clients.iter_mut().for_each(|client| client.send(&TestLayer::hello()));
    let mut before = rig.reactor.stats().writes;
    rig.until("all are answered", |rig| {
        let writes = rig.reactor.stats().writes;
        assert!(writes - before <= 8, "{} steps in a turn", writes - before);
        before = writes;
        writes == 40
    });
}

/// Both ends are of this library.
fn connect(rig: &mut Rig, options: ConnectOptions) {
    let addr = rig.addr;
    rig.connect(addr, 0, &TestLayer::new().connect(options));
}

#[test]
fn an_outgoing_connection_is_open_after_its_handshake_and_sends_what_was_written_before() {
    let mut rig = rig(Script::echo().open(|conn| _ = conn.write(b"x")), options());
    connect(&mut rig, ConnectOptions::default());
    rig.until("both are open", |rig| rig.journal.opened().len() == 2);
    let opened = rig.journal.opened();
    rig.until("both have heard", |rig| opened.iter().all(|id| rig.journal.data_of(*id).len() > 3));
}

#[test]
fn a_handshake_that_the_server_ends_is_a_connect_that_fails_and_is_tried_again() {
    for (retries, tried) in [(None, 0), (Some(3), 2)] {
        let (listener, addr) = crate::support::listener();
        let mut rig = Rig::new(Script::new());
        let reconnect = retries.map(|most| {
            let delay = Duration::from_millis(1);
            Reconnect::default().base_delay(delay).max_delay(delay).max_attempts(Some(most))
        });
        let options = ConnectOptions::default().reconnect(reconnect);
        rig.connect(addr, 0, &TestLayer::new().connect(options));
        for _ in 0..retries.unwrap_or(1) {
            drop(rig.accept_at(&listener));
        }
        let failed = |call: &Call| matches!(call, Call::ConnectFailed(..));
        rig.until("it fails", |rig| rig.journal.count(failed) == 1);
        let last = rig.journal.calls().pop().unwrap();
        let Call::ConnectFailed(kind, text) = last else { panic!("{last:?}") };
        assert_eq!(kind, io::ErrorKind::ConnectionAborted);
        assert!(text.contains("in the handshake") && text.contains(&addr.to_string()), "{text}");
        assert_eq!(rig.journal.count(|call| matches!(call, Call::ConnectRetry(_))), tried);
    }
}

#[test]
fn a_connection_that_is_tried_again_has_nothing_of_the_broken_one() {
    let server = Rc::new(Cell::new(None));
    let is_server = server.clone();
    let script = Script::new().open(move |conn| match Some(conn.peer_addr()) == is_server.get() {
        true => conn.pause_reading(),
        false => _ = conn.write(b"hello"),
    });
    let mut rig = rig(script, options());
    server.set(Some(rig.addr));
    let (listener, first) = crate::support::listener();
    let delay = Duration::from_millis(1);
    let reconnect = Reconnect::default().base_delay(delay).max_delay(delay);
    let options = ConnectOptions::default().reconnect(Some(reconnect));
    let to = [first, rig.addr];
    let id = rig.connect(&to[..], 0, &TestLayer::new().connect(options));
    let mut broken = rig.accept_at(&listener);
    rig.expect(&mut broken, &TestLayer::hello()); // it is in its handshake
    broken.reset();
    drop(listener);
    rig.until("both are open", |rig| rig.journal.opened().len() == 2);
    rig.expect_quiet();
    assert_eq!(rig.journal.data_of(id), b"", "it has paused");
    rig.reactor.context().conn(id).unwrap().resume_reading();
    rig.until("data", |rig| rig.journal.data_of(id) == b"hello");
}

#[test]
fn the_time_to_connect_covers_the_handshake() {
    let (listener, addr) = crate::support::listener();
    let mut rig = Rig::new(Script::new());
    let options = ConnectOptions::default().timeout(Duration::from_millis(50));
    rig.connect(addr, 0, &TestLayer::new().connect(options));
    let silent = rig.accept_at(&listener);
    let failed = |call: &Call| matches!(call, Call::ConnectFailed(io::ErrorKind::TimedOut, _));
    rig.until("it fails", |rig| rig.journal.count(failed) == 1);
    drop(silent);
}

#[cfg(feature = "proxy-protocol")]
#[test]
fn a_balancer_s_header_comes_before_the_handshake() {
    use waterwheel::proxy_protocol::ProxyProtocol;
    let loopback = ProxyProtocol::from_trusted(["127.0.0.1"]).unwrap();
    let options = options().proxy_protocol(Some(loopback)).max_per_source(Some(1));
    let mut rig = rig(Script::echo(), options);
    let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
    let mut client = Client::connect(rig.addr);
    client.send(&[&header[..], &TestLayer::hello()].concat());
    rig.read(&mut client, TestLayer::ANSWER_BYTES);
    // The source is known and charged before the handshake is done.
    let mut again = Client::connect(rig.addr);
    again.send(header);
    assert_eq!(rig.read_to_end(&mut again), (vec![], End::Reset));
    client.send(&[TestLayer::confirmation(), TestLayer::data(b"hello")].concat());
    rig.until("it is open", |rig| !rig.journal.opened().is_empty());
    let id = rig.journal.last();
    let peer = rig.reactor.context().conn(id).unwrap().peer_addr();
    assert_eq!(peer, "192.0.2.7:4711".parse().unwrap());
    client.send(&TestLayer::end());
    client.finish();
    assert_eq!(rest(&mut rig, &mut client), (b"hello".to_vec(), true, End::Fin));
}
