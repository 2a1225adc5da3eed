//! The state of another connection of one's own handler, from every callback.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::{
    CloseReason, Closed, Conn, ConnId, ConnectOptions, Context, Deadline, DeadlineKind, Handler,
    HandlerKey, Idle, IdleKind, Limits, ListenOptions, Peer, Reactor, Receive, Timer, TimerHandler,
};

use crate::support::{Client, End, patiently};

const MS: Duration = Duration::from_millis(1);

/// What each connection keeps: who has looked at it, in order.
#[derive(Debug, Default)]
struct Visited(Vec<&'static str>);

/// What a visit found: the callback, the id, and how often it had been visited before.
type Visits = Rc<RefCell<Vec<(&'static str, ConnId, Option<usize>)>>>;

/// Visits every connection it knows of, from every callback, and says so to it.
struct Visitor {
    service: HandlerKey<Visitor>,
    /// Those that have opened, in order.
    known: Vec<ConnId>,
    visits: Visits,
}

impl Visitor {
    fn visit(&mut self, callback: &'static str, cx: &mut Context<'_>) {
        let mut living = self.known.clone();
        living.retain(|&id| cx.with(self.service, id, |_, _| ()).is_some());
        for &id in &self.known {
            let found = cx.with(self.service, id, |visited, conn| {
                assert_eq!(conn.id(), id);
                let before = visited.0.len();
                visited.0.push(callback);
                writeln!(conn, "{callback}");
                // Its state is lent already.
                assert!(conn.context().with(self.service, id, |_, _| ()).is_none());
                for &other in living.iter().filter(|&&other| other != id) {
                    let found = conn.context().with(self.service, other, |_, conn| conn.id());
                    assert_eq!(found, Some(other), "within the closure");
                }
                before
            });
            self.visits.borrow_mut().push((callback, id, found));
        }
    }
}

impl Handler for Visitor {
    type State = Visited;

    fn on_accept(&mut self, _: &Peer) -> Option<Visited> {
        Some(Visited::default())
    }

    fn on_open(&mut self, _: &mut Visited, conn: &mut Conn<'_>) {
        self.known.push(conn.id());
        self.visit("on_open", &mut conn.context());
    }

    fn on_data(&mut self, own: &mut Visited, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        match input {
            b"drain" => drop(conn.write(&vec![b'.'; 12 << 20])),
            b"timer" => drop(conn.set_timer(Duration::ZERO, 0)),
            b"fail" => {
                let options = ConnectOptions::default();
                let state = Visited(vec!["new"]);
                let id = conn.context().connect("127.0.0.1:1", self.service, state, &options);
                // Its state comes to the handler at the end of the turn.
                assert!(conn.context().with(self.service, id, |_, _| ()).is_none());
            }
            _ => {}
        }
        own.0.push("own");
        self.visit("on_data", &mut conn.context());
        input.len()
    }

    fn on_drain(&mut self, _: &mut Visited, conn: &mut Conn<'_>) {
        self.visit("on_drain", &mut conn.context());
    }

    fn on_eof(&mut self, _: &mut Visited, conn: &mut Conn<'_>) {
        self.visit("on_eof", &mut conn.context());
        conn.close();
    }

    fn on_idle(&mut self, _: &mut Visited, conn: &mut Conn<'_>, _: IdleKind) -> Idle {
        self.visit("on_idle", &mut conn.context());
        Idle::Close
    }

    fn on_deadline(&mut self, _: &mut Visited, conn: &mut Conn<'_>, _: DeadlineKind) -> Deadline {
        self.visit("on_deadline", &mut conn.context());
        Deadline::Close
    }

    fn on_timer(&mut self, _: &mut Visited, conn: &mut Conn<'_>, _: Timer) {
        self.visit("on_timer", &mut conn.context());
    }

    fn on_shutdown(&mut self, _: &mut Visited, conn: &mut Conn<'_>) {
        self.visit("on_shutdown", &mut conn.context());
        conn.close();
    }

    fn on_close(&mut self, _: Visited, _: Closed, cx: &mut Context<'_>) {
        self.visit("on_close", cx);
    }

    fn on_connect_failed(&mut self, state: Visited, _: io::Error, cx: &mut Context<'_>) {
        assert_eq!(state.0, ["new"]);
        self.visit("on_connect_failed", cx);
    }
}

impl TimerHandler for Visitor {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        self.visit("on_handler_timer", cx);
    }
}

impl Receive<()> for Visitor {
    fn on_message(&mut self, (): (), cx: &mut Context<'_>) {
        self.visit("on_message", cx);
    }

    fn on_senders_gone(&mut self, cx: &mut Context<'_>) {
        self.visit("on_senders_gone", cx);
    }
}

/// A visitor with two clients that have connected.
struct Site {
    reactor: Reactor,
    service: HandlerKey<Visitor>,
    clients: Vec<Client>,
    ids: Vec<ConnId>,
    visits: Visits,
}

impl Site {
    fn new(limits: Limits) -> Self {
        let (mut reactor, visits) = (Reactor::new().unwrap(), Visits::default());
        let service = reactor.register_with(|service| Visitor {
            service,
            known: Vec::new(),
            visits: Rc::clone(&visits),
        });
        let options = ListenOptions::default().limits(limits);
        let addr = reactor.listen("127.0.0.1:0", service, options).unwrap();
        let mut site = Self { reactor, service, clients: Vec::new(), ids: Vec::new(), visits };
        for count in 1..=2 {
            site.clients.push(Client::connect(addr));
            site.turn_until("accepted", |site| {
                site.reactor.handler_mut(service).unwrap().known.len() == count
            });
        }
        site.ids = site.reactor.handler_mut(service).unwrap().known.clone();
        site
    }

    #[track_caller]
    fn turn_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        patiently(what, || {
            self.reactor.run_once(Some(MS)).unwrap();
            done(self).then_some(())
        });
    }

    /// What the first visits of a callback have found, in the order of the connections.
    #[track_caller]
    fn expect_visits(&mut self, callback: &str, expected: [Option<usize>; 2]) {
        let expected: Vec<_> = self.ids.iter().copied().zip(expected).collect();
        let of = |site: &Self| {
            let visits = site.visits.borrow();
            let of = visits.iter().filter(|(its, _, _)| *its == callback);
            of.map(|&(_, id, found)| (id, found)).take(2).collect::<Vec<_>>()
        };
        self.turn_until(callback, |site| of(site).len() == 2);
        assert_eq!(of(self), expected, "{callback}");
        assert_eq!(self.reactor.stats().panics, 0);
    }

    /// The other client reads what was written to its connection, in order.
    #[track_caller]
    fn expect_lines(&mut self, client: usize, lines: &[&str]) {
        let expected = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let mut read = Vec::new();
        patiently("lines", || {
            self.reactor.run_once(Some(MS)).unwrap();
            read.extend(self.clients[client].try_read(expected.len() - read.len()).unwrap());
            (read.len() == expected.len()).then_some(())
        });
        assert_eq!(String::from_utf8(read).unwrap(), expected);
    }
}

/// In `on_open` of the second, the first has been visited by nobody.
#[test]
fn callbacks_of_a_connection_reach_the_states_of_the_others_and_not_their_own() {
    let mut site = Site::new(Limits::default());
    let visits = site.visits.borrow().clone();
    let [first, second] = site.ids[..] else { panic!("two") };
    assert_eq!(
        visits,
        [("on_open", first, None), ("on_open", first, Some(0)), ("on_open", second, None)]
    );
    site.clients[1].send(b"hello");
    site.expect_visits("on_data", [Some(1), None]);
    site.expect_lines(0, &["on_open", "on_data"]);
    site.clients[0].send(b"timer");
    // "own", by its own callback.
    site.expect_visits("on_timer", [None, Some(2)]);
    site.expect_lines(1, &["on_data", "on_timer"]);
    site.clients[1].finish();
    site.expect_visits("on_eof", [Some(3), None]);
}

/// Whose callback runs, who is marked closed and who is of another handler are left out.
#[test]
fn each_of_the_others_is_visited_once() {
    let mut site = Site::new(Limits::default());
    let twin = site.reactor.register_with(|service| Visitor {
        service,
        known: Vec::new(),
        visits: Visits::default(),
    });
    let addr = site.reactor.listen("127.0.0.1:0", twin, ListenOptions::default()).unwrap();
    let _client = Client::connect(addr);
    site.turn_until("accepted", |site| !site.reactor.handler_mut(twin).unwrap().known.is_empty());
    let found = Rc::new(RefCell::new(Vec::new()));
    let (service, ids, seen) = (site.service, site.ids.clone(), Rc::clone(&found));
    site.reactor.context().post(service, move |_, cx| {
        let look = |cx: &mut Context<'_>| {
            let mut each = Vec::new();
            cx.with_each(service, |visited, conn| {
                visited.0.push("each");
                each.push(conn.id());
            });
            each.sort_unstable();
            seen.borrow_mut().push(each);
        };
        look(cx);
        cx.with_each(twin, |_, _| panic!("of another handler"));
        cx.conn(ids[0]).unwrap().abort();
        look(cx);
    });
    site.turn_until("the closure", |_| found.borrow().len() == 2);
    let mut all = site.ids.clone();
    all.sort_unstable();
    assert_eq!(*found.borrow(), [all, vec![site.ids[1]]]);
    // It had been visited by `on_open` of nobody, twice here, and by `on_close` of the other.
    site.expect_visits("on_close", [None, Some(2)]);
    site.reactor.context().with_each(service, |_, _| panic!("no states are lent"));
}

/// The running connection's own state is lent already.
#[test]
fn each_of_the_others_is_visited_from_a_callback_of_one() {
    struct Room(HandlerKey<Room>);
    impl Handler for Room {
        type State = u32;
        fn on_accept(&mut self, _: &Peer) -> Option<u32> {
            Some(0)
        }
        fn on_data(&mut self, own: &mut u32, conn: &mut Conn<'_>, input: &[u8]) -> usize {
            conn.context().with_each(self.0, |heard, other| {
                *heard += 1;
                other.write(input);
            });
            writeln!(conn, "{own}");
            input.len()
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let room = reactor.register_with(Room);
    let addr = reactor.listen("127.0.0.1:0", room, ListenOptions::default()).unwrap();
    let mut clients = [0; 3].map(|_| Client::connect(addr));
    patiently("accepted", || {
        reactor.run_once(Some(MS)).unwrap();
        (reactor.stats().accepted == 3).then_some(())
    });
    for (round, expected) in ["0\n", "x1\n", "xx2\n"].iter().enumerate() {
        clients[round].send(b"x");
        let mut read = Vec::new();
        patiently("what the others have said, and how much it was", || {
            reactor.run_once(Some(MS)).unwrap();
            read.extend(clients[round].try_read(expected.len() - read.len()).unwrap());
            (read.len() == expected.len()).then_some(())
        });
        assert_eq!(read, expected.as_bytes());
    }
    assert_eq!(reactor.stats().panics, 0);
}

/// A connection that is opened meanwhile takes a free slot before those of others.
#[test]
fn each_of_the_others_is_visited_while_calls_open_more() {
    struct Room(HandlerKey<Room>, SocketAddr);
    impl Handler for Room {
        type State = ();
        fn on_accept(&mut self, _: &Peer) -> Option<()> {
            Some(())
        }
        fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
            let (mut visited, target) = (0, self.1);
            conn.context().with_each(self.0, |(), other| {
                visited += 1;
                other.context().connect(target, self.0, (), &ConnectOptions::default());
            });
            writeln!(conn, "{visited}");
            input.len()
        }
    }
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let room = reactor.register_with(|key| Room(key, target.local_addr().unwrap()));
    let addr = reactor.listen("127.0.0.1:0", room, ListenOptions::default()).unwrap();
    let mut clients = [0; 6].map(|_| Client::connect(addr));
    patiently("accepted", || {
        reactor.run_once(Some(MS)).unwrap();
        (reactor.stats().accepted == 6).then_some(())
    });
    for client in &mut clients[1..3] {
        client.finish();
    }
    patiently("two have gone", || {
        reactor.run_once(Some(MS)).unwrap();
        (reactor.stats().connections == 4).then_some(())
    });
    clients[3].send(b"x");
    let read = patiently("how many there were", || {
        reactor.run_once(Some(MS)).unwrap();
        let read = clients[3].try_read(2).unwrap();
        (read.len() == 2).then_some(read)
    });
    assert_eq!(read, b"3\n");
}

#[test]
fn on_drain_reaches_the_others() {
    let limits = Limits::default().high_mark_bytes(1 << 10).low_mark_bytes(0);
    let mut site = Site::new(limits);
    site.clients[1].send(b"drain");
    patiently("on_drain", || {
        site.reactor.run_once(Some(MS)).unwrap();
        let _ = site.clients[1].try_read(1 << 20);
        let visits = site.visits.borrow();
        visits.iter().any(|visit| visit.0 == "on_drain").then_some(())
    });
    site.expect_visits("on_drain", [Some(2), None]);
}

#[test]
fn on_idle_reaches_the_others() {
    let mut site = Site::new(Limits::default());
    let [_, second] = site.ids[..] else { panic!("two") };
    let mut cx = site.reactor.context();
    cx.conn(second).unwrap().set_idle_timeout(IdleKind::All, Some(5 * MS)).unwrap();
    site.expect_visits("on_idle", [Some(1), None]);
}

#[test]
fn on_deadline_reaches_the_others() {
    let mut site = Site::new(Limits::default());
    let [_, second] = site.ids[..] else { panic!("two") };
    let mut cx = site.reactor.context();
    cx.conn(second).unwrap().set_deadline(DeadlineKind::User, Some(MS));
    site.expect_visits("on_deadline", [Some(1), None]);
}

#[test]
fn on_shutdown_reaches_the_others_also_those_that_close_in_order() {
    let mut site = Site::new(Limits::default());
    site.reactor.context().drain(1_000 * MS);
    // The last is offered the stop first; one that closes in order still has its state.
    site.expect_visits("on_shutdown", [Some(1), None]);
}

#[test]
fn on_close_reaches_the_others_and_a_connection_that_has_ended_is_not_found() {
    let mut site = Site::new(Limits::default());
    site.clients.remove(1).reset();
    site.expect_visits("on_close", [Some(1), None]);
    site.expect_lines(0, &["on_open", "on_close"]);
}

#[test]
fn a_connection_that_is_marked_closed_is_not_found() {
    let mut site = Site::new(Limits::default());
    let [first, second] = site.ids[..] else { panic!("two") };
    site.reactor.context().post(site.service, move |visitor, cx| {
        cx.conn(second).unwrap().abort();
        assert!(cx.with(visitor.service, second, |_, _| ()).is_none());
        // The closure may end the connection that it is lent.
        let ended = cx.with(visitor.service, first, |_, conn| conn.abort());
        assert!(ended.is_some());
        assert!(cx.with(visitor.service, first, |_, _| ()).is_none());
    });
    site.expect_visits("on_close", [None, None]);
}

#[test]
fn on_connect_failed_reaches_all() {
    let mut site = Site::new(Limits::default());
    site.clients[1].send(b"fail");
    // "own", and the visit of `on_data` of the first.
    site.expect_visits("on_connect_failed", [Some(2), Some(1)]);
}

#[test]
fn timers_of_the_handler_messages_and_posted_closures_reach_all() {
    let mut site = Site::new(Limits::default());
    site.reactor.set_timer(site.service, Duration::ZERO, 0);
    site.expect_visits("on_handler_timer", [Some(1), Some(0)]);
    let sender = site.reactor.channel(site.service, 4).unwrap();
    std::thread::spawn(move || sender.send(()).unwrap()).join().unwrap();
    site.expect_visits("on_message", [Some(2), Some(1)]);
    site.expect_visits("on_senders_gone", [Some(3), Some(2)]);
    site.reactor.context().post(site.service, |visitor, cx| visitor.visit("posted", cx));
    site.expect_visits("posted", [Some(4), Some(3)]);
    let (remote, service) = (site.reactor.remote(), site.service);
    std::thread::spawn(move || remote.with(service, |visitor, cx| visitor.visit("with", cx)))
        .join()
        .unwrap()
        .unwrap();
    site.expect_visits("with", [Some(5), Some(4)]);
    site.expect_lines(1, &["on_handler_timer", "on_message", "on_senders_gone", "posted", "with"]);
}

/// Two handlers of one type have states at the same places; the ids tell them apart.
#[test]
fn connections_of_other_handlers_and_reactors_are_not_found() {
    let (mut one, other) = (Site::new(Limits::default()), Site::new(Limits::default()));
    let twin = one.reactor.register_with(|service| Visitor {
        service,
        known: Vec::new(),
        visits: Visits::default(),
    });
    let addr = one.reactor.listen("127.0.0.1:0", twin, ListenOptions::default()).unwrap();
    let _client = Client::connect(addr);
    one.turn_until("accepted", |site| !site.reactor.handler_mut(twin).unwrap().known.is_empty());
    let theirs = one.reactor.handler_mut(twin).unwrap().known[0];
    let (mine, foreign) = (one.ids[0], other.ids[0]);
    let done = Rc::new(RefCell::new(false));
    let (is_done, service) = (Rc::clone(&done), one.service);
    one.reactor.context().post(service, move |_, cx| {
        assert!(cx.with(service, mine, |_, _| ()).is_some());
        assert!(cx.with(twin, theirs, |_, _| ()).is_none(), "of another handler");
        assert!(cx.with(service, theirs, |_, _| ()).is_none(), "of another key");
        assert!(cx.with(twin, mine, |_, _| ()).is_none());
        assert!(cx.with(service, foreign, |_, _| ()).is_none(), "of another reactor");
        *is_done.borrow_mut() = true;
    });
    one.turn_until("the closure", |_| *done.borrow());
    assert_eq!(one.reactor.stats().panics, 0);
}

#[test]
fn outside_of_callbacks_no_states_are_lent() {
    let mut site = Site::new(Limits::default());
    let (service, id) = (site.service, site.ids[0]);
    let mut cx = site.reactor.context();
    assert!(cx.with(service, id, |_, _| ()).is_none());
    assert!(cx.conn(id).unwrap().context().with(service, id, |_, _| ()).is_none());
}

/// Says `panic` to the handler that the state of the first connection makes it panic.
struct Clumsy(HandlerKey<Clumsy>, Vec<ConnId>);

impl Handler for Clumsy {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        self.1.push(conn.id());
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if input == b"panic" {
            Self::stumble(self.0, self.1[0], &mut conn.context());
        }
        conn.write(input);
        input.len()
    }

    fn on_close(&mut self, (): (), closed: Closed, _: &mut Context<'_>) {
        assert!(matches!(closed.reason, CloseReason::Panic), "{closed:?}");
        self.1.retain(|&id| id != closed.id);
    }
}

impl Clumsy {
    fn stumble(key: HandlerKey<Self>, id: ConnId, cx: &mut Context<'_>) {
        cx.with(key, id, |(), conn| {
            conn.write(b"half of what");
            panic!("on purpose");
        });
    }
}

fn clumsy(count: usize) -> (Reactor, HandlerKey<Clumsy>, Vec<Client>) {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register_with(|service| Clumsy(service, Vec::new()));
    let addr = reactor.listen("127.0.0.1:0", service, ListenOptions::default()).unwrap();
    let mut clients = Vec::new();
    for accepted in 1..=count {
        clients.push(Client::connect(addr));
        patiently("accepted", || {
            reactor.run_once(Some(MS)).unwrap();
            (reactor.handler_mut(service).unwrap().1.len() == accepted).then_some(())
        });
    }
    (reactor, service, clients)
}

fn expect_panicked(reactor: &mut Reactor, ends: u64, ended: &mut [Client], served: &mut Client) {
    patiently("the panic", || {
        reactor.run_once(Some(MS)).unwrap();
        (reactor.stats().closed == ends).then_some(())
    });
    for client in ended {
        client.expect_end(End::Reset);
    }
    served.send(b"on");
    let mut read = Vec::new();
    patiently("the other", || {
        reactor.run_once(Some(MS)).unwrap();
        read.extend(served.try_read(2).unwrap());
        (read == b"on").then_some(())
    });
    assert_eq!((reactor.stats().panics, reactor.stats().closed), (1, ends));
}

/// Both may have been left half-way: the one whose callback ran, and the one that was lent.
#[test]
fn a_panic_of_the_closure_ends_the_connection_whose_callback_ran_and_the_one_lent() {
    let (mut reactor, _, mut clients) = clumsy(3);
    clients[1].send(b"panic");
    let mut served = clients.pop().unwrap();
    expect_panicked(&mut reactor, 2, &mut clients, &mut served);
}

/// Where no connection's callback runs it is the one lent that ends.
#[test]
fn a_panic_of_the_closure_in_posted_work_ends_the_connection_lent() {
    let (mut reactor, service, mut clients) = clumsy(2);
    reactor.context().post(service, move |handler, cx| {
        Clumsy::stumble(service, handler.1[0], cx);
    });
    let mut served = clients.pop().unwrap();
    expect_panicked(&mut reactor, 1, &mut clients, &mut served);
}
