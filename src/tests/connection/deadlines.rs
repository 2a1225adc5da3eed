//! What a connection waits for, and when that has passed.

use super::*;
use crate::stream::connection::rare::Meter;

#[test]
fn a_connection_is_plain_again_once_its_first_byte_is_there() {
    let limits = Limits::default();
    let limits = limits.first_byte_timeout(Some(Duration::from_millis(50)));
    let mut connection = opened(&limits);
    assert!(!connection.is_plain);
    assert_eq!(connection.expired(50, exact), None);
    assert_eq!(connection.expired(51, exact), Some(Expiry::Timeout(TimeoutKind::FirstByte)));
    connection.note_received(1, 20);
    assert_eq!(connection.expired(51, exact), None);
    connection.drop_unused();
    assert!(connection.rare.is_none() && connection.looks_plain());
}

/// A peer that is sent nothing does not read too slowly.
#[test]
fn the_rate_of_sending_is_watched_while_output_is_queued() {
    let grace = Duration::from_millis(100);
    let rate = crate::options::MinRate::new(1_000, grace);
    let limits = Limits::default().all_idle(None).read_idle(None).write_idle(None);
    let limits = limits.min_send_rate(Some(rate));
    let mut connection = opened(&limits);
    assert_eq!(connection.deadline(exact), u64::MAX);
    let mut spares = Spares::default();
    connection.queue_output(&[0; 600], &mut spares);
    connection.watch_output(7);
    assert_eq!(connection.deadline(exact), after(7, 100));
    connection.output.consume(500, &mut spares);
    connection.note_sent(500, 8);
    assert_eq!(connection.deadline(exact), after(7, 500), "500 bytes pay for 500 ms");
    connection.output.consume(100, &mut spares);
    connection.note_sent(100, 9);
    assert_eq!(connection.deadline(exact), u64::MAX);
    // What was written while it was connecting counts from when it came up.
    let mut early = self::connection(&[]);
    early.profile = Rc::clone(&connection.profile);
    early.queue_output(b"early", &mut spares);
    early.open(30);
    assert_eq!(early.deadline(exact), after(30, 100));
}

#[test]
fn reading_goes_on_as_long_as_it_is_of_use() {
    // Phase, ended, broken, paused: whether it wants to read.
    let table = [
        (Phase::Open, false, false, false, true),
        (Phase::Open, true, false, false, false),
        (Phase::Open, false, false, true, false),
        (Phase::Open, true, true, true, true),
        (Phase::Closing, false, false, true, true),
        (Phase::Closing, true, false, false, false),
        (Phase::Closing, true, true, false, true),
        (Phase::Lingering, false, false, false, true),
        (Phase::Lingering, true, false, false, false),
        (Phase::Severed, true, false, true, true),
        (Phase::Connecting, false, false, false, false),
        (Phase::Dead, false, true, false, false),
    ];
    for (phase, ended, broken, paused, wants) in table {
        let mut connection = opened(&Limits::default());
        connection.phase = phase;
        (connection.is_ended, connection.is_broken, connection.is_paused) = (ended, broken, paused);
        assert_eq!(connection.wants_read(), wants, "{phase:?} {ended} {broken} {paused}");
    }
}

#[test]
fn a_callback_gathers_its_writes_only_before_an_empty_queue() {
    let mut connection = opened(&Limits::default());
    let room = connection.profile.cork_room;
    assert!(room > 1);
    assert_eq!(connection.cork_room(), room);
    connection.wants_fin = true;
    assert_eq!(connection.cork_room(), 0);
    connection.wants_fin = false;
    connection.phase = Phase::Connecting;
    assert_eq!(connection.cork_room(), 0);
    connection.phase = Phase::Open;
    connection.queue_output(b"x", &mut Spares::default());
    assert_eq!(connection.cork_room(), 0);
}

#[test]
fn an_incomplete_message_is_watched_and_a_new_one_gets_a_full_measure() {
    let rate = crate::options::MinRate::new(1_000, Duration::from_millis(100));
    let limits = watching().min_receive_rate(Some(rate)).all_idle(None);
    let mut connection = opened(&limits);
    assert_eq!(connection.deadline(exact), u64::MAX);
    connection.watch_message(true, true, 10);
    assert_eq!(connection.deadline(exact), after(10, 100));
    connection.note_received(300, 20);
    connection.note_received(100, 30);
    assert_eq!(connection.deadline(exact), after(10, 400), "400 bytes pay for 400 ms");
    connection.watch_message(true, false, 50);
    assert_eq!(connection.deadline(exact), after(10, 400), "the same message");
    connection.note_received(900, 60);
    assert_eq!(connection.deadline(exact), after(10, 1_000), "its time is over whatever the rate");
    assert_eq!(connection.expired(after(10, 1_000) - 1, exact), None);
    assert_eq!(
        connection.expired(after(10, 1_300), exact),
        Some(Expiry::Timeout(TimeoutKind::Message)),
        "the earlier of two"
    );
    connection.watch_message(true, true, 70);
    assert_eq!(connection.deadline(exact), after(70, 100));
    connection.is_paused = true;
    assert_eq!(
        connection.expired(after(70, 1_000), exact),
        Some(Expiry::Timeout(TimeoutKind::ReceiveRate))
    );
    connection.is_paused = false;
    connection.watch_message(false, false, 80);
    assert_eq!(connection.deadline(exact), u64::MAX);
}

#[test]
fn the_time_to_close_is_given_once() {
    let mut connection = opened(&Limits::default());
    connection.enter(Phase::Closing);
    connection.set_close_wait(10, 100);
    connection.set_close_wait(50, 100);
    assert_eq!(connection.deadline(exact), after(10, 100));
    assert_eq!(connection.expired(111, exact), Some(Expiry::Timeout(TimeoutKind::Close)));
    connection.enter(Phase::Dead);
    assert_eq!((connection.deadline(exact), connection.expired(u64::MAX, exact)), (u64::MAX, None));
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
    connection.is_paused = true; // it is not the peer who is silent
    assert_eq!(connection.expired(after(201, 150), exact), Some(Expiry::Idle(IdleKind::All)));
    connection.keep(IdleKind::All, 352);
    assert_eq!((connection.read_at, connection.written_at), (352, 352));
    connection.set_idle_limits(IdleLimits { read: None, write: None, all: None });
    assert_eq!(connection.deadline(exact), u64::MAX);
}

#[test]
fn a_handlers_deadline_ends_with_the_open_phase() {
    let mut connection = opened(&Limits::default().all_idle(None));
    connection.set_user_deadline(None);
    assert!(connection.rare.is_none(), "nothing to forget");
    connection.set_user_deadline(Some(70));
    assert_eq!(connection.deadline(exact), 70);
    assert_eq!(connection.expired(69, exact), None);
    assert_eq!(connection.expired(70, exact), Some(Expiry::Timeout(TimeoutKind::User)));
    connection.set_user_deadline(None);
    assert_eq!(connection.deadline(exact), u64::MAX);
    connection.set_user_deadline(Some(70));
    connection.sever(CloseReason::Reset, 5, 0);
    connection.add_unsent(3);
    assert_eq!(connection.unsent(), 8);
    let close = after(0, connection.profile.close);
    assert_eq!(connection.deadline(exact), close, "no phase is without a clock");
    assert!(connection.may_read && connection.hung_up && connection.wants_read());
    connection.sever(CloseReason::Overflow, 0, 0);
    assert!(matches!(connection.take_severed_by(), Some(CloseReason::Reset)), "the first cause");
    assert!(connection.take_severed_by().is_none());
}

#[test]
fn a_list_of_timers_forgets_the_fired_before_it_grows() {
    let mut connection = opened(&Limits::default());
    let timer = |number: u32| TimerId::new(number, 1, 1);
    for number in 0..1_000 {
        connection.add_timer(timer(number), |kept| kept.index() + 2 > number as usize);
    }
    let rare = connection.rare.as_ref().unwrap();
    assert!(rare.timers.capacity() <= 8, "room for {}", rare.timers.capacity());
    connection.remove_timer(timer(999));
    let left = connection.take_timers();
    assert!(left.contains(&timer(998)) && !left.contains(&timer(999)), "{left:?}");
    assert!(connection.take_timers().is_empty());
    connection.drop_unused();
    assert!(connection.rare.is_none());
}

#[test]
fn each_thing_that_few_connections_need_is_kept() {
    let needed: [fn(&mut Connection<Scripted>); 8] = [
        |it| it.set_idle_limits(IdleLimits { read: None, write: None, all: None }),
        |it| it.set_close_wait(0, 1),
        |it| it.set_user_deadline(Some(1)),
        |it| it.rare_mut().receiving = Some(Meter { since: 0, bytes: 0 }),
        |it| it.rare_mut().sending = Some(Meter { since: 0, bytes: 0 }),
        |it| it.add_timer(TimerId::new(0, 1, 1), |_| true),
        |it| it.rare_mut().severed_by = Some(CloseReason::Reset),
        |it| it.add_unsent(1),
    ];
    for (number, need) in needed.into_iter().enumerate() {
        let mut connection = opened(&Limits::default());
        need(&mut connection);
        connection.drop_unused();
        assert!(connection.rare.is_some(), "number {number}");
    }
    let mut connection = opened(&Limits::default());
    connection.add_unsent(0);
    assert!(connection.rare.is_none());
}

#[test]
fn a_connect_has_its_time_and_then_no_more() {
    let mut connection = connection(&[]);
    connection.phase = Phase::Connecting;
    connection.set_connect_wait(10, 100);
    assert_eq!(connection.deadline(exact), after(10, 100));
    assert_eq!(connection.expired(after(10, 100) - 1, exact), None);
    assert_eq!(connection.expired(after(10, 100), exact), Some(Expiry::Connect));
    connection.profile = Rc::new(Profile::new(&Limits::default().all_idle(None), 0));
    connection.open(50);
    assert_eq!(connection.deadline(exact), u64::MAX);
}

#[test]
fn waits_that_are_cleared_are_over() {
    let mut connection = opened(&Limits::default().all_idle(None));
    connection.set_close_wait(10, 100);
    connection.set_user_deadline(Some(70));
    connection.clear_waits();
    assert_eq!(connection.deadline(exact), u64::MAX);
}
