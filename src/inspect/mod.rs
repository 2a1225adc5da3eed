//! Watching the loop: a recorder, warnings, and a page that shows the loop as it turns.
//!
//! [`Recorder`] is an [`Observer`](crate::observer::Observer). It keeps the last things that
//! happened in a ring of memory, sums, and warnings of what the author of a server should know.
//!
//! [`serve`] adds the page, in one line: an HTTP server on loopback that shows phases, connections,
//! handlers, histograms and warnings while the loop runs.
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
//! Counted for an echo of 64 bytes, one message a turn:
//!
//! | | instructions a message |
//! |---|---|
//! | without the feature; with it and without a recorder | 687 |
//! | with an observer that does nothing | 1,812 |
//! | with a recorder | 2,400 |
//!
//! The kernel's part of a message is many times as large. With 50 connections the thread of the
//! loop takes about a twentieth more time with a recorder. The system calls are the same.

mod conns;
mod descriptors;
mod guard;
mod json;
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
