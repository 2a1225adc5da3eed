//! Datagrams that wait for receivers of a Unix socket: a lane for each receiver, so that one who
//! is slow holds up nobody else.
//!
//! Nothing tells when a receiver has room again, so that each lane is tried again by a timer: soon
//! at first, then less and less often. After a time without any room it is given up.
//!
//! All lanes have their room in common. A lane takes no more of it than is free after that, which
//! is half of it for one alone and a third for each of two: Abhijit Choudhury and Ellen Hahne,
//! "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches" (IEEE/ACM Transactions on
//! Networking, 1998), with a factor of one. So there is room for somebody else however many do not
//! read.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::time::Duration;

use slab::Slab;

use crate::base::id::TimerId;
use crate::options::UnixAddr;

/// The lanes of one socket.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: Slab<Lane>,
    /// Invariant: has each lane of `lanes` once.
    places: HashMap<UnixAddr, u32>,
    /// The lanes that are to be tried now, in order.
    due: VecDeque<u32>,
    /// How long a lane without room is kept.
    pub(crate) patience: Duration,
}

#[derive(Debug)]
struct Lane {
    to: UnixAddr,
    /// Empty only if what was to wait found no room: the lane then stands for `on_drain`.
    waiting: VecDeque<Box<[u8]>>,
    /// Invariant: the sum of their lengths.
    bytes: usize,
    /// How long it is left alone the next time.
    pause: Duration,
    /// How long it has been left alone since it last had room.
    stuck: Duration,
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
        let lane = Lane {
            to: to.clone(),
            waiting: VecDeque::new(),
            bytes: 0,
            pause: 2 * pause,
            stuck: pause,
            timer: None,
        };
        let place = self.lanes.insert(lane) as u32;
        self.places.insert(to.clone(), place);
        Some((place, pause))
    }

    /// Whether the lane of a receiver may have one more of so many bytes, if so many datagrams and
    /// bytes are free.
    pub(crate) fn may_take(&self, to: &UnixAddr, length: usize, free: (usize, usize)) -> bool {
        let Some(&place) = self.places.get(to) else { return true };
        let lane = &self.lanes[place as usize];
        lane.waiting.len() < free.0 && lane.bytes + length <= free.1
    }

    /// Adds a datagram to a lane that is there.
    pub(crate) fn push(&mut self, to: &UnixAddr, bytes: &[u8]) {
        if let Some(&place) = self.places.get(to) {
            let lane = &mut self.lanes[place as usize];
            lane.bytes += bytes.len();
            lane.waiting.push_back(bytes.into());
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
            lane.bytes -= lane.waiting.pop_front().map_or(0, |bytes| bytes.len());
            (lane.pause, lane.stuck) = (FIRST_PAUSE, Duration::ZERO);
        }
    }

    /// The first lane that is due has no room: gives its place, and how long it is left alone.
    pub(crate) fn block(&mut self) -> Option<(u32, Duration)> {
        let place = self.due.pop_front()?;
        let lane = self.lanes.get_mut(place as usize)?;
        let pause = lane.pause;
        lane.pause = (2 * pause).min(LONGEST_PAUSE);
        lane.stuck += pause;
        Some((place, pause))
    }

    /// The first lane that is due is given up, if it has had no room for too long: whom it is for,
    /// and how many datagrams and bytes are lost.
    pub(crate) fn give_up(&mut self) -> Option<(UnixAddr, usize, usize)> {
        let lane = self.lanes.get_mut(*self.due.front()? as usize)?;
        if lane.stuck < self.patience {
            return None;
        }
        let lost = mem::take(&mut lane.waiting);
        Some((lane.to.clone(), lost.len(), mem::take(&mut lane.bytes)))
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

    fn patient() -> Lanes {
        Lanes { patience: Duration::MAX, ..Lanes::default() }
    }

    /// Opens a lane, with the number of its place for a timer.
    fn open(lanes: &mut Lanes, to: &UnixAddr) -> TimerId {
        let (place, pause) = lanes.open(to).unwrap();
        assert_eq!(pause, FIRST_PAUSE);
        let timer = TimerId::new(place, 1, 1);
        lanes.set_timer(place, timer);
        timer
    }

    #[test]
    fn a_lane_that_is_blocked_holds_up_no_other() {
        let (slow, fast) = (UnixAddr::from("slow"), UnixAddr::from("fast"));
        let mut lanes = patient();
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
        let mut lanes = patient();
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
    fn a_lane_takes_no_more_than_is_left_for_others() {
        let [one, two] = ["one", "two"].map(UnixAddr::from);
        let mut lanes = patient();
        let mut free = (12, 1_000);
        for (to, most) in [(&one, 6), (&two, 3), (&one, 0)] {
            lanes.open(to);
            let mut taken = 0;
            while lanes.may_take(to, 10, free) {
                lanes.push(to, &[0; 10]);
                free = (free.0 - 1, free.1 - 10);
                taken += 1;
            }
            assert_eq!(taken, most);
        }
        // By bytes as well.
        assert!(lanes.may_take(&one, 40, (7, 100)) && !lanes.may_take(&one, 41, (7, 100)));
    }

    #[test]
    fn a_lane_that_has_had_no_room_for_long_is_given_up() {
        let to = UnixAddr::from("a");
        let mut lanes = Lanes { patience: Duration::from_millis(7), ..Lanes::default() };
        let timer = open(&mut lanes, &to);
        lanes.push(&to, b"first");
        lanes.push(&to, b"next");
        lanes.push(&to, b"last");
        let block = |lanes: &mut Lanes| {
            assert!(lanes.ring(0, timer) && lanes.first().is_some());
            assert_eq!(lanes.give_up(), None);
            let pause = lanes.block().unwrap().1;
            lanes.set_timer(0, timer);
            pause.as_millis()
        };
        // 1 ms at first, and 2.
        assert_eq!(block(&mut lanes), 2);
        assert!(lanes.ring(0, timer));
        lanes.pop();
        assert!(lanes.first().is_some() && lanes.block().is_some());
        lanes.set_timer(0, timer);
        // 1, 2 and 4 ms since it had room.
        assert_eq!([block(&mut lanes), block(&mut lanes)], [2, 4]);
        assert!(lanes.ring(0, timer) && lanes.first().is_some());
        assert_eq!(lanes.give_up(), Some((to.clone(), 2, 8)));
        assert!(lanes.first().is_none() && lanes.is_empty());
    }

    #[test]
    fn a_lane_without_datagrams_goes_when_it_is_looked_at() {
        let to = UnixAddr::from("a");
        let mut lanes = patient();
        let timer = open(&mut lanes, &to);
        assert_eq!(lanes.ring_all(), [timer]);
        assert!(lanes.first().is_none());
        assert!(lanes.is_empty());
    }
}
