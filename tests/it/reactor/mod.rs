//! The loop itself: calls from other threads, panics in callbacks, and its end.

mod observer;
mod panic;
mod regressions;
mod remote;
mod stop;
mod turn_times;
