//! Options are plain data: what they default to, what their builders set, and that the outermost
//! values which are allowed also work.

use std::time::Duration;

use waterwheel::{
    AtCapacity, ConnectOptions, DEFAULT_ACCEPT_BUDGET, Keepalive, Limits, ListenOptions, MinRate,
    OnOverflow, OnPanic, ReactorOptions, TcpOptions,
};

use crate::support::{Call, Client, Journal, Rig, Script};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn the_defaults_are_what_the_documentation_says() {
    let tcp = TcpOptions::default();
    assert!(tcp.nodelay);
    let keepalive = tcp.keepalive.unwrap();
    assert_eq!((keepalive.idle.as_secs(), keepalive.interval.as_secs()), (60, 15));
    assert_eq!(keepalive.probes, 4);
    assert_eq!((tcp.user_timeout, tcp.linger), (None, None));
    assert_eq!((tcp.send_buffer_bytes, tcp.receive_buffer_bytes), (None, None));

    let limits = Limits::default();
    assert_eq!((limits.read_idle, limits.write_idle, limits.all_idle), (None, None, None));
    assert_eq!((limits.first_byte_timeout, limits.message_timeout), (None, None));
    assert_eq!((limits.min_receive_rate, limits.min_send_rate), (None, None));
    assert_eq!((limits.max_input_bytes, limits.max_output_bytes), (1 << 20, 16 << 20));
    assert_eq!(limits.max_outstanding_requests, 100);
    assert_eq!((limits.high_mark_bytes, limits.low_mark_bytes), (256 << 10, 64 << 10));
    assert_eq!(limits.on_overflow, OnOverflow::Close);
    assert!(limits.pause_at_high_mark);
    assert_eq!(limits.close_timeout.as_secs(), 10);

    let (internet, second) = (Limits::internet(), Duration::from_secs(1));
    let rate = |grace| Some(MinRate::new(1_000, grace * second));
    assert_eq!(internet.first_byte_timeout, Some(30 * second));
    assert_eq!((internet.min_receive_rate, internet.min_send_rate), (rate(30), rate(60)));
    assert_eq!((internet.all_idle, internet.close_timeout), (Some(300 * second), 10 * second));
    assert_eq!(internet.max_output_bytes, limits.max_output_bytes);

    let listen = ListenOptions::default();
    assert_eq!((listen.backlog, listen.only_v6), (None, None));
    assert_eq!((listen.reuse_address, listen.reuse_port), (!cfg!(windows), false));
    assert_eq!((listen.max_connections, listen.max_per_source), (None, None));
    assert_eq!((listen.source_prefix_v6, listen.at_capacity), (64, AtCapacity::Refuse));
    assert_eq!(listen.accept_budget, DEFAULT_ACCEPT_BUDGET);
    assert_eq!((listen.tcp, listen.limits), (TcpOptions::default(), Limits::default()));

    let connect = ConnectOptions::default();
    assert_eq!((connect.timeout.as_secs(), connect.source), (10, None));
    assert_eq!(connect.filter, None);
    // Two ends that both stop reading until the other reads would wait for ever.
    let limits = Limits::default().pause_at_high_mark(false);
    assert_eq!((connect.tcp, connect.limits), (TcpOptions::default(), limits));

    let reactor = ReactorOptions::default();
    assert_eq!((reactor.max_connections, reactor.busy_poll), (None, Duration::ZERO));
    assert_eq!((reactor.events_per_turn, reactor.reads_per_turn), (1_024, 8));
    assert_eq!((reactor.messages_per_turn, reactor.timers_per_turn), (1_024, 1_024));
    assert_eq!(reactor.max_queued_bytes, 256 << 20);
    assert_eq!(reactor.on_panic, OnPanic::CloseConnection);
}

#[test]
fn the_idle_timeout_of_either_side_is_the_limit_of_all_silence() {
    let limit = Duration::from_secs(5);
    let limits = Limits::default().all_idle(Some(limit));
    assert_eq!(ListenOptions::default().idle_timeout(limit).limits, limits.clone());
    let limits = limits.pause_at_high_mark(false);
    assert_eq!(ConnectOptions::default().idle_timeout(limit).limits, limits);
}

/// Connects both ways with such options, and sends something there and back.
#[track_caller]
fn expect_usable(tcp: &TcpOptions, limits: &Limits) {
    let listen = ListenOptions::default().tcp(tcp.clone()).limits(limits.clone());
    let mut rig = Rig::with_listen(Script::echo(), listen);
    let (mut client, _) = rig.client();
    client.send(b"in");
    rig.expect(&mut client, b"in");

    let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = ConnectOptions::default().tcp(tcp.clone()).limits(limits.clone());
    rig.connect(peer.local_addr().unwrap(), 0, &options.timeout(49 * DAY));
    let mut accepted = Client::from(peer.accept().unwrap().0);
    accepted.send(b"out");
    rig.expect(&mut accepted, b"out");
}

#[test]
fn the_largest_values_work() {
    let keepalive = Keepalive::default()
        .idle(Duration::from_secs(32_767))
        .interval(Duration::from_secs(32_767))
        .probes(127);
    let tcp = TcpOptions::default()
        .keepalive(Some(keepalive))
        .user_timeout(Some(24 * DAY))
        .linger(Some(Duration::from_secs(32_767)))
        .send_buffer_bytes(Some(1 << 30))
        .receive_buffer_bytes(Some(1 << 30));
    let longest = Some(49 * DAY);
    let limits = Limits::default()
        .read_idle(longest)
        .write_idle(longest)
        .all_idle(longest)
        .first_byte_timeout(longest)
        .message_timeout(longest)
        .min_receive_rate(Some(MinRate::new(u32::MAX, 49 * DAY)))
        .min_send_rate(Some(MinRate::new(u32::MAX, 49 * DAY)))
        .max_input_bytes(usize::MAX)
        .max_outstanding_requests(u32::MAX)
        .max_output_bytes(usize::MAX)
        .high_mark_bytes(usize::MAX)
        .low_mark_bytes(usize::MAX - 1)
        .close_timeout(49 * DAY);
    expect_usable(&tcp, &limits);
}

#[test]
fn the_smallest_values_work() {
    let second = Duration::from_secs(1);
    let keepalive = Keepalive::default().idle(second).interval(second).probes(1);
    let tcp = TcpOptions::default()
        .keepalive(Some(keepalive))
        .user_timeout(Some(MILLISECOND))
        .send_buffer_bytes(Some(1))
        .receive_buffer_bytes(Some(1));
    let limits = Limits::default()
        .max_input_bytes(1)
        .max_outstanding_requests(1)
        .max_output_bytes(4)
        .high_mark_bytes(1)
        .low_mark_bytes(0)
        .close_timeout(MILLISECOND);
    expect_usable(&tcp, &limits);
}

#[test]
fn budgets_of_one_only_make_it_slower() {
    let options = ReactorOptions::default()
        .events_per_turn(1)
        .reads_per_turn(1)
        .messages_per_turn(1)
        .timers_per_turn(1);
    let listen = ListenOptions::default().accept_budget(1).backlog(Some(16));
    let mut rig = Rig::with(Script::echo(), Journal::default(), listen, options);
    let mut clients: Vec<_> = (0..8).map(|_| Client::connect(rig.addr)).collect();
    for (client, byte) in clients.iter_mut().zip(0..) {
        client.send(&vec![byte; 10_000]);
    }
    for (client, byte) in clients.iter_mut().zip(0..) {
        rig.expect(client, &vec![byte; 10_000]);
    }
}

#[test]
fn a_reactor_that_polls_busily_serves_and_may_block_in_between() {
    let options = ReactorOptions::default().busy_poll(Duration::from_millis(2));
    let listen = ListenOptions::default();
    let mut rig = Rig::with(Script::echo(), Journal::default(), listen, options);
    let (mut client, _) = rig.client();
    for round in 0..50u8 {
        client.send(&[round]);
        rig.expect(&mut client, &[round]);
    }
    rig.expect_quiet();
}

#[test]
fn a_reactor_with_the_longest_busy_poll_heeds_timers_and_the_time_it_is_given() {
    let options = ReactorOptions::default().busy_poll(Duration::from_secs(1));
    let listen = ListenOptions::default();
    let mut rig = Rig::with(Script::new(), Journal::default(), listen, options);
    rig.expect_quiet();
    // Four timers, one after the other: rounded up to a busy poll each they would take 4 s.
    let begin = std::time::Instant::now();
    for round in 1..=4 {
        rig.reactor.set_timer(rig.service, Duration::from_millis(5), 0);
        while rig.journal.count(|call| *call == Call::HandlerTimer) < round {
            rig.reactor.run_once(None).unwrap();
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    // A turn that may wait for 5 ms does not poll for a second.
    let begin = std::time::Instant::now();
    for _ in 0..4 {
        rig.reactor.run_once(Some(Duration::from_millis(5))).unwrap();
    }
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}
