//! What is recorded, how it is got at, and its form as a trace.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use waterwheel::inspect::{Recorder, RecorderOptions, Recording};

use super::json::Json;
use super::rig::{Echo, PATIENCE, Rig, STALL};

/// The events of a trace with this kind and name.
fn events<'a>(trace: &'a Json, kind: &str, name: &str) -> Vec<&'a Json> {
    let text = |text: &str| Json::Text(text.to_owned());
    let events = trace.at(&["traceEvents"]).list().iter();
    let is_it =
        |event: &&Json| *event.at(&["ph"]) == text(kind) && *event.at(&["name"]) == text(name);
    events.filter(is_it).collect()
}

fn number(value: &Json) -> f64 {
    match value {
        Json::Whole(number) => *number as f64,
        Json::Number(number) => *number,
        value => panic!("{value:?} is no number"),
    }
}

/// When an event begins and ends, in microseconds.
fn span(event: &Json) -> (f64, f64) {
    let begin = number(event.at(&["ts"]));
    (begin, begin + number(event.at(&["dur"])))
}

#[test]
fn a_trace_has_what_happened_and_its_numbers_are_those_of_the_reactor() {
    let mut rig = Rig::new();
    let name = rig.echo;
    rig.recorder().name(name, "echo");
    let mut client = rig.client();
    for _ in 0..10 {
        rig.echo(&mut client, b"hello");
    }
    drop(client);
    rig.until("closed", |rig| rig.reactor.stats().closed == 1);
    let stats = rig.reactor.stats();
    let trace = Json::parse(&rig.recorder().recording(PATIENCE).to_trace());
    let count = |kind, name| events(&trace, kind, name).len();
    assert_eq!(count("X", "echo on_data"), 10);
    assert_eq!(count("X", "turn") as u64, stats.turns);
    assert_eq!([count("X", "echo on_open"), count("X", "echo on_close")], [1, 1]);
    assert_eq!([count("i", "accepted"), count("i", "opened")], [1, 1]);
    assert_eq!(count("i", "closed by the peer"), 1);
    let sum = |name| -> f64 {
        events(&trace, "i", name).iter().map(|it| number(it.at(&["args", "bytes"]))).sum()
    };
    assert_eq!(sum("read") as u64, stats.bytes_read);
    assert_eq!(sum("written") as u64, stats.bytes_written);
}

#[test]
fn callbacks_lie_in_phases_and_phases_in_turns() {
    let mut rig = Rig::new();
    let mut client = rig.client();
    rig.echo(&mut client, b"hello");
    let trace = Json::parse(&rig.recorder().recording(PATIENCE).to_trace());
    let spans = |name| -> Vec<_> { events(&trace, "X", name).into_iter().map(span).collect() };
    let (turns, phases) = (spans("turn"), spans("events"));
    let callbacks = spans("http::inspect::rig::Echo on_data");
    assert_eq!(callbacks.len(), 1, "the type is the name");
    // The last digit is a nanosecond.
    let lies_in = |inner: &(f64, f64), outer: &(f64, f64)| {
        outer.0 <= inner.0 + 0.001 && inner.1 <= outer.1 + 0.001
    };
    assert!(callbacks.iter().all(|it| phases.iter().any(|phase| lies_in(it, phase))));
    assert!(phases.iter().all(|it| turns.iter().any(|turn| lies_in(it, turn))));
}

#[test]
fn no_name_ends_its_text() {
    let mut rig = Rig::new();
    let echo = rig.echo;
    rig.recorder().name(echo, "</script>\"\\\n");
    let mut client = rig.client();
    rig.echo(&mut client, b"m");
    let text = rig.recorder().recording(PATIENCE).to_trace();
    assert!(!text.contains("</script"), "{text}");
    let trace = Json::parse(&text);
    assert_eq!(events(&trace, "i", "a \"mark\"</script>").len(), 1);
    assert_eq!(events(&trace, "X", "</script>\"\\\n on_data").len(), 1);
}

#[test]
fn memory_is_bounded_and_the_last_records_are_kept() {
    let mut rig = Rig::with(Recorder::with_options(RecorderOptions::default().records(64)));
    let mut client = rig.client();
    for _ in 0..100 {
        rig.echo(&mut client, b"hello");
    }
    let recording = rig.recorder().recording(PATIENCE);
    assert_eq!(recording.len(), 64);
    let trace = Json::parse(&recording.to_trace());
    assert!(events(&trace, "i", "accepted").is_empty());
    assert!(!events(&trace, "i", "written").is_empty());
}

#[test]
fn a_recording_goes_back_no_further_than_asked() {
    let mut rig = Rig::new();
    let mut client = rig.client();
    rig.echo(&mut client, b"before");
    rig.echo(&mut client, b"stall");
    let all = rig.recorder().recording(PATIENCE);
    let last = rig.recorder().recording(STALL / 2);
    assert!(!last.is_empty() && last.len() < all.len());
    let trace = Json::parse(&last.to_trace());
    assert!(events(&trace, "i", "accepted").is_empty());
    assert_eq!(events(&trace, "X", "http::inspect::rig::Echo on_data").len(), 1, "the stall");
}

#[test]
fn another_thread_takes_a_recording() {
    let mut rig = Rig::new();
    let mut client = rig.client();
    rig.echo(&mut client, b"hello");
    let (remote, echo, recorder) = (rig.reactor.remote(), rig.echo, rig.recorder);
    let (sender, receiver) = mpsc::channel::<Recording>();
    let asker = thread::spawn(move || {
        let take = move |_: &mut Echo, cx: &mut waterwheel::Context<'_>| {
            let recorder = cx.observer(recorder).expect("it is of this reactor");
            let _ = sender.send(recorder.recording(PATIENCE));
        };
        remote.with(echo, take).unwrap();
        let recording = receiver.recv_timeout(PATIENCE).unwrap();
        let mut bytes = Vec::new();
        recording.write_trace(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), recording.to_trace());
        recording.len()
    });
    rig.until("taken", |_| asker.is_finished());
    assert!(asker.join().unwrap() > 0);
}

#[test]
fn a_slow_callback_hands_over_what_came_before_it() {
    let (sender, receiver) = mpsc::channel();
    let recorder = Recorder::new().on_slow(move |recording| sender.send(recording).unwrap());
    let mut rig = Rig::with(recorder);
    let mut client = rig.client();
    rig.echo(&mut client, b"before");
    assert!(receiver.try_recv().is_err());
    for _ in 0..3 {
        rig.echo(&mut client, b"stall");
    }
    let trace = Json::parse(&receiver.try_recv().unwrap().to_trace());
    let callbacks = events(&trace, "X", "http::inspect::rig::Echo on_data");
    let lengths: Vec<f64> = callbacks.iter().map(|it| span(it).1 - span(it).0).collect();
    assert_eq!(lengths.len(), 2);
    assert!(lengths[0] < 20_000.0 && lengths[1] >= STALL.as_micros() as f64, "{lengths:?}");
    assert!(receiver.try_recv().is_err(), "once a second");
}

#[test]
fn a_panic_hands_over_what_came_before_it() {
    let (sender, receiver) = mpsc::channel();
    let recorder = Recorder::new().on_panic(move |recording| sender.send(recording).unwrap());
    let mut rig = Rig::with(recorder);
    let mut client = rig.client();
    rig.echo(&mut client, b"before");
    rig.tell(&mut client, b"!");
    rig.until("the end", |rig| rig.reactor.stats().closed == 1);
    let trace = Json::parse(&receiver.try_recv().unwrap().to_trace());
    assert_eq!(events(&trace, "i", "panic").len(), 1);
    assert_eq!(events(&trace, "X", "http::inspect::rig::Echo on_data").len(), 1);
    let warning = &rig.recorder().warnings()[0];
    assert!(warning.text.ends_with("a callback panicked: on purpose"), "{warning}");
}

#[test]
fn an_ignored_handler_leaves_no_trace() {
    let mut rig = Rig::new();
    let echo = rig.echo;
    rig.recorder().ignore(echo);
    let mut client = rig.client();
    for _ in 0..10 {
        rig.echo(&mut client, b"hello");
    }
    rig.echo(&mut client, b"stall");
    drop(client);
    rig.until("closed", |rig| rig.reactor.stats().closed == 1);
    let trace = Json::parse(&rig.recorder().recording(PATIENCE).to_trace());
    for name in ["read", "written", "accepted", "opened", "closed by the peer"] {
        assert!(events(&trace, "i", name).is_empty(), "{name}");
    }
    for event in events(&trace, "X", "turn") {
        let (begin, end) = span(event);
        assert!(end - begin < STALL.as_micros() as f64, "a turn of the ignored is none");
    }
    assert!(rig.recorder().warnings().is_empty());
    let timer = Duration::from_millis(1);
    rig.reactor.set_timer(rig.echo, timer, 0);
    let fired = rig.reactor.stats().timers_fired;
    rig.until("it fires", |rig| rig.reactor.stats().timers_fired > fired);
    let trace = Json::parse(&rig.recorder().recording(PATIENCE).to_trace());
    assert!(events(&trace, "i", "timer fired").is_empty());
}
