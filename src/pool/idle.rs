//! The idle connections of a pool, in the order in which they came back.

/// Seats in a line, linked by their numbers: one leaves from anywhere without a search.
#[derive(Debug)]
pub(super) struct IdleList {
    /// The neighbours of each seat that is or was in the list.
    links: Vec<Link>,
    first: u32,
    last: u32,
    len: usize,
}

/// The neighbours of a seat; [`NONE`] at the ends.
#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    behind: u32,
}

/// No seat.
const NONE: u32 = u32::MAX;

impl IdleList {
    pub(super) fn new() -> Self {
        Self { links: Vec::new(), first: NONE, last: NONE, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The one that came back first.
    #[inline]
    pub(super) fn first(&self) -> Option<u32> {
        some(self.first)
    }

    /// The one that came back last.
    #[inline]
    pub(super) fn last(&self) -> Option<u32> {
        some(self.last)
    }

    /// The one behind a seat that is in the list.
    pub(super) fn behind(&self, seat: u32) -> Option<u32> {
        self.links.get(seat as usize).and_then(|link| some(link.behind))
    }

    /// Puts in a seat that is not in the list.
    #[inline]
    pub(super) fn push(&mut self, seat: u32) {
        if self.links.len() <= seat as usize {
            self.links.resize(seat as usize + 1, Link { before: NONE, behind: NONE });
        }
        self.links[seat as usize] = Link { before: self.last, behind: NONE };
        match self.links.get_mut(self.last as usize) {
            Some(last) => last.behind = seat,
            None => self.first = seat,
        }
        self.last = seat;
        self.len += 1;
    }

    /// Takes out a seat that is in the list.
    #[inline]
    pub(super) fn remove(&mut self, seat: u32) {
        let Link { before, behind } = self.links[seat as usize];
        match self.links.get_mut(before as usize) {
            Some(link) => link.behind = behind,
            None => self.first = behind,
        }
        match self.links.get_mut(behind as usize) {
            Some(link) => link.before = before,
            None => self.last = before,
        }
        self.len -= 1;
    }
}

fn some(seat: u32) -> Option<u32> {
    (seat != NONE).then_some(seat)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use quickcheck::{Gen, QuickCheck};

    use super::*;

    /// The list does what a queue does that is searched.
    #[test]
    fn it_is_a_queue() {
        fn property(steps: Vec<(u8, u32)>) {
            let (mut list, mut model) = (IdleList::new(), VecDeque::new());
            for (step, seat) in steps {
                let seat = seat % 8;
                let at = model.iter().position(|&it| it == seat);
                match (step % 4, at) {
                    (0, Some(at)) => {
                        list.remove(seat);
                        model.remove(at);
                    }
                    (1, _) => {
                        list.first().inspect(|&seat| list.remove(seat));
                        model.pop_front();
                    }
                    (2, _) => {
                        list.last().inspect(|&seat| list.remove(seat));
                        model.pop_back();
                    }
                    (_, None) => {
                        list.push(seat);
                        model.push_back(seat);
                    }
                    _ => {}
                }
                let all = std::iter::successors(list.first(), |&seat| list.behind(seat));
                assert_eq!(all.collect::<VecDeque<_>>(), model);
                assert_eq!((list.last(), list.len()), (model.back().copied(), model.len()));
                assert_eq!(list.is_empty(), model.is_empty());
            }
        }
        QuickCheck::new().tests(256).rng(Gen::new(64)).quickcheck(property as fn(_));
    }
}
