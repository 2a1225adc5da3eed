//! One sender, one channel of 1,024, as fast as it goes.

use std::time::Duration;

use crate::{median, on_tokio, on_waterwheel, ratio};

/// Messages that a channel holds.
pub(crate) const CAPACITY: usize = 1_024;

/// Sends so many messages, and gives the time until the last was handed over.
type Side = fn(u64) -> Duration;

/// tokio is the reference, and comes first.
const SIDES: [(&str, Side); 3] = [
    ("tokio", |messages| on_tokio::flood(messages, true)),
    ("tokio without I/O", |messages| on_tokio::flood(messages, false)),
    ("waterwheel", on_waterwheel::flood),
];

pub(crate) fn compare(rounds: usize, messages: u64) -> String {
    let mut rates = SIDES.map(|_| Vec::new());
    for round in 0..rounds {
        for turn in 0..SIDES.len() {
            let at = (round + turn) % SIDES.len();
            let elapsed = SIDES[at].1(messages);
            rates[at].push(messages as f64 / elapsed.as_secs_f64() / 1e6);
        }
    }
    let mut text = format!(
        "One sender, bounded {CAPACITY}, {messages} messages a round, rounds: {rounds}.\n\n\
         | side | million messages/s | ratio |\n|---|--:|--:|\n"
    );
    for ((name, _), own) in SIDES.iter().zip(&rates) {
        let ratio = ratio(own, &rates[0]);
        text += &format!("| {name} | {:.1} | {ratio} |\n", median(own.clone()));
    }
    text
}
