//! A hierarchical wheel as it is usually written: timers in a slab, and each slot a list of links
//! through them. There is no order among equal deadlines, no period, and a key that outlives its
//! timer names another one.

/// Ends a list.
const NIL: u32 = u32::MAX;

/// Levels of 64 slots.
const LEVELS: usize = 7;

#[derive(Clone, Copy)]
struct Node {
    deadline: u64,
    previous: u32,
    next: u32,
    payload: u32,
    /// The level times 64, and the digit.
    slot: u32,
}

pub(crate) struct Wheel {
    tick: u64,
    nodes: Vec<Node>,
    /// The first of the nodes without a timer.
    free: u32,
    heads: [u32; LEVELS * 64],
    /// For each level, the slots that are not empty.
    occupied: [u64; LEVELS],
}

impl Wheel {
    pub(crate) fn new() -> Self {
        let heads = [NIL; LEVELS * 64];
        Self { tick: 0, nodes: Vec::new(), free: NIL, heads, occupied: [0; LEVELS] }
    }

    pub(crate) fn insert(&mut self, deadline: u64, payload: u32) -> u32 {
        let deadline = deadline.max(self.tick + 1);
        let node = Node { deadline, previous: NIL, next: NIL, payload, slot: 0 };
        let mut index = self.free;
        if index == NIL {
            index = self.nodes.len() as u32;
            self.nodes.push(node);
        } else {
            self.free = self.nodes[index as usize].next;
            self.nodes[index as usize] = node;
        }
        self.link(index);
        index
    }

    pub(crate) fn cancel(&mut self, index: u32) {
        self.unlink(index);
        self.release(index);
    }

    pub(crate) fn rearm(&mut self, index: u32, deadline: u64) {
        self.unlink(index);
        self.nodes[index as usize].deadline = deadline.max(self.tick + 1);
        self.link(index);
    }

    fn unlink(&mut self, index: u32) {
        let Node { previous, next, slot, .. } = self.nodes[index as usize];
        if previous != NIL {
            self.nodes[previous as usize].next = next;
        } else {
            self.heads[slot as usize] = next;
            if next == NIL {
                self.occupied[slot as usize / 64] &= !(1 << (slot % 64));
            }
        }
        if next != NIL {
            self.nodes[next as usize].previous = previous;
        }
    }

    pub(crate) fn advance(&mut self, to: u64, mut fire: impl FnMut(u32)) {
        while let Some(level) = self.occupied.iter().position(|&slots| slots != 0) {
            let digit = self.occupied[level].trailing_zeros() as usize;
            let shift = 6 * level;
            let start = (self.tick >> shift >> 6 << 6 | digit as u64) << shift;
            if start > to {
                break;
            }
            self.tick = self.tick.max(start);
            self.occupied[level] &= !(1 << digit);
            let mut index = std::mem::replace(&mut self.heads[level * 64 + digit], NIL);
            while index != NIL {
                let Node { deadline, next, payload, .. } = self.nodes[index as usize];
                if deadline <= self.tick {
                    fire(payload);
                    self.release(index);
                } else {
                    self.link(index);
                }
                index = next;
            }
        }
        self.tick = to;
    }

    fn link(&mut self, index: u32) {
        let deadline = self.nodes[index as usize].deadline;
        let level = (((deadline ^ self.tick) | 1).ilog2() as usize / 6).min(LEVELS - 1);
        let digit = (deadline >> (6 * level)) as usize % 64;
        let slot = level * 64 + digit;
        let next = std::mem::replace(&mut self.heads[slot], index);
        if next != NIL {
            self.nodes[next as usize].previous = index;
        }
        let node = &mut self.nodes[index as usize];
        (node.previous, node.next, node.slot) = (NIL, next, slot as u32);
        self.occupied[level] |= 1 << digit;
    }

    fn release(&mut self, index: u32) {
        self.nodes[index as usize].next = self.free;
        self.free = index;
    }
}
