//! Any calls of the wheel, against the model.

use waterwheel::wheel::LAST_TICK;

use crate::input::Input;
use crate::wheel_model::{Operation, Pair};

/// Timers set at the most, so that an input takes microseconds. A sweep wants 1,280, four fifths of
/// them cancelled.
const MOST_TIMERS: usize = 1_500;

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut pair = Pair::default();
    let mut timers = 0;
    while !input.is_empty() && timers < MOST_TIMERS {
        let operation = operation(&mut input);
        timers += match operation {
            Operation::Insert(_) | Operation::InsertPast(_) | Operation::InsertPeriodic(..) => 1,
            Operation::InsertMany(count, _) => count,
            _ => 0,
        };
        pair.apply(&operation);
    }
    pair.pop(usize::MAX, LAST_TICK);
    // A periodic timer whose next deadline lies beyond the end has ended.
    assert!(pair.wheel.is_empty());
}

fn operation(input: &mut Input<'_>) -> Operation {
    match input.below(16) {
        0..4 => Operation::Insert(input.number(44)),
        4 => Operation::InsertPast(input.number(20)),
        5 => Operation::InsertPeriodic(input.number(20), 1 + input.number(24) as u32),
        6 => Operation::InsertMany(input.number(9) as usize, input.number(20)),
        7..9 => Operation::Cancel(input.byte().into()),
        9 => Operation::Postpone(input.byte().into(), input.number(44)),
        10 => Operation::CancelMany(usize::from(input.byte()) * 8),
        11..13 => Operation::Pop(input.below(4).into(), input.number(7)),
        13..15 => Operation::Pop(usize::MAX, input.number(20)),
        _ => Operation::Pop(input.below(40).into(), input.number(43)),
    }
}
