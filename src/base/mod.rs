//! Pure parts: they do no I/O and know no loop.

pub(crate) mod addr;
pub(crate) mod buffer;
mod chunks;
pub(crate) mod close;
pub mod frame;
pub(crate) mod histogram;
pub(crate) mod id;
#[cfg(any(feature = "inspect", feature = "sim"))]
pub(crate) mod json;
pub(crate) mod memory;
pub(crate) mod panics;
#[cfg(feature = "proxy-protocol")]
pub(crate) mod proxy_protocol;
pub(crate) mod stats;
pub(crate) mod tcp_info;
pub(crate) mod tick;
pub mod wheel;
