//! When a WebSocket takes a silent peer for lost: not while the peer takes output that stands
//! before the ping, and in its time when the peer takes nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::http::{Router, Server};
use waterwheel::sim::{Faults, HostClock, Script, Simulation};
use waterwheel::ws::{self, Ended, Endpoint, Message, Options, Socket, Stats};
use waterwheel::{Context, Limits, ListenOptions};

const SECOND: Duration = Duration::from_secs(1);

/// The times of the options.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(15);

/// More than the buffers of both hosts take, by far.
const LENGTH: usize = 3 << 20;

/// Sends much at once, and says Close behind it if it `closes`.
struct App {
    closes: bool,
    clock: Rc<RefCell<Option<HostClock>>>,
    ended: Rc<Cell<Option<(Duration, u16, bool)>>>,
}

impl ws::Handler for App {
    type State = ();

    fn on_open(&mut self, (): &mut (), socket: &mut Socket<'_>) {
        socket.send_binary(&vec![7; LENGTH]);
        if self.closes {
            socket.close(ws::CloseCode::NORMAL, "");
        }
    }

    fn on_message(&mut self, (): &mut (), _: &mut Socket<'_>, _: Message<'_>) {}

    fn on_close(&mut self, (): (), ended: Ended<'_>, _: &mut Context<'_>) {
        let now = self.clock.borrow().as_ref().expect("it is set").now();
        self.ended.set(Some((now, ended.code.get(), ended.is_clean)));
    }
}

/// When and how a WebSocket ends whose peer does this behind the handshake, and what was counted.
fn ends(
    closes: bool,
    limits: Limits,
    script: Script,
    time: Duration,
) -> (Duration, u16, bool, Stats) {
    let mut sim = Simulation::new(0, Faults::none());
    sim.allow_unfinished();
    let (clock, ended) = (Rc::default(), Rc::default());
    let app = App { closes, clock: Rc::clone(&clock), ended: Rc::clone(&ended) };
    let options = Options::default().ping_interval(Some(INTERVAL)).pong_timeout(TIMEOUT);
    let endpoint = Endpoint::new(options);
    let stats = endpoint.clone();
    let routes = Router::new().get("/", move |_: &mut App, req, res| {
        endpoint.upgrade(req, res, ());
    });
    let (host, addr) = sim
        .host("server", |reactor| {
            let server = reactor.register(Server::new(app, routes));
            reactor.listen("0.0.0.0:80", server, ListenOptions::default().limits(limits))
        })
        .unwrap();
    *clock.borrow_mut() = Some(sim.clock(host));
    sim.peer(addr, script);
    sim.run(time);
    let (at, code, is_clean) = ended.get().expect("it has ended");
    (at, code, is_clean, stats.stats())
}

/// The handshake; then the peer reads for a moment, so many times, and for long it does not.
fn reads_slowly(times: u32, pause: Duration) -> Script {
    let hello = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let script = Script::new().send(hello).read(100).stop_reading();
    let moment = Duration::from_micros(200);
    (0..times)
        .fold(script, |script, _| script.wait(pause).resume_reading().wait(moment).stop_reading())
}

fn marked(pauses: bool) -> Limits {
    Limits::default().pause_at_high_mark(pauses)
}

/// A frame of a client, whose key changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

#[test]
fn a_peer_that_takes_what_stands_before_the_ping_is_not_lost() {
    for pauses in [true, false] {
        // Ten minutes; then all, and a word. From then on the peer is silent.
        let script = reads_slowly(60, 10 * SECOND).resume_reading().read(LENGTH);
        let script = script.send(frame(0x8a, b"")).wait(10 * 60 * SECOND);
        let (at, code, _, stats) = ends(false, marked(pauses), script, 20 * 60 * SECOND);
        assert_eq!((code, stats.lost), (1006, 1));
        let began = 600 * SECOND;
        assert!(at > began + INTERVAL, "{at:?}, pauses: {pauses}");
        assert!(at < began + 2 * INTERVAL + TIMEOUT + SECOND, "{at:?}, pauses: {pauses}");
    }
}

/// Below the mark no `on_drain` tells of that. The ping has left when it is looked at, perhaps a
/// moment ago, and the peer has its time from then.
#[test]
fn a_peer_that_has_just_taken_what_stood_before_the_ping_has_its_time() {
    let limits = Limits::default().high_mark_bytes(2 * LENGTH);
    for late in 1..14 {
        let script = reads_slowly(12, 10 * SECOND).resume_reading().read(LENGTH);
        let script = script.wait(late * SECOND).send(frame(0x8a, b"")).wait(10 * 60 * SECOND);
        let (at, _, _, stats) = ends(false, limits.clone(), script, 20 * 60 * SECOND);
        let answer = 120 * SECOND + late * SECOND;
        assert_eq!(stats.lost, 1, "from when it is silent");
        assert!(at > answer + INTERVAL, "{at:?}, {late} s");
        assert!(at < answer + 2 * INTERVAL + TIMEOUT + SECOND, "{at:?}, {late} s");
    }
}

/// Its kernel takes nothing either, and says so: nothing but the ping finds it.
#[test]
fn a_peer_that_takes_nothing_is_lost_in_its_time() {
    for pauses in [true, false] {
        for times in [0, 12] {
            let script = reads_slowly(times, 10 * SECOND).wait(10 * 60 * SECOND);
            let (at, _, _, stats) = ends(false, marked(pauses), script, 20 * 60 * SECOND);
            let last = 10 * SECOND * times;
            assert_eq!(stats.lost, 1);
            assert!(at >= last + TIMEOUT, "{at:?}, pauses: {pauses}");
            assert!(at < last + 2 * INTERVAL + TIMEOUT + SECOND, "{at:?}, pauses: {pauses}");
        }
    }
}

/// A Close frame stands behind output as well, and so does the answer to it.
#[test]
fn a_close_waits_for_a_peer_that_takes_what_stands_before_it() {
    let answer = frame(0x88, b"\x03\xe8");
    let script = reads_slowly(20, 3 * SECOND).resume_reading().read(LENGTH + 100);
    let script = script.send(answer).read_to_end().close();
    let (at, code, is_clean, _) = ends(true, Limits::default(), script, 10 * 60 * SECOND);
    assert_eq!((code, is_clean), (1000, true), "{at:?}");
    let script = reads_slowly(2, 3 * SECOND).wait(10 * 60 * SECOND);
    let (at, code, is_clean, _) = ends(true, Limits::default(), script, 10 * 60 * SECOND);
    assert_eq!((code, is_clean), (1006, false), "{at:?}");
    assert!(at < 25 * SECOND, "{at:?}");
}

/// The output before the Close frame has left when its time is over, and the answer is on its way.
#[test]
fn a_peer_that_has_just_taken_what_stood_before_a_close_has_its_time() {
    for pause in 1..5 {
        let script = reads_slowly(0, SECOND).wait(pause * SECOND).resume_reading();
        let script = script.read(LENGTH + 100).wait(4 * SECOND).send(frame(0x88, b"\x03\xe8"));
        let script = script.read_to_end().close();
        let (at, code, is_clean, _) = ends(true, Limits::default(), script, 10 * 60 * SECOND);
        assert_eq!((code, is_clean), (1000, true), "{at:?}, {pause} s");
    }
    // One that takes all and says nothing has its time again, and then that of its FIN.
    let script = reads_slowly(0, SECOND).wait(4 * SECOND).resume_reading().read(LENGTH + 100);
    let script = script.wait(10 * 60 * SECOND);
    let (at, code, is_clean, _) = ends(true, Limits::default(), script, 10 * 60 * SECOND);
    assert_eq!((code, is_clean), (1006, false), "{at:?}");
    assert!(at < 21 * SECOND, "{at:?}");
}
