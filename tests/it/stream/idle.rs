//! Idle limits: never early, at most a tick late, beaten by whatever moves.

use std::cell::Cell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{
    Conn, ConnId, Idle, IdleKind, Limits, ListenOptions, ReactorOptions, TcpOptions,
    raise_open_file_limit,
};

use crate::support::{Call, Client, End, Journal, Rig, Script, many_descriptors, pattern};

/// A tick of the reactor.
const TICK: Duration = Duration::from_millis(1);
/// So long that no test sees its end.
const HOUR: Duration = Duration::from_secs(3_600);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn limits_of(kind: IdleKind, limit: Duration) -> Limits {
    let limit = Some(limit);
    match kind {
        IdleKind::Read => Limits::default().read_idle(limit),
        IdleKind::Write => Limits::default().write_idle(limit),
        IdleKind::All => Limits::default().all_idle(limit),
    }
}

/// The loop stands still: what happens meanwhile meets it all at once.
fn stand_still(span: Duration) {
    thread::sleep(span);
}

fn is_idle(call: &Call) -> bool {
    matches!(call, Call::Idle(_))
}

#[track_caller]
fn set_limit(rig: &mut Rig, id: ConnId, kind: IdleKind, limit: Option<Duration>) {
    let mut context = rig.reactor.context();
    let mut conn = context.conn(id).expect("the connection lives");
    conn.set_idle_timeout(kind, limit).unwrap();
}

#[test]
fn each_kind_of_silence_has_its_limit_and_its_name() {
    for kind in [IdleKind::Read, IdleKind::Write, IdleKind::All] {
        let mut rig = Rig::with_limits(Script::new(), limits_of(kind, ms(10)));
        let (_client, id) = rig.client();
        rig.expect_end(id, "Idle");
        let end = [Call::Open, Call::Idle(kind), Call::Close("Idle".to_owned(), 0)];
        assert_eq!(rig.journal.calls_of(id), end);
        let stats = rig.reactor.stats();
        assert_eq!((stats.closed, stats.closed_idle), (1, 1));
    }
}

/// Holds the turn that ends a connection against the clock, as exactly as can be: the moment of
/// the last activity lies between the begin and the end of its turn.
#[track_caller]
fn expect_punctual(rig: &mut Rig, limit: Duration, (earliest, latest): (Instant, Instant)) {
    loop {
        let is_overdue = latest.elapsed() >= limit + TICK;
        let before = rig.journal.closes();
        rig.turn();
        if rig.journal.closes() > before {
            assert!(earliest.elapsed() >= limit, "early: {:?}", earliest.elapsed());
            return;
        }
        assert!(!is_overdue, "late: {:?} after {limit:?}", latest.elapsed());
    }
}

#[test]
fn a_limit_passes_neither_early_nor_more_than_a_tick_late() {
    for limit in (1..=20).map(ms) {
        let mut rig = Rig::with_limits(Script::new(), limits_of(IdleKind::All, limit));
        let _client = Client::connect(rig.addr);
        let mut turn = (Instant::now(), Instant::now());
        while rig.journal.opened().is_empty() {
            turn.0 = Instant::now();
            rig.turn();
            turn.1 = Instant::now();
        }
        if rig.journal.closes() == 0 {
            expect_punctual(&mut rig, limit, turn);
        }
    }
}

#[test]
fn bytes_start_the_silence_anew_to_the_tick() {
    for limit in (5..=12).map(ms) {
        let mut rig = Rig::with_limits(Script::new(), limits_of(IdleKind::Read, limit));
        let (mut client, id) = rig.client();
        set_limit(&mut rig, id, IdleKind::Read, Some(HOUR));
        stand_still(limit);
        client.send(b"x");
        let mut turn = (Instant::now(), Instant::now());
        while rig.journal.data_of(id).is_empty() {
            turn.0 = Instant::now();
            rig.turn();
            turn.1 = Instant::now();
        }
        // Shorter again: the silence since the byte counts, not that before.
        set_limit(&mut rig, id, IdleKind::Read, Some(limit));
        expect_punctual(&mut rig, limit, turn);
    }
}

#[test]
fn bytes_that_wait_beat_the_limit_that_has_passed_meanwhile() {
    for kind in [IdleKind::Read, IdleKind::All] {
        let mut rig = Rig::with_limits(Script::new(), limits_of(kind, ms(40)));
        let (mut client, id) = rig.client();
        client.send(b"in time");
        stand_still(ms(80));
        rig.turn();
        assert_eq!(rig.journal.data_of(id), b"in time");
        assert_eq!(rig.journal.count(is_idle), 0);
        rig.expect_end(id, "Idle");
    }
}

/// The poll reports one event a turn, so that most connections are overdue unheard.
#[test]
fn bytes_that_the_poll_had_no_room_to_announce_beat_the_limit_too() {
    let mut rig = Rig::with(
        Script::new(),
        Journal::default(),
        ListenOptions::default(),
        ReactorOptions::default().events_per_turn(1),
    );
    let mut clients: Vec<_> = (0..10).map(|_| rig.client()).collect();
    for (client, id) in &mut clients {
        set_limit(&mut rig, *id, IdleKind::Read, Some(ms(200)));
        client.send(b"in time");
    }
    stand_still(ms(250));
    rig.turn();
    rig.turn();
    for (_, id) in &clients {
        assert_eq!(rig.journal.data_of(*id), b"in time");
    }
    assert_eq!(rig.journal.count(is_idle), 0);
}

/// A rig that sends much at once to a client, which takes little, and is idle when nothing leaves.
fn sending_rig(limit: Duration) -> (Rig, Client, ConnId) {
    let limits = limits_of(IdleKind::Write, limit).max_output_bytes(64 << 20);
    let tcp = TcpOptions::default().send_buffer_bytes(Some(64 << 10));
    let handler = Script::new().open(|conn| {
        conn.write(&pattern(32 << 20));
    });
    let options = ListenOptions::default().limits(limits).tcp(tcp);
    let mut rig = Rig::with_listen(handler, options);
    let (client, id) = rig.client();
    (rig, client, id)
}

#[test]
fn output_that_the_peer_makes_room_for_beats_the_limit() {
    let (mut rig, mut client, id) = sending_rig(ms(100));
    stand_still(ms(50));
    // The client empties both kernels' buffers while the loop stands still.
    let mut taken = 0;
    let begin = Instant::now();
    while begin.elapsed() < ms(100) {
        taken += client.try_read(1 << 20).unwrap().len();
    }
    assert!(taken > 0);
    let before = rig.reactor.stats().bytes_written;
    rig.turn();
    assert!(rig.reactor.stats().bytes_written > before);
    assert!(rig.lives(id), "{:?}", rig.journal.close_of(id));
    assert_eq!(rig.journal.count(is_idle), 0);
}

/// One write, which takes long to leave: what counts is the bytes.
#[test]
fn a_connection_whose_bytes_move_is_not_idle_though_no_write_completes() {
    let limit = ms(150);
    let (mut rig, mut client, id) = sending_rig(limit);
    let (begin, mut taken) = (Instant::now(), 0);
    while begin.elapsed() < 4 * limit {
        // However long this thread was away, the client has read before the loop looks.
        let goal = taken + (128 << 10);
        while taken < goal {
            taken += client.try_read(64 << 10).unwrap().len();
            rig.turn();
        }
        assert!(taken < 32 << 20, "the write has completed");
        rig.reactor.run_once(Some(ms(10))).unwrap();
    }
    assert_eq!(rig.journal.count(is_idle), 0);
    let (reason, unsent) = rig.end_of(id);
    assert_eq!(reason, "Idle");
    assert!(unsent > 0 && unsent < (32 << 20) - taken, "{unsent}");
}

#[test]
fn a_read_limit_does_not_care_for_output_nor_a_write_limit_for_input() {
    let handler = Script::new().open(|conn| {
        conn.set_periodic_timer(ms(5), 0);
    });
    let handler = handler.timer(|conn, _| {
        conn.write(b".");
    });
    let mut rig = Rig::with_limits(handler, limits_of(IdleKind::Read, ms(60)));
    let (_client, id) = rig.client();
    rig.expect_end(id, "Idle");
    assert!(rig.journal.calls_of(id).contains(&Call::Idle(IdleKind::Read)));

    let mut rig = Rig::with_limits(Script::new(), limits_of(IdleKind::Write, ms(60)));
    let (mut client, id) = rig.client();
    rig.until("the end", |rig| {
        client.try_send(b".");
        rig.journal.close_of(id).is_some()
    });
    assert!(rig.journal.calls_of(id).contains(&Call::Idle(IdleKind::Write)));
}

#[test]
fn one_that_is_kept_is_asked_about_again_when_the_limit_has_passed_again() {
    let limit = ms(20);
    let asked = Rc::new(Cell::new(Vec::new()));
    let seen = asked.clone();
    let handler = Script::new().idle(move |conn, _| {
        let mut times = seen.take();
        times.push(conn.context().now());
        let verdict = if times.len() < 4 { Idle::Keep } else { Idle::Close };
        seen.set(times);
        verdict
    });
    let mut rig = Rig::with_limits(handler, limits_of(IdleKind::All, limit));
    let (_client, id) = rig.client();
    rig.expect_end(id, "Idle");
    let times = asked.take();
    assert_eq!(times.len(), 4);
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] > limit, "{times:?}: a tick is added to be never early");
    }
}

#[test]
fn a_handler_may_end_an_idle_connection_in_its_own_way() {
    let handler = Script::new().idle(|conn, _| {
        conn.write(b"bye");
        conn.close();
        Idle::Close
    });
    let mut rig = Rig::with_limits(handler, limits_of(IdleKind::All, ms(10)));
    let (mut client, id) = rig.client();
    let (bytes, end) = rig.read_to_end(&mut client);
    assert_eq!((bytes.as_slice(), end), (&b"bye"[..], End::Fin));
    drop(client);
    rig.expect_end(id, "Local");
}

#[test]
fn a_shorter_limit_counts_at_once_with_the_silence_so_far() {
    let mut rig = Rig::with_limits(Script::new(), limits_of(IdleKind::Read, HOUR));
    let (_client, id) = rig.client();
    stand_still(ms(15));
    set_limit(&mut rig, id, IdleKind::Read, Some(ms(10)));
    rig.turn();
    assert_eq!(rig.journal.close_of(id), Some(("Idle".to_owned(), 0)));

    // Set by a callback, it ends the connection in the same turn.
    let handler = Script::new().open(|conn| {
        conn.set_timer(ms(15), 0);
    });
    let handler = handler.timer(|conn: &mut Conn<'_>, _| {
        conn.set_idle_timeout(IdleKind::All, Some(ms(10))).unwrap();
    });
    let mut rig = Rig::new(handler);
    let (_client, id) = rig.client();
    let is_timer = |call: &Call| matches!(call, Call::Timer(_));
    while rig.journal.count(is_timer) == 0 {
        rig.turn();
    }
    assert_eq!(rig.journal.close_of(id), Some(("Idle".to_owned(), 0)));
}

#[test]
fn a_longer_limit_or_none_holds_at_once_too() {
    for limit in [Some(HOUR), None] {
        let mut rig = Rig::with_limits(Script::new(), limits_of(IdleKind::All, ms(30)));
        let (_client, id) = rig.client();
        set_limit(&mut rig, id, IdleKind::All, limit);
        let fired = rig.reactor.stats().timers_fired;
        let begin = Instant::now();
        while begin.elapsed() < ms(100) {
            rig.reactor.run_once(Some(ms(100))).unwrap();
        }
        assert!(rig.lives(id));
        assert_eq!(rig.journal.count(is_idle), 0);
        assert!(rig.reactor.stats().timers_fired - fired <= 1, "the old entry, at the most");
    }
}

#[test]
fn a_connection_without_limits_may_have_one_of_its_own() {
    let handler = Script::new().open(|conn| {
        conn.set_idle_timeout(IdleKind::Read, Some(ms(10))).unwrap();
    });
    let mut rig = Rig::new(handler);
    let (_client, id) = rig.client();
    rig.expect_end(id, "Idle");
}

#[test]
fn of_several_limits_the_first_to_pass_is_named() {
    let limits = Limits::default().read_idle(Some(ms(30))).write_idle(Some(ms(15)));
    let mut rig = Rig::with_limits(Script::new(), limits.all_idle(Some(HOUR)));
    let (_client, id) = rig.client();
    stand_still(ms(60)); // all but the last have passed when the loop looks
    rig.expect_end(id, "Idle");
    assert_eq!(rig.journal.calls_of(id)[1], Call::Idle(IdleKind::Write));
}

#[test]
fn a_thousand_idle_connections_expire_in_one_turn_and_end_in_four() {
    let _many = many_descriptors();
    let files = raise_open_file_limit().unwrap().unwrap_or(u64::MAX);
    let count = 1_000.min(files as usize / 2 - 100);
    let mut rig = Rig::new(Script::new());
    let clients: Vec<_> = (0..count).map(|_| rig.client()).collect();
    for (_, id) in &clients {
        set_limit(&mut rig, *id, IdleKind::All, Some(ms(50)));
    }
    stand_still(ms(60));
    let before = rig.reactor.stats();
    rig.turn();
    let stats = rig.reactor.stats();
    let mut ended = stats.closed_idle - before.closed_idle;
    assert_eq!(ended, count.min(256) as u64);
    assert_eq!(stats.timers_fired - before.timers_fired, count as u64);
    while ended < count as u64 {
        rig.reactor.run_once(Some(HOUR)).unwrap(); // it does not sleep
        let now = rig.reactor.stats().closed_idle - before.closed_idle;
        assert!(now > ended);
        ended = now;
    }
    assert_eq!(rig.reactor.stats().connections, 0);
    // A reset leaves no TIME_WAIT behind, of which so many would fill the machine's table.
    clients.into_iter().for_each(|(client, _)| client.reset());
}

#[test]
fn messages_cost_no_timer() {
    let mut rig = Rig::with_limits(Script::echo(), limits_of(IdleKind::All, HOUR));
    let (mut client, _) = rig.client();
    for round in 0..1_000u32 {
        client.send(&round.to_le_bytes());
        rig.expect(&mut client, &round.to_le_bytes());
    }
    // Two, perhaps, that look which connections of a moment last.
    assert!(rig.reactor.stats().timers_fired <= 2, "{:?}", rig.reactor.stats());
}

#[test]
fn a_busy_connection_costs_a_timer_per_limit_and_not_per_message() {
    let limit = ms(40);
    let mut rig = Rig::with_limits(Script::echo(), limits_of(IdleKind::All, limit));
    let (mut client, id) = rig.client();
    let begin = Instant::now();
    while begin.elapsed() < 5 * limit {
        client.send(b"x");
        rig.expect(&mut client, b"x");
    }
    let (stats, most) = (rig.reactor.stats(), begin.elapsed().as_millis() / 40 + 1);
    assert!(u128::from(stats.timers_fired) <= most, "{} of {most}", stats.timers_fired);
    assert!(rig.lives(id));
    assert_eq!(rig.journal.count(is_idle), 0);
}
