//! Datagrams that wait for receivers of a Unix socket: a lane for each receiver, so that one who
//! is slow holds up nobody else.
//!
//! Nothing tells when a receiver has room again, so that each lane is tried again by a timer: soon
//! at first, then less and less often.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use slab::Slab;

use crate::id::TimerId;
use crate::options::UnixAddr;

/// The lanes of one socket.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: Slab<Lane>,
    /// Invariant: has each lane of `lanes` once.
    places: HashMap<UnixAddr, u32>,
    /// The lanes that are to be tried now, in order.
    due: VecDeque<u32>,
}

#[derive(Debug)]
struct Lane {
    to: UnixAddr,
    /// Empty only if what was to wait found no room: the lane then stands for `on_drain`.
    waiting: VecDeque<Box<[u8]>>,
    /// How long it is left alone the next time.
    pause: Duration,
    /// What brings it back, unless it is due.
    timer: Option<TimerId>,
}

/// The shortest pause, which is for a receiver that is only busy.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause: for one that does not read, sixteen calls a second are no burden.
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

impl Lanes {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether datagrams for this receiver wait, so that others have to wait behind them.
    #[inline]
    pub(crate) fn has(&self, to: &UnixAddr) -> bool {
        !self.is_empty() && self.places.contains_key(to)
    }

    /// Makes a lane for a receiver; gives the place of a new one, which waits for its timer.
    pub(crate) fn open(&mut self, to: &UnixAddr) -> Option<(u32, Duration)> {
        if self.has(to) {
            return None;
        }
        let pause = FIRST_PAUSE;
        let lane = Lane { to: to.clone(), waiting: VecDeque::new(), pause: 2 * pause, timer: None };
        let place = self.lanes.insert(lane) as u32;
        self.places.insert(to.clone(), place);
        Some((place, pause))
    }

    /// Adds a datagram to a lane that is there.
    pub(crate) fn push(&mut self, to: &UnixAddr, bytes: &[u8]) {
        if let Some(&place) = self.places.get(to) {
            self.lanes[place as usize].waiting.push_back(bytes.into());
        }
    }

    pub(crate) fn set_timer(&mut self, place: u32, timer: TimerId) {
        if let Some(lane) = self.lanes.get_mut(place as usize) {
            lane.timer = Some(timer);
        }
    }

    /// A timer has fired: its lane is due. `false` if the lane is gone.
    pub(crate) fn ring(&mut self, place: u32, timer: TimerId) -> bool {
        let lane = self.lanes.get_mut(place as usize);
        let Some(lane) = lane.filter(|lane| lane.timer == Some(timer)) else { return false };
        lane.timer = None;
        self.due.push_back(place);
        true
    }

    /// All lanes are due, once more; gives their timers.
    pub(crate) fn ring_all(&mut self) -> Vec<TimerId> {
        let waiting = self.lanes.iter_mut().filter_map(|(place, lane)| {
            let timer = lane.timer.take()?;
            Some((place as u32, timer))
        });
        let (places, timers): (Vec<_>, Vec<_>) = waiting.unzip();
        self.due.extend(places);
        timers
    }

    /// The first datagram of the first lane that is due.
    pub(crate) fn first(&mut self) -> Option<(&UnixAddr, &[u8])> {
        while let Some(&place) = self.due.front() {
            if !self.lanes[place as usize].waiting.is_empty() {
                break;
            }
            self.due.pop_front();
            let lane = self.lanes.remove(place as usize);
            self.places.remove(&lane.to);
        }
        let lane = &self.lanes[*self.due.front()? as usize];
        Some((&lane.to, lane.waiting.front()?))
    }

    /// The first is sent, or lost.
    pub(crate) fn pop(&mut self) {
        if let Some(lane) = self.due.front().and_then(|&place| self.lanes.get_mut(place as usize)) {
            lane.waiting.pop_front();
            lane.pause = FIRST_PAUSE;
        }
    }

    /// The first lane that is due has no room: gives its place, and how long it is left alone.
    pub(crate) fn block(&mut self) -> Option<(u32, Duration)> {
        let place = self.due.pop_front()?;
        let lane = self.lanes.get_mut(place as usize)?;
        let pause = lane.pause;
        lane.pause = (2 * pause).min(LONGEST_PAUSE);
        Some((place, pause))
    }

    /// The first lane that is due has its turn after the others.
    pub(crate) fn give_way(&mut self) {
        if let Some(place) = self.due.pop_front() {
            self.due.push_back(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a lane, with the number of its place for a timer.
    fn open(lanes: &mut Lanes, to: &UnixAddr) -> TimerId {
        let (place, pause) = lanes.open(to).unwrap();
        assert_eq!(pause, FIRST_PAUSE);
        let timer = TimerId::new(place, 1);
        lanes.set_timer(place, timer);
        timer
    }

    #[test]
    fn a_lane_that_is_blocked_holds_up_no_other() {
        let (slow, fast) = (UnixAddr::from("slow"), UnixAddr::from("fast"));
        let mut lanes = Lanes::default();
        let timers = [open(&mut lanes, &slow), open(&mut lanes, &fast)];
        for number in 0..3 {
            lanes.push(&slow, &[number]);
            lanes.push(&fast, &[number]);
        }
        assert!(lanes.open(&slow).is_none(), "it is there");
        assert!(lanes.first().is_none(), "none is due");
        assert!(lanes.ring(0, timers[0]) && lanes.ring(1, timers[1]));
        assert!(!lanes.ring(0, timers[0]), "it is due already");
        assert_eq!(lanes.first(), Some((&slow, &[0][..])));
        assert_eq!(lanes.block(), Some((0, 2 * FIRST_PAUSE)));
        for number in 0..3 {
            assert_eq!(lanes.first(), Some((&fast, &[number][..])));
            lanes.pop();
        }
        assert!(lanes.first().is_none());
        assert!(lanes.has(&slow) && !lanes.has(&fast));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_with_room() {
        let to = UnixAddr::from("a");
        let mut lanes = Lanes::default();
        let timer = open(&mut lanes, &to);
        lanes.push(&to, b"first");
        lanes.push(&to, b"second");
        let pauses: Vec<_> = (0..8)
            .map(|_| {
                assert!(lanes.ring(0, timer));
                assert!(lanes.first().is_some());
                let (place, pause) = lanes.block().unwrap();
                lanes.set_timer(place, timer);
                pause.as_millis()
            })
            .collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 64, 64]);
        assert!(lanes.ring(0, timer));
        lanes.pop();
        assert_eq!(lanes.first(), Some((&to, &b"second"[..])));
        assert_eq!(lanes.block(), Some((0, FIRST_PAUSE)));
    }

    #[test]
    fn a_lane_without_datagrams_goes_when_it_is_looked_at() {
        let to = UnixAddr::from("a");
        let mut lanes = Lanes::default();
        let timer = open(&mut lanes, &to);
        assert_eq!(lanes.ring_all(), [timer]);
        assert!(lanes.first().is_none());
        assert!(lanes.is_empty());
    }
}
