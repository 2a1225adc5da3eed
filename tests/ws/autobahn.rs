//! The two programs that Autobahn's cases are run against, by the script `tests/ws/autobahn`.

use std::cell::Cell;
use std::env;
use std::net::SocketAddr;
use std::rc::Rc;

use waterwheel::ws::{
    Client, Deflate, Ended, Handler, Kind, Message, Options, Part, Parts, Request, Socket,
};
use waterwheel::{ConnectOptions, Context, Limits, ListenOptions, Reactor};

use crate::site::site;

const MIB: usize = 1 << 20;

/// Whether messages are to be taken in parts.
fn in_parts() -> Option<Parts> {
    env::var_os("AUTOBAHN_PARTS").map(|_| Parts::default())
}

/// The cases have messages of up to 16 MiB, and of up to 65,536 frames. Those of compression want
/// every answer compressed.
fn options() -> Options {
    let deflate = Deflate::default().keep_context(true).keep_peer_context(true).min_bytes(0);
    Options::default()
        .max_message_bytes(17 * MIB)
        .max_frames(1 << 20)
        .deflate(Some(deflate))
        .ping_interval(None)
        .parts(in_parts())
}

fn limits() -> Limits {
    Limits::default().max_output_bytes(64 * MIB).pause_at_high_mark(false)
}

/// Puts the parts together. The echo is whole, because the cases want it compressed.
fn on_part(so_far: &mut Vec<u8>, part: Part<'_>, told: impl FnOnce(Message<'_>)) {
    so_far.extend(part.content.bytes());
    if part.is_last {
        let bytes = std::mem::take(so_far);
        told(match part.content.kind() {
            Kind::Text => Message::Text(std::str::from_utf8(&bytes).expect("a text")),
            Kind::Binary => Message::Binary(&bytes),
        });
    }
}

struct Echo;

impl Handler for Echo {
    /// The parts of a message so far.
    type State = Vec<u8>;

    fn on_message(&mut self, _: &mut Vec<u8>, socket: &mut Socket<'_>, message: Message<'_>) {
        socket.send(message);
    }

    fn on_part(&mut self, so_far: &mut Vec<u8>, socket: &mut Socket<'_>, part: Part<'_>) {
        on_part(so_far, part, |message| {
            socket.send(message);
        });
    }
}

/// Serves until the script ends it.
#[test]
#[ignore = "tests/ws/autobahn runs it"]
fn server() {
    let addr: SocketAddr = env::var("AUTOBAHN_ADDR").expect("an address").parse().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let site = reactor.register(site(Echo, options()));
    reactor.listen(addr, site, ListenOptions::default().limits(limits())).unwrap();
    reactor.run().unwrap();
}

/// Runs case after case, one a connection.
struct Runner {
    last: Rc<Cell<u32>>,
    is_done: Rc<Cell<bool>>,
}

/// Each connection but the first, which asks how many cases there are, echoes.
#[derive(Default)]
struct Case {
    asks: bool,
    /// The parts of a message so far.
    so_far: Vec<u8>,
}

impl Handler for Runner {
    type State = Case;

    fn on_message(&mut self, case: &mut Case, socket: &mut Socket<'_>, message: Message<'_>) {
        if case.asks {
            self.last.set(message.text().unwrap().parse().unwrap());
        } else {
            socket.send(message);
        }
    }

    fn on_part(&mut self, case: &mut Case, socket: &mut Socket<'_>, part: Part<'_>) {
        let mut so_far = std::mem::take(&mut case.so_far);
        on_part(&mut so_far, part, |message| self.on_message(case, socket, message));
        case.so_far = so_far;
    }

    fn on_close(&mut self, _: Case, _: Ended<'_>, _: &mut Context<'_>) {
        self.is_done.set(true);
    }

    fn on_connect_failed(&mut self, _: Case, error: std::io::Error, _: &mut Context<'_>) {
        panic!("{error}");
    }
}

#[test]
#[ignore = "tests/ws/autobahn runs it"]
fn client() {
    let addr: SocketAddr = env::var("AUTOBAHN_ADDR").expect("an address").parse().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let (last, is_done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let runner = Runner { last: Rc::clone(&last), is_done: Rc::clone(&is_done) };
    // A server that wants no context of the client takes only an offer that says so.
    let deflate = options().deflate.map(|deflate| deflate.keep_context(false));
    let client = reactor.register(Client::new(runner, options().deflate(deflate)));
    let mut run = |target: &str, asks| {
        let state =
            Request::new(&addr.to_string(), target).with_state(Case { asks, so_far: Vec::new() });
        reactor.connect(addr, client, state, &ConnectOptions::default().limits(limits()));
        is_done.set(false);
        while !is_done.get() {
            reactor.run_once(None).unwrap();
        }
    };
    run("/getCaseCount", true);
    for case in 1..=last.get() {
        run(&format!("/runCase?case={case}&agent=waterwheel"), false);
    }
    run("/updateReports?agent=waterwheel", false);
}
