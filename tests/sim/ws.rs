//! WebSockets in simulated worlds: frames cut anywhere, messages in fragments, peers that break
//! each rule, peers that do not read, and a client of ours that compresses.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::http::{self, Router, Server};
use waterwheel::sim::{Dice, Faults, PeerEnd, PeerId, Script, Seeds, Simulation};
use waterwheel::ws::{
    self, Client, CloseCode, Deflate, Ended, Endpoint, Kind, Message, Options, Part, Parts,
    Request, Socket,
};
use waterwheel::{ConnectOptions, Context, Limits, ListenOptions, Timer};

/// Max size of a message at the server.
const LIMIT: usize = 40_000;

/// Max frames of one.
const FRAMES: usize = 8;

/// The number of a peer that the server holds back for long.
const STALLED: u64 = 7_777;

/// What has become of a WebSocket of the server.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    opened: u32,
    closed: u32,
    code: u16,
    is_clean: bool,
    /// Bytes of frames with messages that were accepted, and of all frames that were lost.
    accepted: usize,
    unsent: usize,
}

/// By the number in the path.
type Fates = Rc<RefCell<HashMap<u64, Fate>>>;

struct App {
    fates: Fates,
    dice: Dice,
    /// Messages of which parts have come, by the number in the path.
    parts: HashMap<u64, Vec<u8>>,
}

impl App {
    fn with(&self, number: u64, change: impl FnOnce(&mut Fate)) {
        change(self.fates.borrow_mut().entry(number).or_default());
    }
}

/// Bytes of a frame of a server.
fn framed(length: usize) -> usize {
    length
        + if length > 0xffff {
            10
        } else if length > 125 {
            4
        } else {
            2
        }
}

impl ws::Handler for App {
    type State = u64;

    fn on_open(&mut self, number: &mut u64, _: &mut Socket<'_>) {
        self.with(*number, |fate| fate.opened += 1);
    }

    fn on_message(&mut self, number: &mut u64, socket: &mut Socket<'_>, message: Message<'_>) {
        assert!(socket.is_open(), "a message behind the Close frame");
        let mut accepted = 0;
        match message {
            Message::Text("bye") => return socket.close(CloseCode::new(3001).unwrap(), "bye"),
            Message::Text("flood") => {
                for _ in 0..20 {
                    if socket.send_binary(&[7; 10_000]).is_accepted() {
                        accepted += framed(10_000);
                    }
                }
            }
            Message::Text("parts") => {
                for (part, is_last) in [("a", false), ("", false), ("bc", true)] {
                    socket.send_part(Kind::Text, part.as_bytes(), is_last);
                }
            }
            echoed => {
                if socket.send(echoed).is_accepted() {
                    accepted += framed(echoed.bytes().len());
                }
            }
        }
        self.with(*number, |fate| fate.accepted += accepted);
    }

    /// Puts the parts together, and pauses now and then: a `STALLED` peer for long.
    fn on_part(&mut self, number: &mut u64, socket: &mut Socket<'_>, part: Part<'_>) {
        assert!(socket.is_open(), "a part behind the Close frame");
        let bytes = self.parts.entry(*number).or_default();
        assert!(!part.is_first || bytes.is_empty(), "a message within a message");
        bytes.extend(part.content.bytes());
        let is_long = *number == STALLED && part.is_first;
        if is_long || self.dice.one_in(4) {
            socket.pause_reading();
            let wait = if is_long { 300_000 } else { self.dice.spread(1, 40) };
            socket.set_timer(Duration::from_millis(wait), 0);
        }
        if part.is_last {
            let bytes = std::mem::take(bytes);
            let message = match part.content.kind() {
                Kind::Text => Message::Text(std::str::from_utf8(&bytes).expect("a text")),
                Kind::Binary => Message::Binary(&bytes),
            };
            self.on_message(number, socket, message);
        }
    }

    fn on_timer(&mut self, _: &mut u64, socket: &mut Socket<'_>, _: Timer) {
        socket.resume_reading();
    }

    fn on_close(&mut self, number: u64, ended: Ended<'_>, _: &mut Context<'_>) {
        self.with(number, |fate| {
            fate.closed += 1;
            assert_eq!((fate.opened, fate.closed), (1, 1), "on_close is not once per on_open");
            fate.code = ended.code.get();
            fate.is_clean = ended.is_clean;
            fate.unsent = ended.closed.unsent_bytes;
        });
    }
}

fn server(sim: &mut Simulation, options: Options, fates: &Fates) -> io::Result<SocketAddr> {
    let app = App { fates: Rc::clone(fates), dice: sim.dice(), parts: HashMap::new() };
    let endpoint = Endpoint::new(options);
    let routes = Router::new().get("/ws/{n}", move |_: &mut App, req, res| {
        let number = req.param("n").parse().expect("a number");
        endpoint.upgrade(req, res, number);
    });
    let (_, addr) = sim.host("server", |reactor| {
        let server = reactor.register(Server::new(app, routes));
        let limits = http::limits().max_output_bytes(1 << 20);
        reactor.listen("0.0.0.0:80", server, ListenOptions::default().limits(limits))
    })?;
    Ok(addr)
}

// A peer with a script, and a codec that shares nothing with the library's.

/// What comes from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    /// The status of an answer that is no 101.
    Refused(u16),
    Frame(u8, Vec<u8>),
    /// A Close frame, with its code if it has one.
    Close(Option<u16>),
}

/// A frame of a client, with the head as it is.
fn frame(dice: &Dice, first: u8, payload: &[u8]) -> Vec<u8> {
    let key = (dice.below(1 << 32) as u32).to_be_bytes();
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(key);
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A text or bytes, of any length up to the limit.
fn content(dice: &Dice) -> (u8, Vec<u8>) {
    let most = [10, 200, LIMIT as u64 - 10][dice.below(3) as usize];
    let length = dice.below(most) as usize;
    if dice.one_in(2) {
        let begin = dice.below(256) as usize;
        return (2, (begin..begin + length).map(|byte| byte as u8).collect());
    }
    // Characters of one byte to four, which fragments divide.
    let text: String = "aä€😀".chars().cycle().take(length / 3).collect();
    (1, text.into_bytes())
}

/// A message in one frame or in fragments, pings between them; with what comes back.
fn message(dice: &Dice, wanted: &mut Vec<Item>) -> Vec<u8> {
    if dice.one_in(8) {
        wanted.push(Item::Frame(0x01, b"a".to_vec()));
        wanted.push(Item::Frame(0x00, Vec::new()));
        wanted.push(Item::Frame(0x80, b"bc".to_vec()));
        return frame(dice, 0x81, b"parts");
    }
    let (opcode, payload) = content(dice);
    let (mut bytes, mut rest, mut first) = (Vec::new(), &payload[..], opcode);
    for _ in 0..dice.below(FRAMES as u64) {
        let (piece, more) = rest.split_at(dice.spread(0, rest.len() as u64) as usize);
        bytes.extend(frame(dice, first, piece));
        (first, rest) = (0, more);
        if dice.one_in(4) {
            let payload = vec![dice.below(256) as u8; dice.below(126) as usize];
            bytes.extend(frame(dice, 0x89, &payload));
            wanted.push(Item::Frame(0x8a, payload));
        }
    }
    bytes.extend(frame(dice, 0x80 | first, rest));
    wanted.push(Item::Frame(0x80 | opcode, payload));
    bytes
}

/// A last word, after which the server ends the connection; with the code that it says.
fn last_word(dice: &Dice) -> (Vec<u8>, u16) {
    let f = |first, payload: &[u8]| frame(dice, first, payload);
    let long = vec![b'x'; LIMIT];
    match dice.below(23) {
        0 => (vec![0x81, 1, b'a'], 1002),
        1 => (f(0xa1, b"a"), 1002),
        2 => (f(0xc1, b"a"), 1002),
        3 => (f(0x83, b"a"), 1002),
        4 => (f(0x8b, b""), 1002),
        5 => (f(0x89, &[b'x'; 126]), 1002),
        6 => (f(0x09, b""), 1002),
        7 => (vec![0x82, 0xfe, 0, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5], 1002),
        8 => (vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0], 1002),
        9 => (vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0], 1002),
        10 => (vec![0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], 1009),
        11 => ([f(0x02, &long), f(0x80, b"x")].concat(), 1009),
        12 => (f(0x80, b"x"), 1002),
        13 => ([f(0x01, b"x"), f(0x81, b"y")].concat(), 1002),
        14 => (f(0x81, b"\xff"), 1007),
        15 => (f(0x01, b"a\xe4b"), 1007), // the rest of it never comes
        16 => (f(0x88, b"\x03\xe8\xff"), 1007),
        17 => (f(0x88, b"\x03"), 1002),
        18 => (f(0x88, &1004_u16.to_be_bytes()), 1002),
        19 => {
            let fragments = (0..=FRAMES).map(|place| f(if place == 0 { 2 } else { 0 }, b""));
            (fragments.collect::<Vec<_>>().concat(), 1008)
        }
        20 => {
            // The server says Close first, and takes no message behind it.
            let more = f(0x01, b"not this");
            let more = [more, f(0x80, b" one"), f(0x89, b"nor this")].concat();
            ([f(0x81, b"bye"), more, f(0x88, &3001_u16.to_be_bytes())].concat(), 3001)
        }
        _ => {
            let code = 1000_u16.to_be_bytes();
            (
                [f(0x88, &[&code[..], b"gr\xc3\xbc\xc3\x9fe"].concat()), f(0x81, b"late")].concat(),
                1000,
            )
        }
    }
}

/// Requests that are refused, with what is put in the place of a line.
const REFUSED: [(u16, &str, &str); 4] = [
    (400, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Key: dGhl\r\n"),
    (400, "\r\n\r\n", "\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
    (426, "Version: 13", "Version: 8"),
    (426, "\r\n\r\n", "\r\nSec-WebSocket-Version: 8\r\n\r\n"),
];

fn hello(number: u64) -> String {
    format!(
        "GET /ws/{number} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: other, chat\r\n\r\n"
    )
}

/// Sends bytes in pieces, with waits between them.
fn cut(dice: &Dice, mut script: Script, mut bytes: &[u8]) -> Script {
    while !bytes.is_empty() {
        let most = if dice.one_in(3) { 5 } else { 200_000 };
        let count = dice.spread(1, most.min(bytes.len() as u64)) as usize;
        script = script.send(&bytes[..count]);
        if dice.one_in(3) {
            script = script.wait(Duration::from_millis(dice.spread(1, 30)));
        }
        bytes = &bytes[count..];
    }
    script
}

/// What a peer does, and what it is to get.
fn talker(dice: &Dice, number: u64) -> (Script, Vec<Item>) {
    let hello = hello(number);
    if dice.one_in(8) {
        let (status, old, new) = REFUSED[dice.below(REFUSED.len() as u64) as usize];
        let script = cut(dice, Script::new(), hello.replacen(old, new, 1).as_bytes());
        return (script.finish().read_to_end(), vec![Item::Refused(status)]);
    }
    let mut wanted = Vec::new();
    // Nothing may be sent before the answer has come.
    let script = cut(dice, Script::new(), hello.as_bytes()).read(100);
    let mut bytes = Vec::new();
    for _ in 0..dice.below(6) {
        bytes.extend(message(dice, &mut wanted));
    }
    let (last, code) = last_word(dice);
    bytes.extend(last);
    wanted.push(Item::Close(Some(code)));
    (cut(dice, script, &bytes).read_to_end(), wanted)
}

/// What came from the server, without a part of a frame at the end.
fn items(received: &[u8]) -> Vec<Item> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Vec::new();
    };
    let head = std::str::from_utf8(&received[..end + 4]).expect("a head of text");
    let status = head[9..12].parse().expect("a status");
    if status != 101 {
        return vec![Item::Refused(status)];
    }
    assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(head.contains("Sec-WebSocket-Protocol: chat\r\n"), "another subprotocol: {head}");
    let (mut rest, mut items) = (&received[end + 4..], Vec::new());
    while let Some((first, payload, behind)) = parse(rest) {
        items.push(match first {
            0x88 => Item::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            _ => Item::Frame(first, payload.to_vec()),
        });
        rest = behind;
    }
    items
}

/// A frame of a server, and what stands behind it.
fn parse(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    assert!(second < 128, "a frame of the server has a mask");
    let (length, rest) = match second {
        126 => rest.split_first_chunk().map(|(n, rest)| (u16::from_be_bytes(*n).into(), rest))?,
        127 => rest.split_first_chunk().map(|(n, rest)| (u64::from_be_bytes(*n), rest))?,
        short => (u64::from(short), rest),
    };
    let (payload, rest) = rest.split_at_checked(length as usize)?;
    Some((first, payload, rest))
}

/// A peer that asks for more than it reads, and goes.
fn sleeper(dice: &Dice, number: u64) -> Script {
    let flood = frame(dice, 0x81, b"flood");
    let script = Script::new().send(hello(number)).read(100).stop_reading();
    let script = (0..dice.spread(1, 8)).fold(script, |script, _| script.send(&flood[..]));
    script.wait(Duration::from_millis(dice.spread(1, 2_000))).reset()
}

// A client of ours.

struct Asker {
    dice: Dice,
    told: Rc<RefCell<Told>>,
}

/// What the clients were told.
#[derive(Default)]
struct Told {
    ended: u32,
    failed: u32,
    clean: u32,
}

/// A message of a client: what it is must not depend on what is random.
fn text(number: u64) -> String {
    format!("{number} {}", "what repeats ".repeat((number * 7 % 60) as usize))
}

impl ws::Handler for Asker {
    /// Messages that were sent, that came back, and that there are to be.
    type State = (u64, u64, u64);

    fn on_open(&mut self, (sent, _, count): &mut (u64, u64, u64), socket: &mut Socket<'_>) {
        while *sent < *count && (*sent == 0 || !self.dice.one_in(3)) {
            if !socket.send_text(&text(*sent)).is_accepted() {
                return; // a write has failed: the end follows
            }
            *sent += 1;
        }
    }

    fn on_message(
        &mut self,
        (sent, came, count): &mut (u64, u64, u64),
        socket: &mut Socket<'_>,
        message: Message<'_>,
    ) {
        assert_eq!(message.text(), Some(&*text(*came)), "an echo of another message");
        *came += 1;
        if *came == *count {
            socket.close(CloseCode::new(4000).unwrap(), "done");
        } else if *sent < *count && socket.send_text(&text(*sent)).is_accepted() {
            *sent += 1; // not so where a write has failed: the end follows
        }
    }

    fn on_close(&mut self, state: (u64, u64, u64), ended: Ended<'_>, _: &mut Context<'_>) {
        let mut told = self.told.borrow_mut();
        told.ended += 1;
        if ended.is_clean && ended.code.get() == 4000 {
            assert_eq!(state.1, state.2, "a clean end before all echoes");
            told.clean += 1;
        }
    }

    fn on_connect_failed(&mut self, _: (u64, u64, u64), _: io::Error, _: &mut Context<'_>) {
        self.told.borrow_mut().failed += 1;
    }
}

fn deflate(dice: &Dice) -> Option<Deflate> {
    let mut deflate = Deflate::default();
    deflate.keep_context = dice.one_in(2);
    deflate.keep_peer_context = dice.one_in(2);
    deflate.min_bytes = 0;
    (!dice.one_in(3)).then_some(deflate)
}

fn client(sim: &mut Simulation, to: SocketAddr, count: u64) -> io::Result<Rc<RefCell<Told>>> {
    let (dice, told) = (sim.dice(), Rc::new(RefCell::new(Told::default())));
    let options = Options::default().deflate(deflate(&dice)).protocols(["chat"]);
    let asker = Asker { dice: dice.clone(), told: Rc::clone(&told) };
    sim.host("client", |reactor| {
        let key = reactor.register(Client::new(asker, options));
        for number in 0..count {
            let request = Request::new("x", &format!("/ws/{}", 1_000 + number));
            let state = request.with_state((0, 0, dice.spread(1, 12)));
            let limits = Limits::default().max_output_bytes(1 << 20);
            let options = ConnectOptions::default().limits(limits);
            reactor.connect(to, key, state, &options);
        }
        Ok(())
    })?;
    Ok(told)
}

/// A server, peers and clients, in a world in which nothing is lost, or in any.
pub(crate) fn run(sim: &mut Simulation, is_harmless: bool) -> io::Result<()> {
    let (dice, fates) = (sim.dice(), Fates::default());
    let options = Options::default()
        .max_message_bytes(LIMIT)
        .max_frames(FRAMES as u32)
        .protocols(["none", "chat"])
        .parts(dice.one_in(2).then(|| Parts::default().max_bytes(LIMIT as u64)))
        .deflate(deflate(&dice));
    let addr = server(sim, options, &fates)?;
    let (mut talkers, mut sleepers) = (Vec::new(), Vec::new());
    for number in 0..dice.spread(1, 3) {
        let (script, wanted) = talker(&dice, number);
        talkers.push((number, sim.peer(addr, script), wanted));
    }
    if dice.one_in(2) {
        sleepers.push((100, sim.peer(addr, sleeper(&dice, 100))));
    }
    let clients = dice.below(3);
    let told = client(sim, addr, clients)?;
    sim.run(Duration::from_secs(600));
    for (number, peer, wanted) in talkers {
        let fate = fates.borrow().get(&number).copied();
        check_talker(sim, is_harmless, peer, &wanted, fate);
    }
    for (number, peer) in sleepers {
        let fates = fates.borrow();
        let Some(fate) = fates.get(&number) else { continue };
        let received = sim.received(peer);
        // Of the answer to the handshake too, a part may be lost.
        let head = received.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(head) = head.filter(|_| is_harmless && fate.closed == 1) {
            let taken = fate.accepted.saturating_sub(fate.unsent);
            assert!(received.len() - head - 4 <= taken, "more came than was not lost: {fate:?}");
        }
    }
    let told = told.borrow();
    if is_harmless {
        assert_eq!((told.ended, told.failed), (clients as u32, 0), "a client without an end");
        assert_eq!(told.clean, clients as u32, "a client without a clean end");
        assert!(fates.borrow().values().all(|fate| fate.closed == 1), "{:?}", fates.borrow());
    } else {
        assert!(u64::from(told.ended + told.failed) <= clients, "a client with two ends");
    }
    Ok(())
}

/// A server that takes messages in parts, not slower than 100 bytes a second, sends this to a peer
/// with this number: of a message of 60,000 bytes half comes, then nothing for 200 seconds, and
/// then the rest.
fn expect_of_stalled(number: u64, wanted: &[Item]) {
    Seeds::new(20).faults(Faults::harmless()).run(|sim| {
        let (dice, fates) = (sim.dice(), Fates::default());
        let parts = Some(Parts::default().min_bytes_per_second(100));
        let options = Options::default().parts(parts).protocols(["chat"]).max_message_bytes(10);
        let addr = server(sim, options, &fates)?;
        let bytes = frame(&dice, 0x82, &[9; 60_000]);
        let script = Script::new().send(hello(number)).read(100).send(&bytes[..30_000]);
        let script = script.wait(Duration::from_secs(200)).send(&bytes[30_000..]);
        let peer = sim.peer(addr, script.send(frame(&dice, 0x88, b"")).read_to_end());
        sim.run(Duration::from_secs(900));
        let mut found = items(&sim.received(peer));
        found.retain(|item| !matches!(item, Item::Frame(0x89, _)));
        assert_eq!(found, wanted);
        Ok(())
    });
}

#[test]
fn a_message_in_parts_that_stalls_is_ended_unless_it_was_the_program_that_paused() {
    expect_of_stalled(1, &[Item::Close(Some(1008))]);
    let whole = Item::Frame(0x82, vec![9; 60_000]);
    expect_of_stalled(STALLED, &[whole, Item::Close(None)]);
}

fn check_talker(
    sim: &Simulation,
    is_harmless: bool,
    peer: PeerId,
    wanted: &[Item],
    fate: Option<Fate>,
) {
    let mut found = items(&sim.received(peer));
    // The peer is silent for a while: it is asked whether it is there.
    found.retain(|item| !matches!(item, Item::Frame(0x89, _)));
    if is_harmless {
        let text = |items: &[Item]| format!("{items:?}").chars().take(2_000).collect::<String>();
        assert!(found == wanted, "got {}\nwanted {}", text(&found), text(wanted));
        assert_eq!(sim.end_of(peer), PeerEnd::Finished);
        let Some(Item::Close(Some(code))) = wanted.last() else { return };
        let fate = fate.expect("it was opened");
        assert_eq!(fate.code, *code, "the code that on_close is told");
        assert_eq!(fate.is_clean, matches!(code, 1000 | 3001), "whether it is clean");
        assert_eq!(fate.unsent, 0, "nothing is lost at a peer that reads");
        return;
    }
    for (place, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let is_own_end = matches!(found, Item::Close(Some(1000..=1015)) | Item::Refused(408));
        assert!(found == wanted || is_own_end, "item {place}: {found:?}, wanted {wanted:?}");
    }
    assert!(found.len() <= wanted.len(), "more came back than was sent");
}

/// How many seeds each test runs under; `WATERWHEEL_SEEDS` asks for more.
fn seeds() -> u64 {
    let asked = std::env::var("WATERWHEEL_SEEDS").ok();
    asked.map_or(2_000, |text| text.parse().expect("WATERWHEEL_SEEDS is a number"))
}

#[test]
fn every_message_comes_back_once_whatever_the_network_does_to_its_bytes() {
    Seeds::new(seeds()).faults(Faults::harmless()).run(|sim| run(sim, true));
}

#[test]
fn what_breaks_is_never_taken_for_a_message() {
    Seeds::new(seeds()).faults(Faults::all()).run(|sim| run(sim, false));
}
