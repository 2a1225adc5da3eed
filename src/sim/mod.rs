//! A simulated world, to test handlers in: the same reactor, in virtual time, with every fault of
//! the real world, by a seed.
//!
//! A [`Simulation`] has one or more reactors and scripted peers in one world and one thread. The
//! seed decides everything that the real world leaves open: how long a segment takes, how much a
//! read gives, which call is interrupted, when a machine is cut off. So the same seed gives the
//! same run, on every machine, and a failure is replayed with its seed. Nothing sleeps, and no
//! real socket is opened: an hour of idle timers takes milliseconds.
//!
//! While a run goes on, the rules that this crate promises are watched: the order of callbacks,
//! every byte delivered once and in order, a reset where a connection was cut and not ended, idle
//! limits neither early nor late, no readiness lost, no spinning, and nothing left behind at the
//! end.
//!
//! # Examples
//! A handler that answers each line in capitals, under a thousand seeds, in an ordinary test:
//! ```
//! use std::time::Duration;
//! use waterwheel::{Conn, Handler, ListenOptions, Peer, frame};
//! use waterwheel::sim::{Faults, Script, Seeds};
//!
//! struct Capitals;
//!
//! impl Handler for Capitals {
//!     type State = ();
//!
//!     fn on_accept(&mut self, _: &Peer) -> Option<()> {
//!         Some(())
//!     }
//!
//!     fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
//!         let mut lines = frame::lines(input, 80);
//!         for line in lines.by_ref() {
//!             match line {
//!                 Ok(line) => {
//!                     conn.write(&line.to_ascii_uppercase());
//!                     conn.write(b"\n");
//!                 }
//!                 Err(_) => conn.close(), // too long
//!             }
//!         }
//!         lines.consumed()
//!     }
//! }
//!
//! Seeds::new(1_000).faults(Faults::harmless()).run(|sim| {
//!     let (_server, addr) = sim.host("server", |reactor| {
//!         let capitals = reactor.register(Capitals);
//!         reactor.listen("0.0.0.0:7000", capitals, ListenOptions::default())
//!     })?;
//!     let script = Script::new().send("hello\nwor").wait(Duration::from_millis(5)).send("ld\n");
//!     let peer = sim.peer(addr, script.read(12).finish().read_to_end());
//!     sim.run(Duration::from_secs(60));
//!     assert_eq!(sim.received(peer), b"HELLO\nWORLD\n");
//!     Ok(())
//! });
//! ```
//! A failure says which seed it was, and the line that runs that one again, with its trace:
//! ```text
//! seed 417 failed: assertion `left == right` failed
//! run it alone, with its trace:
//! WATERWHEEL_SEED=417 cargo test lines_are_answered -- --exact --nocapture
//! ```
//!
//! With `SIM_PAGE=run.html` before it, that line writes a page on which the run is stepped through
//! in a browser, forwards and backwards, with the packets and the state of the loop at each step.
//!
//! A peer whose steps depend on what it is sent, such as one that confirms each message by its
//! number, [reacts](Script::react).
//!
//! # What to assert
//! Under [`Faults::harmless`] nothing is lost and nothing takes seconds: what a peer has received
//! after a minute is exactly what was to be sent. Under [`Faults::all`] connections break, so it is
//! the beginning of that, and all of it only if the peer has seen a clean end
//! ([`PeerEnd::Finished`]); clocks jump and processes stand still, so that idle limits and timeouts
//! strike connections that are healthy.
//!
//! A test of several hosts, or of other threads, has its closure give what it needs later:
//! ```
//! use std::time::Duration;
//! use waterwheel::{Conn, ListenOptions};
//! use waterwheel::sim::{Faults, Script, Simulation};
//!
//! let mut sim = Simulation::new(1, Faults::none());
//! let (host, (addr, remote)) = sim.host("server", |reactor| {
//!     let service = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
//!     let addr = reactor.listen("0.0.0.0:7000", service, ListenOptions::default())?;
//!     Ok((addr, reactor.remote()))
//! })?;
//! sim.peer(addr, Script::new().read_to_end());
//! sim.call_after(Duration::from_secs(5), move || remote.stop().expect("it runs"));
//! sim.run(Duration::from_secs(60));
//! assert_eq!(sim.with(host, |reactor| reactor.stats().accepted), 1);
//! # Ok::<(), std::io::Error>(())
//! ```

mod coverage;
mod layer;
mod replay;
mod seeds;
mod simulation;
mod watcher;

pub use coverage::Landmarks;
pub use layer::TestLayer;
pub use replay::{Replay, Tour};
pub use seeds::{Report, Seeds};
pub use simulation::{Dice, HostClock, HostId, PeerId, Simulation};

pub use crate::sys::sim::{Datagrams, Fault, Faults, PeerEnd, Reaction, Script};
