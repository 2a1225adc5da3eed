//! Ticks of the last minutes.

use crate::engine::window::{WINDOW, Window};

/// The last ticks of the window share words with the first ones.
#[test]
fn a_tick_is_remembered_until_the_window_has_passed_it() {
    for first in [0, 7, 63, 64, 100] {
        let mut window = Window::new();
        for tick in first..first + 70 {
            window.note(tick);
        }
        for end in first..first + 70 {
            window.note(end + WINDOW - 1);
            for tick in first..first + 70 {
                let expected = (tick >= end).then_some(true);
                assert_eq!(window.has(tick), expected, "{tick} at {end}");
            }
            assert_eq!(window.has(first + 70), Some(false));
            assert_eq!(window.has(end + WINDOW), Some(false), "it is still to come");
            assert_eq!(window.next(first + 69), Some(first + WINDOW - 1));
            assert_eq!(window.next(end + WINDOW - 1), None);
        }
    }
}
