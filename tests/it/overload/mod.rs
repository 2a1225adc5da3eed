//! Too many, too much or too slow: what a server takes, what it refuses, and who pays for it.

mod accept_storm;
mod attackers;
mod bounded_turns;
mod capacity;
mod fairness;
mod no_room;
mod queued_bytes;
mod rates;
mod waiting;
