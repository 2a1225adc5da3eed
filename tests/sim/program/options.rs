//! Options of all sizes that a program may choose.

use std::time::Duration;

use waterwheel::sim::TestLayer;
use waterwheel::udp::UdpOptions;
use waterwheel::{
    AtCapacity, ConnectOptions, Limits, ListenOptions, MinRate, OnOverflow, ReactorOptions,
    Reconnect,
};

use super::tape::Tape;

/// Ends what nothing else does: two sides that each wait for the other to read.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);

pub(super) fn reactor_options(tape: &Tape) -> ReactorOptions {
    let options = ReactorOptions::default();
    match tape.below(4) {
        0 => options,
        1 => options.max_queued_bytes(1 + tape.count()),
        _ => options
            .reads_per_turn(1 + usize::from(tape.below(4)))
            .events_per_turn(1 + usize::from(tape.below(8)))
            .messages_per_turn(1 + usize::from(tape.below(4)))
            .timers_per_turn(1 + usize::from(tape.below(4))),
    }
}

/// The defaults, or limits of any size.
pub(super) fn limits(tape: &Tape) -> Limits {
    let limits = Limits::default().all_idle(Some(LONGEST_SILENCE));
    let kinds = tape.byte();
    let limits = match kinds & 1 {
        0 => limits,
        _ => {
            let high = 1 + tape.count();
            limits
                .high_mark_bytes(high)
                .low_mark_bytes(usize::from(tape.byte()) % high)
                .max_output_bytes(high + 1 + tape.count())
                .max_input_bytes(64 << tape.below(8))
        }
    };
    let limits = match kinds & 2 {
        0 => limits,
        _ => limits
            .read_idle(tape.some_time())
            .write_idle(tape.some_time())
            .all_idle(Some(tape.time()))
            .first_byte_timeout(tape.some_time())
            .message_timeout(tape.some_time())
            .close_timeout(tape.time()),
    };
    let limits = match kinds & 4 {
        0 => limits,
        _ => {
            let rate = || tape.flag().then(|| MinRate::new(1 + tape.count() as u32, tape.time()));
            limits.min_receive_rate(rate()).min_send_rate(rate())
        }
    };
    let limits = if kinds & 8 > 0 { limits.on_overflow(OnOverflow::Close) } else { limits };
    limits.pause_at_high_mark(kinds & 16 == 0)
}

/// Options of a listener, and whether it has a layer.
pub(super) fn listen_options(tape: &Tape) -> (ListenOptions, bool) {
    let mut options = ListenOptions::default().limits(limits(tape));
    let kinds = tape.byte();
    if kinds & 1 > 0 {
        options = options.max_connections(Some(1 + usize::from(tape.below(4))));
    }
    if kinds & 2 > 0 {
        options = options.at_capacity(AtCapacity::Wait);
    }
    if kinds & 4 > 0 {
        options = options.accept_budget(1 + usize::from(tape.below(3)));
    }
    if kinds & 8 > 0 {
        options = options.max_per_source(Some(1 + usize::from(tape.below(3))));
    }
    let is_layered = kinds & 48 == 48;
    if is_layered {
        let layer = TestLayer::new().timeout(tape.time()).costly(tape.flag());
        options = layer.listen(options).max_handshakes(1 + usize::from(tape.below(4)));
    }
    (options, is_layered)
}

pub(super) fn connect_options(tape: &Tape) -> ConnectOptions {
    let reconnect = tape.flag().then(|| {
        let base = tape.time();
        let tries = 1 + u32::from(tape.below(4));
        let longest = base + Duration::from_secs(10);
        Reconnect::default().base_delay(base).max_delay(longest).max_attempts(Some(tries))
    });
    ConnectOptions::default()
        .timeout(tape.time())
        .attempt_delay(Duration::from_millis(10) + tape.time().min(Duration::from_millis(1_900)))
        .reconnect(reconnect)
        .limits(limits(tape))
}

pub(super) fn udp_options(tape: &Tape) -> UdpOptions {
    UdpOptions::default()
        .receive_budget(1 + usize::from(tape.below(8)))
        .max_queued_datagrams(1 + usize::from(tape.below(8)))
        .max_queued_bytes(1 + tape.count())
        .batch(tape.flag())
        .max_datagram_bytes(1 + tape.count())
}
