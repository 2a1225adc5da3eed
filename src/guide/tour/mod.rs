//! Chapters for those who write with this crate: from what you know to what you need here.
//!
//! | chapter | the question that it answers |
//! |---|---|
//! | [`coming_from`] | I know tokio, Go, Node or libuv: how do I write this here? |
//! | [`limits`] | My connection ended: which limit was it, and what did the peer see? |
//! | [`doors`] | `post`, `with`, `Remote`, `Sender`: which one reaches what I want to reach? |
//! | [`choosing`] | What do I set for storms of connects, for latency, for a million idle? |
//! | `web` (features `http`, `ws`) | What is a web server made of, up to a WebSocket? |
//! | [`simulated`] | How do I test a handler against faults that I cannot cause? |
//!
//! The items themselves are documented where they are; begin with [`Handler`](crate::Handler).

#[doc = include_str!("coming_from.md")]
pub mod coming_from {}

#[doc = include_str!("limits.md")]
pub mod limits {}

#[doc = include_str!("doors.md")]
pub mod doors {}

#[doc = include_str!("choosing.md")]
pub mod choosing {}

#[doc = include_str!("simulated.md")]
pub mod simulated {}

#[cfg(all(feature = "http", feature = "ws"))]
#[doc = include_str!("web.md")]
pub mod web {}
