//! What the peers of a listener are told that `on_accept` refuses.

#[cfg(feature = "proxy-protocol")]
use waterwheel::ListenOptions;

use crate::support::{Client, End, Rig, Script};

const WORDS: &[u8] = b"the room is full, try again later\n";

/// Accepts every second client, from the second on.
fn every_second() -> Script {
    let mut count = 0;
    let accept = move |_: &_| {
        count += 1;
        count % 2 == 0
    };
    Script::echo().accept(accept).refuse(|_| WORDS.to_vec())
}

#[track_caller]
fn expect_told(rig: &mut Rig, client: &mut Client) {
    let refused = rig.reactor.stats().refused;
    let told = rig.read_to_end(client);
    assert_eq!(told, (WORDS.to_vec(), End::Fin), "{}", String::from_utf8_lossy(&told.0));
    let error = client.stream.take_error().unwrap();
    assert!(error.is_none(), "a reset behind the words: {error:?}");
    assert_eq!(rig.reactor.stats().refused, refused + 1);
}

#[test]
fn a_refused_peer_reads_why_and_an_end_and_holds_nothing() {
    let mut rig = Rig::new(every_second());
    for round in 1..=3 {
        let mut refused = Client::connect(rig.addr);
        expect_told(&mut rig, &mut refused);
        assert_eq!(rig.reactor.stats().connections, 0);
        assert_eq!(rig.reactor.stats().accepted, round - 1);
        let (mut client, id) = rig.client();
        client.send(b"served");
        rig.expect(&mut client, b"served");
        client.finish();
        rig.expect_end(id, "Peer");
    }
    assert_eq!(rig.journal.opened().len(), 3, "the refused ones have no callback but on_accept");
}

/// To close a socket with unread input sends RST.
#[test]
fn what_the_peer_has_sent_already_does_not_cost_it_the_words() {
    let mut rig = Rig::new(every_second());
    let mut client = Client::connect(rig.addr);
    client.send(&[b'x'; 10_000]);
    expect_told(&mut rig, &mut client);
}

#[test]
fn words_of_the_greatest_length_are_told_and_longer_ones_are_not_told_in_part() {
    for (length, end) in [(4_096, End::Fin), (4_097, End::Reset)] {
        let words = vec![b'w'; length];
        let expected = if end == End::Fin { words.clone() } else { Vec::new() };
        let mut rig = Rig::new(Script::new().accept(|_| false).refuse(move |_| words.clone()));
        let mut client = Client::connect(rig.addr);
        assert!(rig.read_to_end(&mut client) == (expected, end), "{length}");
    }
}

#[test]
fn the_words_may_be_of_that_peer() {
    let script = Script::new().accept(|_| false).refuse(|peer| peer.addr.to_string().into());
    let mut rig = Rig::new(script);
    for _ in 0..2 {
        let mut client = Client::connect(rig.addr);
        let own = client.addr().to_string();
        assert_eq!(rig.read_to_end(&mut client), (own.into(), End::Fin));
    }
}

#[test]
fn a_panic_before_the_words_resets_and_the_others_are_served() {
    let mut is_first = true;
    let script = Script::new().accept(|_| false).refuse(move |_| {
        assert!(!std::mem::take(&mut is_first), "on purpose");
        WORDS.to_vec()
    });
    let mut rig = Rig::new(script);
    rig.panics = 1;
    let (mut first, mut second) = (Client::connect(rig.addr), Client::connect(rig.addr));
    assert_eq!(rig.read_to_end(&mut first), (Vec::new(), End::Reset));
    assert_eq!(rig.read_to_end(&mut second), (WORDS.to_vec(), End::Fin));
    assert_eq!(rig.reactor.stats().refused, 2);
}

#[cfg(unix)]
#[test]
fn over_a_unix_socket_too() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use waterwheel::unix::UnixListenOptions;

    let mut rig = Rig::new(Script::new().accept(|_| false).refuse(|_| WORDS.to_vec()));
    let path = std::env::temp_dir().join(format!("ww-refusal-{}.sock", std::process::id()));
    rig.reactor.listen_unix(&path, rig.service, UnixListenOptions::default()).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"hello").unwrap();
    rig.until("the refusal", |rig| rig.reactor.stats().refused == 1);
    let mut told = Vec::new();
    client.read_to_end(&mut told).unwrap();
    assert_eq!(told, WORDS);
}

/// Behind a layer there is a connection already, which ends as if the handler had closed it.
#[cfg(feature = "proxy-protocol")]
#[test]
fn behind_a_balancer_the_words_come_after_the_header() {
    use waterwheel::proxy_protocol::ProxyProtocol;
    let balancers = ProxyProtocol::from_trusted(["127.0.0.1"]).unwrap();
    let options = ListenOptions::default().proxy_protocol(Some(balancers));
    let words = |peer: &waterwheel::Peer| format!("no, {}\n", peer.addr).into_bytes();
    let mut rig = Rig::with_listen(Script::new().accept(|_| false).refuse(words), options);
    let mut client = Client::connect(rig.addr);
    client.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nhello");
    let told = rig.read_to_end(&mut client);
    assert_eq!(told, (b"no, 192.0.2.7:4711\n".to_vec(), End::Fin));
    client.finish();
    rig.until("the end", |rig| rig.reactor.stats().connections == 0);
    assert_eq!((rig.reactor.stats().refused, rig.journal.opened().len()), (1, 0));
    rig.expect_quiet();
}
