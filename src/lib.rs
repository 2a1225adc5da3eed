//! A callback-style network runtime: one thread, one poll, a slab and a timer wheel.
pub mod frame;
mod id;
pub mod wheel;

pub use id::{ConnId, TimerId};
