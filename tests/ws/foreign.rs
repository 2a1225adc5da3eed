//! Both sides for peers that others wrote, by the script `tests/ws/peers/run`: a server that echoes
//! and does what it is told, and a client that sees whether a server does the same.
//!
//! | text | what a server does |
//! |---|---|
//! | `parts` | sends [`IN_PARTS`] as a text and as bytes, each in three frames |
//! | `ping` | pings, and says `pong` when the answer has come |
//! | `close CODE REASON` | says Close |
//! | another one, or bytes | sends it back |

use std::cell::RefCell;
use std::env;
use std::net::SocketAddr;
use std::rc::Rc;

use waterwheel::http::{Router, Server};
use waterwheel::ws::{
    Client, CloseCode, Deflate, Ended, Endpoint, Handler, Kind, Message, Options, Request, Socket,
};
use waterwheel::{ConnectOptions, Context, Limits, ListenOptions, Reactor};

/// The frames end within characters.
const IN_PARTS: &str = "größe ☃ in parts";

/// What the script says: where, and whether messages are compressed.
fn asked() -> (SocketAddr, Options) {
    let addr = env::var("PEERS_ADDR").expect("an address").parse().expect("an address");
    let deflate = match &*env::var("PEERS_DEFLATE").expect("no, shared or kept") {
        "no" => None,
        how => Some(how == "kept"),
    };
    let deflate = deflate.map(|keeps| {
        let deflate = Deflate::default().keep_context(keeps).keep_peer_context(keeps).min_bytes(0);
        if keeps { deflate.window_bits(12).peer_window_bits(12) } else { deflate }
    });
    (addr, Options::default().deflate(deflate).max_message_bytes(16 << 20))
}

fn limits() -> Limits {
    Limits::internet().max_output_bytes(64 << 20)
}

fn send_in_parts(socket: &mut Socket<'_>, kind: Kind) {
    let bytes = IN_PARTS.as_bytes();
    socket.send_part(kind, &bytes[..3], false);
    socket.send_part(kind, &bytes[3..9], false);
    socket.send_part(kind, &bytes[9..], true);
}

struct Teller;

impl Handler for Teller {
    type State = ();

    fn on_message(&mut self, (): &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
        let words: Vec<&str> = message.text().unwrap_or("").splitn(3, ' ').collect();
        match words[..] {
            ["parts"] => {
                send_in_parts(socket, Kind::Text);
                send_in_parts(socket, Kind::Binary);
            }
            ["ping"] => drop(socket.ping(b"there?")),
            ["close", code, reason] => {
                socket.close(CloseCode::new(code.parse().unwrap()).unwrap(), reason);
            }
            _ => drop(socket.send(message)),
        }
    }

    fn on_pong(&mut self, (): &mut (), socket: &mut Socket<'_>, payload: &[u8]) {
        assert_eq!(payload, b"there?");
        socket.send_text("pong");
    }
}

/// Serves until the script ends it.
#[test]
#[ignore = "tests/ws/peers/run runs it"]
fn server() {
    let (addr, options) = asked();
    let endpoint = Endpoint::new(options);
    // From any page: that of Chromium comes from another server.
    let routes = Router::new().get("/ws", move |_: &mut Teller, req, res| {
        endpoint.upgrade(req, res, ());
    });
    let mut reactor = Reactor::new().unwrap();
    let site = reactor.register(Server::new(Teller, routes));
    reactor.listen(addr, site, ListenOptions::default().limits(limits())).unwrap();
    reactor.run().unwrap();
}

/// What a client does, and what it wants to come then.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Echo(Vec<u8>, Kind),
    /// A message in three frames, sent back.
    Parts(Kind),
    /// The two messages that the server sends in frames.
    ServersParts,
    Ping,
    ServersPing,
    Close,
    ServersClose,
}

fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for size in [0, 1, 20, 21, 1_000, 10_922, 10_923, 500_000] {
        steps.push(Step::Echo("größe".repeat(size).into_bytes(), Kind::Text));
        steps.push(Step::Echo((0..size * 6).map(|at| (at * at) as u8).collect(), Kind::Binary));
    }
    steps.extend([Step::Parts(Kind::Text), Step::Parts(Kind::Binary), Step::ServersParts]);
    steps.extend([Step::Ping, Step::ServersPing, Step::Close]);
    steps
}

/// Does one step after the other, and wants to be told what it should.
struct Asker {
    is_compressed: bool,
    /// How each connection has ended.
    ends: Rc<RefCell<Vec<String>>>,
}

/// The steps that are left, and the messages that have come in this one.
struct Asked {
    steps: std::vec::IntoIter<Step>,
    now: Step,
    messages: usize,
}

impl Asked {
    fn new(steps: Vec<Step>) -> Self {
        Self { steps: steps.into_iter(), now: Step::Close, messages: 0 }
    }

    fn go_on(&mut self, socket: &mut Socket<'_>) {
        self.now = self.steps.next().expect("a step that closes");
        self.messages = 0;
        match &self.now {
            Step::Echo(bytes, Kind::Text) => {
                socket.send_text(std::str::from_utf8(bytes).unwrap());
            }
            Step::Echo(bytes, Kind::Binary) => drop(socket.send_binary(bytes)),
            Step::Parts(kind) => send_in_parts(socket, *kind),
            Step::ServersParts => drop(socket.send_text("parts")),
            Step::Ping => drop(socket.ping(b"there?")),
            Step::ServersPing => drop(socket.send_text("ping")),
            Step::Close => socket.close(CloseCode::new(4123).unwrap(), "bye"),
            Step::ServersClose => drop(socket.send_text("close 4001 enough")),
        }
    }
}

impl Handler for Asker {
    type State = Asked;

    fn on_open(&mut self, asked: &mut Asked, socket: &mut Socket<'_>) {
        assert_eq!(socket.is_compressed(), self.is_compressed);
        asked.go_on(socket);
    }

    fn on_message(&mut self, asked: &mut Asked, socket: &mut Socket<'_>, message: Message<'_>) {
        asked.messages += 1;
        let is_same = |bytes: &[u8], kind| message.bytes() == bytes && message.kind() == kind;
        let is_right = match (&asked.now, asked.messages) {
            (Step::Echo(bytes, kind), 1) => is_same(bytes, *kind),
            (Step::Parts(kind), 1) => is_same(IN_PARTS.as_bytes(), *kind),
            (Step::ServersParts, 1) => is_same(IN_PARTS.as_bytes(), Kind::Text),
            (Step::ServersParts, 2) => is_same(IN_PARTS.as_bytes(), Kind::Binary),
            (Step::ServersPing, 1) => message == Message::Text("pong"),
            _ => false,
        };
        let length = message.bytes().len();
        assert!(is_right, "{:.99?}: {:?} of {length}", asked.now, message.kind());
        if asked.now != Step::ServersParts || asked.messages == 2 {
            asked.go_on(socket);
        }
    }

    fn on_pong(&mut self, asked: &mut Asked, socket: &mut Socket<'_>, payload: &[u8]) {
        assert_eq!((&asked.now, payload), (&Step::Ping, &b"there?"[..]));
        asked.go_on(socket);
    }

    fn on_close(&mut self, _: Asked, ended: Ended<'_>, _: &mut Context<'_>) {
        let Ended { code, reason, is_clean, .. } = ended;
        self.ends.borrow_mut().push(format!("{code} {reason} {is_clean}"));
    }

    fn on_connect_failed(&mut self, _: Asked, error: std::io::Error, _: &mut Context<'_>) {
        panic!("{error}");
    }
}

#[test]
#[ignore = "tests/ws/peers/run runs it"]
fn client() {
    let (addr, options) = asked();
    let mut reactor = Reactor::new().unwrap();
    let ends = Rc::new(RefCell::new(Vec::new()));
    let asker = Asker { is_compressed: options.deflate.is_some(), ends: Rc::clone(&ends) };
    let client = reactor.register(Client::new(asker, options));
    let runs = [(steps(), "4123 "), (vec![Step::ServersClose], "4001 enough true")];
    for (place, (steps, end)) in runs.into_iter().enumerate() {
        let state = Request::new(&addr.to_string(), "/").with_state(Asked::new(steps));
        reactor.connect(addr, client, state, &ConnectOptions::default().limits(limits()));
        while ends.borrow().len() == place {
            reactor.run_once(None).unwrap();
        }
        let ended = ends.borrow()[place].clone();
        assert!(ended.starts_with(end) && ended.ends_with(" true"), "{ended}");
    }
}
