//! The broker as a process, and clients that want more of it than it should give.
#![cfg(unix)]

#[path = "../../../tests/examples/process.rs"]
mod process;
#[path = "../../../tests/examples/servers.rs"]
mod servers;

use std::io::Read;
use std::net::SocketAddr;

use process::Process;
use servers::Client;

fn serve() -> (Process, SocketAddr) {
    Process::start(env!("CARGO_BIN_EXE_mqtt_broker"), &["127.0.0.1:0"]).listening()
}

/// A text with its length before it.
fn field(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let length = [0, 7, 14].map(|shift| (body.len() >> shift) as u8 | 0x80);
    [&[first], &length[..2], &[length[2] & 0x7f], body].concat()
}

fn introduction(name: &str, will: Option<&str>) -> Vec<u8> {
    let flags = if will.is_some() { 6 } else { 2 };
    let will = will.map(|topic| [field(topic), field("gone")].concat()).unwrap_or_default();
    packet(0x10, &[field("MQTT"), vec![4, flags, 0, 60], field(name), will].concat())
}

#[track_caller]
fn connect(addr: SocketAddr, name: &str) -> Client {
    let mut client = Client::connect(addr);
    client.send(introduction(name, None));
    client.expect([0x20, 2, 0, 0]);
    client
}

fn retain(topic: &str, payload: &[u8]) -> Vec<u8> {
    packet(0x31, &[&field(topic), payload].concat())
}

#[test]
fn a_client_has_so_many_filters_and_no_more() {
    let (_broker, addr) = serve();
    let mut client = connect(addr, "greedy");
    let mut granted = Vec::new();
    for part in 0..12 {
        let filters = (0..100).flat_map(|at| [field(&format!("{part}/{at}")), vec![1]].concat());
        client.send(packet(0x82, &[0, 1].into_iter().chain(filters).collect::<Vec<_>>()));
        client.expect([0x90, 102, 0, 1]);
        let mut codes = [0; 100];
        client.stream.read_exact(&mut codes).unwrap();
        granted.extend(codes);
    }
    assert_eq!(granted, [[1; 1_000].as_slice(), &[0x80; 200]].concat());
    // One that is there is set anew.
    client.send(packet(0x82, &[&[0, 2][..], &field("3/3"), &[0]].concat()));
    client.expect([0x90, 3, 0, 2, 0]);
}

/// A thousand filters may have 64 MiB.
#[test]
fn the_filters_of_a_client_are_bounded_in_bytes() {
    let (_broker, addr) = serve();
    let mut client = connect(addr, "long");
    let long = |at: usize| format!("{at}{}", "x".repeat(59_999));
    // The fifth is one too many; the first is there already.
    for (at, code) in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 0x80), (0, 0), (5, 0x80)] {
        client.send(subscription(&[(&long(at), code & 1)]));
        client.expect([0x90, 3, 0, 1, code]);
    }
    // One that is not there makes no room, and each makes its own once.
    client.send(packet(0xa2, &[&[0, 7][..], &field(&long(4))].concat()));
    client.expect([0xb0, 2, 0, 7]);
    client.send(subscription(&[(&long(4), 0)]));
    client.expect([0x90, 3, 0, 1, 0x80]);
    client.send(packet(0xa2, &[&[0, 8][..], &field(&long(3)), &field(&long(3))].concat()));
    client.expect([0xb0, 2, 0, 8]);
    client.send(subscription(&[(&long(4), 0), (&long(5), 0)]));
    client.expect([0x90, 4, 0, 1, 0, 0x80]);
}

#[test]
fn what_is_retained_is_replaced_also_when_there_is_no_more_room() {
    let (_broker, addr) = serve();
    let mut client = connect(addr, "many");
    for part in 0..100 {
        let topics = (0..1_000).map(|at| retain(&format!("{part}/{at}"), b"old"));
        client.send(topics.collect::<Vec<_>>().concat());
    }
    client.send([retain("one/more", b"x"), retain("5/5", b"new")].concat());
    client
        .send(packet(0x82, &[&[0, 1][..], &field("one/more"), &[0], &field("5/5"), &[0]].concat()));
    client.expect([0x90, 4, 0, 1, 0, 0]);
    client.expect([&[0x31, 8][..], &field("5/5"), b"new"].concat());
    client.send([0xc0, 0]);
    client.expect([0xd0, 0]);
}

#[test]
fn what_is_retained_is_bounded_in_bytes() {
    let (_broker, addr) = serve();
    let mut client = connect(addr, "large");
    let payload = vec![b'x'; 250 << 10];
    for at in 0..300 {
        client.send(retain(&format!("large/{at:03}"), &payload));
    }
    client.send(retain("large/000", b"x"));
    client.send(retain("large/299", b"y"));
    client.send(packet(0x82, &[&[0, 1][..], &field("large/299"), &[0]].concat()));
    client.expect([0x90, 3, 0, 1, 0]);
    client.expect([&[0x31, 12][..], &field("large/299"), b"y"].concat());
    client.send(packet(0x82, &[&[0, 1][..], &field("large/298"), &[0]].concat()));
    client.expect([0x90, 3, 0, 1, 0]);
    client.send([0xc0, 0]);
    client.expect([0xd0, 0]); // 298 had no room
}

#[test]
fn a_will_is_of_one_topic() {
    let (_broker, addr) = serve();
    for topic in ["", "#", "a/+"] {
        let mut client = Client::connect(addr);
        client.send(introduction("dying", Some(topic)));
        let mut rest = Vec::new();
        let end = client.stream.read_to_end(&mut rest);
        assert!(rest.is_empty() && end.is_ok_and(|count| count == 0), "{topic:?}: {rest:?}");
    }
}

/// Sends the parts of an introduction as they are.
fn introduce(addr: SocketAddr, flags: u8, parts: &[&str]) -> Client {
    let mut client = Client::connect(addr);
    let parts: Vec<_> = parts.iter().flat_map(|part| field(part)).collect();
    client.send(packet(0x10, &[&field("MQTT"), &[4, flags, 0, 60][..], &parts].concat()));
    client
}

/// What comes before the broker lets the client go.
#[track_caller]
fn expect_let_go(mut client: Client, last: &[u8], why: &str) {
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, last, "{why}");
}

#[test]
fn a_will_has_the_qos_that_it_is_given() {
    let (_broker, addr) = serve();
    let mut heir = connect(addr, "heir");
    heir.send(subscription(&[("will/+", 1)]));
    heir.expect([0x90, 3, 0, 1, 1]);
    for (qos, will) in [(0, "will/0"), (1, "will/1")] {
        let mut client = introduce(addr, 6 | qos << 3, &["dying", will, "gone"]);
        client.expect([0x20, 2, 0, 0]);
        drop(client);
        let id = if qos == 1 { &[0, 1][..] } else { &[] };
        let length = 12 + id.len() as u8;
        heir.expect([&[0x30 | qos << 1, length][..], &field(will), id, b"gone"].concat());
    }
    for flags in [6 | 2 << 3, 6 | 3 << 3] {
        let client = introduce(addr, flags, &["dying", "will/2", "gone"]);
        expect_let_go(client, &[], "QoS 2 is not spoken");
    }
}

#[test]
fn flags_that_say_nothing_are_refused() {
    let (_broker, addr) = serve();
    for flags in [2 | 1, 2 | 1 << 3, 2 | 2 << 3, 2 | 0x20] {
        let client = introduce(addr, flags, &["odd"]);
        expect_let_go(client, &[], &format!("{flags:#b}"));
    }
}

#[test]
fn a_user_who_is_announced_is_named() {
    let (_broker, addr) = serve();
    introduce(addr, 2 | 0x80, &["a", "user"]).expect([0x20, 2, 0, 0]);
    introduce(addr, 2 | 0xc0, &["b", "user", "password"]).expect([0x20, 2, 0, 0]);
    for (flags, parts) in [
        (2 | 0x40, &["c", "password"][..]),
        (2 | 0x80, &["d"]),
        (2 | 0xc0, &["e", "user"]),
        (2 | 0x80, &["f", "user", "what is this"]),
    ] {
        expect_let_go(introduce(addr, flags, parts), &[], &format!("{flags:#x} {parts:?}"));
    }
}

#[test]
fn what_is_reserved_ends_the_connection_and_keeps_the_will() {
    let (_broker, addr) = serve();
    let mut heir = connect(addr, "heir");
    heir.send(subscription(&[("will", 0)]));
    heir.expect([0x90, 3, 0, 1, 0]);
    let odd = [
        packet(0xe1, &[]),
        packet(0xc1, &[]),
        packet(0x41, &[0, 1]),
        packet(0x38, &[&field("a")[..], b"sent again"].concat()),
        packet(0x32, &[&field("a")[..], &[0, 0]].concat()),
        packet(0x82, &[&[0, 0][..], &field("a"), &[0]].concat()),
        packet(0xa2, &[&[0, 0][..], &field("a")].concat()),
    ];
    for packet in odd {
        let mut client = introduce(addr, 6, &["dying", "will", "gone"]);
        client.expect([0x20, 2, 0, 0]);
        client.send(&packet);
        expect_let_go(client, &[], &format!("{packet:x?}"));
        heir.expect([&[0x30, 10][..], &field("will"), b"gone"].concat());
    }
    let mut client = introduce(addr, 6, &["dying", "will", "gone"]);
    client.expect([0x20, 2, 0, 0]);
    client.send([0xe0, 0]); // who says goodbye takes it back
    expect_let_go(client, &[], "goodbye");
    heir.send([0xc0, 0]);
    heir.expect([0xd0, 0]);
    let mut client = Client::connect(addr);
    client.send(packet(0x11, &[&field("MQTT"), &[4, 2, 0, 60][..], &field("odd")].concat()));
    expect_let_go(client, &[], "CONNECT");
}

#[test]
fn a_client_without_a_name_has_no_session_to_come_back_to() {
    let (_broker, addr) = serve();
    expect_let_go(introduce(addr, 0, &[""]), &[0x20, 2, 0, 2], "identifier rejected");
    introduce(addr, 2, &[""]).expect([0x20, 2, 0, 0]);
    introduce(addr, 0, &["named"]).expect([0x20, 2, 0, 0]);
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let (_broker, addr) = serve();
    let mut client = connect(addr, "odd");
    let right = ["#", "+", "/", "a/#", "/#", "+/#", "+/a/+", "$SYS/#", "a//b", "+//+"];
    let wrong = ["", "#/x", "a/#/b", "a+", "+a", "a/+b/c", "a#", "a/b#", "##", "#/#", "+#", "#/"];
    for (filters, code) in [(&right[..], 1), (&wrong, 0x80)] {
        let asked: Vec<_> = filters.iter().map(|&filter| (filter, 1)).collect();
        client.send(subscription(&asked));
        let granted = vec![code; filters.len()];
        client.expect([&[0x90, 2 + granted.len() as u8, 0, 1][..], &granted].concat());
    }
}

#[test]
fn who_subscribes_names_something() {
    let (_broker, addr) = serve();
    for first in [0x82, 0xa2] {
        let mut client = connect(addr, "silent");
        client.send(packet(first, &[0, 1]));
        expect_let_go(client, &[], &format!("{first:#x}"));
    }
}

#[test]
fn a_text_with_a_zero_is_refused() {
    let (_broker, addr) = serve();
    let in_name = introduce(addr, 2, &["a\0b"]);
    expect_let_go(in_name, &[], "a name");
    let zero = field("a\0b");
    for packet in [
        packet(0x30, &[&zero[..], b"x"].concat()),
        packet(0x82, &[&[0, 1], &zero[..], &[0]].concat()),
    ] {
        let mut client = connect(addr, "odd");
        client.send(packet);
        expect_let_go(client, &[], "a topic or a filter");
    }
}

/// What has 32,000 levels is compared as long as 32,000 that have one.
#[test]
fn topics_and_filters_have_so_many_levels_and_no_more() {
    let (_broker, addr) = serve();
    let (most, wild) = (["a"; 128].join("/"), ["+"; 128].join("/"));
    let (deeper, wilder) = (format!("{most}/a"), format!("{wild}/#"));
    let mut reader = connect(addr, "reader");
    reader.send(subscription(&[(&wild, 0), (&wilder, 0)]));
    reader.expect([0x90, 4, 0, 1, 0, 0x80]);
    let mut writer = connect(addr, "writer");
    writer.send(packet(0x30, &field(&most)));
    // 257 bytes, whose number takes two.
    reader.expect([&[0x30, 0x81, 2][..], &field(&most)].concat());
    let mut deep = connect(addr, "deep");
    deep.send(packet(0x30, &field(&deeper)));
    deep.expect_end();
    let mut dying = Client::connect(addr);
    dying.send(introduction("dying", Some(&deeper)));
    dying.expect_end();
}

/// A subscription to these, with their QoS.
fn subscription(filters: &[(&str, u8)]) -> Vec<u8> {
    let filters = filters.iter().flat_map(|(filter, qos)| [field(filter), vec![*qos]].concat());
    packet(0x82, &[0, 1].into_iter().chain(filters).collect::<Vec<_>>())
}

#[test]
fn a_subscription_brings_what_is_retained_for_it_and_not_for_earlier_ones() {
    let (_broker, addr) = serve();
    let mut client = connect(addr, "curious");
    let retained = packet(0x33, &[&field("a/b")[..], &[0, 9], b"x"].concat());
    client.send([retained, retain("c", b"y")].concat());
    client.expect([0x40, 2, 0, 9]);
    client.send(subscription(&[("#", 0), ("a/+", 1)]));
    client.expect([0x90, 4, 0, 1, 0, 1]);
    // Once, and with the better QoS of the two.
    client.expect([&[0x33, 8][..], &field("a/b"), &[0, 1], b"x"].concat());
    client.expect([&[0x31, 4][..], &field("c"), b"y"].concat());
    client.send(subscription(&[("c", 0)]));
    client.expect([0x90, 3, 0, 1, 0]);
    client.expect([&[0x31, 4][..], &field("c"), b"y"].concat());
    client.send([0xc0, 0]);
    client.expect([0xd0, 0]);
}

#[test]
fn a_topic_with_a_dollar_is_for_those_who_name_it() {
    let (_broker, addr) = serve();
    let mut client = connect(addr, "all");
    client.send(subscription(&[("#", 0), ("+/load", 0)]));
    client.expect([0x90, 4, 0, 1, 0, 0]);
    client.send([retain("$SYS/load", b"1"), retain("own/load", b"2")].concat());
    client.expect([&[0x30, 11][..], &field("own/load"), b"2"].concat());
    client.send(subscription(&[("$SYS/#", 0)]));
    client.expect([0x90, 3, 0, 1, 0]);
    client.expect([&[0x31, 12][..], &field("$SYS/load"), b"1"].concat());
}

#[test]
fn nothing_follows_a_goodbye() {
    let (_broker, addr) = serve();
    let mut client = connect(addr, "gone");
    let publish = packet(0x30, &[&field("late")[..], b"x"].concat());
    let mut reader = connect(addr, "reader");
    reader.send(subscription(&[("late", 0)]));
    reader.expect([0x90, 3, 0, 1, 0]);
    client.send([&[0xe0, 0], &publish[..]].concat());
    client.expect_end();
    reader.send([0xc0, 0]);
    reader.expect([0xd0, 0]);
}

/// Whether one of 1,000 filters has each of the retained topics takes a while.
fn many_filters() -> Vec<u8> {
    let filters: Vec<_> = (1..1_000).map(|at| format!("+/none{at}")).collect();
    let filters: Vec<_> = filters.iter().map(|it| (&it[..], 0)).chain([("+/a", 0)]).collect();
    subscription(&filters)
}

fn retain_many(client: &mut Client, count: usize) {
    let messages = (0..count).flat_map(|at| retain(&format!("{at:04}/a"), b"x"));
    client.send(messages.chain([0xc0, 0]).collect::<Vec<_>>());
    client.expect([0xd0, 0]);
}

#[test]
fn others_are_served_while_what_is_retained_is_looked_through() {
    const TOPICS: usize = 5_000;
    let (_broker, addr) = serve();
    let (mut busy, mut other) = (connect(addr, "busy"), connect(addr, "other"));
    retain_many(&mut busy, TOPICS);
    busy.send([&many_filters()[..], &[0xc0, 0]].concat());
    busy.stream.read_exact(&mut [0; 5 + 1_000]).unwrap();
    // It has begun, and what the other one says is retained before it has come so far.
    busy.expect([&[0x31, 9][..], &field("0000/a"), b"x"].concat());
    let last = field(&format!("{:04}/a", TOPICS - 1));
    other.send(packet(0x31, &[&last[..], b"y"].concat()));
    loop {
        let mut message = [0; 11];
        busy.stream.read_exact(&mut message).unwrap();
        if message[0] == 0x31 && message[2..10] == last {
            assert_eq!(message[10], b'y', "all of it was looked through at once");
            break;
        }
    }
    // Nor is anything lost that stood behind the subscription.
    busy.expect([0xd0, 0]);
}

/// None of the subscriptions takes long, and all of them together do.
#[test]
fn others_are_served_while_a_client_subscribes_again_and_again() {
    const SUBSCRIPTIONS: usize = 700;
    let (_broker, addr) = serve();
    let (mut busy, mut other) = (connect(addr, "busy"), connect(addr, "other"));
    retain_many(&mut busy, 5_000);
    busy.send(
        [subscription(&[("none", 0)]).repeat(SUBSCRIPTIONS), subscription(&[("late", 0)])].concat(),
    );
    busy.expect([0x90, 3, 0, 1, 0]);
    // It has begun.
    other.send([&retain("late", b"x")[..], &[0xc0, 0]].concat());
    other.expect([0xd0, 0]);
    for _ in 0..SUBSCRIPTIONS {
        busy.expect([0x90, 3, 0, 1, 0]);
    }
    // It is retained, and not new: it came before the last subscription.
    busy.expect([&[0x31, 7][..], &field("late"), b"x"].concat());
}

#[test]
fn others_are_served_while_a_client_says_much_that_is_compared_with_much() {
    let (_broker, addr) = serve();
    let (mut busy, mut other) = (connect(addr, "busy"), connect(addr, "other"));
    let filters: Vec<_> = (2..1_000).map(|at| format!("+/none{at}")).collect();
    let filters = filters.iter().map(|it| (&it[..], 0)).chain([("own", 0), ("other", 0)]);
    busy.send(subscription(&filters.collect::<Vec<_>>()));
    busy.stream.read_exact(&mut [0; 5 + 1_000]).unwrap();
    let own = packet(0x30, &field("own"));
    busy.send([&own[..], &packet(0x30, &field("a/b")).repeat(5_000), &own].concat());
    busy.expect([&[0x30, 5][..], &field("own")].concat());
    // It has begun.
    other.send(packet(0x30, &field("other")));
    busy.expect([&[0x30, 7][..], &field("other")].concat());
    busy.expect([&[0x30, 5][..], &field("own")].concat());
}

/// Ten messages of 128 levels take as long as a thousand that have one. A test thread that stalls
/// says too late that the work has begun, so it may try again.
#[test]
fn others_are_served_while_a_client_says_something_deep() {
    let (_broker, addr) = serve();
    let (mut busy, mut other) = (connect(addr, "busy"), connect(addr, "other"));
    let filters: Vec<_> = (0..998).map(|at| ["+"; 127].join("/") + &format!("/{at}")).collect();
    for filters in filters.chunks(499) {
        let filters: Vec<_> = filters.iter().map(|it| (&it[..], 0)).collect();
        busy.send(subscription(&filters));
        busy.stream.read_exact(&mut [0; 5 + 499]).unwrap();
    }
    busy.send(subscription(&[("own", 0), ("other", 0)]));
    busy.expect([0x90, 4, 0, 1, 0, 0]);
    let own = packet(0x30, &field("own"));
    let deep = packet(0x30, &field(&["a"; 128].join("/")));
    let comes_between = (0..50).any(|_| {
        busy.send([&own[..], &deep.repeat(9), &own].concat());
        busy.expect([&[0x30, 5][..], &field("own")].concat());
        // It has begun.
        other.send(packet(0x30, &field("other")));
        let mut next = [0; 2];
        busy.stream.read_exact(&mut next).unwrap();
        let (first, second) = if next[1] == 7 { ("other", "own") } else { ("own", "other") };
        busy.expect(field(first));
        busy.expect([&[0x30, second.len() as u8 + 2][..], &field(second)].concat());
        first == "other"
    });
    assert!(comes_between, "all of it was done at once");
}

/// More than is queued for a client at once, so that it has to read between.
#[test]
fn what_is_retained_waits_until_the_client_reads() {
    const MESSAGES: usize = 200;
    let (_broker, addr) = serve();
    let mut writer = connect(addr, "writer");
    let payload = vec![b'x'; 250 << 10];
    for at in 0..MESSAGES {
        writer.send(packet(0x33, &[&field(&format!("{at:03}"))[..], &[0, 9], &payload].concat()));
        writer.expect([0x40, 2, 0, 9]);
    }
    for (qos, id) in [(0, &[][..]), (1, &[0, 1])] {
        let mut reader = connect(addr, &format!("reader {qos}"));
        // What stands behind the subscription waits as well.
        reader.send([subscription(&[("+", qos)]), vec![0xc0, 0]].concat());
        reader.expect([0x90, 3, 0, 1, qos]);
        let others = [retain("other", b""), vec![0xc0, 0]].concat();
        writer.send(others);
        writer.expect([0xd0, 0]); // nobody else waits for the reader
        for at in 0..MESSAGES {
            let id = if id.is_empty() { vec![] } else { (at as u16 + 1).to_be_bytes().to_vec() };
            let head = [&field(&format!("{at:03}"))[..], &id].concat();
            let mut message = vec![0; 4 + head.len() + payload.len()];
            reader.stream.read_exact(&mut message).unwrap();
            assert_eq!(message[0], 0x31 | qos << 1);
            assert_eq!(message[4..4 + head.len()], head);
        }
        reader.expect([0xd0, 0]);
    }
}

/// Packets that came in the message of the subscription come by no other one.
#[test]
fn a_websocket_goes_on_behind_what_is_retained() {
    const HEAD: &str = "GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    let (_broker, addr) = serve();
    retain_many(&mut connect(addr, "first"), 30);
    let mut client = Client::connect(addr);
    client.send(HEAD);
    while !client.line().is_empty() {}
    let packets = [&introduction("web", None)[..], &many_filters(), &[0xc0, 0]].concat();
    let length = (packets.len() as u16).to_be_bytes();
    client.send([&[0x82, 0xfe][..], &length, &[0; 4], &packets].concat());
    client.expect([0x82, 4, 0x20, 2, 0, 0]);
    client.stream.read_exact(&mut [0; 4 + 5 + 1_000]).unwrap();
    for at in 0..30 {
        let topic = field(&format!("{at:04}/a"));
        client.expect([&[0x82, 11, 0x31, 9][..], &topic, b"x"].concat());
    }
    client.expect([0x82, 2, 0xd0, 0]);
}
