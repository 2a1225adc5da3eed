//! What a connection waits for, and when that has passed.

use crate::stream::happy_eyeballs::Connector;

use super::*;

#[test]
fn a_connection_is_on_the_fast_path_once_its_first_byte_is_there() {
    let limits = Limits::default();
    let limits = limits.first_byte_timeout(Some(Duration::from_millis(50)));
    let mut connection = opened(&limits);
    assert!(connection.flags == Flags::HAS_COLD, "{:?}", connection.flags);
    assert_eq!(connection.expired(50, exact), None);
    assert_eq!(connection.expired(51, exact), Some(Expiry::Timeout(TimeoutKind::FirstByte)));
    connection.note_received(1, 20);
    assert_eq!(connection.expired(51, exact), None);
    connection.drop_unused();
    assert!(!connection.has_cold() && connection.flags.is_usual());
}

/// A peer that is sent nothing does not read too slowly.
#[test]
fn the_rate_of_sending_is_watched_while_output_is_queued() {
    let limits = Limits::default().all_idle(None).read_idle(None).write_idle(None);
    let limits = limits.min_send_rate(rate(100));
    let mut connection = opened(&limits);
    assert_eq!(connection.deadline(exact), NEVER);
    let mut spares = Spares::default();
    connection.queue_output(&[0; 600], &mut spares);
    connection.watch_output(7);
    assert_eq!(connection.deadline(exact), after(7, 100));
    connection.consume_output(20, &mut spares);
    connection.note_sent(20, 57);
    assert_eq!(connection.deadline(exact), after(7, 120), "20 bytes pay for 20 ms");
    connection.consume_output(480, &mut spares);
    connection.note_sent(480, 80);
    assert_eq!(connection.deadline(exact), after(80, 100), "nothing pays for more than the grace");
    connection.consume_output(100, &mut spares);
    connection.note_sent(100, 90);
    assert_eq!(connection.deadline(exact), NEVER);
    // What was written while it was connecting counts from when it came up.
    let mut early = connecting(&limits);
    early.queue_output(b"early", &mut spares);
    assert_eq!(early.deadline(exact), NEVER);
    early.open(30);
    assert_eq!(early.deadline(exact), after(30, 100));
}

/// The meter ended the connection before its input was read, where the grace was short.
#[test]
fn the_rate_of_sending_is_not_watched_once_output_has_failed() {
    let limits = closing_within(5_000).all_idle(None).min_send_rate(rate(100));
    let mut connection = opened(&limits);
    let mut spares = Spares::default();
    connection.queue_output(&[0; 600], &mut spares);
    connection.watch_output(7);
    connection.fail_output(CloseReason::Reset, 8, &mut spares);
    assert_eq!(connection.deadline(exact), after(8, 5_000));
}

#[test]
fn reading_goes_on_as_long_as_it_is_of_use() {
    use Flags as F;
    let local = Ending::Local;
    let table = [
        (Phase::Open, F::NONE, true),
        (Phase::Open, F::READ_CLOSED, false),
        (Phase::Open, F::PAUSED, false),
        (Phase::Open, F::ABOVE_MARK, false),
        (Phase::Open, F::MAX_REQUESTS, false),
        (Phase::Open, F::CLOSED_BY_HANDLER, false),
        (Phase::Open, F::READ_CLOSED | F::ERROR | F::PAUSED | F::ABOVE_MARK, true),
        (Phase::Closing(local), F::PAUSED | F::ABOVE_MARK, true),
        (Phase::Closing(local), F::READ_CLOSED, false),
        (Phase::Closing(local), F::READ_CLOSED | F::ERROR, true),
        (Phase::Lingering(local), F::NONE, true),
        (Phase::Lingering(local), F::READ_CLOSED, false),
        (Phase::Lingering(local), F::READ_CLOSED | F::ERROR, true),
        (Phase::OutputFailed, F::READ_CLOSED | F::PAUSED, true),
        (Phase::Handshake, F::NONE, true),
        (Phase::Connecting, F::NONE, false),
        (Phase::Closed, F::ERROR, false),
    ];
    for (phase, flags, wants) in table {
        let mut connection = opened(&Limits::default().pause_at_high_mark(true));
        connection.enter(phase);
        connection.flags.set(flags);
        check_flags(&connection);
        assert_eq!(connection.wants_read(), wants, "{:?} {flags:?}", connection.phase());
        assert!(!connection.can_read(), "nothing is readable");
        connection.flags.set(Flags::READABLE);
        assert_eq!(connection.can_read(), wants, "{:?} {flags:?}", connection.phase());
    }
}

#[test]
fn a_callback_gathers_its_writes_only_before_an_empty_queue() {
    let mut connection = opened(&Limits::default());
    let room = connection.config.cork_room;
    assert!(room > 1);
    assert_eq!(connection.cork_room(), room);
    for (side, expected) in
        [(WriteSide::FinQueued, 0), (WriteSide::FinSent, 0), (WriteSide::Open, room)]
    {
        connection.set_write_side(side);
        assert_eq!(connection.cork_room(), expected, "{side:?}");
    }
    connection.enter(Phase::Connecting);
    assert_eq!(connection.cork_room(), 0);
    connection.enter(Phase::Open);
    assert_eq!(connection.cork_room(), room);
    connection.queue_output(b"x", &mut Spares::default());
    assert_eq!(connection.cork_room(), 0);
}

#[test]
fn an_incomplete_message_is_watched_and_a_new_one_gets_a_full_measure() {
    let limits = watching().min_receive_rate(rate(100)).all_idle(None);
    let mut connection = opened(&limits);
    assert_eq!(connection.deadline(exact), NEVER);
    connection.watch_message(true, true, 10);
    assert_eq!(connection.deadline(exact), after(10, 100));
    connection.note_received(300, 20);
    assert_eq!(connection.deadline(exact), after(20, 100), "nothing pays for more than the grace");
    connection.note_received(15, 40);
    assert_eq!(connection.deadline(exact), after(20, 115), "15 bytes pay for 15 ms");
    connection.watch_message(true, false, 50);
    assert_eq!(connection.deadline(exact), after(20, 115), "the same message");
    connection.note_received(1_000, 990);
    assert_eq!(connection.deadline(exact), after(10, 1_000), "its time is over whatever the rate");
    assert_eq!(connection.expired(after(10, 1_000) - 1, exact), None);
    assert_eq!(
        connection.expired(after(10, 1_300), exact),
        Some(Expiry::Timeout(TimeoutKind::Message)),
        "the earlier of two"
    );
    connection.watch_message(true, true, 70);
    assert_eq!(connection.deadline(exact), after(70, 100));
    connection.flags.set(Flags::PAUSED);
    assert_eq!(
        connection.expired(after(70, 1_000), exact),
        Some(Expiry::Timeout(TimeoutKind::ReceiveRate))
    );
    connection.flags.clear(Flags::PAUSED);
    connection.watch_message(false, false, 80);
    assert_eq!(connection.deadline(exact), NEVER);
}

fn closing_within(ticks: u64) -> Limits {
    Limits::default().close_timeout(Duration::from_millis(ticks))
}

#[test]
fn the_time_to_close_is_given_once() {
    let mut connection = opened(&closing_within(100));
    connection.enter(Phase::Closing(Ending::Local));
    connection.set_close_wait(10);
    connection.set_close_wait(50);
    assert_eq!(connection.deadline(exact), after(10, 100));
    assert_eq!(connection.expired(111, exact), Some(Expiry::Timeout(TimeoutKind::Close)));
    connection.enter(Phase::Closed);
    assert_eq!((connection.deadline(exact), connection.expired(NEVER, exact)), (NEVER, None));
}

/// A turn begins at the tick at which the long one before has ended.
#[test]
fn progress_in_a_long_turn_gives_a_close_its_time_once() {
    let mut connection = opened(&closing_within(100));
    let mut spares = Spares::default();
    connection.queue_output(&[0; 600], &mut spares);
    connection.enter(Phase::Closing(Ending::Local));
    connection.set_close_wait(10);
    connection.refresh(10, 40);
    assert_eq!(connection.deadline(exact), after(40, 100));
    connection.refresh(40, 70);
    assert_eq!(connection.deadline(exact), after(40, 100), "nothing has moved since");
    connection.consume_output(20, &mut spares);
    connection.note_sent(20, 70);
    connection.refresh(70, 90);
    assert_eq!(connection.deadline(exact), after(90, 100), "it may have moved at the end");
    connection.refresh(90, 120);
    assert_eq!(connection.deadline(exact), after(90, 100));
}

#[test]
fn each_kind_of_silence_counts_from_its_own_clock() {
    let ms = |ms| Some(Duration::from_millis(ms));
    let limits = Limits::default().read_idle(ms(100)).write_idle(ms(200)).all_idle(ms(150));
    let mut connection = opened(&limits);
    assert_eq!(connection.deadline(exact), after(0, 100));
    connection.note_received(1, 40);
    assert_eq!(connection.deadline(exact), after(40, 100));
    assert_eq!(connection.expired(141, exact), Some(Expiry::Idle(IdleKind::Read)));
    connection.keep(IdleKind::Read, 141);
    assert_eq!((connection.read_at, connection.written_at), (141, 0));
    assert_eq!(connection.expired(201, exact), Some(Expiry::Idle(IdleKind::Write)));
    connection.keep(IdleKind::Write, 201);
    assert_eq!((connection.read_at, connection.written_at), (141, 201));
    connection.flags.set(Flags::PAUSED); // it is not the peer who is silent
    assert_eq!(connection.expired(after(201, 150), exact), Some(Expiry::Idle(IdleKind::All)));
    connection.keep(IdleKind::All, 352);
    assert_eq!((connection.read_at, connection.written_at), (352, 352));
    connection.set_idle_limits(IdleLimits { read: None, write: None, all: None });
    assert_eq!(connection.deadline(exact), NEVER);
}

#[test]
fn a_handlers_deadline_ends_with_the_open_phase() {
    let mut spares = Spares::default();
    let mut connection = opened(&Limits::default().all_idle(None));
    connection.set_user_deadline(NEVER);
    assert!(!connection.has_cold(), "nothing to forget");
    connection.set_user_deadline(70);
    assert!(connection.has_user_deadline());
    assert_eq!(connection.deadline(exact), 70);
    assert_eq!(connection.expired(69, exact), None);
    assert_eq!(connection.expired(70, exact), Some(Expiry::Timeout(TimeoutKind::User)));
    connection.set_user_deadline(NEVER);
    assert_eq!(connection.deadline(exact), NEVER);
    connection.set_user_deadline(70);
    connection.queue_output(&[0; 5], &mut spares);
    connection.fail_output(CloseReason::Reset, 0, &mut spares);
    check_flags(&connection);
    assert_eq!((connection.unsent(), connection.output_left()), (5, 0));
    connection.add_unsent(3);
    assert_eq!(connection.unsent(), 8);
    let close = after(0, connection.config.close);
    assert_eq!(connection.deadline(exact), close, "no phase is without a clock");
    assert!(!connection.has_user_deadline());
    assert!(connection.flags.has(Flags::READABLE) && connection.flags.has(Flags::HUNG_UP));
    assert!(connection.can_read() && connection.takes_input() && !connection.takes_output());
    connection.fail_output(CloseReason::Overflow, 0, &mut spares);
    let cause = connection.take_output_failure();
    assert!(matches!(cause, Some(CloseReason::Reset)), "the first cause, not {cause:?}");
    assert!(connection.take_output_failure().is_none());
    check_flags(&connection);
}

#[test]
fn a_list_of_timers_forgets_the_fired_before_it_grows() {
    let mut connection = opened(&Limits::default());
    let timer = |number: u32| TimerId::new(number, 1, 1);
    for number in 0..1_000 {
        connection.add_timer(timer(number), |kept| kept == timer(number.saturating_sub(1)));
    }
    connection.remove_timer(timer(999));
    let left = connection.take_timers();
    assert!(left.capacity() <= 8, "room for {}", left.capacity());
    assert!(left.contains(&timer(998)) && !left.contains(&timer(999)), "{left:?}");
    assert!(connection.take_timers().is_empty());
    connection.drop_unused();
    assert!(!connection.has_cold() && connection.flags.is_usual());
}

#[test]
fn a_connect_has_its_time_and_then_no_more() {
    let mut connection = connecting(&Limits::default().all_idle(None));
    connection.set_connect_wait(10, 100);
    assert_eq!(connection.deadline(exact), after(10, 100));
    assert_eq!(connection.expired(after(10, 100) - 1, exact), None);
    assert_eq!(connection.expired(after(10, 100), exact), Some(Expiry::Connect));
    connection.open(50);
    assert_eq!(connection.deadline(exact), NEVER);
}

#[test]
fn waits_that_are_cleared_are_over() {
    let mut connection = opened(&Limits::default().all_idle(None));
    connection.set_close_wait(10);
    connection.set_user_deadline(70);
    connection.clear_waits();
    assert_eq!(connection.deadline(exact), NEVER);
}

/// Each of many small pieces is worth less than a tick.
#[test]
fn what_a_piece_is_worth_beyond_a_tick_is_not_lost() {
    let rate = MinRate::new(3_000, Duration::from_millis(100));
    let limits = Limits::default().all_idle(None).min_send_rate(Some(rate));
    let mut connection = opened(&limits);
    let mut spares = Spares::default();
    connection.queue_output(&[0; 600], &mut spares);
    connection.watch_output(0);
    for now in 1..=90 {
        connection.consume_output(2, &mut spares);
        connection.note_sent(2, now);
    }
    assert_eq!(connection.deadline(exact), after(0, 160), "180 bytes pay for 60 ms");
}

/// What the kernel has of the output still leaves, which its handler and the socket do not see.
#[test]
fn what_the_kernel_has_of_the_output_gives_a_close_its_time_as_it_leaves() {
    for phase in [Phase::Closing(Ending::Local), Phase::Lingering(Ending::Peer)] {
        let mut connection = opened(&closing_within(100));
        connection.enter(phase);
        connection.set_close_wait(10);
        connection.note_moved(40);
        for earlier in [40, 30] {
            connection.note_moved(earlier);
            assert_eq!(connection.written_at, 40);
            assert_eq!(connection.deadline(exact), after(40, 100));
        }
    }
    let limits = Limits::default().first_byte_timeout(Some(Duration::from_millis(50)));
    let mut connection = opened(&limits);
    connection.note_moved(40);
    assert_eq!((connection.written_at, connection.deadline(exact)), (40, after(0, 50)));
}

#[test]
fn the_next_attempt_to_connect_is_a_deadline_as_long_as_there_is_more_to_try() {
    let mut connection = connecting(&Limits::default());
    assert!(connection.connector().is_none() && connection.connector_mut().is_none());
    assert!(connection.take_connector().is_none());
    connection.set_connector(Connector::new());
    connection.connector_mut().unwrap().next_at = 30;
    assert_eq!(connection.connector().map(|it| it.next_at), Some(30));
    assert_eq!((connection.deadline(exact), connection.expired(29, exact)), (30, None));
    assert_eq!(connection.expired(30, exact), Some(Expiry::Attempt));
    connection.drop_unused();
    assert!(connection.take_connector().is_some() && connection.take_connector().is_none());
    assert_eq!(connection.deadline(exact), NEVER);
}

#[test]
fn a_connection_that_is_open_from_the_start_waits_for_its_first_byte() {
    let limits = Limits::default();
    for limits in [limits.clone(), limits.first_byte_timeout(Some(Duration::from_millis(50)))] {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let config = config(&limits);
        let first_byte = config.first_byte;
        let stream = Scripted::default();
        let mut connection = Connection::new(stream, 1, &peer, config, Phase::Open, 7);
        assert!(connection.flags == Flags::UNOPENED, "{:?}", connection.flags);
        connection.open_at_once();
        connection.await_first_byte(7);
        let flags = if first_byte.is_some() { Flags::HAS_COLD } else { Flags::NONE };
        assert!(connection.flags == flags, "{:?}", connection.flags);
        let expired = first_byte.map(|_| Expiry::Timeout(TimeoutKind::FirstByte));
        assert_eq!(connection.expired(after(7, 50), exact), expired);
        assert_eq!(connection.expired(after(7, 50) - 1, exact), None);
    }
}

/// The turn in which a wait began has ended in the tick after its own, as is known by then.
#[test]
fn a_wait_has_its_whole_time_from_the_end_of_the_turn_in_which_it_began() {
    let late = |stamp: u64| stamp + 1;
    let ms = |ms| Some(Duration::from_millis(ms));
    let limits = Limits::default().all_idle(None).close_timeout(Duration::from_millis(50));
    let mut first_byte = opened(&limits.clone().first_byte_timeout(ms(50)));
    let mut message = opened(&limits.clone().message_timeout(ms(50)));
    message.watch_message(true, true, 0);
    let mut close = opened(&limits);
    close.enter(Phase::Closing(Ending::Local));
    close.set_close_wait(0);
    for connection in [&mut first_byte, &mut message, &mut close] {
        assert_eq!(connection.deadline(exact), after(0, 50));
        assert_eq!(connection.deadline(late), after(0, 50) + 1);
        // A long turn has ended: that is accounted for.
        connection.refresh(0, 30);
        for latest in [exact, late] {
            assert_eq!(connection.deadline(latest), after(30, 50));
        }
    }
}

#[test]
fn a_message_is_waited_for_unless_the_handler_holds_the_peer_back() {
    use Flags as F;
    let table = [
        (F::NONE, false, false),
        (F::INCOMPLETE, true, true),
        (F::PAUSED, false, false),
        (F::INCOMPLETE | F::PAUSED, true, false),
        (F::INCOMPLETE | F::PAUSED | F::ERROR, true, false),
        (F::INCOMPLETE | F::MAX_REQUESTS, true, false),
        (F::INCOMPLETE | F::MAX_REQUESTS | F::ERROR, true, false),
        (F::INCOMPLETE | F::READ_CLOSED, true, false),
    ];
    for (flags, is_incomplete, waits) in table {
        let mut connection = opened(&Limits::default());
        connection.flags.set(flags);
        assert_eq!(connection.is_incomplete(), is_incomplete, "{flags:?}");
        assert_eq!(connection.waits_for_message(), waits, "{flags:?}");
    }
}

#[test]
fn a_rate_has_its_whole_grace_from_the_end_of_a_long_turn_once() {
    let limits = Limits::default().all_idle(None).min_send_rate(rate(100));
    let mut connection = opened(&limits);
    connection.queue_output(&[0; 600], &mut Spares::default());
    connection.watch_output(10);
    connection.refresh(10, 40);
    assert_eq!(connection.deadline(exact), after(40, 100));
    connection.refresh(40, 70);
    assert_eq!(connection.deadline(exact), after(40, 100), "nothing has moved since");
}

/// The turn has kept its stamps, and bytes have come since.
#[test]
fn a_rate_that_began_in_a_late_turn_loses_none_of_its_grace_as_bytes_come() {
    let latest = |stamp: u64| if stamp == 10 { 15 } else { stamp };
    let limits = Limits::default().all_idle(None).min_send_rate(rate(100));
    let mut connection = opened(&limits);
    let mut spares = Spares::default();
    connection.queue_output(&[0; 600], &mut spares);
    connection.watch_output(10);
    assert_eq!(connection.deadline(latest), after(15, 100));
    connection.consume_output(20, &mut spares);
    connection.note_sent(20, 50);
    assert_eq!(connection.deadline(latest), after(15, 120));
    connection.refresh(50, 60);
    assert_eq!(connection.deadline(latest), after(15, 120), "that turn gave it no new grace");
}

#[test]
fn what_moved_in_a_long_turn_has_moved_until_its_end() {
    let mut connection = opened(&Limits::default());
    (connection.read_at, connection.written_at) = (7, 12);
    connection.refresh(12, 30);
    assert_eq!((connection.read_at, connection.written_at), (7, 30));
    connection.refresh(7, 31);
    assert_eq!((connection.read_at, connection.written_at), (31, 30));
}

#[test]
fn silence_counts_from_the_later_of_both_directions() {
    let mut connection = opened(&Limits::default().all_idle(Some(Duration::from_secs(1))));
    for (read, written) in [(5, 20), (20, 5), (20, 20)] {
        (connection.read_at, connection.written_at) = (read, written);
        assert!(connection.flags.is_usual());
        assert_eq!(connection.deadline(exact), after(20, 1_000));
    }
}

#[test]
fn a_wait_that_began_in_a_late_turn_keeps_its_time_over_a_later_long_turn() {
    let latest = |stamp: u64| if stamp == 10 { 60 } else { stamp };
    let second = Some(Duration::from_secs(1));
    let mut message = opened(&Limits::default().all_idle(None).message_timeout(second));
    message.watch_message(true, true, 10);
    assert_eq!(message.deadline(latest), after(60, 1_000));
    message.refresh(500, 502);
    assert_eq!(message.deadline(latest), after(60, 1_000), "it began at 60");
}
