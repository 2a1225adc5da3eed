//! One connection: its bytes, its clocks, and its end.

mod backpressure;
mod close;
mod deadline;
mod given_back;
mod grammar;
mod half_close;
#[cfg(feature = "sim")]
mod hostile_layers;
mod idle;
#[cfg(feature = "sim")]
mod layers;
mod pass_on;
mod pause;
mod requests;
mod reset;
mod send_file;
#[cfg(target_os = "linux")]
mod slow_readers;
mod timers;
mod unconsumed_input;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod urgent;
