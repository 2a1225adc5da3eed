//! What a running loop is warned of.

use std::time::Duration;

use log::Level;

use waterwheel::inspect::{Recorder, RecorderOptions, Warning, WarningKind};
use waterwheel::stats::Histogram;

use super::rig::{Rig, STALL};
use crate::logged::{keep_log, logged};

/// Turns until there is a warning of this kind.
#[track_caller]
fn expect(rig: &mut Rig, kind: WarningKind) -> Warning {
    let mut found = None;
    rig.until(kind.name(), |rig| {
        found = rig.recorder().warnings().iter().find(|it| it.kind == kind).cloned();
        found.is_some()
    });
    found.expect("it was found")
}

#[test]
fn a_callback_that_holds_the_loop_is_named_with_its_connection() {
    let mut rig = Rig::new();
    let mut client = rig.client();
    rig.echo(&mut client, b"stall");
    rig.echo(&mut client, b"stall");
    let warning = expect(&mut rig, WarningKind::HeldLoop);
    assert_eq!((warning.count, warning.handler), (2, Some(rig.echo.index())));
    let id = warning.conn.expect("it is of a connection");
    assert!(rig.reactor.context().conn(id).is_some());
    let start = format!("http::inspect::rig::Echo: on_data of connection {id} took ");
    assert!(warning.text.starts_with(&start), "{warning}");
    let millis: u64 = warning.text[start.len()..].trim_end_matches(" ms").parse().unwrap();
    assert!(millis >= STALL.as_millis() as u64, "{warning}");
    assert!(warning.to_string().contains("Context::post"), "it says what to do: {warning}");
}

#[test]
fn a_stall_is_in_the_log_and_in_stats() {
    keep_log();
    let mut rig =
        Rig::with(Recorder::with_options(RecorderOptions::default().slow_callback(STALL)));
    let mut client = rig.client();
    rig.echo(&mut client, b"before");
    let before = rig.reactor.stats();
    rig.echo(&mut client, b"stall");
    let lines = logged(Level::Warn);
    let is_it = |line: &&String| {
        line.starts_with("loop held: http::inspect::rig::Echo: on_data of connection ")
    };
    assert_eq!(lines.iter().filter(is_it).count(), 1, "{lines:?}");
    let stats = rig.reactor.stats();
    assert_eq!(stats.callback_times.count(), before.callback_times.count() + 1);
    assert_eq!(stats.turn_times.count(), stats.turns);
    for (all, before) in
        [(stats.callback_times, before.callback_times), (stats.turn_times, before.turn_times)]
    {
        let long = |lengths: Histogram| lengths.counts()[25..].iter().sum::<u64>();
        assert!(long(all) > long(before), "it took 34 ms or more: {all:?}");
    }
}

#[test]
fn timers_that_fire_late_are_told() {
    let mut rig = Rig::new();
    let mut client = rig.client();
    // Again where the machine was so busy that the timer fired before the stall.
    rig.until("timers late", |rig| {
        rig.reactor.set_timer(rig.echo, Duration::from_millis(5), 0);
        rig.echo(&mut client, b"stall");
        rig.recorder().warnings().iter().any(|it| it.kind == WarningKind::LateTimers)
    });
    let warning = expect(&mut rig, WarningKind::LateTimers);
    assert!(warning.text.starts_with("timers fired up to "), "{warning}");
}

#[test]
fn what_lasts_too_long_is_told_once_for_each_connection() {
    let mut rig = Rig::new();
    let (mut paused, mut keeping, mut flooded) = (rig.client(), rig.client(), rig.client());
    rig.tell(&mut paused, b"p");
    rig.tell(&mut keeping, b"k");
    rig.tell(&mut flooded, b"o");
    for (kind, words) in [
        (WarningKind::PausedLong, "has been paused for"),
        (WarningKind::Unconsumed, "has kept its input for"),
        (WarningKind::MuchOutput, "has not read its output for"),
    ] {
        let warning = expect(&mut rig, kind);
        assert!(warning.text.contains(words), "{warning}");
    }
    let until = rig.reactor.context().now() + 4 * STALL;
    rig.until("some sweeps more", |rig| rig.reactor.context().now() > until);
    assert!(rig.recorder().warnings().iter().all(|it| it.count == 1));
}

#[test]
fn a_source_that_resets_much_is_told() {
    let options = RecorderOptions::default().many_resets(3);
    let mut rig = Rig::with(Recorder::with_options(options));
    for round in 1..=3 {
        let mut client = rig.client();
        // What the client has not read when it closes makes it reset.
        rig.tell(&mut client, b"hello");
        rig.until("written", |rig| rig.reactor.stats().bytes_written == 5 * round);
        drop(client);
        rig.until("reset", |rig| rig.reactor.stats().closed == round);
    }
    let warning = expect(&mut rig, WarningKind::ManyResets);
    assert_eq!(warning.text, "3 connections of 127.0.0.1 were reset in 10 s");
}

#[test]
fn an_ordinary_load_is_warned_of_nothing() {
    let mut rig = Rig::with(Recorder::with_options(
        // Other tests share the machine.
        RecorderOptions::default().slow_callback(Duration::from_secs(1)).late_timer(STALL * 20),
    ));
    let mut clients: Vec<_> = (0..20).map(|_| rig.client()).collect();
    for client in &mut clients {
        rig.echo(client, &[b'x'; 10_000]);
    }
    drop(clients);
    rig.until("closed", |rig| rig.reactor.stats().closed == 20);
    assert!(rig.recorder().warnings().is_empty(), "{:?}", rig.recorder().warnings());
}
