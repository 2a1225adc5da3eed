//! How a connection leaves the fast path, and how it comes back.

use super::*;

type Conn = Connection<Scripted>;

/// A way to leave the fast path.
struct Exit {
    name: &'static str,
    /// The bits that tell of it, and no others.
    flags: Flags,
    limits: Limits,
    leave: fn(&mut Conn, &mut Spares),
    /// What ends it; `None` if nothing does.
    back: Option<fn(&mut Conn, &mut Spares)>,
}

fn exit(name: &'static str, flags: Flags, leave: fn(&mut Conn, &mut Spares)) -> Exit {
    Exit { name, flags, limits: Limits::default(), leave, back: None }
}

impl Exit {
    fn under(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    fn back(self, back: fn(&mut Conn, &mut Spares)) -> Self {
        Self { back: Some(back), ..self }
    }
}

/// By the phase, the write side and the queues.
fn by_state() -> Vec<Exit> {
    use Flags as F;
    vec![
        exit("connecting", F::NOT_OPEN, |it, _| it.enter(Phase::Connecting))
            .back(|it, _| it.open(0)),
        exit("a handshake", F::NOT_OPEN, |it, _| it.enter(Phase::Handshake))
            .back(|it, _| it.open(0)),
        exit("closing", F::NOT_OPEN, |it, _| it.enter(Phase::Closing(Ending::Local))),
        exit("lingering", F::NOT_OPEN, |it, _| it.enter(Phase::Lingering(Ending::Peer))),
        exit("closed", F::NOT_OPEN, |it, _| it.enter(Phase::Closed)),
        exit("failed", F::NOT_OPEN | F::READABLE | F::HUNG_UP | F::HAS_COLD, |it, spares| {
            it.fail_output(CloseReason::Reset, 0, spares);
        }),
        exit("FIN is queued", F::WRITE_SHUT, |it, _| it.set_write_side(WriteSide::FinQueued)),
        exit("FIN is sent", F::WRITE_SHUT, |it, _| it.set_write_side(WriteSide::FinSent)),
        exit("output", F::HAS_OUTPUT, |it, spares| it.queue_output(b"x", spares))
            .back(|it, spares| drop(it.flush(1, true, spares))),
        exit("a short write", F::HAS_OUTPUT, |it, spares| {
            it.stream.script = vec![Act::Move(1), Act::WouldBlock];
            it.send(b"xy", b"z", Sent::default(), false, spares);
        })
        .back(|it, spares| {
            it.clear_output(spares);
        }),
        exit("a file", F::HAS_OUTPUT | F::HAS_COLD, |it, _| it.queue_file(files::file(1), 0..1))
            .back(|it, spares| drop(it.flush_all(1, 1 << 20, true, spares))),
        exit("much output", F::HAS_OUTPUT | F::ABOVE_MARK, |it, spares| {
            it.queue_output(&[0; 9], spares);
            assert!(it.crosses_high_mark());
        })
        .under(Limits::default().low_mark_bytes(1).high_mark_bytes(9))
        .back(|it, spares| {
            it.flush(1, true, spares);
            assert!(it.crosses_low_mark());
        }),
        exit("input", F::HAS_INPUT, |it, spares| it.keep_input(b"x", spares))
            .back(|it, spares| it.clear_input(spares)),
        exit("input put back", F::HAS_INPUT, |it, spares| {
            it.keep_input(b"x", spares);
            let input = it.take_input();
            check_flags(it);
            it.put_back(input, spares);
        })
        .back(|it, spares| {
            it.take_input().clear(spares);
        }),
        exit("input to be seen again", F::HAS_INPUT | F::REPLAY, |it, spares| {
            it.keep_input(b"x", spares);
            it.replay_input();
        })
        .back(|it, spares| {
            it.take_input().clear(spares);
        }),
    ]
}

/// By what few connections need.
fn by_cold_state() -> Vec<Exit> {
    let cold = |name, leave| exit(name, Flags::HAS_COLD, leave);
    vec![
        cold("idle limits of its own", |it, _| it.set_idle_limits(IdleLimits::default())),
        cold("time to close", |it, _| it.set_close_wait(0)).back(|it, _| it.clear_wait()),
        cold("time to connect", |it, _| it.set_connect_wait(0, 1)).back(|it, _| it.open(0)),
        cold("time for the first byte", |it, _| it.open(5))
            .under(Limits::default().first_byte_timeout(Some(Duration::from_secs(1))))
            .back(|it, _| it.note_received(1, 6)),
        cold("a timer", |it, _| it.add_timer(TimerId::new(0, 1, 1), |_| true))
            .back(|it, _| it.remove_timer(TimerId::new(0, 1, 1))),
        cold("timers", |it, _| it.add_timer(TimerId::new(0, 1, 1), |_| true))
            .back(|it, _| drop(it.take_timers())),
        cold("lost output", |it, _| it.add_unsent(1)),
        cold("a request", |it, _| it.set_requests(1)).back(|it, _| it.set_requests(0)),
        exit("a rate of sending", Flags::HAS_COLD | Flags::HAS_OUTPUT, |it, spares| {
            it.queue_output(b"x", spares);
            it.watch_output(0);
        })
        .under(Limits::default().min_send_rate(rate(1)))
        .back(|it, spares| {
            let sent = it.flush(1, true, spares);
            it.note_sent(sent.bytes, 1);
        }),
    ]
}

/// By what the loop and the handler say.
fn by_word() -> Vec<Exit> {
    macro_rules! words {
        ($($name:ident)*) => {
            vec![$(exit(stringify!($name), Flags::$name, |it, _| it.flags.set(Flags::$name))
                .back(|it, _| it.flags.clear(Flags::$name))),*]
        };
    }
    words![
        UNOPENED READABLE HUNG_UP ERROR READ_CLOSED PAUSED INCOMPLETE BLOCKED CLOSED_BY_HANDLER
        MUST_RESET IN_READY_QUEUE IN_FLUSH_LIST ASKS_WRITABLE LAYERED SOURCE_UNKNOWN
        URGENT NO_LINGER MAX_REQUESTS
    ]
}

#[test]
fn a_connection_leaves_the_fast_path_by_each_thing_that_is_unusual_and_no_other_bit_tells_of_it() {
    let mut seen = Flags::NONE;
    for exit in by_state().into_iter().chain(by_cold_state()).chain(by_word()) {
        let Exit { name, flags, limits, leave, back } = exit;
        let mut spares = Spares::default();
        let mut connection = opened(&Limits::default());
        connection.config = config(&limits);
        assert!(connection.flags.is_usual(), "{name}");
        leave(&mut connection, &mut spares);
        check_flags(&connection);
        assert!(connection.flags == flags, "{name}: {:?}", connection.flags);
        connection.drop_unused();
        assert!(connection.flags == flags, "{name} is forgotten: {:?}", connection.flags);
        seen.set(flags);
        if let Some(back) = back {
            back(&mut connection, &mut spares);
            connection.drop_unused();
            check_flags(&connection);
            assert!(connection.flags.is_usual(), "{name} is over: {:?}", connection.flags);
        }
    }
    // These two are there from the start.
    for flag in [Flags::WATCHED, Flags::UNIX] {
        let mut config = ConnConfig::new(&Limits::default(), 0);
        config.flags.set(flag);
        let mut connection = connection(&[]);
        let peer = connection.peer();
        connection = Connection::new(connection.stream, 1, &peer, Rc::new(config), Phase::Open, 0);
        connection.open(0);
        assert!(connection.flags == flag, "{:?}", connection.flags);
        seen.set(flag);
    }
    for &(flag, name) in Flags::NAMES {
        assert!(seen.has(flag), "nothing brings about {name}");
    }
}

#[test]
fn limits_of_messages_take_a_connection_off_the_fast_path_while_one_is_incomplete() {
    for limits in [watching(), Limits::default().min_receive_rate(rate(1))] {
        let mut connection = opened(&limits);
        assert!(connection.flags == Flags::WATCHED, "{:?}", connection.flags);
        assert!(connection.flags.is_usual());
        connection.watch_message(true, true, 0);
        connection.drop_unused();
        let flags = Flags::WATCHED | Flags::HAS_COLD;
        assert!(connection.flags == flags, "{:?}", connection.flags);
        assert!(!connection.flags.is_usual());
        connection.watch_message(false, false, 0);
        connection.drop_unused();
        assert!(connection.flags == Flags::WATCHED, "{:?}", connection.flags);
    }
}

/// A server whose every request has its time sets one for each message.
#[test]
fn a_deadline_of_the_handler_leaves_a_connection_on_the_fast_path() {
    let mut connection = opened(&Limits::default().all_idle(Some(Duration::from_secs(1))));
    let idle = connection.deadline(exact);
    for tick in [70, NEVER, idle + 1] {
        connection.set_user_deadline(tick);
        assert!(!connection.has_cold() && connection.flags.is_usual(), "{:?}", connection.flags);
        for moved in [0, 5] {
            connection.read_at = moved; // as the fast path does
            assert_eq!(connection.deadline(exact), tick.min(idle + moved));
        }
        connection.read_at = 0;
    }
}

/// An idle connection costs this and its state, and nothing else.
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(mio_unsupported_force_poll_poll)))]
#[test]
fn a_connection_takes_a_hundred_and_twelve_bytes() {
    let bytes = if cfg!(feature = "sim") { 144 } else { 112 };
    assert_eq!(size_of::<Connection<crate::sys::Stream>>(), bytes);
}

#[test]
fn what_is_not_needed_takes_no_memory() {
    let mut connection = opened(&Limits::default());
    connection.add_unsent(0);
    connection.set_user_deadline(NEVER);
    connection.watch_output(0);
    connection.clear_wait();
    connection.clear_waits();
    assert!(!connection.has_cold() && connection.flags.is_usual());
}
