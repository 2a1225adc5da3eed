//! What the simulated world tells of itself: seeds that fail, peers that wait in vain, reports.

use std::cell::Cell;
use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::panic::panic_any;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use waterwheel::sim::{Fault, Faults, PeerEnd, Report, Script, Seeds, Simulation};
use waterwheel::{Conn, ListenOptions};

const MILLISECOND: Duration = Duration::from_millis(1);

/// A server that sends back what comes in.
fn echo(sim: &mut Simulation) -> io::Result<SocketAddr> {
    let (_, addr) = sim.host("server", |reactor| {
        let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
            conn.write(input);
            input.len()
        });
        reactor.listen("0.0.0.0:7000", echo, ListenOptions::default())
    })?;
    Ok(addr)
}

/// An exchange that goes well.
fn hello(sim: &mut Simulation) -> io::Result<()> {
    let addr = echo(sim)?;
    let peer = sim.peer(addr, Script::new().send("hello").read(5).finish().read_to_end());
    sim.run(Duration::from_secs(60));
    assert_eq!(sim.received(peer), b"hello");
    Ok(())
}

fn calm(count: u64) -> Seeds {
    Seeds::new(count).faults(Faults::none())
}

/// The text of a failure.
#[track_caller]
fn failure(seeds: &Seeds, test: impl Fn(&mut Simulation) -> io::Result<()>) -> String {
    seeds.try_run(test, |_| true).expect_err("a seed fails")
}

#[test]
fn a_failure_tells_the_seed_its_trace_and_how_to_run_it_again() {
    let text = failure(&calm(9), |sim| {
        hello(sim)?;
        assert_ne!(sim.seed(), 3, "three is too many");
        Ok(())
    });
    assert!(text.contains("seed 3 failed: ") && text.contains("three is too many"), "{text}");
    assert!(text.contains("the end of its trace:\n") && text.contains("on_data c0 5"), "{text}");
    let again = "WATERWHEEL_SEED=3 cargo test seeds::\
                 a_failure_tells_the_seed_its_trace_and_how_to_run_it_again -- --exact --nocapture";
    assert!(text.ends_with(again), "{text}");
}

#[test]
#[should_panic(expected = "seed 2 failed: ")]
fn a_failure_panics() {
    calm(5).run(|sim| {
        assert_ne!(sim.seed(), 2);
        Ok(())
    });
}

#[test]
fn an_error_is_a_failure() {
    let text = failure(&calm(5).from(40), |_| Err(io::Error::other("no such thing")));
    assert!(text.starts_with("seed 40 failed: no such thing\n"), "{text}");
}

#[test]
fn a_panic_without_words_is_a_failure() {
    let text = failure(&calm(1), |_| panic_any(7));
    assert!(text.starts_with("seed 0 failed: it panicked\n"), "{text}");
}

#[test]
fn a_failure_that_does_not_come_again_is_told_as_such() {
    let is_first = Cell::new(true);
    let text = failure(&calm(1), |_| {
        assert!(!is_first.replace(false), "only once");
        Ok(())
    });
    assert!(text.contains("only once (and it passed when it was run again"), "{text}");
}

#[test]
fn seeds_go_on_as_long_as_they_are_asked_to() {
    let report = calm(100).from(7).try_run(hello, |report| report.runs < 4).unwrap();
    assert_eq!(report.runs, 4);
    assert!(report.turns > 0 && report.system_calls > report.turns);
}

#[test]
fn reports_are_added_up() {
    let one = Seeds::new(20).faults(Faults::harmless()).run(hello);
    let other = Seeds::new(10).from(20).faults(Faults::harmless()).run(hello);
    let mut both = Report::default();
    both.merge(&one);
    both.merge(&other);
    assert_eq!(both.runs, 30);
    assert_eq!(both.virtual_time, one.virtual_time + other.virtual_time);
    assert_eq!(both.notes, one.notes + other.notes);
    assert_eq!(both.system_calls, one.system_calls + other.system_calls);
    assert_eq!(both.turns, one.turns + other.turns);
    for (fault, sum) in both.struck.iter().enumerate() {
        assert_eq!(*sum, one.struck[fault] + other.struck[fault]);
    }
    let landmarks = both.landmarks;
    let missing = landmarks.missing().len();
    assert!(landmarks.reached() > 0 && missing > 0);
    assert_eq!(landmarks.reached() + missing, landmarks.total());
    let text = format!("{} of {}", landmarks.reached(), landmarks.total());
    assert_eq!(landmarks.to_string(), text);
}

#[test]
fn a_peer_that_waits_in_vain_is_a_failure_unless_it_may() {
    let waits = |script: &Script, may: bool| {
        calm(1).try_run(
            |sim| {
                let addr = echo(sim)?;
                sim.peer(addr, script.clone());
                if may {
                    sim.allow_unfinished();
                }
                Ok(())
            },
            |_| true,
        )
    };
    let script = Script::new().send("hi").read(5);
    let text = waits(&script, false).unwrap_err();
    assert!(text.contains("peer 0 waits in vain: socket s"), "{text}");
    assert!(text.contains("2 bytes received, Read(5)"), "{text}");
    assert_eq!(waits(&script, true).unwrap().runs, 1);
}

#[test]
fn a_peer_dribbles_its_bytes_with_a_pause_before_each() {
    let mut sim = Simulation::new(1, Faults::none());
    let addr = echo(&mut sim).unwrap();
    let script = Script::new().dribble("drops", 10 * MILLISECOND).finish().read_to_end();
    assert_eq!((script.len(), script.is_empty()), (3, false));
    assert!(Script::new().is_empty());
    let peer = sim.peer(addr, script);
    sim.run(45 * MILLISECOND);
    let some = sim.received(peer).len();
    assert!((1..5).contains(&some), "{some} bytes after 45 ms");
    sim.run(Duration::from_secs(60));
    assert_eq!(sim.received(peer), b"drops");
    assert_eq!(sim.end_of(peer), PeerEnd::Finished);
    assert!(!sim.was_hurt(peer));
    assert_eq!(format!("{sim:?}"), "Simulation { seed: 1, .. }");
    sim.finish();
}

#[test]
fn a_fault_may_be_left_out() {
    for fault in Fault::ALL {
        assert!(Faults::all().allows(fault));
        let without = Faults::all().without(fault);
        assert!(!without.allows(fault), "{fault}");
        assert_eq!(without.with(fault), Faults::all());
    }
}

/// Nobody runs the seed 7 here but who asks for it by name.
#[test]
fn seven_alone_fails() {
    calm(5).run(|sim| {
        hello(sim)?;
        assert_ne!(sim.seed(), 7, "seven is odd");
        Ok(())
    });
}

/// Runs that test again in a process of its own, under one seed, with a page if one is named.
fn run_alone(seed: u64, page: Option<&Path>) -> (Output, String) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "seeds::seven_alone_fails", "--nocapture"]);
    command.env("WATERWHEEL_SEED", seed.to_string()).env_remove("SIM_PAGE");
    if let Some(page) = page {
        command.env("SIM_PAGE", page);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

#[test]
fn a_seed_is_run_alone_with_its_trace() {
    let (output, text) = run_alone(6, None);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("seed 6 passes") && text.contains("on_data c0 5"), "{text}");
    let (output, text) = run_alone(7, None);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("on_data c0 5"), "its trace: {text}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("seed 7 failed: ") && errors.contains("seven is odd"), "{errors}");
}

#[test]
fn a_failure_has_a_page_if_one_is_asked_for() {
    let path = env::temp_dir().join(format!("waterwheel-{}-failure.html", std::process::id()));
    let (output, text) = run_alone(7, Some(&path));
    assert!(!output.status.success(), "{text}");
    assert!(text.contains(&format!("step through it: {}", path.display())), "{text}");
    let page = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(page.contains("seven is odd") && page.contains("on_data c0, 5 bytes"), "{page}");

    let nowhere = path.join("page.html");
    let (_, text) = run_alone(7, Some(&nowhere));
    assert!(text.contains("cannot write the page"), "{text}");
}
