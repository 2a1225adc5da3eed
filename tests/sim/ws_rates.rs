//! The min rate of a message that comes in parts, where reading is paused, yields, or waits for
//! work of the loop.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};
use waterwheel::http::{Router, Server};
use waterwheel::sim::{Faults, HostClock, Script, Simulation};
use waterwheel::ws::{self, Deflate, Ended, Endpoint, Message, Options, Part, Parts, Socket};
use waterwheel::{Context, ListenOptions, Timer};

/// Between two looks at the rate.
const INTERVAL: Duration = Duration::from_secs(30);

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
struct Shared {
    clock: Rc<RefCell<Option<HostClock>>>,
    /// The codes that `on_close` was told.
    codes: Rc<RefCell<Vec<u16>>>,
    /// Bytes of parts.
    bytes: Rc<RefCell<usize>>,
}

/// Pauses for a while behind each part. Works for a while, once, when the rate is first looked at.
struct App {
    pause: Option<Duration>,
    work: Option<Duration>,
    shared: Shared,
}

const RESUME: u64 = 0;
const WORK: u64 = 1;

impl ws::Handler for App {
    type State = ();

    fn on_open(&mut self, (): &mut (), socket: &mut Socket<'_>) {
        if self.work.is_some() {
            socket.set_timer(INTERVAL, WORK);
        }
    }

    fn on_message(&mut self, (): &mut (), _: &mut Socket<'_>, _: Message<'_>) {}

    fn on_part(&mut self, (): &mut (), socket: &mut Socket<'_>, part: Part<'_>) {
        *self.shared.bytes.borrow_mut() += part.content.bytes().len();
        if let Some(pause) = self.pause {
            socket.pause_reading();
            socket.set_timer(pause, RESUME);
        }
    }

    fn on_timer(&mut self, (): &mut (), socket: &mut Socket<'_>, timer: Timer) {
        match (timer.token, self.work) {
            (WORK, Some(work)) => {
                self.shared.clock.borrow().as_ref().expect("it is set").spend(work);
            }
            _ => socket.resume_reading(),
        }
    }

    fn on_close(&mut self, (): (), ended: Ended<'_>, _: &mut Context<'_>) {
        self.shared.codes.borrow_mut().push(ended.code.get());
    }
}

/// How a peer ends that sends a message in these frames, one each `every`, and how many bytes have
/// come of it. Nothing ends it but its rate.
fn told(
    (pause, work): (Option<Duration>, Option<Duration>),
    min_rate: u32,
    frames: &[Vec<u8>],
    every: Duration,
) -> (Vec<u16>, usize) {
    let mut sim = Simulation::new(0, Faults::none());
    sim.allow_unfinished();
    let shared = Shared::default();
    let app = App { pause, work, shared: shared.clone() };
    let parts = Parts::default().min_bytes_per_second(min_rate);
    let options = Options::default().ping_interval(Some(INTERVAL)).parts(Some(parts));
    let endpoint = Endpoint::new(options.deflate(Some(Deflate::default())));
    let routes = Router::new().get("/", move |_: &mut App, req, res| {
        endpoint.upgrade(req, res, ());
    });
    let (host, addr) = sim
        .host("server", |reactor| {
            let server = reactor.register(Server::new(app, routes));
            reactor.listen("0.0.0.0:80", server, ListenOptions::default())
        })
        .unwrap();
    *shared.clock.borrow_mut() = Some(sim.clock(host));
    let hello = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let script = Script::new().send(hello).read(100);
    let script = frames.iter().fold(script, |script, frame| script.send(&frame[..]).wait(every));
    sim.peer(addr, script.read_to_end());
    sim.run(every * frames.len() as u32 + work.unwrap_or_default() + SECOND);
    let codes = shared.codes.borrow().clone();
    (codes, *shared.bytes.borrow())
}

/// A frame of a client, whose key changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let head = if length < 126 { vec![0x80 | low] } else { vec![0x80 | 126, high, low] };
    [&[first], &head[..], &[0; 4], payload].concat()
}

/// Frames of a message, of so many bytes each.
fn frames(count: usize, length: usize) -> Vec<Vec<u8>> {
    let opcode = |at: usize| if at == 0 { 0x02 } else { 0x00 };
    let end = |at: usize| if at == count - 1 { 0x80 } else { 0x00 };
    (0..count).map(|at| frame(opcode(at) | end(at), &vec![7; length])).collect()
}

#[test]
fn a_handler_that_pauses_for_a_moment_does_not_put_the_rate_off() {
    let pause = Some(Duration::from_millis(5));
    let (codes, bytes) = told((pause, None), 240, &frames(40, 10), 20 * SECOND);
    assert_eq!(codes, [1008]);
    assert!(bytes <= 50, "{bytes} bytes, ten each 20 s");
}

#[test]
fn time_in_which_reading_is_paused_does_not_count() {
    // Two seconds of each minute are the peer's.
    let pause = Some(58 * SECOND);
    assert_eq!(told((pause, None), 240, &frames(40, 1_000), 60 * SECOND), (vec![], 40_000));
    // And it is all that counts.
    let (codes, bytes) = told((pause, None), 240, &frames(40, 200), 60 * SECOND);
    assert_eq!((codes, bytes % 200), (vec![1008], 0));
}

/// Each frame is inflated to more than what one look at the input may inflate.
#[test]
fn input_that_yields_does_not_put_the_rate_off() {
    let mut compress = Compress::new(Compression::default(), false);
    let plain = vec![b'P'; 2 << 20];
    let mut inflating = |at: usize| {
        let mut body = Vec::with_capacity(1 << 20);
        compress.compress_vec(&plain, &mut body, FlushCompress::Sync).unwrap();
        assert!(body.len() < 5_000, "{} bytes", body.len());
        frame(if at == 0 { 0x42 } else { 0x00 }, &body)
    };
    let frames: Vec<_> = (0..20).map(&mut inflating).collect();
    let (codes, bytes) = told((None, None), 240, &frames, 25 * SECOND);
    assert_eq!(codes, [1008]);
    assert!(bytes <= 5 * plain.len(), "{bytes} bytes");
}

#[test]
fn a_long_turn_is_not_the_time_of_the_peer() {
    // What the socket holds of it is less than what the peer would have sent.
    let work = Some(25 * SECOND);
    let (codes, bytes) = told((None, work), 100_000, &frames(300, 60_000), SECOND / 2);
    assert_eq!((codes, bytes), (vec![], 300 * 60_000));
}
