//! The flags word.

use crate::stream::connection::Flags;

#[test]
fn each_bit_stands_for_itself() {
    let mut all = Flags::NONE;
    for &(bit, name) in Flags::NAMES {
        assert!(!all.has(bit) && bit != Flags::NONE, "{name}");
        all.set(bit);
        assert!(all.has(bit), "{name}");
    }
    let (one, other) = (Flags::PAUSED, Flags::ERROR);
    let mut flags = Flags::NONE;
    assert!(flags == Flags::NONE && !flags.has(one | other) && !flags.has_other(one));
    flags.set(one);
    flags.set(one);
    assert!(flags == one && one | one == one && flags.has(one | other) && !flags.has(other));
    assert!(flags.has_other(other) && !flags.has_other(one) && !flags.has_other(one | other));
    flags.put(other, true);
    assert!(flags == one | other && flags.has_other(one) && flags.has_other(other));
    flags.clear(one | Flags::READABLE);
    assert!(flags == other);
    flags.put(other, false);
    assert!(flags == Flags::NONE);
}
