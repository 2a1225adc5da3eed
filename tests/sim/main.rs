//! The reactor in simulated worlds, by seeds.

mod cascades;
mod datagram_peers;
mod datagrams;
mod given_back;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod http_client;
#[cfg(feature = "http")]
mod http_rates;
#[allow(dead_code)] // Others use more of it.
#[path = "../../src/tests/fuzzing/input.rs"]
mod input;
#[cfg(feature = "http")]
mod log_http;
#[path = "../support/logged.rs"]
mod logged;
mod long_turns;
#[cfg(feature = "http")]
mod long_turns_http;
mod long_turns_pool;
mod offload;
mod pauses;
mod pool;
mod program;
mod rates;
mod reactions;
mod reconnect;
mod refusal;
mod replay;
mod requests;
#[path = "../support/scratch.rs"]
mod scratch;
mod seeds;
mod simulation;
mod slow_files;
mod world;
#[cfg(all(feature = "http", feature = "ws"))]
mod ws;
#[cfg(all(feature = "http", feature = "ws"))]
mod ws_lost;
#[cfg(all(feature = "http", feature = "ws"))]
mod ws_rates;
