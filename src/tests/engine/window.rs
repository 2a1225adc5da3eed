//! Ticks of the last minutes.

use crate::engine::window::{Mark, WINDOW, Window};

/// The last ticks of the window share words with the first ones.
#[test]
fn a_tick_is_remembered_until_the_window_has_passed_it() {
    for first in [0, 7, 63, 64, 100] {
        let mut window = Window::new();
        for tick in first..first + 70 {
            window.note(tick, Mark::Begun);
        }
        for end in first..first + 70 {
            window.note(end + WINDOW - 1, Mark::Begun);
            for tick in first..first + 70 {
                let expected = (tick >= end).then_some(true);
                assert_eq!(window.has(tick, Mark::Begun), expected, "{tick} at {end}");
            }
            assert_eq!(window.has(first + 70, Mark::Begun), Some(false));
            assert_eq!(window.has(end + WINDOW, Mark::Begun), Some(false), "it is still to come");
            assert_eq!(window.next(first + 69, Mark::Begun), Some(first + WINDOW - 1));
            assert_eq!(window.next(end + WINDOW - 1, Mark::Begun), None);
        }
    }
}

#[test]
fn a_tick_has_each_mark_for_itself() {
    use Mark::{Begun, Ended, Stamped};
    let mut window = Window::new();
    for (tick, mark) in [(70, Begun), (70, Stamped), (75, Ended), (75, Begun), (200, Ended)] {
        window.note(tick, mark);
    }
    let marks = [70, 75, 200].map(|tick| [Begun, Stamped, Ended].map(|it| window.has(tick, it)));
    let [yes, no] = [true, false].map(Some);
    assert_eq!(marks, [[yes, yes, no], [yes, no, yes], [no, no, yes]]);
    assert_eq!([Begun, Stamped, Ended].map(|it| window.next(70, it)), [Some(75), None, Some(75)]);
    // All of a tick are forgotten at once.
    window.note(70 + WINDOW, Ended);
    assert_eq!([Begun, Stamped, Ended].map(|it| window.has(70, it)), [None; 3]);
    assert_eq!(window.next(71, Begun), Some(75));
    window.note(75 + WINDOW, Ended);
    assert_eq!(window.next(71, Begun), None);
}
