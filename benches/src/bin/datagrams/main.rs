//! Datagrams in numbers: how late a timer is beside a flood, and what a bulk transfer costs.
//!
//! ```text
//! cargo run --release -p waterwheel-benches --bin datagrams
//! cargo run --release -p waterwheel-benches --bin datagrams -- --rounds 5 --seconds 4
//! ```
//! The first table: an echo server on a thread and processor of its own gets 64 bytes at a time,
//! as fast as another thread can send them, and has a timer of 10 ms beside that. The line `quiet`
//! is the same without the flood: what the machine adds by itself.
//!
//! The second: one sender, one receiver, 1,200 bytes at a time. Of what is sent faster than it is
//! received the kernel drops what it has no room for, so that the receiver is charged for what it
//! got. Processor time is each thread's own, from Linux's `/proc/thread-self/schedstat`.
//!
//! All modes run in each round, one after the other.

#[cfg(target_os = "linux")]
mod bulk;
#[cfg(target_os = "linux")]
mod flood;
#[cfg(target_os = "linux")]
mod thread;

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use lexopt::prelude::*;
    let (mut rounds, mut seconds) = (3, 3.0);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => rounds = parser.value()?.parse()?,
            Long("seconds") => seconds = parser.value()?.parse()?,
            Long("help") | Short('h') => {
                println!("usage: datagrams [--rounds N] [--seconds S]");
                return Ok(());
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let length = std::time::Duration::try_from_secs_f64(seconds)?;
    flood::compare(rounds, length)?;
    bulk::compare(rounds, length)
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("datagrams: it reads processor times from Linux's /proc, and this is another system");
}
