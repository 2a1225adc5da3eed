//! State per peer of a datagram socket: made and refused, capped, ended once, when it should be.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use waterwheel::udp::{
    DatagramSocket, Session, SessionEnd, SessionHandler, SessionOptions, Sessions, SocketId,
    UdpOptions,
};
use waterwheel::{Context, HandlerKey, Reactor, Timer};

use crate::support::PATIENCE;
use crate::support::datagrams::{client, try_receive};

/// What happened, in order.
type Log = Rc<RefCell<Vec<String>>>;

/// Answers with the number of the datagram in its session; some words do something else.
struct Counts {
    log: Log,
    /// States that are alive.
    states: Rc<()>,
    /// What the datagrams of a batch said.
    said: Vec<(Vec<u8>, SocketAddr)>,
    /// What a timer with the token `TELL` does, and what the end of a session does.
    ends_all: bool,
    panics_when_over: bool,
    panics_at_end: bool,
}

/// Tokens of timers: all sessions of the socket end; all sessions are sent their number.
const END: u64 = 0;
const TELL: u64 = 1;

struct Count {
    number: u32,
    _alive: Rc<()>,
}

impl Counts {
    fn new(log: &Log, states: &Rc<()>) -> Self {
        let (log, states) = (Rc::clone(log), Rc::clone(states));
        Self {
            log,
            states,
            said: Vec::new(),
            ends_all: false,
            panics_when_over: false,
            panics_at_end: false,
        }
    }

    fn note(&self, text: String) {
        self.log.borrow_mut().push(text);
    }
}

impl SessionHandler for Counts {
    type State = Count;

    fn on_session(&mut self, _: SocketAddr, first: &[u8]) -> Option<Count> {
        assert_ne!(first, b"panic at once", "on purpose");
        (first != b"refuse me").then(|| Count { number: 0, _alive: Rc::clone(&self.states) })
    }

    fn on_datagram(&mut self, count: &mut Count, session: &mut Session<'_>, bytes: &[u8]) {
        count.number += 1;
        assert_ne!(bytes, b"panic", "on purpose");
        session.send(count.number.to_string().as_bytes());
        match bytes {
            b"bye" => session.end(),
            b"close" => session.socket().close(),
            _ => self.said.push((bytes.to_vec(), session.peer_addr())),
        }
    }

    fn on_session_end(&mut self, count: Count, session: &mut Session<'_>, reason: SessionEnd) {
        self.note(format!("{} {reason:?}", count.number));
        session.send(format!("{reason:?}").as_bytes());
        session.end(); // it is over already
        assert!(!self.panics_at_end, "on purpose");
    }

    fn on_close(&mut self, _: SocketId, _: &mut Context<'_>) {
        self.note("closed".to_owned());
    }

    fn on_batch_end(&mut self, sessions: &mut Sessions<Count>, socket: &mut DatagramSocket<'_>) {
        for (text, from) in std::mem::take(&mut self.said) {
            match &*text {
                b"to all" => {
                    for (id, peer, count) in sessions.iter_mut() {
                        count.number += 100;
                        socket.context().socket(id).unwrap().send_to(peer, b"all");
                    }
                }
                b"only me" => {
                    let others = sessions.iter_mut().map(|(id, peer, _)| (id, peer));
                    let others = others.filter(|(_, peer)| *peer != from);
                    for (id, peer) in others.collect::<Vec<_>>() {
                        assert!(sessions.end(id, peer) && !sessions.end(id, peer));
                        assert!(sessions.get_mut(id, peer).is_none());
                    }
                    assert_eq!(sessions.len(), 1);
                    assert!(sessions.get_mut(socket.id(), from).is_some());
                }
                _ => {}
            }
        }
    }

    fn on_timer(
        &mut self,
        sessions: &mut Sessions<Count>,
        socket: &mut DatagramSocket<'_>,
        timer: Timer,
    ) {
        if timer.token == END {
            let all: Vec<_> = sessions.iter_mut().map(|(id, peer, _)| (id, peer)).collect();
            for (_, peer) in all {
                sessions.end(socket.id(), peer);
            }
            return self.note(format!("{} left", sessions.len()));
        }
        let mut cx = socket.context();
        for (id, peer, count) in sessions.iter_mut() {
            count.number += 1_000;
            cx.socket(id).unwrap().send_to(peer, count.number.to_string().as_bytes());
        }
        let all: Vec<_> = sessions.iter_mut().map(|(id, peer, _)| (id, peer)).collect();
        for (id, peer) in all.into_iter().filter(|_| self.ends_all) {
            sessions.end(id, peer);
        }
        assert!(!self.panics_when_over, "on purpose");
    }
}

struct Rig {
    reactor: Reactor,
    service: HandlerKey<Counts>,
    id: SocketId,
    addr: SocketAddr,
    log: Log,
    states: Rc<()>,
}

impl Rig {
    #[track_caller]
    fn new(options: SessionOptions) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let (log, states) = (Log::default(), Rc::new(()));
        let counts = Counts::new(&log, &states);
        let service = reactor.register(counts);
        let (any, udp) = ("127.0.0.1:0", UdpOptions::default());
        let (id, addr) = reactor.bind_sessions(any, service, options, udp).unwrap();
        Self { reactor, service, id, addr, log, states }
    }

    /// Another socket with the sessions of the same handler, which have default options.
    #[track_caller]
    fn bind_second(&mut self) -> SocketAddr {
        let (any, options) = ("127.0.0.1:0", SessionOptions::default());
        let bound = self.reactor.bind_sessions(any, self.service, options, UdpOptions::default());
        bound.unwrap().1
    }

    /// Sets a timer of the socket.
    fn set_timer(&mut self, token: u64) {
        let mut cx = self.reactor.context();
        cx.socket(self.id).unwrap().set_timer(Duration::ZERO, token);
    }

    fn lives(&self) -> usize {
        Rc::strong_count(&self.states) - 2 // here and in the handler
    }

    #[track_caller]
    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "in vain: {:?}", self.log.borrow());
            self.reactor.run_once(Some(Duration::from_millis(1))).unwrap();
        }
    }

    #[track_caller]
    fn expect(&mut self, client: &UdpSocket, text: &str) {
        let mut answer = None;
        self.until(|_| {
            answer = try_receive(client);
            answer.is_some()
        });
        assert_eq!(String::from_utf8(answer.unwrap().0).unwrap(), text);
    }

    /// Turns until everything that was sent before has been received.
    #[track_caller]
    fn settle(&mut self) {
        let marker = client(self.addr);
        let before = self.reactor.stats().datagrams_received;
        marker.send(b"refuse me").unwrap();
        self.until(|rig| rig.reactor.stats().datagrams_received > before);
    }

    fn logged(&self) -> Vec<String> {
        self.log.borrow().clone()
    }
}

#[test]
fn each_peer_has_its_own() {
    let mut rig = Rig::new(SessionOptions::default());
    let [ann, bob] = [client(rig.addr), client(rig.addr)];
    for (client, answer) in [(&ann, "1"), (&ann, "2"), (&bob, "1"), (&ann, "3"), (&bob, "2")] {
        client.send(b"hello").unwrap();
        rig.expect(client, answer);
    }
    assert_eq!((rig.lives(), rig.reactor.stats().sessions), (2, 2));
    // The same peer at another socket is somebody else.
    let second = rig.bind_second();
    ann.connect(second).unwrap();
    ann.send(b"hello").unwrap();
    rig.expect(&ann, "1");
    assert_eq!(rig.lives(), 3);
}

#[test]
fn an_empty_first_datagram_begins_one() {
    let mut rig = Rig::new(SessionOptions::default());
    let client = client(rig.addr);
    client.send(b"").unwrap();
    rig.expect(&client, "1");
}

#[test]
fn one_that_is_refused_leaves_nothing_and_may_come_again() {
    let mut rig = Rig::new(SessionOptions::default());
    let client = client(rig.addr);
    client.send(b"refuse me").unwrap();
    client.send(b"now").unwrap();
    rig.expect(&client, "1");
    let stats = rig.reactor.stats();
    assert_eq!((stats.sessions, stats.sessions_refused, rig.lives()), (1, 1, 1));
}

#[test]
fn a_full_table_refuses_until_one_ends() {
    let mut rig = Rig::new(SessionOptions::default().max_sessions(2));
    let clients = [0; 3].map(|_| client(rig.addr));
    for client in &clients[..2] {
        client.send(b"hello").unwrap();
        rig.expect(client, "1");
    }
    clients[2].send(b"let me in").unwrap();
    rig.settle();
    assert!(try_receive(&clients[2]).is_none());
    clients[0].send(b"bye").unwrap();
    rig.expect(&clients[0], "2");
    rig.expect(&clients[0], "Local");
    clients[2].send(b"let me in").unwrap();
    rig.expect(&clients[2], "1");
    // That one was refused for the cap, and the marker too.
    let stats = rig.reactor.stats();
    assert_eq!((stats.sessions, stats.sessions_refused), (2, 2));
    assert_eq!(rig.logged(), ["2 Local"]);
}

#[test]
fn one_that_was_ended_begins_anew() {
    let mut rig = Rig::new(SessionOptions::default());
    let client = client(rig.addr);
    for answer in ["1", "Local", "1", "Local"] {
        if answer == "1" {
            client.send(b"bye").unwrap();
        }
        rig.expect(&client, answer);
    }
    assert_eq!(rig.lives(), 0);
}

#[test]
fn a_silent_peer_is_forgotten_and_not_before_its_time() {
    const IDLE: Duration = Duration::from_millis(40);
    let mut rig = Rig::new(SessionOptions::default().idle_timeout(IDLE));
    let [quiet, busy] = [client(rig.addr), client(rig.addr)];
    quiet.send(b"hello").unwrap();
    let sent = Instant::now();
    rig.expect(&quiet, "1");
    let mut count = 0;
    rig.until(|rig| {
        busy.send(b"still here").unwrap();
        count += 1;
        !rig.logged().is_empty()
    });
    assert!(sent.elapsed() >= IDLE, "after {:?}", sent.elapsed());
    assert_eq!(rig.logged(), ["1 Idle"]);
    rig.expect(&quiet, "Idle");
    assert!(count > 1);
    // Whoever was busy goes now, long after its first datagram.
    while try_receive(&busy).is_some() {}
    busy.send(b"the last").unwrap();
    let sent = Instant::now();
    rig.until(|rig| rig.logged().len() == 2);
    assert!(sent.elapsed() >= IDLE, "after {:?}", sent.elapsed());
    let stats = rig.reactor.stats();
    assert_eq!((rig.lives(), stats.sessions, stats.sessions_idle), (0, 0, 2));
    // Nothing is left to wake for: timers are one a session and its renewals, not one a datagram.
    assert!(stats.timers_fired < stats.datagrams_received, "{stats:?}");
}

#[test]
fn a_panic_ends_its_session_and_no_other() {
    let mut rig = Rig::new(SessionOptions::default());
    let [ann, bob] = [client(rig.addr), client(rig.addr)];
    for client in [&ann, &bob] {
        client.send(b"hello").unwrap();
        rig.expect(client, "1");
    }
    ann.send(b"panic").unwrap();
    rig.expect(&ann, "Panic");
    assert_eq!(rig.logged(), ["2 Panic"]);
    for (client, answer) in [(&bob, "2"), (&ann, "1")] {
        client.send(b"hello").unwrap();
        rig.expect(client, answer);
    }
    let carl = client(rig.addr);
    carl.send(b"panic at once").unwrap();
    carl.send(b"hello").unwrap();
    rig.expect(&carl, "1");
    assert_eq!((rig.reactor.stats().panics, rig.lives()), (2, 3));
}

#[test]
fn a_panic_ends_its_session_though_another_socket_goes() {
    let mut rig = Rig::new(SessionOptions::default());
    let second = rig.bind_second();
    let ann = client(second);
    ann.send(b"hello").unwrap();
    rig.expect(&ann, "1");
    // The other one is taken down between the panic and what follows from it.
    let id = rig.id;
    rig.reactor.context().socket(id).unwrap().close();
    ann.send(b"panic").unwrap();
    rig.expect(&ann, "Panic");
    assert_eq!((rig.logged(), rig.lives()), (vec!["closed".to_owned(), "2 Panic".to_owned()], 0));
}

#[test]
fn they_end_with_their_socket() {
    let mut rig = Rig::new(SessionOptions::default());
    let clients = [0; 3].map(|_| client(rig.addr));
    for client in &clients {
        client.send(b"hello").unwrap();
        rig.expect(client, "1");
    }
    let second = rig.bind_second();
    let other = client(second);
    other.send(b"hello").unwrap();
    rig.expect(&other, "1");
    clients[1].send(b"close").unwrap();
    rig.until(|rig| rig.logged().len() == 4);
    let mut logged = rig.logged();
    logged[..3].sort();
    assert_eq!(logged, ["1 Closed", "1 Closed", "2 Closed", "closed"]);
    assert_eq!((rig.lives(), rig.reactor.stats().sessions), (1, 1));
    other.send(b"hello").unwrap();
    rig.expect(&other, "2");
    drop(rig.reactor);
    assert_eq!(rig.log.borrow()[4..], ["2 Closed", "closed"]);
}

#[test]
fn what_one_says_reaches_all_by_their_sockets() {
    let mut rig = Rig::new(SessionOptions::default());
    let second = rig.bind_second();
    let clients = [client(rig.addr), client(rig.addr), client(second)];
    for client in &clients {
        client.send(b"hello").unwrap();
        rig.expect(client, "1");
    }
    clients[0].send(b"to all").unwrap();
    rig.expect(&clients[0], "2");
    for client in &clients {
        rig.expect(client, "all");
    }
    // Their states were changed, each once.
    for (client, answer) in clients.iter().zip(["103", "102", "102"]) {
        client.send(b"hello").unwrap();
        rig.expect(client, answer);
    }
}

#[test]
fn one_ends_others_which_begin_anew() {
    let mut rig = Rig::new(SessionOptions::default().max_sessions(3));
    let clients = [0; 3].map(|_| client(rig.addr));
    for client in &clients {
        client.send(b"hello").unwrap();
        rig.expect(client, "1");
    }
    clients[1].send(b"only me").unwrap();
    rig.expect(&clients[1], "2");
    rig.until(|rig| rig.logged().len() == 2);
    assert_eq!(rig.logged(), ["1 Local", "1 Local"]);
    assert_eq!(rig.reactor.stats().panics, 0, "what it asserts within");
    assert_eq!((rig.lives(), rig.reactor.stats().sessions), (1, 1));
    for (client, answers) in clients.iter().zip([&["Local", "1"][..], &["3"], &["Local", "1"]]) {
        client.send(b"hello").unwrap();
        for answer in answers {
            rig.expect(client, answer);
        }
    }
}

/// Of all sockets of the handler.
#[test]
fn a_timer_of_a_socket_reaches_all() {
    let mut rig = Rig::new(SessionOptions::default());
    let second = rig.bind_second();
    let clients = [client(rig.addr), client(second)];
    for client in &clients {
        client.send(b"hello").unwrap();
        rig.expect(client, "1");
    }
    rig.set_timer(TELL);
    for client in &clients {
        rig.expect(client, "1001");
    }
    rig.set_timer(END);
    rig.until(|rig| rig.logged().len() == 2);
    assert_eq!(rig.logged(), ["1 left", "1001 Local"]);
    assert_eq!((rig.lives(), rig.reactor.stats().sessions), (1, 1));
}

#[test]
fn a_panic_does_not_lose_the_end_of_others() {
    let mut rig = Rig::new(SessionOptions::default());
    let clients = [0; 2].map(|_| client(rig.addr));
    for client in &clients {
        client.send(b"hello").unwrap();
        rig.expect(client, "1");
    }
    let counts = rig.reactor.handler_mut(rig.service).unwrap();
    (counts.ends_all, counts.panics_when_over) = (true, true);
    rig.set_timer(TELL);
    rig.until(|rig| rig.reactor.stats().panics == 1);
    // Nothing else has to happen for the others to be told.
    rig.until(|rig| rig.logged().len() == 2);
    assert_eq!(rig.logged(), ["1001 Local", "1001 Local"]);
    assert_eq!(rig.lives(), 0);
    // The next datagram is not of one that is over.
    clients[0].send(b"hello").unwrap();
    for answer in ["1001", "Local", "1"] {
        rig.expect(&clients[0], answer);
    }
    assert_eq!(rig.reactor.stats().panics, 1);
}

/// Also when the last callbacks panic one after the other.
#[test]
fn a_panic_at_the_end_of_one_does_not_lose_the_end_of_others() {
    let mut rig = Rig::new(SessionOptions::default());
    let clients = [0; 3].map(|_| client(rig.addr));
    for client in &clients {
        client.send(b"hello").unwrap();
        rig.expect(client, "1");
    }
    let counts = rig.reactor.handler_mut(rig.service).unwrap();
    (counts.ends_all, counts.panics_at_end) = (true, true);
    rig.set_timer(TELL);
    rig.until(|rig| rig.reactor.stats().panics == 3);
    assert_eq!(rig.logged(), ["1001 Local", "1001 Local", "1001 Local"]);
    assert_eq!((rig.lives(), rig.reactor.stats().sessions), (0, 0));
}

#[test]
fn all_sockets_of_a_handler_have_the_same_options() {
    let options = SessionOptions::default().max_sessions(3);
    let mut rig = Rig::new(options);
    let (any, udp, service) = ("127.0.0.1:0", UdpOptions::default(), rig.service);
    let others = options.max_sessions(4);
    let error = rig.reactor.bind_sessions(any, service, others, udp.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for part in ["HandlerKey(0)", "max_sessions: 3", "max_sessions: 4", "bind all with the same"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let error = rig.reactor.context().bind_sessions(any, service, others, &udp).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    rig.reactor.bind_sessions(any, service, options, udp.clone()).unwrap();
    rig.reactor.context().bind_sessions(any, service, options, &udp).unwrap();
    // A bind that fails binds nothing to its options.
    let (log, states) = (Rc::clone(&rig.log), Rc::clone(&rig.states));
    let service = rig.reactor.register(Counts::new(&log, &states));
    rig.reactor.bind_sessions(rig.addr, service, others, udp.clone()).unwrap_err();
    rig.reactor.bind_sessions(any, service, options, udp).unwrap();
}

#[test]
fn an_option_out_of_range_is_told_by_name() {
    let options = SessionOptions::default;
    for (options, name) in [
        (options().idle_timeout(Duration::ZERO), "idle_timeout"),
        (options().idle_timeout(Duration::from_secs(50 * 86_400)), "idle_timeout"),
        (options().max_sessions(0), "max_sessions"),
    ] {
        let counts = Counts::new(&Log::default(), &Rc::new(()));
        let mut reactor = Reactor::new().unwrap();
        let (counts, udp) = (reactor.register(counts), UdpOptions::default());
        let error = reactor.bind_sessions("127.0.0.1:0", counts, options, udp).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}
