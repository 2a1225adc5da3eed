//! One key and one value for all that a handler is called for.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use log::Level;
use waterwheel::udp::{
    DatagramHandler, DatagramSocket, Session, SessionHandler, SessionOptions, SocketId, UdpOptions,
};
use waterwheel::{
    Closed, Conn, ConnId, ConnectOptions, Context, Handler, HandlerKey, ListenOptions, Peer,
    Reactor, Receive, Timer, TimerHandler,
};

use crate::support::datagrams::{client, try_receive};
use crate::support::{PATIENCE, keep_log, logged};

/// Counts what it is called for; all kinds see the one count, and the state of the connection.
struct All {
    key: HandlerKey<All>,
    calls: Vec<&'static str>,
    conn: Option<ConnId>,
}

impl All {
    fn new(key: HandlerKey<Self>) -> Self {
        Self { key, calls: Vec::new(), conn: None }
    }

    /// Notes the call in the state of the connection, too, and tells its peer.
    fn visit(&mut self, what: &'static str, cx: &mut Context<'_>) {
        self.calls.push(what);
        let Some(id) = self.conn else { return };
        let told = cx.with(self.key, id, |state: &mut Vec<&'static str>, conn| {
            state.push(what);
            assert!(writeln!(conn, "{what}").is_accepted());
        });
        assert!(told.is_some(), "{what}");
    }
}

impl Handler for All {
    type State = Vec<&'static str>;

    fn on_accept(&mut self, _: &Peer) -> Option<Self::State> {
        Some(Vec::new())
    }

    fn on_open(&mut self, state: &mut Self::State, conn: &mut Conn<'_>) {
        self.calls.push("open");
        state.push("open");
        self.conn = Some(conn.id());
    }

    fn on_data(&mut self, _: &mut Self::State, _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, state: Self::State, _: Closed, cx: &mut Context<'_>) {
        assert_eq!(state, self.calls, "the state has seen what the handler has");
        cx.stop();
    }
}

impl DatagramHandler for All {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]) {
        self.visit("datagram", &mut socket.context());
        socket.send_to(from, bytes);
    }

    fn on_close(&mut self, _: SocketId, cx: &mut Context<'_>) {
        self.visit("socket closed", cx);
    }
}

impl SessionHandler for All {
    type State = u8;

    fn on_session(&mut self, _: SocketAddr, first: &[u8]) -> Option<u8> {
        first.first().copied()
    }

    fn on_datagram(&mut self, first: &mut u8, session: &mut Session<'_>, _: &[u8]) {
        self.visit("session", &mut session.context());
        self.visit("session's socket", &mut session.socket().context());
        session.send(&[*first]);
    }
}

#[cfg(unix)]
impl waterwheel::unix::UnixDatagramHandler for All {
    fn on_datagram(
        &mut self,
        socket: &mut waterwheel::unix::UnixDatagramSocket<'_>,
        _: Option<&waterwheel::unix::UnixAddr>,
        _: &[u8],
    ) {
        self.visit("unix", &mut socket.context());
    }
}

impl TimerHandler for All {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        self.visit("timer", cx);
    }
}

impl Receive<&'static str> for All {
    fn on_message(&mut self, message: &'static str, cx: &mut Context<'_>) {
        self.visit(message, cx);
    }
}

#[track_caller]
fn until(reactor: &mut Reactor, mut done: impl FnMut(&mut Reactor) -> bool) {
    let start = Instant::now();
    while !done(reactor) {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {:?}", reactor.stats());
        reactor.run_once(Some(Duration::from_millis(1))).unwrap();
    }
}

#[track_caller]
fn until_called(reactor: &mut Reactor, key: HandlerKey<All>, what: &str) {
    until(reactor, |reactor| reactor.handler_mut(key).unwrap().calls.last() == Some(&what));
}

/// A socket of each kind, a timer and a channel, whatever comes first; then a connection.
#[test]
fn one_value_serves_all_kinds_by_one_key() {
    let mut reactor = Reactor::new().unwrap();
    let key = reactor.register_with(All::new);
    reactor.set_timer(key, Duration::ZERO, 0);
    until_called(&mut reactor, key, "timer");
    let sender = reactor.channel(key, 1).unwrap();
    let (id, udp) = reactor.bind_udp("127.0.0.1:0", key, UdpOptions::default()).unwrap();
    let sessions = SessionOptions::default();
    let (_, by_peer) =
        reactor.bind_sessions("127.0.0.1:0", key, sessions, UdpOptions::default()).unwrap();
    // What it has gathered is kept when it gets states.
    let addr = reactor.listen("127.0.0.1:0", key, ListenOptions::default()).unwrap();
    assert_eq!(reactor.handler_mut(key).unwrap().calls, ["timer"]);
    reactor.handler_mut(key).unwrap().calls.clear();
    let mut peer = TcpStream::connect(addr).unwrap();
    until_called(&mut reactor, key, "open");

    let expect_answer = |reactor: &mut Reactor, to: SocketAddr, answer: &[u8]| {
        let client: UdpSocket = client(to);
        client.send(b"yes").unwrap();
        let mut got = None;
        until(reactor, |_| {
            got = try_receive(&client);
            got.is_some()
        });
        assert_eq!(got.unwrap().0, answer);
    };
    expect_answer(&mut reactor, udp, b"yes");
    expect_answer(&mut reactor, by_peer, b"y");
    sender.try_send("message").unwrap();
    until_called(&mut reactor, key, "message");
    reactor.set_timer(key, Duration::ZERO, 0);
    until_called(&mut reactor, key, "timer");
    let mut wanted = "datagram\nsession\nsession's socket\nmessage\ntimer\n".to_owned();
    #[cfg(unix)]
    {
        let path = crate::support::scratch_path();
        let options = waterwheel::unix::UnixDatagramOptions::default();
        reactor.bind_unix_datagrams(&path, key, options).unwrap();
        let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
        sender.send_to(b"x", &path).unwrap();
        until_called(&mut reactor, key, "unix");
        wanted += "unix\n";
    }
    reactor.context().socket(id).unwrap().close();
    until_called(&mut reactor, key, "socket closed");
    wanted += "socket closed\n";

    let mut told = vec![0; wanted.len()];
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.read_exact(&mut told).unwrap();
    assert_eq!(String::from_utf8(told).unwrap(), wanted);
    drop(peer);
    reactor.run().unwrap();
    assert_eq!(reactor.stats().panics, 0, "what it asserts at its end");
}

/// Serves no connections before one of its own callbacks begins one.
struct Late {
    key: HandlerKey<Late>,
    to: SocketAddr,
    told: Vec<String>,
}

impl TimerHandler for Late {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        self.told.push("timer".to_owned());
        let state = format!("state {}", timer.token);
        cx.connect(self.to, self.key, state, &ConnectOptions::default());
    }
}

impl Handler for Late {
    type State = String;

    fn on_accept(&mut self, _: &Peer) -> Option<String> {
        None
    }

    fn on_open(&mut self, state: &mut String, conn: &mut Conn<'_>) {
        self.told.push(state.clone());
        conn.write(state.as_bytes());
        conn.close();
    }

    fn on_data(&mut self, _: &mut String, _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_connect_failed(&mut self, state: String, _: std::io::Error, _: &mut Context<'_>) {
        self.told.push(format!("{state} failed"));
    }
}

#[test]
fn a_handler_gets_its_states_by_the_first_connect_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let key = reactor.register_with(|key| Late { key, to, told: vec!["kept".to_owned()] });
    for token in [7, 8] {
        reactor.set_timer(key, Duration::ZERO, token);
        let state = format!("state {token}");
        until(&mut reactor, |it| it.handler_mut(key).unwrap().told.last() == Some(&state));
        let mut got = vec![0; state.len()];
        listener.accept().unwrap().0.read_exact(&mut got).unwrap();
        assert_eq!(got, state.as_bytes());
        until(&mut reactor, |it| it.stats().connections == 0);
    }
    let told = &reactor.handler_mut(key).unwrap().told;
    assert_eq!(told[..], ["kept", "timer", "state 7", "timer", "state 8"]);
}

/// A connect that fails before anything is begun has its state to give back, also when it is the
/// first that the handler hears of connections.
#[test]
fn the_first_connect_may_fail_at_once() {
    let mut reactor = Reactor::new().unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], 9));
    let key = reactor.register_with(|key| Late { key, to, told: Vec::new() });
    let options = ConnectOptions::default().timeout(Duration::ZERO); // out of range
    reactor.connect(to, key, "state".to_owned(), &options);
    until(&mut reactor, |it| it.handler_mut(key).unwrap().told == ["state failed"]);
}

/// Though the other handler has states of the same type.
#[test]
fn with_a_foreign_key_nothing_is_served() {
    keep_log();
    let closure = || |_: &mut Conn<'_>, input: &[u8]| input.len();
    let mut other = Reactor::new().unwrap();
    let foreign = other.register(closure());
    let of_datagrams = other.register_with(All::new);

    let mut reactor = Reactor::new().unwrap();
    let own = reactor.register(|_: &mut Conn<'_>, _: &[u8]| 0);
    reactor.listen("127.0.0.1:0", own, ListenOptions::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    reactor.connect(addr, foreign, (), &ConnectOptions::default());
    until(&mut reactor, |it| it.stats().connect_failures == 1);
    assert_eq!(reactor.stats().connections, 0);
    let lines = logged(Level::Error);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("connected with the key of another reactor"), "{lines:?}");

    let (any, options) = ("127.0.0.1:0", UdpOptions::default());
    let sessions = SessionOptions::default();
    let mut cx = reactor.context();
    for error in [
        cx.bind_udp(any, of_datagrams, &options).unwrap_err(),
        cx.connect_udp(addr, of_datagrams, &options).unwrap_err(),
        cx.bind_sessions(any, of_datagrams, sessions, &options).unwrap_err(),
        reactor.bind_udp(any, of_datagrams, options.clone()).unwrap_err(),
        reactor.listen(any, foreign, ListenOptions::default()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("is of another reactor"), "{error}");
    }
}
