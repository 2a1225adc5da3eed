//! Options of any values: those that the documentation allows are accepted, all others refused.

use std::io;
use std::time::Duration;

use crate::base::tick::NEVER;
use crate::handler::Conn;
use crate::options::{
    AtCapacity, ConnectOptions, Keepalive, Limits, ListenOptions, MinRate, OnOverflow,
    ReactorOptions, TcpOptions,
};
use crate::reactor::Reactor;
use crate::stream::config::ConnConfig;
use crate::tests::fuzzing::input::Input;

/// Of so many inputs one is tried on sockets, which takes a hundred times as long.
const SOCKETS_EVERY: u64 = 128;

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let listen = listen_options(&mut input);
    let connect = connect_options(&mut input, &listen);
    let reactor = reactor_options(&mut input);
    let may_listen = listen_is_good(&listen);
    expect(may_listen, listen.check());
    expect(connect_is_good(&connect), connect.check());
    expect(reactor_is_good(&reactor), reactor.check());
    if limits_are_good(&listen.limits) {
        check_config(&ConnConfig::new(&listen.limits, 0));
    }
    if hash(bytes) % SOCKETS_EVERY == 0 {
        try_on_sockets(&reactor, &listen, may_listen);
    }
}

/// Chooses among inputs. A byte of theirs would not do: a fuzzer sees that it leads to more code,
/// and keeps to that.
fn hash(bytes: &[u8]) -> u64 {
    // FNV-1a.
    let mix = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix) >> 8
}

/// Good options are accepted, and others refused by their name.
#[track_caller]
fn expect(is_good: bool, result: io::Result<()>) {
    match result {
        Ok(()) => assert!(is_good, "accepted"),
        Err(error) => {
            assert!(!is_good, "refused: {error}");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with("option "), "{error}");
        }
    }
}

fn check_config(config: &ConnConfig) {
    assert!(config.low_mark < config.high_mark && config.high_mark <= config.max_output);
    assert!(config.cork_room < config.high_mark);
    let idle = config.idle;
    let limits = [idle.read, idle.write, idle.all, config.first_byte, config.message];
    for ticks in limits.into_iter().flatten().chain([config.close]) {
        assert!((1..=49 * 24 * 60 * 60 * 1_000).contains(&ticks), "{ticks}");
    }
    let shortest = [idle.read, idle.write, idle.all].into_iter().flatten().min();
    assert_eq!(config.shortest_idle, shortest.unwrap_or(NEVER));
}

fn try_on_sockets(reactor: &ReactorOptions, listen: &ListenOptions, may_listen: bool) {
    let mut reactor = match Reactor::with_options(reactor.clone()) {
        Ok(reactor) => reactor,
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            return;
        }
    };
    let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        conn.write(input);
        input.len()
    });
    match reactor.listen("127.0.0.1:0", echo, listen.clone()) {
        Ok(_) => assert!(may_listen, "accepted"),
        Err(error) => {
            assert!(!may_listen, "refused: {error}");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        }
    }
    reactor.run_once(Some(Duration::ZERO)).unwrap();
}

// What the documentation allows.

fn limit_is_good(limit: Duration) -> bool {
    (MILLISECOND..=49 * DAY).contains(&limit)
}

fn rate_is_good(rate: MinRate) -> bool {
    rate.bytes_per_second() > 0 && limit_is_good(rate.grace())
}

fn limits_are_good(limits: &Limits) -> bool {
    let waits = [
        limits.read_idle,
        limits.write_idle,
        limits.all_idle,
        limits.first_byte_timeout,
        limits.message_timeout,
        Some(limits.close_timeout),
    ];
    let rates = [limits.min_receive_rate, limits.min_send_rate];
    waits.into_iter().flatten().all(limit_is_good)
        && rates.into_iter().flatten().all(rate_is_good)
        && limits.max_input_bytes > 0
        && limits.low_mark_bytes < limits.high_mark_bytes
        && limits.high_mark_bytes <= limits.max_output_bytes
}

fn tcp_is_good(tcp: &TcpOptions) -> bool {
    let c_int = 1..=i32::MAX as usize;
    let whole_seconds = |wait: Duration| (1..=32_767).contains(&wait.as_secs());
    let most = Duration::from_millis(i32::MAX as u64);
    let most_linger = Duration::from_secs(32_767);
    tcp.keepalive.is_none_or(|keepalive| {
        whole_seconds(keepalive.idle)
            && whole_seconds(keepalive.interval)
            && (1..=127).contains(&keepalive.probes)
    }) && tcp.user_timeout.is_none_or(|wait| (MILLISECOND..=most).contains(&wait))
        && tcp.send_buffer_bytes.is_none_or(|bytes| c_int.contains(&bytes))
        && tcp.receive_buffer_bytes.is_none_or(|bytes| c_int.contains(&bytes))
        && tcp.linger.is_none_or(|wait| wait.subsec_nanos() == 0 && wait <= most_linger)
}

fn listen_is_good(options: &ListenOptions) -> bool {
    options.backlog != Some(0)
        && options.max_connections != Some(0)
        && options.max_per_source != Some(0)
        && (1..=128).contains(&options.source_prefix_v6)
        && options.accept_budget > 0
        && tcp_is_good(&options.tcp)
        && limits_are_good(&options.limits)
}

fn connect_is_good(options: &ConnectOptions) -> bool {
    limit_is_good(options.timeout) && tcp_is_good(&options.tcp) && limits_are_good(&options.limits)
}

fn reactor_is_good(options: &ReactorOptions) -> bool {
    let budgets = [options.reads_per_turn, options.messages_per_turn, options.timers_per_turn];
    options.max_connections != Some(0)
        && options.busy_poll <= Duration::from_secs(1)
        && (1..=1_048_576).contains(&options.events_per_turn)
        && budgets.iter().all(|&budget| budget > 0)
}

// Values out of bytes: mostly those at which something changes.

fn duration(input: &mut Input<'_>) -> Duration {
    let edges = [
        Duration::ZERO,
        MILLISECOND,
        Duration::from_secs(1),
        Duration::from_secs(32_767),
        Duration::from_millis(i32::MAX as u64),
        49 * DAY,
        Duration::MAX,
    ];
    match input.byte() {
        at @ 0..200 => {
            let edge = edges[usize::from(at) % edges.len()];
            match at / 7 % 4 {
                0 => edge.saturating_sub(Duration::from_nanos(1)),
                1 => edge.saturating_add(Duration::from_nanos(1)),
                _ => edge,
            }
        }
        200..228 => Duration::from_nanos(input.number(64)),
        _ => Duration::from_millis(input.number(32)),
    }
}

fn size(input: &mut Input<'_>) -> usize {
    let edges = [0, 1, 2, 1 << 20, i32::MAX as usize, usize::MAX];
    match input.byte() {
        at @ 0..160 => {
            let edge = edges[usize::from(at) % edges.len()];
            if at / 6 % 4 == 0 { edge.saturating_add(1) } else { edge }
        }
        _ => input.number(40) as usize,
    }
}

fn maybe<T>(input: &mut Input<'_>, draw: impl FnOnce(&mut Input<'_>) -> T) -> Option<T> {
    input.flag().then(|| draw(input))
}

fn rate(input: &mut Input<'_>) -> MinRate {
    MinRate::new(input.number(32) as u32, duration(input))
}

fn keepalive(input: &mut Input<'_>) -> Keepalive {
    let probes = input.byte().into();
    Keepalive::default().idle(duration(input)).interval(duration(input)).probes(probes)
}

fn tcp_options(input: &mut Input<'_>) -> TcpOptions {
    TcpOptions::default()
        .nodelay(input.flag())
        .keepalive(maybe(input, keepalive))
        .user_timeout(maybe(input, duration))
        .send_buffer_bytes(maybe(input, size))
        .receive_buffer_bytes(maybe(input, size))
        .linger(maybe(input, duration))
}

fn limits(input: &mut Input<'_>) -> Limits {
    let limits = Limits::default()
        .read_idle(maybe(input, duration))
        .write_idle(maybe(input, duration))
        .all_idle(maybe(input, duration))
        .first_byte_timeout(maybe(input, duration))
        .message_timeout(maybe(input, duration))
        .min_receive_rate(maybe(input, rate))
        .min_send_rate(maybe(input, rate));
    let limits = limits.close_timeout(maybe(input, duration).unwrap_or(MILLISECOND));
    if !input.flag() {
        return limits;
    }
    let overflow = if input.flag() { OnOverflow::Close } else { OnOverflow::Refuse };
    let limits = limits.max_input_bytes(size(input)).on_overflow(overflow);
    let (low, high, most) = (size(input), size(input), size(input));
    limits.low_mark_bytes(low).high_mark_bytes(high).max_output_bytes(most)
}

fn listen_options(input: &mut Input<'_>) -> ListenOptions {
    let wait = if input.flag() { AtCapacity::Wait } else { AtCapacity::Refuse };
    ListenOptions::default()
        .backlog(maybe(input, |input| size(input) as u32))
        .reuse_address(input.flag())
        .reuse_port(input.flag() && cfg!(unix))
        .only_v6(maybe(input, |input| input.flag()))
        .max_connections(maybe(input, size))
        .max_per_source(maybe(input, size))
        .at_capacity(wait)
        .accept_budget(maybe(input, size).unwrap_or(1))
        .read_at_accept(input.flag())
        .tcp(tcp_options(input))
        .limits(limits(input))
        .source_prefix_v6(maybe(input, |input| input.number(8) as u8).unwrap_or(64))
}

fn connect_options(input: &mut Input<'_>, like: &ListenOptions) -> ConnectOptions {
    let timeout = maybe(input, duration).unwrap_or(DAY);
    ConnectOptions::default().timeout(timeout).tcp(like.tcp.clone()).limits(like.limits.clone())
}

fn reactor_options(input: &mut Input<'_>) -> ReactorOptions {
    ReactorOptions::default()
        .max_connections(maybe(input, size))
        .busy_poll(maybe(input, duration).unwrap_or_default())
        .events_per_turn(maybe(input, size).unwrap_or(16))
        .reads_per_turn(maybe(input, size).unwrap_or(1))
        .messages_per_turn(maybe(input, size).unwrap_or(1))
        .timers_per_turn(maybe(input, size).unwrap_or(1))
}
