//! A message to all members of a room: what it costs beside a loop that sends ready frames, and
//! what members that never read do to the others.
//!
//! ```text
//! cargo run --release -p waterwheel-benches --bin publish
//! cargo run --release -p waterwheel-benches --bin publish -- --members 1000 --rounds 31
//! ```
//! The first table: 64 bytes to 10,000 members, by `Room::publish` and by a loop over mio that
//! writes the same 66 bytes to the same number of sockets. Each server is a process of its own, and
//! so are its members, because a process may have 20,000 open files on many systems. A round is a
//! batch of publishes by one server and then by the other; the table has the medians, and that of
//! the ratios of the rounds. Processor time is the server's own, from Linux's
//! `/proc/thread-self/schedstat`.
//!
//! The second: 1,000 members, the next message as soon as one of them has got the last but four;
//! without members that never read, and with 100 of them. The time is from `publish` to the member.

#[cfg(target_os = "linux")]
mod children;
#[cfg(target_os = "linux")]
mod cost;
#[cfg(target_os = "linux")]
mod members;
#[cfg(target_os = "linux")]
mod raw;
#[cfg(target_os = "linux")]
mod room;
#[cfg(target_os = "linux")]
mod slow;

const USAGE: &str = "usage: publish [--members N] [--rounds N] [--seconds S]";

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use lexopt::prelude::*;
    let (mut members, mut rounds, mut seconds) = (10_000, 15, 5.0);
    let (mut role, mut values) = (None, Vec::new());
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("members") => members = parser.value()?.parse()?,
            Long("rounds") => rounds = parser.value()?.parse()?,
            Long("seconds") => seconds = parser.value()?.parse()?,
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(());
            }
            // What the processes are started with that this one starts.
            Value(text) if role.is_none() => role = Some(text.string()?),
            Value(text) => values.push(text.string()?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    waterwheel::raise_open_file_limit()?;
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    match (role.as_deref(), &values[..]) {
        (None, []) => {
            cost::compare(members, rounds)?;
            slow::compare(seconds)
        }
        (Some("raw"), [count]) => raw::serve(count.parse()?),
        (Some("room"), [count]) => room::serve(count.parse()?),
        (Some("feed"), []) => slow::feed(),
        (Some("members"), [addr, count]) => members::run(addr.parse()?, count.parse()?, None),
        (Some("members"), [addr, count, sleepers]) => {
            members::run(addr.parse()?, count.parse()?, Some(sleepers.parse()?))
        }
        _ => Err(USAGE.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("{USAGE}\npublish: it reads processor times from Linux's /proc, which is not here");
}
