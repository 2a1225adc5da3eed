//! What cannot start, and what fails later.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use waterwheel::fleet::{
    Balance, Fleet, FleetEnd, FleetOptions, Member, OnFailure, Pinning, Spread,
};
use waterwheel::{AtCapacity, ListenOptions, OnPanic, ReactorOptions};

use super::{HOUR, Running, SPREADS, expect_refused, options, register, start_with};
use crate::support::{End, patiently};

/// What a fleet says that does not start.
#[track_caller]
fn start_error(
    options: FleetOptions,
    set_up: impl Fn(&mut Member<'_>) -> io::Result<()> + Send + Sync + 'static,
) -> io::Error {
    Fleet::new(options).unwrap().start(set_up).expect_err("it starts")
}

#[test]
fn an_error_of_one_set_up_names_its_thread_and_leaves_nothing_running() {
    for spread in SPREADS {
        let addr = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&addr);
        let error = start_error(options(3, spread).name("crew".to_owned()), move |member| {
            let service = register(member);
            let bound = member.listen("127.0.0.1:0", service, ListenOptions::default())?;
            *seen.lock().unwrap() = Some(bound);
            match member.index() {
                1 => Err(io::Error::new(io::ErrorKind::NotFound, "no such table")),
                _ => Ok(()),
            }
        });
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "crew-1 cannot start: no such table");
        expect_refused(addr.lock().unwrap().unwrap());
    }
}

#[test]
fn a_panic_of_one_set_up_is_told() {
    let error = start_error(options(2, Spread::Shared), |member| {
        assert!(member.index() != 1, "on purpose");
        Ok(())
    });
    assert_eq!(error.to_string(), "wheel-1 cannot start: it panicked: on purpose");
}

#[test]
fn reactors_that_do_not_listen_alike_are_told() {
    let error = start_error(options(2, Spread::Shared), |member| {
        let service = register(member);
        let addr = format!("127.0.0.{}:0", member.index() + 1);
        member.listen(addr, service, ListenOptions::default()).map(drop)
    });
    assert!(error.to_string().contains("127.0.0.1:0"), "{error}");
    assert!(error.to_string().contains("127.0.0.2:0"), "{error}");
    if cfg!(windows) {
        return; // it has no SO_REUSEPORT
    }
    let error = start_error(options(2, Spread::ReusePort), |member| {
        let service = register(member);
        if member.index() == 0 {
            member.listen("127.0.0.1:0", service, ListenOptions::default())?;
        }
        Ok(())
    });
    assert!(error.to_string().starts_with("only 1 of 2 reactors listen on 127.0.0.1:"), "{error}");
}

#[test]
fn an_address_in_use_and_a_wait_that_cannot_be_are_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for spread in SPREADS {
        let error = start_error(options(2, spread), move |member| {
            let service = register(member);
            member.listen(addr, service, ListenOptions::default()).map(drop)
        });
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
    }
    let error = start_error(options(2, Spread::HandOver(Balance::RoundRobin)), |member| {
        let service = register(member);
        let listen = ListenOptions::default().at_capacity(AtCapacity::Wait);
        member.listen("127.0.0.1:0", service, listen).map(drop)
    });
    assert!(error.to_string().contains("at_capacity"), "{error}");
}

#[test]
fn bad_options_are_named() {
    let bad = [
        (FleetOptions::default().threads(Some(0)), "option threads is 0"),
        (FleetOptions::default().threads(Some(2_000)), "option threads is 2000"),
        (FleetOptions::default().pinning(Pinning::To(Vec::new())), "option pinning"),
        (FleetOptions::default().name("a\0b".to_owned()), "option name"),
        (
            FleetOptions::default().reactor(ReactorOptions::default().reads_per_turn(0)),
            "option reads_per_turn is 0",
        ),
    ];
    for (options, expected) in bad {
        let error = Fleet::new(options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    assert!("sometimes".parse::<Spread>().unwrap_err().to_string().contains("least-connections"));
    for spread in SPREADS {
        assert_eq!(spread.to_string().parse::<Spread>().unwrap(), spread);
    }
}

fn fragile(on_failure: OnFailure) -> Running {
    let reactor = ReactorOptions::default().on_panic(OnPanic::Unwind);
    let spread = Spread::HandOver(Balance::RoundRobin);
    let options = options(2, spread).reactor(reactor).on_failure(on_failure);
    start_with(options, ListenOptions::default(), |_| {})
}

#[track_caller]
fn expect_one_failure(end: &FleetEnd, thread: &str) {
    let texts: Vec<String> = end.failures.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [format!("{thread} failed: it panicked: on purpose")]);
}

#[test]
fn a_thread_that_panics_is_told_and_the_rest_go_on() {
    let running = fragile(OnFailure::GoOn);
    let (mut first, _) = running.client();
    let (mut second, _) = running.client();
    first.send(b"boom");
    first.expect_end(End::Reset);
    // What was handed to it until then is reset.
    let gone = &running.fleet().remotes()[0];
    patiently("its mailbox is closed", || gone.stop().err());
    for _ in 0..4 {
        assert_eq!(running.client().1, 1);
    }
    second.send(b"still?");
    second.expect(b"still?");
    let end = running.stop();
    expect_one_failure(&end, "wheel-0");
    assert_eq!(end.stats.members[0].panics, 1);
    let error = end.into_result().unwrap_err();
    assert_eq!(error.to_string(), "wheel-0 failed: it panicked: on purpose");
}

#[test]
fn a_fleet_whose_threads_have_all_panicked_ends_and_accepts_no_more() {
    let running = fragile(OnFailure::GoOn);
    let addr = running.addr;
    for _ in 0..2 {
        let (mut client, _) = running.client();
        client.send(b"boom");
        client.expect_end(End::Reset);
    }
    let end = running.join();
    let mut threads: Vec<_> = end.failures.iter().map(|it| it.thread.as_str()).collect();
    threads.sort_unstable();
    assert_eq!(threads, ["wheel-0", "wheel-1"]);
    expect_refused(addr);
}

#[test]
fn a_thread_that_panics_is_told_and_the_rest_stop_or_drain() {
    for on_failure in [OnFailure::Stop, OnFailure::Drain(HOUR)] {
        let running = fragile(on_failure);
        let (first, _) = running.client();
        let (mut second, _) = running.client();
        second.send(b"boom");
        second.expect_end(End::Reset);
        let addr = running.addr;
        drop(first); // a drain waits for it
        expect_one_failure(&running.join(), "wheel-1");
        expect_refused(addr);
    }
}
