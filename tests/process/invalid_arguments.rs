//! What cannot be is refused with an error that names it and says what would do, and leaves
//! nothing behind.

use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use waterwheel::{
    Conn, ConnectOptions, IdleKind, Keepalive, Limits, ListenOptions, MinRate, Reactor,
    ReactorOptions, TcpOptions,
};

use crate::own::in_own_process;
use crate::support::{Call, Client, Journal, Rig, Script};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const ZERO: Duration = Duration::ZERO;

/// How many descriptors this process has open, where that can be known.
fn descriptors() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

/// An error must be of kind `InvalidInput` and contain all of this.
#[track_caller]
fn expect_refusal(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

/// Socket options out of range: name, value and what would do.
fn bad_tcp() -> Vec<(TcpOptions, [&'static str; 3])> {
    let tcp = TcpOptions::default;
    let keepalive = |keepalive| tcp().keepalive(Some(keepalive));
    let (long, probes) = (Duration::from_secs(32_768), Keepalive::default());
    vec![
        (keepalive(probes.idle(ZERO)), ["keepalive.idle", "0ns", "1 s to 32,767 s"]),
        (keepalive(probes.idle(long)), ["keepalive.idle", "32768s", "1 s to 32,767 s"]),
        (keepalive(probes.interval(ZERO)), ["keepalive.interval", "0ns", "1 s to 32,767 s"]),
        (keepalive(probes.interval(long)), ["keepalive.interval", "32768s", "1 s to"]),
        (keepalive(probes.probes(0)), ["keepalive.probes", "0", "1 to 127"]),
        (keepalive(probes.probes(128)), ["keepalive.probes", "128", "1 to 127"]),
        (tcp().user_timeout(Some(ZERO)), ["user_timeout", "0ns", "at least 1 ms"]),
        (tcp().user_timeout(Some(50 * DAY)), ["user_timeout", "4320000s", "at most"]),
        (tcp().send_buffer_bytes(Some(0)), ["send_buffer_bytes", "0", "at least 1"]),
        (tcp().receive_buffer_bytes(Some(0)), ["receive_buffer_bytes", "0", "at least 1"]),
        (tcp().linger(Some(long)), ["linger", "32768s", "at most 32767s"]),
    ]
}

/// Limits out of range.
fn bad_limits() -> Vec<(Limits, [&'static str; 3])> {
    let limits = Limits::default;
    let rate = |bytes, grace| Some(MinRate::new(bytes, grace));
    let (brief, second) = (Duration::from_micros(999), Duration::from_secs(1));
    let mut bad = vec![
        (limits().close_timeout(ZERO), ["close_timeout", "0ns", "at least 1 ms"]),
        (limits().close_timeout(50 * DAY), ["close_timeout", "4320000s", "at most"]),
        (limits().min_receive_rate(rate(0, second)), ["min_receive_rate", "0", "at least 1"]),
        (limits().min_receive_rate(rate(1, ZERO)), ["min_receive_rate", "0ns", "at least 1 ms"]),
        (limits().min_receive_rate(rate(1, 50 * DAY)), ["min_receive_rate", "4320000s", "at most"]),
        (limits().min_send_rate(rate(0, second)), ["min_send_rate", "0", "at least 1"]),
        (limits().min_send_rate(rate(1, brief)), ["min_send_rate", "999µs", "at least 1 ms"]),
        (limits().max_input_bytes(0), ["max_input_bytes", "0", "at least 1"]),
        (limits().max_outstanding_requests(0), ["max_outstanding_requests", "0", "at least 1"]),
        (limits().high_mark_bytes(0), ["high_mark_bytes", "0", "at least 1"]),
        (limits().max_output_bytes(0), ["max_output_bytes", "0", "at least 1"]),
        (
            limits().low_mark_bytes(1_000).high_mark_bytes(1_000),
            ["low_mark_bytes", "1000", "less than high_mark_bytes (1000)"],
        ),
        (
            limits().max_output_bytes(100_000),
            ["high_mark_bytes", "262144", "at most max_output_bytes (100000)"],
        ),
    ];
    for (value, text, wanted) in [
        (ZERO, "0ns", "at least 1 ms"),
        (brief, "999µs", "at least 1 ms"),
        (50 * DAY, "4320000s", "at most 49 days"),
    ] {
        let value = Some(value);
        bad.extend([
            (limits().read_idle(value), ["read_idle", text, wanted]),
            (limits().write_idle(value), ["write_idle", text, wanted]),
            (limits().all_idle(value), ["all_idle", text, wanted]),
            (limits().first_byte_timeout(value), ["first_byte_timeout", text, wanted]),
            (limits().message_timeout(value), ["message_timeout", text, wanted]),
        ]);
    }
    bad
}

#[test]
fn every_listen_option_out_of_range_is_named() {
    in_own_process(|| {
        let listen = ListenOptions::default;
        let mut bad = vec![
            (listen().backlog(Some(0)), ["backlog", "0", "at least 1"]),
            (listen().max_connections(Some(0)), ["max_connections", "0", "at least 1"]),
            (listen().max_per_source(Some(0)), ["max_per_source", "0", "at least 1"]),
            (listen().source_prefix_v6(0), ["source_prefix_v6", "0", "1 to 128"]),
            (listen().source_prefix_v6(129), ["source_prefix_v6", "129", "1 to 128"]),
            (listen().accept_budget(0), ["accept_budget", "0", "at least 1"]),
            (listen().idle_timeout(ZERO), ["all_idle", "0ns", "at least 1 ms"]),
        ];
        bad.extend(bad_tcp().into_iter().map(|(tcp, parts)| (listen().tcp(tcp), parts)));
        bad.extend(
            bad_limits().into_iter().map(|(limits, parts)| (listen().limits(limits), parts)),
        );
        let mut reactor = Reactor::new().unwrap();
        let service = reactor.register(Script::new());
        let before = descriptors();
        for (options, parts) in bad {
            let error = reactor.listen("127.0.0.1:0", service, options.clone()).unwrap_err();
            expect_refusal(&error, &parts);
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let error = reactor.adopt(socket, service, options).unwrap_err();
            expect_refusal(&error, &parts);
        }
        assert_eq!(descriptors(), before, "a socket was left open");
    });
}

#[test]
fn every_connect_option_out_of_range_is_named() {
    in_own_process(|| {
        let connect = ConnectOptions::default;
        let mut bad = vec![
            (connect().timeout(ZERO), ["timeout", "0ns", "at least 1 ms"]),
            (connect().timeout(50 * DAY), ["timeout", "4320000s", "at most"]),
            (connect().idle_timeout(ZERO), ["all_idle", "0ns", "at least 1 ms"]),
        ];
        bad.extend(bad_tcp().into_iter().map(|(tcp, parts)| (connect().tcp(tcp), parts)));
        bad.extend(
            bad_limits().into_iter().map(|(limits, parts)| (connect().limits(limits), parts)),
        );
        let mut rig = Rig::new(Script::new());
        let before = descriptors();
        for (options, parts) in bad {
            let addr = rig.addr;
            let id = rig.connect(addr, 7, &options);
            assert!(!rig.lives(id));
            let failed = rig.journal.calls().len();
            rig.until("on_connect_failed", |rig| rig.journal.calls().len() > failed);
            let Some(Call::ConnectFailed(kind, text)) = rig.journal.calls().pop() else {
                panic!("{:?}", rig.journal.calls().pop());
            };
            expect_refusal(&Error::new(kind, text), &parts);
            assert_eq!(rig.journal.states(), 0, "the state was not given back");
        }
        assert_eq!(descriptors(), before, "a socket was left open");
    });
}

#[test]
fn every_reactor_option_out_of_range_is_named() {
    in_own_process(|| {
        let reactor = ReactorOptions::default;
        let before = descriptors();
        for (options, parts) in [
            (reactor().max_connections(Some(0)), ["max_connections", "0", "at least 1"]),
            (reactor().max_queued_bytes(0), ["max_queued_bytes", "0", "at least 1"]),
            (
                reactor().busy_poll(Duration::from_millis(1_001)),
                ["busy_poll", "1.001s", "at most 1s"],
            ),
            (reactor().events_per_turn(0), ["events_per_turn", "0", "at least 1"]),
            (reactor().events_per_turn(usize::MAX), ["events_per_turn", "", "at most"]),
            (reactor().reads_per_turn(0), ["reads_per_turn", "0", "at least 1"]),
            (reactor().messages_per_turn(0), ["messages_per_turn", "0", "at least 1"]),
            (reactor().timers_per_turn(0), ["timers_per_turn", "0", "at least 1"]),
        ] {
            expect_refusal(&Reactor::with_options(options).unwrap_err(), &parts);
        }
        assert_eq!(descriptors(), before);
    });
}

/// What the library lets through must not fail in the system with an error that names nothing.
#[test]
fn values_that_the_system_cannot_take_are_named_too() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Script::new());
    let too_long = TcpOptions::default().user_timeout(Some(48 * DAY));
    #[cfg(target_pointer_width = "64")]
    let too_large = [
        (TcpOptions::default().send_buffer_bytes(Some(1 << 32)), "send_buffer_bytes"),
        (TcpOptions::default().receive_buffer_bytes(Some(1 << 32)), "receive_buffer_bytes"),
    ];
    #[cfg(not(target_pointer_width = "64"))]
    let too_large = [];
    for (tcp, name) in too_large.into_iter().chain([(too_long, "user_timeout")]) {
        let options = ListenOptions::default().tcp(tcp);
        let error = reactor.listen("127.0.0.1:0", service, options).unwrap_err();
        expect_refusal(&error, &[name, "at most"]);
    }
}

#[test]
fn an_idle_limit_out_of_range_leaves_the_old_one() {
    let mut rig = Rig::new(Script::new().open(|conn: &mut Conn<'_>| {
        let brief = Some(Duration::from_millis(20));
        conn.set_idle_timeout(IdleKind::Read, brief).unwrap();
        for (limit, parts) in [
            (ZERO, ["idle timeout", "0ns", "at least 1 ms"]),
            (50 * DAY, ["idle timeout", "4320000s", "at most"]),
        ] {
            let error = conn.set_idle_timeout(IdleKind::Read, Some(limit)).unwrap_err();
            expect_refusal(&error, &parts);
        }
    }));
    let (_client, id) = rig.client();
    rig.expect_end(id, "Idle");
}

#[test]
fn text_that_is_no_address_is_quoted_with_what_would_be_one() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Script::new());
    for text in ["", "127.0.0.1", "127.0.0.1:65536", "[::1]", ":80", "::1:80:"] {
        let error = reactor.listen(text, service, ListenOptions::default()).unwrap_err();
        expect_refusal(&error, &[&format!("{text:?}"), "host:port"]);
        let text = text.to_owned();
        let error = reactor.listen(text, service, ListenOptions::default()).unwrap_err();
        expect_refusal(&error, &["host:port"]);
    }
}

/// Documentation addresses (RFC 5737) belong to nobody.
const NOBODY: &str = "192.0.2.1:0";

#[test]
fn an_address_that_cannot_be_had_is_named_with_what_would_do() {
    in_own_process(|| {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap().to_string();
        let mut reactor = Reactor::new().unwrap();
        let service = reactor.register(Script::new());
        let before = descriptors();
        let mut cases = vec![(taken.as_str(), ErrorKind::AddrInUse, "another port")];
        if TcpListener::bind(NOBODY).is_err() {
            cases.push((NOBODY, ErrorKind::AddrNotAvailable, "one of this machine's"));
        }
        // Port 1 is free as good as everywhere, and root may have it.
        if TcpListener::bind("127.0.0.1:1").is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
        {
            cases.push(("127.0.0.1:1", ErrorKind::PermissionDenied, "below 1024"));
        }
        for (addr, kind, wanted) in cases {
            let error = reactor.listen(addr, service, ListenOptions::default()).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(text.contains(addr) && text.contains(wanted), "{text}");
        }
        assert_eq!(descriptors(), before, "a socket was left open");
    });
}

#[test]
fn a_listen_that_failed_leaves_the_port_free() {
    in_own_process(|| {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut rig = Rig::new(Script::echo());
        let bad = ListenOptions::default().tcp(TcpOptions::default().user_timeout(Some(ZERO)));
        rig.reactor.listen(port, rig.service, bad).unwrap_err();
        // Without reuse, so that a socket that is only bound would be in the way.
        let strict = ListenOptions::default().reuse_address(false);
        assert_eq!(rig.reactor.listen(port, rig.service, strict).unwrap(), port);
        let mut client = Client::connect(port);
        client.send(b"x");
        rig.expect(&mut client, b"x");
    });
}

#[test]
fn a_connect_that_fails_is_told_with_its_address_and_gives_everything_back() {
    in_own_process(|| {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut rig = Rig::new(Script::new());
        let nobody: SocketAddr = NOBODY.parse().unwrap();
        let cases = [
            (ConnectOptions::default(), ErrorKind::ConnectionRefused, closed.to_string()),
            (
                ConnectOptions::default().source(Some(nobody)),
                ErrorKind::AddrNotAvailable,
                nobody.to_string(),
            ),
        ];
        let before = descriptors();
        for (options, expected, part) in cases {
            let seen = rig.journal.calls().len();
            rig.connect(closed, 1, &options);
            rig.until("on_connect_failed", |rig| rig.journal.calls().len() > seen);
            let Some(Call::ConnectFailed(kind, text)) = rig.journal.calls().pop() else {
                panic!("{:?}", rig.journal.calls());
            };
            assert_eq!(kind, expected, "{text}");
            assert!(text.contains(&part) && text.contains(&closed.to_string()), "{text}");
            assert_eq!(rig.journal.states(), 0);
        }
        assert_eq!(rig.reactor.stats().connect_failures, 2);
        assert_eq!(rig.reactor.stats().connections, 0);
        assert_eq!(descriptors(), before, "a socket was left open");
    });
}

#[test]
fn the_key_of_another_reactor_opens_nothing() {
    let mut other = Reactor::new().unwrap();
    other.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    let foreign = other.register(Journal::default().watch(Script::new()));
    // In this reactor nobody has the place of the key, and then somebody of another type.
    let mut rig = Rig::new(Script::new());
    for round in 0..2 {
        let error = rig.reactor.listen("127.0.0.1:0", foreign, ListenOptions::default());
        expect_refusal(&error.unwrap_err(), &["another reactor", "register"]);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = rig.reactor.adopt(socket, foreign, ListenOptions::default());
        expect_refusal(&error.unwrap_err(), &["another reactor"]);

        let state = rig.journal.life(0);
        let id = rig.reactor.connect(rig.addr, foreign, state, &ConnectOptions::default());
        rig.reactor.set_timer(foreign, Duration::from_millis(1), 0);
        rig.reactor.context().post(foreign, |_, _| panic!("it ran"));
        rig.reactor.remote().with(foreign, |_, _| panic!("it ran")).unwrap();
        rig.until("all of it was dropped", |rig| rig.reactor.stats().messages > round);
        rig.until("the connect is undone", |rig| !rig.lives(id));
        rig.expect_quiet();
        assert_eq!(rig.journal.count(|call| matches!(call, Call::ConnectFailed(..))), 0);
        assert_eq!(rig.journal.states(), 0, "a state was kept");
        rig.reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    }
}
