//! A simulated world in which handlers are tested: the same reactor runs in virtual time, and a
//! seed decides which faults of the real world happen.
//!
//! A [`Simulation`] has one or more reactors and scripted peers in one world and one thread. The
//! seed decides everything that is left to chance in the real world: how long a segment takes, how
//! many bytes a read returns, which call is interrupted, when a machine is cut off. So the same
//! seed gives the same run on every machine, and a failure can be repeated with its seed. Nothing
//! sleeps, and no real socket is opened: an hour of idle timers takes milliseconds. Unix sockets
//! do not exist in it (an error of kind `Unsupported`). Files are the real ones. The jobs of an
//! [`Offload`](crate::offload::Offload) run on the loop, after a time that the seed decides.
//!
//! Every run also checks the crate's own guarantees. Callbacks come in their order. Each byte is
//! delivered once and in order. A stream that was cut ends with a reset. Idle limits are neither
//! early nor late. No readiness is lost, the loop does not spin, and nothing is left behind at the
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
//! A failure prints its seed, and a command that runs this seed again, with its trace:
//! ```text
//! seed 417 failed: assertion `left == right` failed
//! run it alone, with its trace:
//! WATERWHEEL_SEED=417 cargo test lines_are_answered -- --exact --nocapture
//! ```
//!
//! With `SIM_PAGE=run.html` in front, the command also writes a page. In a browser it steps through
//! the run, forwards and backwards, with the packets and the state of the loop at each step.
//!
//! For a peer whose steps depend on what it receives, such as one that confirms each message by its
//! number, use [`Script::react`].
//!
//! # What to assert
//! With [`Faults::harmless`] nothing is lost and nothing takes seconds: after a minute a peer has
//! received exactly what was to be sent. With [`Faults::all`] connections break, so a peer may have
//! received only the first part. All of it must be there if the peer has seen a clean end
//! ([`PeerEnd::Finished`]). Clocks jump and processes stand still, so idle limits and timeouts also
//! end healthy connections.
//!
//! For a test of several hosts, or of other threads, the closure returns what the test needs later:
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
