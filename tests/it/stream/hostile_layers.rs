//! A layer between the socket and the handler, and peers that mean no good by it.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use waterwheel::sim::TestLayer;
use waterwheel::{
    ConnectOptions, Limits, ListenOptions, OnOverflow, ReactorOptions, Reconnect, TcpOptions,
    Written,
};

use crate::support::{Client, End, Journal, Rig, Script};

fn rig(script: Script, options: ListenOptions) -> Rig {
    Rig::with(script, Journal::default(), options, ReactorOptions::default())
}

fn options() -> ListenOptions {
    TestLayer::new().listen(ListenOptions::default())
}

/// Connects, and goes through the handshake.
fn greeted(rig: &mut Rig) -> Client {
    let mut client = Client::connect(rig.addr);
    client.send(&TestLayer::hello());
    rig.read(&mut client, TestLayer::ANSWER_BYTES);
    client.send(&TestLayer::confirmation());
    rig.until("it is open", |rig| !rig.journal.opened().is_empty());
    client
}

/// What a server says in its handshake.
fn answer() -> Vec<u8> {
    let mut rig = rig(Script::new(), options());
    let mut client = Client::connect(rig.addr);
    client.send(&TestLayer::hello());
    rig.read(&mut client, TestLayer::ANSWER_BYTES)
}

#[test]
fn what_came_before_a_bad_record_is_delivered() {
    let mut rig = rig(Script::echo(), options());
    let mut client = greeted(&mut rig);
    let id = rig.journal.last();
    client.send(&[TestLayer::data(b"last words"), TestLayer::hello()].concat());
    let (bytes, end) = rig.read_to_end(&mut client);
    assert_eq!((bytes[bytes.len() - 4], end), (9, End::Fin), "an alert, and nothing behind it");
    client.finish();
    let (reason, unsent) = rig.end_of(id);
    assert!(reason.contains("InvalidData"), "{reason}");
    // What the echo has said to it was refused.
    assert_eq!((rig.journal.data_of(id), unsent), (b"last words".to_vec(), 0));
}

/// What was accepted and can be sent no more is lost, and a reset says so.
#[test]
fn a_bad_record_behind_output_that_waits_resets() {
    let script = Script::new().data(|conn, input| {
        conn.write(&vec![7; 32 << 20]);
        input.len()
    });
    let limits = Limits::default().max_output_bytes(64 << 20).pause_at_high_mark(false);
    let mut rig = rig(script, options().limits(limits));
    let mut client = greeted(&mut rig);
    let id = rig.journal.last();
    client.send(&TestLayer::data(b"much, please"));
    rig.until("it waits", |rig| !rig.journal.data_of(id).is_empty());
    client.send(&TestLayer::hello());
    let (reason, unsent) = rig.end_of(id);
    assert!(reason.contains("InvalidData") && unsent > 0, "{reason}, {unsent} bytes");
    assert_eq!(rig.read_to_end(&mut client).1, End::Reset);
}

/// What the layer has to say of it cannot be sent any more: the peer has reset the connection, and
/// its last bytes are still to be read. They stand behind the fault, and are nobody's.
#[test]
fn nothing_is_decoded_behind_a_bad_record_whose_alert_meets_a_reset() {
    let script = Script::new().data(|conn, input| {
        // A record at a time: none waits that the layer has not encoded.
        if conn.pending_bytes() == 0 {
            conn.write(&[7; 8_000]);
        }
        input.len()
    });
    let tcp = TcpOptions::default().send_buffer_bytes(Some(64 << 10));
    let mut rig = rig(script, options().tcp(tcp));
    let mut client = greeted(&mut rig).with_small_receive_buffer();
    let id = rig.journal.last();
    let mut sends = 0;
    while rig.reactor.context().conn(id).unwrap().pending_bytes() == 0 {
        client.send(&TestLayer::data(b"more"));
        sends += 4;
        rig.until("more was seen", |rig| rig.journal.data_of(id).len() == sends);
    }
    client.send(&[TestLayer::data(b"left"), TestLayer::hello()].concat());
    rig.until("it fails", |rig| rig.reactor.context().conn(id).is_none_or(|it| !it.is_writable()));
    assert!(rig.lives(id), "its alert waits behind the record");
    client.send(&TestLayer::data(b"behind"));
    client.reset();
    let (reason, unsent) = rig.end_of(id);
    assert!(reason.contains("InvalidData") && unsent > 0, "{reason}, {unsent} bytes");
    assert!(rig.journal.data_of(id).ends_with(b"moreleft"), "{:?}", rig.journal.data_of(id));
}

fn reconnect() -> ConnectOptions {
    let delay = Duration::from_millis(1);
    let policy = Reconnect::default().base_delay(delay).max_delay(delay).max_attempts(Some(3));
    TestLayer::new().connect(ConnectOptions::default().reconnect(Some(policy)))
}

#[test]
fn nothing_of_a_failed_handshake_is_told_of_the_next_connection() {
    let answer = answer();
    let (listener, addr) = crate::support::listener();
    let mut rig = Rig::new(Script::new());
    rig.connect(addr, 0, &reconnect());
    let mut first = rig.accept_at(&listener);
    first.send(&[&answer[..], &TestLayer::data(b"stale"), &TestLayer::hello()].concat());
    let mut second = rig.accept_at(&listener);
    second.send(&[&answer[..], &TestLayer::data(b"fresh")].concat());
    rig.until("it is open", |rig| !rig.journal.opened().is_empty());
    let id = rig.journal.last();
    rig.until("data", |rig| rig.journal.data_of(id).len() >= 5);
    assert_eq!(rig.journal.data_of(id), b"fresh");
}

#[test]
fn a_handshake_that_fails_at_a_broken_socket_is_tried_again() {
    let answer = answer();
    let (listener, addr) = crate::support::listener();
    let mut rig = Rig::new(Script::new().connect_retry(|_, retry| {
        assert!(retry.error.to_string().contains("not expected"), "{retry:?}");
    }));
    rig.connect(addr, 0, &reconnect());
    let mut first = rig.accept_at(&listener);
    rig.read(&mut first, TestLayer::hello().len());
    first.send(&TestLayer::confirmation());
    first.reset(); // before the alert is written
    let mut second = rig.accept_at(&listener);
    second.send(&answer);
    rig.until("it is open", |rig| !rig.journal.opened().is_empty());
}

#[test]
fn what_follows_the_end_of_the_peer_is_ignored() {
    let script = Script::new().eof(|conn| {
        conn.write(b"bye");
        conn.close();
    });
    let mut rig = rig(script, options());
    let mut client = greeted(&mut rig);
    let id = rig.journal.last();
    client.send(&[TestLayer::end(), TestLayer::data(&[1; 50_000])].concat());
    rig.expect_end(id, "Peer");
    assert_eq!(rig.journal.data_of(id), b"");
}

/// A layer's answer stands behind output whose count is an upper bound.
#[test]
fn an_answer_of_the_layer_takes_no_room_of_the_handler() {
    const CAP: usize = 8 << 20;
    let limits = Limits::default()
        .high_mark_bytes(CAP)
        .max_output_bytes(CAP)
        .pause_at_high_mark(false)
        .on_overflow(OnOverflow::Refuse);
    let mut rig = rig(Script::new(), options().limits(limits));
    let mut client = greeted(&mut rig).with_small_receive_buffer();
    let id = rig.journal.last();
    let fill = |rig: &mut Rig| {
        for size in [1 << 20, 1 << 10, 1] {
            let piece = vec![0; size];
            while rig.reactor.context().conn(id).unwrap().write(&piece).is_accepted() {}
        }
    };
    for _ in 0..50 {
        fill(&mut rig);
        rig.turn();
    }
    fill(&mut rig);
    for _ in 0..20 {
        client.send(&TestLayer::ping());
        rig.turn();
        rig.turn();
        let mut cx = rig.reactor.context();
        let mut conn = cx.conn(id).unwrap();
        assert_eq!(conn.write(&[0; 100]), Written::Full, "{} are queued", conn.pending_bytes());
    }
}

/// As many clients come in one turn as a storm has.
#[test]
fn a_storm_does_not_overrun_the_places_for_handshakes() {
    let mut rig = rig(Script::echo(), options().max_handshakes(3));
    let clients: Vec<Client> = (0..30).map(|_| Client::connect(rig.addr)).collect();
    rig.until("all were seen", |rig| rig.reactor.stats().handshakes_failed >= 27);
    rig.turn();
    assert_eq!(rig.reactor.stats().connections, 3);
    assert_eq!(rig.reactor.stats().refused, 27);
    drop(clients);
}

#[test]
fn those_who_wait_for_a_costly_step_are_not_overtaken_for_ever() {
    let layer = TestLayer::new().costly(true);
    let mut rig = rig(Script::echo(), layer.listen(ListenOptions::default()));
    let mut clients: Vec<Client> = (0..120).map(|_| Client::connect(rig.addr)).collect();
    rig.until("all are there", |rig| rig.reactor.stats().connections == 120);
    let (early, late) = clients.split_at_mut(20);
    early.iter_mut().for_each(|client| client.send(&TestLayer::hello()));
    for eight in late.chunks_mut(8).take(6) {
        eight.iter_mut().for_each(|client| client.send(&TestLayer::hello()));
        rig.turn();
    }
    let answered = |client: &mut Client| !client.try_read(1 << 10).unwrap().is_empty();
    assert_eq!(early.iter_mut().filter_map(|client| answered(client).then_some(())).count(), 20);
}

#[test]
fn a_record_that_never_ends_is_an_incomplete_message() {
    let limits = Limits::default().message_timeout(Some(Duration::from_millis(30)));
    let mut rig = rig(Script::echo(), options().limits(limits));
    let mut client = greeted(&mut rig);
    let id = rig.journal.last();
    // A record that takes longer than the rest of it may, without a stop, is in time.
    for byte in TestLayer::data(b"x") {
        client.send(&[byte]);
        rig.turn();
    }
    rig.until("data", |rig| rig.journal.data_of(id) == b"x");
    for _ in 0..40 {
        rig.turn();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(rig.lives(id), "no message is incomplete");
    client.send(&TestLayer::data(&[1; 1_000])[..2]);
    let (reason, _) = rig.end_of(id);
    assert!(reason.contains("Timeout(Message)"), "{reason}");
}

/// One that has failed and waits for its peer's end gives its place up without a second word.
#[test]
fn a_failed_handshake_is_counted_once() {
    let mut rig = rig(Script::echo(), options().max_handshakes(1));
    let mut wrong = Client::connect(rig.addr);
    wrong.send(b"GET /");
    rig.until("it has failed", |rig| rig.reactor.stats().handshakes_failed == 1);
    let silent = Client::connect(rig.addr);
    rig.until("both are there", |rig| rig.reactor.stats().connections_peak == 2);
    for _ in 0..5 {
        rig.turn();
    }
    let stats = rig.reactor.stats();
    assert_eq!((stats.refused, stats.handshakes_failed), (1, 1));
    drop(silent);
}

/// A balancer's header and a hello come in one piece.
#[cfg(feature = "proxy-protocol")]
#[test]
fn a_costly_step_behind_a_header_counts_as_one() {
    use waterwheel::proxy_protocol::ProxyProtocol;
    let loopback = ProxyProtocol::from_trusted(["127.0.0.1"]).unwrap();
    let layer = TestLayer::new().costly(true);
    let options = layer.listen(ListenOptions::default().proxy_protocol(Some(loopback)));
    let mut rig = rig(Script::echo(), options);
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(rig.addr)).collect();
    rig.until("all are there", |rig| rig.reactor.stats().connections == 40);
    let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
    let bytes = [&header[..], &TestLayer::hello()].concat();
    clients.iter_mut().for_each(|client| client.send(&bytes));
    let mut before = rig.reactor.stats().writes;
    rig.until("all are answered", |rig| {
        let writes = rig.reactor.stats().writes;
        assert!(writes - before <= 8, "{} steps in a turn", writes - before);
        before = writes;
        writes == 40
    });
}

/// A server may speak in the same breath in which it ends its handshake.
#[test]
fn data_behind_a_server_s_handshake_is_the_first_byte() {
    let answer = answer();
    let (listener, addr) = crate::support::listener();
    let mut rig = Rig::new(Script::new());
    let limits = Limits::default().first_byte_timeout(Some(Duration::from_millis(30)));
    let options = ConnectOptions::default().limits(limits);
    let id = rig.connect(addr, 0, &TestLayer::new().connect(options));
    let mut server = rig.accept_at(&listener);
    server.send(&[&answer[..], &TestLayer::data(b"hello")].concat());
    rig.until("data", |rig| rig.journal.data_of(id) == b"hello");
    for _ in 0..60 {
        rig.turn();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(rig.lives(id), "{:?}", rig.journal.calls());
}

/// Drains and stops with handshakes under way, on both sides.
#[test]
fn a_drain_waits_for_handshakes_and_ends_those_that_go_out() {
    let (listener, addr) = crate::support::listener();
    let mut rig = rig(Script::new(), options());
    let mut client = Client::connect(rig.addr);
    client.send(&TestLayer::hello());
    rig.read(&mut client, TestLayer::ANSWER_BYTES);
    let id = rig.connect(addr, 0, &reconnect());
    let mut server = rig.accept_at(&listener);
    rig.read(&mut server, TestLayer::hello().len());
    rig.reactor.context().drain(Duration::from_secs(5));
    rig.turn();
    assert!(!rig.lives(id), "an outgoing one ends");
    client.send(&TestLayer::confirmation());
    let (_, end) = rig.read_to_end(&mut client);
    assert_eq!(end, End::Fin);
    assert_eq!(rig.journal.opened().len(), 1);
}

/// Every place and every cap comes back, however a handshake ends.
#[test]
fn places_and_caps_come_back() {
    let layer = TestLayer::new().timeout(Duration::from_millis(20));
    let options = layer.listen(ListenOptions::default());
    let options = options.max_handshakes(4).max_connections(Some(8)).max_per_source(Some(8));
    let mut rig = rig(Script::new().accept(|peer| peer.addr.port() % 2 == 0), options);
    let whole = [TestLayer::hello(), TestLayer::confirmation()].concat();
    for round in 0..30 {
        let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(rig.addr)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            match (number + round) % 6 {
                // Some are refused already.
                0 => _ = client.stream.write(b"GET /"),
                1 => _ = client.stream.write(&TestLayer::hello()),
                2 => _ = client.stream.write(&whole),
                3 => _ = client.stream.shutdown(Shutdown::Write),
                4 => _ = client.stream.write(&whole[..20]),
                _ => {}
            }
            if round % 2 == 0 {
                rig.turn();
            }
        }
        if round % 3 == 0 {
            rig.turn();
        }
        drop(clients);
        rig.turn(); // the last are accepted
        rig.until("all are gone", |rig| rig.reactor.stats().connections == 0);
    }
    // As many as the caps allow get in.
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(rig.addr)).collect();
    rig.until("they are here", |rig| rig.reactor.stats().connections == 4);
    let refused = rig.reactor.stats().refused;
    clients.iter_mut().for_each(|client| client.send(&TestLayer::hello()));
    clients.iter_mut().for_each(|client| {
        rig.read(client, TestLayer::ANSWER_BYTES);
    });
    assert_eq!(rig.reactor.stats().refused, refused);
}
