//! Watching the loop: a recorder, warnings, and a page that shows the loop as it turns.
//!
//! [`Recorder`] is an [`Observer`](crate::observer::Observer). It keeps the latest records in a
//! ring buffer, counts and sums, and warnings for the author of the server.
//!
//! [`serve`] adds the page, in one line: an HTTP server on loopback that shows phases, connections,
//! handlers, histograms and warnings while the loop runs. Its lanes show up to forty connections
//! one by one: the state of TCP, the callbacks of the last seconds, and why the connection ended.
//!
//! # Getting at a recording
//! | when | how |
//! |---|---|
//! | on demand | [`Reactor::observer_mut`](crate::Reactor::observer_mut), [`Recorder::recording`] |
//! | from a callback | [`Context::observer`](crate::Context::observer) with the key |
//! | from another thread | the same, in a closure of [`Remote::with`](crate::Remote::with) |
//! | after a slow callback | [`Recorder::on_slow`] |
//! | after a panic | [`Recorder::on_panic`] |
//!
//! # Examples
//! What came before a stall, in files that Perfetto and speedscope open:
//! ```
//! use std::{fs::File, io::BufWriter, thread};
//! use waterwheel::{Reactor, inspect::Recorder};
//!
//! let mut stalls = 0;
//! let recorder = Recorder::new().on_slow(move |recording| {
//!     stalls += 1;
//!     let path = format!("stall-{stalls}.json");
//!     thread::spawn(move || recording.write_trace(&mut BufWriter::new(File::create(path)?)));
//! });
//! let mut reactor = Reactor::new()?;
//! reactor.observe(recorder);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Cost
//! Counted for an echo of 64 bytes with 50 connections, without the kernel:
//!
//! | | instructions a message |
//! |---|---|
//! | without the feature; with it and without a recorder | 180 |
//! | with a recorder, without its readings of the clock | 295 |
//! | with a recorder | 390 |
//!
//! The kernel needs many times as many instructions for a message. So a recorder makes the thread
//! of the loop slower by less than a twentieth. The system calls are the same.
//!
//! # Stalls
//! A callback that took too long causes a warning on the page and in the log, with its handler and
//! its connection. [`Stats::turn_times`](crate::Stats::turn_times) and
//! [`Stats::callback_times`](crate::Stats::callback_times) count turns and callbacks by their
//! length. The page also shows the longest turn since its last update, and the longest that each
//! queue has been.

mod conns;
mod descriptors;
mod guard;
mod lanes;
mod options;
mod record;
mod recorder;
mod serve;
mod tally;
mod trace;
mod view;
mod warning;

pub use options::RecorderOptions;
pub use recorder::Recorder;
pub use serve::{Page, serve, serve_recorder};
pub use trace::Recording;
pub use warning::{Warning, WarningKind};
