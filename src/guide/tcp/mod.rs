//! The chapters of [`tcp`](crate::tcp), which begins with `states.md`.

#[doc = include_str!("handshake.md")]
pub mod handshake {}

#[doc = include_str!("queues.md")]
pub mod queues {}

#[doc = include_str!("closing.md")]
pub mod closing {}

#[doc = include_str!("ports.md")]
pub mod ports {}

#[doc = include_str!("files.md")]
pub mod files {}
