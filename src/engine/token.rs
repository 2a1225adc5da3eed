//! Ids of connections as tokens of the poll: whole. `token_narrow.rs` stands for this where a word
//! has fewer than 64 bits.
//!
//! The generation of a connection is never 0. So a token in which all other bits are 0 stands for
//! something else than a connection.

use crate::base::id::{self, ConnId};

/// Bits of the index of a slot.
pub(super) const INDEX_BITS: u32 = id::INDEX_BITS;

pub(super) const fn of(id: ConnId) -> usize {
    id.word() as usize
}

#[inline]
pub(super) fn id(token: usize, _generation: impl Fn(usize) -> u64) -> ConnId {
    ConnId::from_word(token as u64)
}
