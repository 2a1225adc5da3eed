//! Connections as lanes, held against what clients did.

use std::net::{Shutdown, SocketAddr, TcpStream};

use waterwheel::inspect::Page;
use waterwheel::{Conn, Handler, HandlerKey, ListenOptions, Peer, Timer};

use super::json::Json;
use super::page::{ask, expect_status, fields, shown, view};
use super::rig::Rig;

/// Sends back what comes in, ends first if it is told so, and answers no end until it may.
#[derive(Default)]
struct Patient {
    may_close: bool,
}

impl Handler for Patient {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(input);
        if input == b"finish" {
            conn.shutdown_write();
        }
        input.len()
    }

    fn on_eof(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        conn.set_periodic_timer(std::time::Duration::from_millis(5), 0);
    }

    fn on_timer(&mut self, (): &mut (), conn: &mut Conn<'_>, _: Timer) {
        if self.may_close {
            conn.close();
        }
    }
}

/// A rig that is shown, with a patient handler beside the echo; a client of that, and a page that
/// watches.
#[track_caller]
fn half_closing() -> (Rig, Page, HandlerKey<Patient>, TcpStream, TcpStream) {
    let (mut rig, page) = shown();
    let patient = rig.reactor.register(Patient::default());
    rig.addr = rig.reactor.listen("127.0.0.1:0", patient, ListenOptions::default()).unwrap();
    let client = rig.client();
    let stream = ask(page.addr(), "/events", &fields(&page));
    (rig, page, patient, client, stream)
}

/// What a page is told of a lane, by its order.
#[derive(Debug, PartialEq)]
struct Lane<'a> {
    id: &'a Json,
    handler: u64,
    phase: &'a str,
    tcp: &'a str,
    is_asked: bool,
    bytes: [u64; 3],
    callbacks: u64,
    has_ended: bool,
    reason: Option<&'a str>,
    place: u64,
}

fn text(json: &Json) -> Option<&str> {
    match json {
        Json::Text(text) => Some(text),
        _ => None,
    }
}

fn addr(client: &TcpStream) -> SocketAddr {
    client.local_addr().unwrap()
}

/// The lane of the connection with this peer.
fn lane(view: &Json, peer: SocketAddr) -> Option<Lane<'_>> {
    let peer = peer.to_string();
    let lanes = view.at(&["lanes", "shown"]).list().iter().map(Json::list);
    let is_it = |(_, it): &(u64, &[Json])| text(&it[5]) == Some(&peer);
    let (place, it) = (0..).zip(lanes).find(is_it)?;
    Some(Lane {
        id: &it[0],
        handler: it[1].whole(),
        phase: text(&it[2]).unwrap(),
        tcp: text(&it[3]).unwrap(),
        is_asked: it[4] == Json::Flag(true),
        bytes: [it[8].whole(), it[9].whole(), it[10].whole()],
        callbacks: it[11].whole(),
        has_ended: it[7] != Json::Null,
        reason: text(&it[12]),
        place,
    })
}

/// How many callbacks the ticks of a lane have.
fn ticks(view: &Json, place: u64) -> u64 {
    let ticks = view.at(&["lanes", "ticks"]).list().iter().map(Json::list);
    let own = ticks.filter(|it| it[0].whole() == place);
    own.inspect(|it| assert!(matches!(text(&it[4]), Some("on_open" | "on_data")), "{it:?}"))
        .map(|it| it[3].whole())
        .sum()
}

#[test]
fn lanes_have_what_clients_did() {
    let (mut rig, page) = shown();
    let (mut one, mut other) = (rig.client(), rig.client());
    for _ in 0..3 {
        rig.echo(&mut one, b"hello");
    }
    for _ in 0..70 {
        rig.echo(&mut other, b"hello!");
    }
    let mut stream = ask(page.addr(), "/events", &fields(&page));
    // The first view has what was before.
    let seen = view(&mut rig, &mut stream, |_| true);
    assert_eq!(seen.at(&["lanes", "of"]).whole(), 2);
    for (client, messages, bytes) in [(&one, 3, 15), (&other, 70, 420)] {
        let lane = lane(&seen, addr(client)).expect("it has a lane");
        assert_eq!((lane.handler, lane.phase, lane.tcp), (0, "open", "ESTABLISHED"));
        assert_eq!((lane.bytes, lane.callbacks), ([bytes, bytes, 0], messages + 1));
        assert_eq!((lane.has_ended, lane.reason), (false, None));
        // Those that began together are one tick.
        assert_eq!(ticks(&seen, lane.place), messages + 1);
    }
    // What a page knows is not told again.
    rig.echo(&mut one, b"hello");
    let is_it = |view: &Json| lane(view, addr(&one)).is_some_and(|lane| lane.callbacks == 5);
    let seen = view(&mut rig, &mut stream, is_it);
    let [one, other] = [&one, &other].map(|client| lane(&seen, addr(client)).unwrap().place);
    assert_eq!((ticks(&seen, one), ticks(&seen, other)), (1, 0));
}

#[test]
fn a_peer_that_ends_is_seen_and_so_is_the_end_of_its_connection() {
    let (mut rig, _page, patient, client, mut stream) = half_closing();
    let peer = addr(&client);
    let is_up = |view: &Json| lane(view, peer).is_some_and(|it| it.tcp == "ESTABLISHED");
    view(&mut rig, &mut stream, is_up);
    client.shutdown(Shutdown::Write).unwrap();
    let is_half = |view: &Json| lane(view, peer).is_some_and(|it| it.tcp == "CLOSE_WAIT");
    let seen = view(&mut rig, &mut stream, is_half);
    let half = lane(&seen, peer).unwrap();
    assert_eq!((half.has_ended, half.is_asked), (false, cfg!(target_os = "linux")));
    rig.reactor.handler_mut(patient).unwrap().may_close = true;
    let has_ended = |view: &Json| lane(view, peer).is_some_and(|it| it.has_ended);
    let seen = view(&mut rig, &mut stream, has_ended);
    let ended = lane(&seen, peer).unwrap();
    assert_eq!((ended.phase, ended.tcp), ("ended", "CLOSED"));
    assert_eq!(ended.reason, Some("closed by the peer"));
    assert_eq!(seen.at(&["lanes", "of"]).whole(), 0, "the one that has ended does not count");
}

#[test]
fn an_end_of_ours_is_seen() {
    let (mut rig, _page, _, mut client, mut stream) = half_closing();
    let peer = addr(&client);
    rig.echo(&mut client, b"finish");
    let is_half = |view: &Json| lane(view, peer).is_some_and(|it| it.tcp.starts_with("FIN_WAIT"));
    let seen = view(&mut rig, &mut stream, is_half);
    let half = lane(&seen, peer).unwrap();
    assert_eq!((half.phase, half.is_asked), ("ending", cfg!(target_os = "linux")));
    assert_eq!(half.bytes, [6, 6, 0]);
    drop(client);
    let has_ended = |view: &Json| lane(view, peer).is_some_and(|it| it.has_ended);
    let seen = view(&mut rig, &mut stream, has_ended);
    assert_eq!(lane(&seen, peer).unwrap().reason, Some("closed by the peer"));
}

#[test]
fn a_reset_is_seen_with_its_reason() {
    let (mut rig, page) = shown();
    let mut stream = ask(page.addr(), "/events", &fields(&page));
    let mut client = rig.client();
    let peer = addr(&client);
    // What the client has not read when it closes makes it reset.
    rig.tell(&mut client, b"hello");
    let is_sent = |view: &Json| lane(view, peer).is_some_and(|it| it.bytes == [5, 5, 0]);
    view(&mut rig, &mut stream, is_sent);
    drop(client);
    let has_ended = |view: &Json| lane(view, peer).is_some_and(|it| it.has_ended);
    let seen = view(&mut rig, &mut stream, has_ended);
    assert_eq!(lane(&seen, peer).unwrap().reason, Some("reset by the peer"));
}

#[test]
fn there_are_forty_lanes_of_those_that_are_asked_for() {
    let (mut rig, page) = shown();
    let patient = rig.reactor.register(Patient::default());
    let second = rig.reactor.listen("127.0.0.1:0", patient, ListenOptions::default()).unwrap();
    let mut clients: Vec<_> = (0..45).map(|_| rig.client()).collect();
    rig.addr = second;
    let other = rig.client();
    let peers = |view: &Json| -> Vec<String> {
        let lanes = view.at(&["lanes", "shown"]).list().iter();
        lanes.map(|it| text(&it.list()[5]).unwrap().to_owned()).collect()
    };
    let told = |clients: &[TcpStream]| -> Vec<String> {
        clients.iter().map(|client| addr(client).to_string()).collect()
    };
    let look = |rig: &mut Rig, query: &str, of| {
        let mut stream = ask(page.addr(), &format!("/events{query}"), &fields(&page));
        let seen = view(rig, &mut stream, |_| true);
        assert_eq!(seen.at(&["lanes", "of"]).whole(), of, "{query}");
        peers(&seen)
    };
    assert_eq!(look(&mut rig, "?order=oldest", 46), told(&clients[..40]));
    let newest = look(&mut rig, "?order=newest", 46);
    assert_eq!((newest.len(), &newest[0]), (40, &addr(&other).to_string()));
    let key = format!("{patient:?}");
    let number: String = key.chars().filter(char::is_ascii_digit).collect();
    let of_second = look(&mut rig, &format!("?order=active&handler={number}"), 1);
    assert_eq!(of_second, [addr(&other).to_string()]);
    // The oldest ones are not shown without a reason: with one they are.
    rig.echo(&mut clients[0], b"hello");
    rig.echo(&mut clients[1], b"hello");
    let active = look(&mut rig, "", 46);
    assert_eq!(active.len(), 40);
    assert!(told(&clients[..2]).iter().all(|peer| active.contains(peer)));
    for query in ["?order=", "?order=x", "?handler=x", "?handler=-1", "?handler=4294967296"] {
        expect_status(&mut rig, &page, &format!("/events{query}"), &fields(&page), 400);
    }
    assert_eq!(look(&mut rig, "?handler=4294967295", 0), [""; 0], "no handler is of that number");
}
