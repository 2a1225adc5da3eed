//! Copies of this test program that play a part in a test: a server or a crowd of clients in a
//! process of its own, told things a line each by who leads it.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use rustix::process::{Signal, set_parent_process_death_signal};
use waterwheel::{Context, Handler, HandlerKey, Reactor};

/// Names the part that a copy plays.
const PART: &str = "WATERWHEEL_FAULTS_PLAYS";

/// For the environment of a program whose memory is measured: what the C library's allocator keeps
/// of the memory that is freed follows chance. With this it maps what is a page or more, and gives
/// back what it can, so that what is resident is what is held.
pub(crate) const PAGEWISE: [(&str, &str); 2] =
    [("MALLOC_MMAP_THRESHOLD_", "4096"), ("MALLOC_TRIM_THRESHOLD_", "0")];

/// A copy of this program that runs one test only, which is there to be the part: it finds that it
/// [`plays`].
pub(crate) fn copy_of_us(test: &str) -> Command {
    copy_as(test, test)
}

/// A copy that runs a test which has several parts, and looks which [`part`] is its own.
pub(crate) fn copy_as(test: &str, part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args([test, "--exact", "--include-ignored", "--nocapture"]).env(PART, part);
    command
}

/// Whether this process is a copy that is to play the part of this test.
pub(crate) fn plays(test: &str) -> bool {
    part().is_some_and(|part| part == test)
}

/// The part that this process plays, if it is a copy; `None` for the one that leads. A copy ends
/// with the one that started it, however that ends.
pub(crate) fn part() -> Option<String> {
    let part = std::env::var(PART).ok()?;
    set_parent_process_death_signal(Some(Signal::KILL)).expect("a signal");
    Some(part)
}

/// The orders of a server: every line that this process is told goes to a handler, and with the
/// last the reactor stops.
pub(crate) fn obey<H: Handler>(
    reactor: &Reactor,
    service: HandlerKey<H>,
    act: fn(&mut H, &str, &mut Context<'_>),
) {
    let remote = reactor.remote();
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if remote.with(service, move |handler, cx| act(handler, &line, cx)).is_err() {
                return;
            }
        }
        let _ = remote.stop(); // it may have stopped by itself
    });
}

/// The first order of a crowd: how many are to come, and the addresses of the doors.
pub(crate) fn parse_crowd(line: &str) -> (usize, Vec<SocketAddr>) {
    let mut words = line.split_whitespace();
    let count = words.next().and_then(|word| word.parse().ok()).expect("a number");
    (count, words.map(|word| word.parse().expect("an address")).collect())
}
