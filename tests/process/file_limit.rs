//! At the limit of open files: those connected are answered, others are told at once, the loop
//! rests, and serving goes on by itself when descriptors are back.
//!
//! The limit is one of the process, so each of these tests runs in a process of its own: the
//! tests that are ignored are the children of those that are not.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use waterwheel::fleet::{Balance, Fleet, FleetHandle, FleetOptions, Spread};
use waterwheel::{
    Closed, Conn, ConnectOptions, Context, FILE_RESERVE, Handler, ListenOptions, Peer, Reactor,
    ReactorOptions, Reconnect, raise_open_file_limit,
};

use crate::support::{Call, Client, End, Journal, PATIENCE, Rig, Script, patiently};

/// Tells a child that the process is its own, so that running all ignored tests at once does not
/// set one limit for all of them.
const ALONE: &str = "WATERWHEEL_TEST_IS_ALONE";

/// Runs one of the ignored tests of this file in a new process, and fails if it does.
#[track_caller]
fn run_alone(test: &str) {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program);
    child.args([test, "--exact", "--ignored", "--nocapture"]).env(ALONE, "1");
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

fn limit_files(soft: u64, hard: u64) {
    assert!(std::env::var_os(ALONE).is_some(), "this test is run by another one");
    let limit = Rlimit { current: Some(soft), maximum: Some(hard) };
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Every descriptor that is left.
fn take_all_descriptors() -> Vec<File> {
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    taken
}

/// A rig whose own caps do not keep it from the limit.
fn uncapped_rig() -> Rig {
    Rig::with(
        Script::echo(),
        Journal::default(),
        ListenOptions::default(),
        ReactorOptions::default().max_connections(Some(10_000)),
    )
}

/// Turns for so long and gives the number of turns.
fn turns_in(rig: &mut Rig, span: Duration) -> u64 {
    let (begin, before) = (Instant::now(), rig.reactor.stats().turns);
    while let Some(left) = span.checked_sub(begin.elapsed()) {
        rig.reactor.run_once(Some(left)).unwrap();
    }
    rig.reactor.stats().turns - before
}

/// Counts the warnings.
struct Warnings(AtomicUsize, Mutex<String>);

static WARNINGS: Warnings = Warnings(AtomicUsize::new(0), Mutex::new(String::new()));

impl log::Log for Warnings {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        *self.1.lock().unwrap() = record.args().to_string();
    }

    fn flush(&self) {}
}

#[test]
fn at_the_limit_live_ones_are_served_and_others_are_told() {
    run_alone("file_limit::child_at_the_limit");
}

#[test]
fn an_error_of_listen_says_how_to_have_more_files() {
    run_alone("file_limit::child_that_cannot_listen");
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_that_cannot_listen() {
    limit_files(64, 64);
    let mut rig = uncapped_rig();
    let service = rig.reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    let taken = take_all_descriptors();
    let refused = rig.reactor.listen("127.0.0.1:0", service, ListenOptions::default());
    drop(taken);
    let text = refused.unwrap_err().to_string();
    assert!(text.starts_with("cannot listen on 127.0.0.1:0: "), "{text}");
    let hint = "; raise the limit of open files with `ulimit -n` or raise_open_file_limit";
    assert!(text.ends_with(hint), "{text}");
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_at_the_limit() {
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let begin = Instant::now();
    limit_files(128, 128);
    let mut rig = uncapped_rig();
    let mut inside: Vec<_> = (0..10).map(|_| rig.client()).collect();
    // These wait in the backlog when the last descriptor goes.
    let mut surplus: Vec<_> = (0..30).map(|_| Client::connect(rig.addr)).collect();
    let mut taken = take_all_descriptors();
    let before = rig.reactor.stats();
    for client in &mut surplus {
        assert_eq!(rig.read_to_end(client), (Vec::new(), End::Reset));
    }
    let stats = rig.reactor.stats();
    assert_eq!(stats.refused - before.refused, 30);
    assert_eq!(stats.accepted, 10);
    assert!(stats.turns - before.turns <= 10, "{} turns", stats.turns - before.turns);
    for (client, _) in &mut inside {
        client.send(b"still here?");
        rig.expect(client, b"still here?");
    }
    // Nothing is left to do, and that is what the loop does.
    rig.expect_quiet();
    assert!(turns_in(&mut rig, Duration::from_millis(300)) <= 2);
    // One after the other, each in the place of a descriptor that came free.
    for _ in 0..10 {
        taken.pop().unwrap();
        let mut late = Client::connect(rig.addr);
        assert_eq!(rig.read_to_end(&mut late), (Vec::new(), End::Reset));
        taken.extend(take_all_descriptors());
        drop(late);
        taken.extend(take_all_descriptors());
    }
    drop(taken);
    let (mut late, _) = rig.client();
    late.send(b"served");
    rig.expect(&mut late, b"served");
    expect_few_warnings(begin.elapsed());
}

/// A line a second at most, however many clients were sent away.
#[track_caller]
fn expect_few_warnings(span: Duration) {
    let warnings = WARNINGS.0.load(Ordering::Relaxed);
    assert!((1..=2 + span.as_secs() as usize).contains(&warnings), "{warnings} in {span:?}");
    let last = WARNINGS.1.lock().unwrap();
    assert!(last.contains("cannot accept") && last.contains("open-file limit"), "{last}");
}

#[test]
fn whoever_takes_the_last_descriptor_is_served_and_no_error_is_told() {
    run_alone("file_limit::child_with_one_left");
}

/// Linux wants a descriptor also to say that nobody waits.
#[test]
#[ignore = "runs in a process of its own"]
fn child_with_one_left() {
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    limit_files(64, 64);
    let mut rig = uncapped_rig();
    let mut taken = take_all_descriptors();
    for _ in 0..3 {
        taken.truncate(taken.len() - 2); // for both ends
        let (mut client, _) = rig.client();
        assert!(File::open("/dev/null").is_err(), "there is a descriptor left");
        client.send(b"the last");
        rig.expect(&mut client, b"the last");
        drop(client);
        rig.until("gone", |rig| rig.reactor.stats().connections == 0);
        taken.extend(take_all_descriptors());
    }
    let stats = rig.reactor.stats();
    assert_eq!((stats.accepted, stats.refused, stats.accept_errors), (3, 0, 0));
    assert_eq!(WARNINGS.0.load(Ordering::Relaxed), 0);
}

// Leaves room for the descriptor of the poll; poll(2) has none.
#[cfg(not(mio_unsupported_force_poll_poll))]
#[test]
fn a_client_that_cannot_be_told_is_served_when_a_descriptor_is_back() {
    run_alone("file_limit::child_without_a_spare");
}

/// Not even the spare descriptor could be had when the reactor was made: the client waits.
#[cfg(not(mio_unsupported_force_poll_poll))]
#[test]
#[ignore = "runs in a process of its own"]
fn child_without_a_spare() {
    limit_files(64, 64);
    let mut taken = take_all_descriptors();
    taken.truncate(taken.len() - 2); // for the poll and its waker
    let options = ReactorOptions::default().max_connections(Some(10_000));
    let mut reactor = Reactor::with_options(options).unwrap();
    taken.pop().unwrap(); // for the listener
    let journal = Journal::default();
    let service = reactor.register(journal.watch(Script::echo()));
    let addr = reactor.listen("127.0.0.1:0", service, ListenOptions::default()).unwrap();
    taken.pop().unwrap(); // for the client
    let mut client = Client::connect(addr);
    client.send(b"hello");
    assert!(File::open("/dev/null").is_err(), "there is a descriptor left");

    // The loop tries again, ever less often; a client is neither served nor sent away.
    let (begin, before) = (Instant::now(), reactor.stats().turns);
    while begin.elapsed() < Duration::from_millis(500) {
        reactor.run_once(Some(Duration::from_millis(20))).unwrap();
    }
    let stats = reactor.stats();
    assert_eq!((stats.accepted, stats.refused), (0, 0));
    assert!(stats.accept_errors >= 3, "{stats:?}");
    // 25 of these are this loop's own, 7 the first waits of 1 to 64 ms, and 7 of 64 ms each.
    assert!(stats.turns - before <= 50, "{} turns", stats.turns - before);
    assert_eq!(client.try_read(1), Ok(Vec::new()));

    drop(taken);
    let mut answer = Vec::new();
    patiently("the answer", || {
        reactor.run_once(Some(Duration::from_millis(20))).unwrap();
        answer.extend(client.try_read(16).unwrap());
        (answer == b"hello").then_some(())
    });
    assert_eq!(journal.count(|call| *call == Call::Open), 1);
    drop(reactor);
    journal.expect_balanced();
}

#[test]
fn by_default_the_cap_is_the_limit_less_a_reserve() {
    run_alone("file_limit::child_with_the_default_cap");
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_with_the_default_cap() {
    limit_files(112, 4096);
    let mut rig = Rig::new(Script::echo());
    let cap = 112 - FILE_RESERVE;
    // The other ends of the connections are in this process, so the limit is raised again: the
    // cap follows what it was when the reactor was made.
    assert_eq!(raise_open_file_limit().unwrap(), Some(4096));
    let mut inside: Vec<_> = (0..cap).map(|_| rig.client().0).collect();
    let mut surplus = Client::connect(rig.addr);
    assert_eq!(rig.read_to_end(&mut surplus), (Vec::new(), End::Reset));
    assert_eq!(rig.reactor.stats().accept_errors, 0, "the table was never full");
    let last = inside.last_mut().unwrap();
    last.send(b"x");
    rig.expect(last, b"x");
}

#[test]
fn a_tiny_limit_is_shared_with_the_reserve() {
    run_alone("file_limit::child_with_a_tiny_limit");
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_with_a_tiny_limit() {
    limit_files(40, 4096);
    let mut rig = Rig::new(Script::echo());
    raise_open_file_limit().unwrap();
    let _inside: Vec<_> = (0..20).map(|_| rig.client()).collect();
    let mut surplus = Client::connect(rig.addr);
    assert_eq!(rig.read_to_end(&mut surplus), (Vec::new(), End::Reset));
}

#[test]
fn the_limit_is_raised_to_what_is_allowed() {
    run_alone("file_limit::child_that_raises_its_limit");
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_that_raises_its_limit() {
    limit_files(64, 200);
    assert_eq!(raise_open_file_limit().unwrap(), Some(200));
    assert_eq!(getrlimit(Resource::Nofile).current, Some(200));
    assert_eq!(raise_open_file_limit().unwrap(), Some(200), "again is no harm");
    assert!(take_all_descriptors().len() > 100);
}

#[test]
fn a_connect_without_a_descriptor_fails_and_gives_its_state_back() {
    run_alone("file_limit::child_that_cannot_connect");
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_that_cannot_connect() {
    limit_files(64, 64);
    let mut rig = uncapped_rig();
    let addr = rig.addr;
    let taken = take_all_descriptors();
    rig.connect(addr, 1, &waterwheel::ConnectOptions::default());
    rig.until("on_connect_failed", |rig| {
        rig.journal.count(|call| matches!(call, Call::ConnectFailed(..))) == 1
    });
    assert_eq!(rig.journal.states(), 0);
    let Some(Call::ConnectFailed(_, text)) = rig.journal.calls().pop() else { unreachable!() };
    assert!(text.contains(&addr.to_string()), "{text}");
    drop(taken);
    rig.connect(addr, 2, &waterwheel::ConnectOptions::default());
    rig.until("both ends are open", |rig| rig.journal.opened().len() == 2);
}

/// Connects anew when there is nothing to connect with.
#[derive(Default)]
struct Feed {
    taken: Vec<File>,
    opened: usize,
    failed: Vec<String>,
}

impl Handler for Feed {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        None
    }

    fn on_open(&mut self, (): &mut (), _: &mut Conn<'_>) {
        self.opened += 1;
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, (): (), closed: Closed, cx: &mut Context<'_>) {
        self.taken = take_all_descriptors();
        cx.reconnect(&closed, ()).expect("the policy has tries left");
    }

    fn on_connect_failed(&mut self, (): (), error: std::io::Error, _: &mut Context<'_>) {
        self.failed.push(error.to_string());
    }
}

#[test]
fn a_try_without_a_descriptor_is_not_the_last_one() {
    run_alone("file_limit::child_that_tries_again");
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_that_tries_again() {
    limit_files(64, 64);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Feed::default());
    let often = Reconnect::default().base_delay(Duration::from_millis(1)).max_attempts(None);
    let often = often.max_delay(Duration::from_millis(2));
    let options = ConnectOptions::default().reconnect(Some(often));
    // Neither the first one nor the one after it finds a descriptor.
    let taken = take_all_descriptors();
    reactor.connect(listener.local_addr().unwrap(), service, (), &options);
    let until = |reactor: &mut Reactor, what: &str, done: &dyn Fn(&Feed, u64) -> bool| {
        let start = Instant::now();
        loop {
            let retries = reactor.stats().connect_retries;
            let feed = reactor.handler_mut(service).unwrap();
            assert_eq!(feed.failed, Vec::<String>::new());
            if done(feed, retries) {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
            reactor.run_once(Some(Duration::from_millis(1))).unwrap();
        }
    };
    until(&mut reactor, "three tries", &|_, retries| retries >= 3);
    drop(taken);
    until(&mut reactor, "it is up", &|feed, _| feed.opened == 1);
    let before = reactor.stats().connect_retries;
    drop(listener.accept().unwrap());
    until(&mut reactor, "three more", &|_, retries| retries >= before + 3);
    reactor.handler_mut(service).unwrap().taken.clear();
    until(&mut reactor, "it is up again", &|feed, _| feed.opened == 2);
}

// Leaves room for the descriptor of the poll; poll(2) has none.
#[cfg(not(mio_unsupported_force_poll_poll))]
#[test]
fn a_reactor_without_descriptors_is_an_error() {
    run_alone("file_limit::child_without_descriptors");
}

#[cfg(not(mio_unsupported_force_poll_poll))]
#[test]
#[ignore = "runs in a process of its own"]
fn child_without_descriptors() {
    limit_files(64, 64);
    let mut taken = take_all_descriptors();
    for _ in 0..2 {
        let error = Reactor::new().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        taken.pop();
    }
    // A poll and a waker are enough for a reactor.
    Reactor::new().unwrap().run_once(Some(Duration::ZERO)).unwrap();
}

/// Two reactors behind an acceptor that echo.
fn fleet(reactor: ReactorOptions) -> (FleetHandle, SocketAddr) {
    let (send, receive) = std::sync::mpsc::channel();
    let spread = Spread::HandOver(Balance::RoundRobin);
    let options = FleetOptions::default().threads(Some(2)).spread(spread).reactor(reactor);
    let fleet = Fleet::new(options).unwrap().start(move |member| {
        let service = member.reactor().register(|conn: &mut Conn<'_>, input: &[u8]| {
            conn.write(input);
            input.len()
        });
        send.send(member.listen("127.0.0.1:0", service, ListenOptions::default())?).unwrap();
        Ok(())
    });
    (fleet.unwrap(), receive.recv().unwrap())
}

fn answered(addr: SocketAddr) -> Client {
    let mut client = Client::connect(addr);
    client.send(b"hello");
    client.expect(b"hello");
    client
}

#[test]
fn an_acceptor_at_the_limit_tells_others_and_goes_on() {
    run_alone("file_limit::child_with_an_acceptor_at_the_limit");
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_with_an_acceptor_at_the_limit() {
    limit_files(160, 160);
    let (fleet, addr) = fleet(ReactorOptions::default().max_connections(Some(10_000)));
    let mut inside: Vec<_> = (0..10).map(|_| answered(addr)).collect();
    let sockets = (0..30).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
    let sockets: Vec<_> = sockets.collect();
    let taken = take_all_descriptors();
    for socket in sockets {
        // One that is reset at once may find that out while it still connects.
        if socket.connect(&addr.into()).is_ok() {
            Client::from(TcpStream::from(socket)).expect_end(End::Reset);
            // Its own descriptor is free now, and is not to be had. An accept that finds nobody
            // has it for a moment.
            std::mem::forget(patiently("its descriptor", || File::open("/dev/null").ok()));
        } else {
            std::mem::forget(socket);
        }
    }
    for client in &mut inside {
        client.send(b"still here?");
        client.expect(b"still here?");
    }
    drop(taken);
    drop(answered(addr));
    fleet.stop();
    let end = fleet.join();
    assert!(end.failures.is_empty());
    assert_eq!((end.stats.total.refused, end.stats.total.handed_over), (30, 11));
    assert!(end.stats.acceptor.unwrap().accept_errors > 0);
}

#[test]
fn by_default_the_reactors_of_a_fleet_share_the_limit() {
    run_alone("file_limit::child_with_a_fleet_at_its_default_cap");
}

#[test]
#[ignore = "runs in a process of its own"]
fn child_with_a_fleet_at_its_default_cap() {
    limit_files(136, 4096);
    let (fleet, addr) = fleet(ReactorOptions::default());
    // The other ends of the connections are in this process too.
    assert_eq!(raise_open_file_limit().unwrap(), Some(4096));
    let each = (136 - FILE_RESERVE - 8) / 2;
    let _inside: Vec<_> = (0..2 * each).map(|_| answered(addr)).collect();
    for _ in 0..2 {
        match TcpStream::connect(addr) {
            Ok(stream) => Client::from(stream).expect_end(End::Reset),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    let stats = fleet.stats();
    assert_eq!(stats.total.accept_errors, 0, "the table was never full");
    let found: Vec<u64> = stats.members.iter().map(|stats| stats.connections).collect();
    assert_eq!(found, [each as u64, each as u64]);
    fleet.stop();
    let _ = fleet.join();
}
