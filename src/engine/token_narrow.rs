//! Ids of connections as tokens of the poll, where a word has 32 bits: half of it is the index,
//! which allows 65,536 connections, and half is what fits of the generation. Ids are whole
//! everywhere.

use crate::base::id::ConnId;

/// Bits of the index of a slot.
pub(super) const INDEX_BITS: u32 = 16;

/// The lower bits of a word.
const LOW: usize = (1 << INDEX_BITS) - 1;

/// As much of the generation as fits, but not 0.
pub(super) const fn of(id: ConnId) -> usize {
    let short = id.generation() as usize & LOW;
    (if short == 0 { 1 } else { short }) << INDEX_BITS | id.index()
}

pub(super) fn id(token: usize, generation: impl Fn(usize) -> u64) -> ConnId {
    let index = token & LOW;
    let id = ConnId::new(index as u32, generation(index));
    if of(id) == token { id } else { ConnId::new(index as u32, 0) }
}
