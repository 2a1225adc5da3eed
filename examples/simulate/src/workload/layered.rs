//! Hosts behind a layer: the bytes of their peers pass through it, or should.

use std::io;
use std::time::Duration;

use waterwheel::ListenOptions;
use waterwheel::sim::{Dice, Script, TestLayer};

/// Puts a layer before every fourth listener; whether it has one.
pub(super) fn choose(dice: &Dice, options: ListenOptions) -> (ListenOptions, bool) {
    if !dice.one_in(4) {
        return (options, false);
    }
    let limit = Duration::from_millis(dice.spread(1, 60_000));
    let layer = TestLayer::new().timeout(limit).costly(dice.one_in(2));
    let mut options = layer.listen(options);
    if dice.one_in(2) {
        options = options.max_handshakes(1 + dice.below(4) as usize);
    }
    (options, true)
}

/// The client's part of a handshake: whole, in pieces, early, cut short or wrong.
pub(super) fn greet(dice: &Dice, script: Script) -> Script {
    let pause = Duration::from_micros(dice.spread(1, 100_000));
    let (mut hello, confirmation) = (TestLayer::hello(), TestLayer::confirmation());
    match dice.below(10) {
        0 => {
            script.dribble(hello, pause).read(TestLayer::ANSWER_BYTES).dribble(confirmation, pause)
        }
        1 => script.send([hello, confirmation].concat()),
        2 => {
            hello[0] ^= 1 << dice.below(8);
            script.send(hello)
        }
        3 => {
            hello.truncate(dice.below(hello.len() as u64) as usize);
            script.send(hello).wait(pause).finish()
        }
        _ => script.send(hello).read(TestLayer::ANSWER_BYTES).send(confirmation),
    }
}

/// A piece of a stream, perhaps with a ping behind it.
pub(super) fn piece(dice: &Dice, script: Script, bytes: &[u8]) -> Script {
    let script = script.send(TestLayer::data(bytes));
    if dice.one_in(6) { script.send(TestLayer::ping()) } else { script }
}

/// A record that has no place in a stream: the layer of the other side fails on it, and says so if
/// it is not an alert itself.
pub(super) fn fault(dice: &Dice, script: Script) -> Script {
    if dice.one_in(3) { script.send(ALERT) } else { script.send(TestLayer::confirmation()) }
}

/// A record in which a peer says that its layer has failed.
const ALERT: [u8; 3] = [9, 0, 0];

/// Once a handshake is done all records are right but those of a peer that is `faulty`, and so is
/// what this library says in one: no layer finds fault with them.
pub(super) fn check_error(error: &io::Error, is_faulty: bool) {
    let text = error.to_string();
    assert!(!text.is_empty(), "an error without a word");
    assert!(is_faulty || !text.contains("is not expected"), "{text}");
}
