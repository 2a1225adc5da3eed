//! A guide to the loop: how it works, with the code beside it.
//!
//! | chapter | what it shows |
//! |---|---|
//! | [`journey`] | one byte, from the event to the handler and back |
//! | [`edges`] | why a loop needs a ready queue |
//! | [`wheel`] | timers, and idle limits that cost a message nothing |
//! | [`backpressure`] | slow readers, marks and caps |
//! | [`tcp`](crate::tcp) | the states of a connection, and what governs them |
//! | [`simulation`] | a world that a seed decides, and how to step through it |
//!
//! Each chapter ends with a scene: a recorded run of the simulated world on a page, on which it is
//! stepped forwards and backwards. `cargo run --release -p simulate -- --scenes` lists them all.
//! A test compares the code of the chapters with the files that it is from.

pub(crate) mod tcp;
pub mod tour;

#[doc = include_str!("journey.md")]
pub mod journey {}

#[doc = include_str!("edges.md")]
pub mod edges {}

#[doc = include_str!("wheel.md")]
pub mod wheel {}

#[doc = include_str!("backpressure.md")]
pub mod backpressure {}

#[doc = include_str!("simulation.md")]
pub mod simulation {}
