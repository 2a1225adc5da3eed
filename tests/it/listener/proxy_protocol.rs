//! Connections that begin with a balancer's header: who they are for, what is refused, and what
//! becomes of those that have not said it yet.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use log::Level;
use waterwheel::proxy_protocol::ProxyProtocol;
use waterwheel::{Conn, ConnId, Limits, ListenOptions, Peer, ReactorOptions, Stats};

use crate::support::{Call, Client, End, Journal, Rig, Script, keep_log, logged, pattern};

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2 for the same client, with an option behind the addresses.
fn binary() -> Vec<u8> {
    let block = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 1, 187, 4, 0, 2, 9, 9];
    [SIGNATURE, &[0x21, 0x11, 0, block.len() as u8], &block].concat()
}

fn loopback() -> ProxyProtocol {
    ProxyProtocol::from_trusted(["127.0.0.1"]).unwrap()
}

fn options() -> ListenOptions {
    ListenOptions::default().proxy_protocol(Some(loopback()))
}

type Seen = Rc<RefCell<Vec<Peer>>>;

/// An echo that notes whom it accepts.
fn noting(seen: &Seen) -> Script {
    let seen = Rc::clone(seen);
    Script::echo().accept(move |peer| {
        seen.borrow_mut().push(*peer);
        true
    })
}

fn stats(rig: &Rig) -> Stats {
    rig.reactor.stats()
}

/// Connects, sends, and waits until the connection is open.
fn open(rig: &mut Rig, bytes: &[u8]) -> (Client, ConnId) {
    let before = rig.journal.opened().len();
    let mut client = Client::connect(rig.addr);
    client.send(bytes);
    rig.until("accepted", |rig| rig.journal.opened().len() > before);
    (client, rig.journal.last())
}

/// Connects, sends, and waits until the connection holds a slot or, if there is anything to be
/// read, has been read.
fn half_way(rig: &mut Rig, bytes: &[u8]) -> Client {
    let (slots, reads) = (stats(rig).connections, stats(rig).reads);
    let mut client = Client::connect(rig.addr);
    client.send(bytes);
    rig.until("half-way", |rig| {
        if bytes.is_empty() { stats(rig).connections > slots } else { stats(rig).reads > reads }
    });
    client
}

#[track_caller]
fn expect_reset(rig: &mut Rig, client: &mut Client) {
    assert_eq!(rig.read_to_end(client), (Vec::new(), End::Reset));
    rig.until("gone", |rig| stats(rig).connections == 0);
    assert_eq!(rig.journal.opened(), []);
}

#[test]
fn the_client_is_the_peer() {
    for header in [LINE.to_vec(), binary()] {
        let seen = Seen::default();
        let named = Rc::new(Cell::new(None));
        let note = Rc::clone(&named);
        let handler = noting(&seen).open(move |conn| note.set(Some(conn.peer_addr())));
        let mut rig = Rig::with_listen(handler, options());
        let (mut client, id) = open(&mut rig, &[&header[..], b"hello"].concat());
        rig.expect(&mut client, b"hello");
        assert_eq!(rig.journal.data_of(id), b"hello");
        let peer = seen.borrow()[0];
        assert_eq!(peer.addr, "192.0.2.7:4711".parse().unwrap());
        assert_eq!(peer.listener, rig.addr);
        assert_eq!(peer.proxy, Some(client.addr()));
        assert_eq!(peer.destination, Some("198.51.100.1:443".parse().unwrap()));
        assert_eq!(named.get(), Some(peer.addr));
        client.send(b" again");
        rig.expect(&mut client, b" again");
        assert_eq!((stats(&rig).accepted, stats(&rig).proxy_refused), (1, 0));
        client.finish();
        rig.expect_end(id, "Peer");
    }
}

#[test]
fn a_header_without_addresses_leaves_those_of_the_socket() {
    for header in [&b"PROXY UNKNOWN\r\n"[..], &[SIGNATURE, b"\x20\0\0\0"].concat()] {
        let seen = Seen::default();
        let mut rig = Rig::with_listen(noting(&seen), options());
        let (client, _) = open(&mut rig, header);
        let peer = seen.borrow()[0];
        assert_eq!((peer.addr, peer.proxy), (client.addr(), Some(client.addr())));
        assert_eq!(peer.destination, None);
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    for header in [LINE.to_vec(), binary()] {
        let seen = Seen::default();
        let mut rig = Rig::with_listen(noting(&seen), options());
        let mut client = half_way(&mut rig, &header[..1]);
        for (index, byte) in header.iter().enumerate().skip(1) {
            assert_eq!(rig.journal.calls(), [], "before byte {index}");
            let reads = stats(&rig).reads;
            client.send(&[*byte]);
            rig.until("a byte", |rig| stats(rig).reads > reads);
        }
        assert_eq!(rig.journal.calls(), [Call::Accept, Call::Open]);
        client.send(b"x");
        rig.expect(&mut client, b"x");
    }
}

#[test]
fn the_end_behind_a_header_is_an_end() {
    let mut rig = Rig::with_listen(Script::echo(), options());
    let mut client = Client::connect(rig.addr);
    client.send(LINE);
    client.finish();
    rig.until("the end", |rig| rig.journal.closes() == 1);
    let close = Call::Close("Peer".into(), 0);
    assert_eq!(rig.journal.calls(), [Call::Accept, Call::Open, Call::Eof, close]);
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
}

#[test]
fn much_may_follow_in_the_same_segment() {
    let mut rig = Rig::with_listen(Script::echo(), options());
    let bytes = pattern(1 << 20);
    let mut client = Client::connect(rig.addr);
    let mut input = [LINE, &bytes].concat();
    let mut echoed = Vec::new();
    rig.until("all of it", |_| {
        let sent = client.try_send(&input);
        input.drain(..sent);
        echoed.extend(client.try_read(1 << 20).unwrap());
        echoed.len() == bytes.len()
    });
    assert!(echoed == bytes);
}

#[test]
fn who_pauses_at_once_gets_the_rest_later() {
    let handler = Script::echo().open(|conn| {
        conn.pause_reading();
        conn.set_timer(Duration::from_millis(1), 0);
    });
    let handler = handler.timer(|conn, _| conn.resume_reading());
    let mut rig = Rig::with_listen(handler, options());
    let (mut client, id) = open(&mut rig, &[LINE, b"hello"].concat());
    assert_eq!(rig.journal.data_of(id), b"");
    rig.expect(&mut client, b"hello");
}

#[test]
fn who_pauses_and_resumes_at_once_gets_what_came_with_the_header() {
    let at_once = |conn: &mut Conn<'_>| {
        conn.pause_reading();
        conn.resume_reading();
    };
    let handler = Script::new().open(at_once).data(move |conn, _| {
        at_once(conn);
        1
    });
    let mut rig = Rig::with_listen(handler, options());
    let (_client, id) = open(&mut rig, &[LINE, b"abc"].concat());
    rig.until("all", |rig| rig.journal.data_of(id).ends_with(b"c"));
    rig.expect_quiet();
    assert_eq!(rig.journal.calls_of(id).len(), 4, "open, and each byte once in front");
}

#[test]
fn a_source_that_is_not_trusted_is_refused() {
    let elsewhere = ProxyProtocol::from_trusted(["192.0.2.0/24", "::1"]).unwrap();
    let options = ListenOptions::default().proxy_protocol(Some(elsewhere));
    let mut rig = Rig::with_listen(Script::echo(), options);
    let mut client = Client::connect(rig.addr);
    client.send(LINE);
    expect_reset(&mut rig, &mut client);
    assert_eq!((stats(&rig).refused, stats(&rig).proxy_refused), (1, 1));
}

#[test]
fn what_is_no_header_is_refused() {
    let too_long = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
    for bytes in [&b"GET / HTTP/1.0\r\n\r\n"[..], b"PROXY TCP4 no\r\n", &[b'P'; 300], &too_long] {
        let mut rig = Rig::with_listen(Script::echo(), options());
        let mut client = half_way(&mut rig, bytes);
        expect_reset(&mut rig, &mut client);
        assert_eq!((stats(&rig).refused, stats(&rig).proxy_refused), (1, 1));
        let (_client, _) = open(&mut rig, LINE); // the next is served
    }
}

#[test]
fn a_late_header_is_refused() {
    for bytes in [&b""[..], b"PROXY TCP4 192"] {
        let brief = loopback().header_timeout(Duration::from_millis(20));
        let options = ListenOptions::default().proxy_protocol(Some(brief));
        let mut rig = Rig::with_listen(Script::echo(), options);
        let mut client = half_way(&mut rig, bytes);
        expect_reset(&mut rig, &mut client);
        assert_eq!((stats(&rig).refused, stats(&rig).proxy_refused), (1, 1));
    }
}

/// Once the header is there, its deadline is none.
#[test]
fn an_open_connection_outlives_the_deadline_of_its_header() {
    let handler = Script::echo().open(|conn| {
        conn.set_timer(Duration::from_millis(60), 0);
    });
    let handler = handler.timer(|conn, _| {
        conn.write(b"still here");
    });
    let brief = loopback().header_timeout(Duration::from_millis(20));
    let options = ListenOptions::default().proxy_protocol(Some(brief));
    let mut rig = Rig::with_listen(handler, options);
    let (mut client, _) = open(&mut rig, LINE);
    rig.expect(&mut client, b"still here");
}

#[test]
fn one_that_ends_within_its_header_is_refused_and_one_before_it_is_passed_over() {
    let mut rig = Rig::with_listen(Script::echo(), options());
    for (bytes, refused) in [(&b""[..], 0), (b"PROXY ", 1)] {
        let client = half_way(&mut rig, bytes);
        drop(client); // with FIN
        rig.until("gone", |rig| stats(rig).connections == 0);
        assert_eq!((stats(&rig).refused, stats(&rig).proxy_refused), (refused, refused));
        let client = half_way(&mut rig, bytes);
        client.reset();
        rig.until("gone", |rig| stats(rig).connections == 0);
        assert_eq!(stats(&rig).proxy_refused, 2 * refused);
    }
    assert_eq!(rig.journal.calls(), []);
}

#[test]
fn clients_are_counted_and_not_their_balancer() {
    let mut rig = Rig::with_listen(Script::echo(), options().max_per_source(Some(1)));
    let (client, id) = open(&mut rig, LINE);
    let mut again = half_way(&mut rig, LINE);
    assert_eq!(rig.read_to_end(&mut again), (Vec::new(), End::Reset));
    assert_eq!((stats(&rig).refused, stats(&rig).proxy_refused), (1, 0));
    let (_other, _) = open(&mut rig, b"PROXY TCP4 192.0.2.8 198.51.100.1 4711 443\r\n");
    drop(client);
    rig.expect_end(id, "Peer");
    let (_client, _) = open(&mut rig, LINE);
}

/// One host has a whole network of IPv6.
#[test]
fn clients_of_one_ipv6_network_are_one_source() {
    let mut rig = Rig::with_listen(Script::echo(), options().max_per_source(Some(1)));
    let line = |client| format!("PROXY TCP6 {client} 2001:db8:f::1 4711 443\r\n");
    let (_client, _) = open(&mut rig, line("2001:db8::1").as_bytes());
    let mut neighbour = half_way(&mut rig, line("2001:db8::2").as_bytes());
    assert_eq!(rig.read_to_end(&mut neighbour), (Vec::new(), End::Reset));
    let (_other, _) = open(&mut rig, line("2001:db8:0:1::1").as_bytes());
    let (_mapped, _) = open(&mut rig, line("::ffff:192.0.2.7").as_bytes());
    let mut same = half_way(&mut rig, b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n");
    assert_eq!(rig.read_to_end(&mut same), (Vec::new(), End::Reset));
    assert_eq!(stats(&rig).refused, 2);
}

/// One that has not said for whom it is was not counted, and is not taken off.
#[test]
fn those_half_way_count_for_no_source() {
    let mut rig = Rig::with_listen(Script::echo(), options().max_per_source(Some(1)));
    let (_client, _) = open(&mut rig, b"PROXY UNKNOWN\r\n");
    let probe = half_way(&mut rig, b"");
    drop(probe);
    rig.until("gone", |rig| stats(rig).connections == 1);
    let mut again = half_way(&mut rig, b"PROXY UNKNOWN\r\n");
    assert_eq!(rig.read_to_end(&mut again), (Vec::new(), End::Reset));
}

#[test]
fn those_half_way_count_against_the_cap() {
    let mut rig = Rig::with_listen(Script::echo(), options().max_connections(Some(1)));
    let mut first = half_way(&mut rig, b"PROXY ");
    let mut second = Client::connect(rig.addr);
    assert_eq!(rig.read_to_end(&mut second), (Vec::new(), End::Reset));
    first.send(&LINE[b"PROXY ".len()..]);
    rig.until("open", |rig| rig.journal.opened().len() == 1);
    drop(first);
    rig.until("gone", |rig| stats(rig).connections == 0);
    let (_client, _) = open(&mut rig, LINE); // its place is free again
}

#[test]
fn a_handler_that_refuses_or_panics_ends_it_with_a_reset() {
    for panics in [false, true] {
        let is_first = Cell::new(true);
        let handler = Script::echo().accept(move |_| {
            let is_first = is_first.replace(false);
            assert!(!(is_first && panics), "on purpose");
            !is_first
        });
        let mut rig = Rig::with_listen(handler, options());
        rig.panics = u64::from(panics);
        let mut client = Client::connect(rig.addr);
        client.send(&[LINE, b"hello"].concat());
        expect_reset(&mut rig, &mut client);
        assert_eq!((stats(&rig).refused, stats(&rig).proxy_refused), (1, 0));
        let (_client, _) = open(&mut rig, LINE);
    }
}

#[test]
fn a_drain_lets_those_half_way_come_in() {
    let mut rig = Rig::with_listen(Script::echo(), options());
    let mut client = half_way(&mut rig, b"PROXY ");
    rig.reactor.context().drain(Duration::from_secs(600));
    rig.turn();
    client.send(&[&LINE[b"PROXY ".len()..], b"hello"].concat());
    rig.expect(&mut client, b"hello");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
    drop(client);
    rig.until("the end", |rig| !rig.reactor.run_once(Some(Duration::ZERO)).unwrap());
    assert_eq!(rig.journal.count(|call| matches!(call, Call::Close(..))), 1);
}

#[test]
fn a_stop_tells_nobody_of_those_half_way() {
    for drops in [false, true] {
        let mut rig = Rig::with_listen(Script::echo(), options());
        let mut clients = [half_way(&mut rig, b""), half_way(&mut rig, b"PROXY ")];
        if drops {
            drop(rig);
            clients.iter_mut().for_each(|client| client.expect_end(End::Reset));
        } else {
            rig.reactor.context().stop();
            assert!(!rig.reactor.run_once(None).unwrap());
            assert_eq!(stats(&rig).refused, 2);
            clients.iter_mut().for_each(|client| expect_reset(&mut rig, client));
        }
    }
}

#[test]
fn the_first_byte_is_waited_for_from_the_header_on() {
    let limits = Limits::default().first_byte_timeout(Some(Duration::from_millis(30)));
    let mut rig = Rig::with_listen(Script::echo(), options().limits(limits));
    let (_silent, id) = open(&mut rig, LINE);
    rig.expect_end(id, "Timeout(FirstByte)");
    // What came with the header is a first byte.
    let handler = Script::echo().timer(|conn, _| conn.abort()).open(|conn| {
        conn.set_timer(Duration::from_millis(60), 0);
    });
    let limits = Limits::default().first_byte_timeout(Some(Duration::from_millis(30)));
    let mut rig = Rig::with_listen(handler, options().limits(limits));
    let (_client, id) = open(&mut rig, &[LINE, b"hello"].concat());
    rig.expect_end(id, "Local");
}

#[test]
fn bad_options_are_told() {
    let error = ProxyProtocol::from_trusted(["everybody"]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("everybody"), "{error}");
    let error = ProxyProtocol::from_trusted([""; 0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let never = loopback().header_timeout(Duration::ZERO);
    let options = ListenOptions::default().proxy_protocol(Some(never));
    let mut rig = Rig::with(
        Script::new(),
        Journal::default(),
        ListenOptions::default(),
        ReactorOptions::default(),
    );
    let error = rig.reactor.listen("127.0.0.1:0", rig.service, options).unwrap_err();
    assert!(error.to_string().contains("header_timeout"), "{error}");
}

#[test]
fn the_log_tells_a_fin_within_the_header_from_a_reset() {
    keep_log();
    let mut rig =
        Rig::with(Script::echo(), Journal::default(), options(), ReactorOptions::default());
    for (end, wanted) in [(End::Fin, "closed by the peer"), (End::Reset, "reset by the peer")] {
        let mut client = half_way(&mut rig, b"");
        let addr = client.stream.local_addr().unwrap().to_string();
        match end {
            End::Fin => client.finish(),
            End::Reset => client.reset(),
        }
        rig.until("it is gone", |rig| stats(rig).connections == 0);
        let logged = logged(Level::Debug);
        let found =
            logged.iter().find(|text| text.contains(&addr) && text.contains("handshake was"));
        let found = found.expect("its end is logged");
        assert!(
            found.ends_with(&format!("{addr} {wanted}, before its handshake was done")),
            "{found}"
        );
    }
}

/// A refusal with words drops the layers, in which it is written who has a place.
#[test]
fn a_refusal_with_words_gives_the_place_of_its_handshake_back() {
    let script = Script::new().accept(|_| false).refuse(|_| b"full\n".to_vec());
    let mut rig = Rig::with_listen(script, options().max_handshakes(3));
    for host in 1..4 {
        let mut client = Client::connect(rig.addr);
        client.send(format!("PROXY TCP4 192.0.2.{host} 198.51.100.1 4711 443\r\n").as_bytes());
        assert_eq!(rig.read_to_end(&mut client), (b"full\n".to_vec(), End::Fin));
    }
    rig.until("all are gone", |rig| stats(rig).connections == 0);
    assert_eq!(stats(&rig).refused, 3);
    let _clients: Vec<_> = (0..3).map(|_| half_way(&mut rig, b"")).collect();
    assert_eq!((stats(&rig).refused, stats(&rig).connections), (3, 3));
}
