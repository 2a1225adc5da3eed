//! Datagrams that wait for receivers of a Unix socket: a queue for each receiver, so that a slow
//! receiver holds up no other.
//!
//! No event tells that a receiver has room again. So a timer tries each queue again: soon at first,
//! then less and less often. A queue that finds no room for `timeout` is given up.
//!
//! All queues share one capacity. A queue takes no more of it than is free after that, which is
//! half of it for a single queue and a third for each of two: Abhijit Choudhury and Ellen Hahne,
//! "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches" (IEEE/ACM Transactions on
//! Networking, 1998), with a factor of one. So there is room for a further receiver however many do
//! not read.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::time::Duration;

use slab::Slab;

use crate::base::id::TimerId;
use crate::options::UnixAddr;

/// The queues of one socket.
#[derive(Debug, Default)]
pub(crate) struct ReceiverQueues {
    queues: Slab<ReceiverQueue>,
    /// Invariant: has each queue of `queues` once.
    places: HashMap<UnixAddr, u32>,
    /// The queues that are to be tried now, in order.
    due: VecDeque<u32>,
    /// How long a queue is kept that finds no room.
    pub(crate) timeout: Duration,
}

#[derive(Debug)]
struct ReceiverQueue {
    to: UnixAddr,
    /// Empty only if what was to wait found no room here: the queue is there to bring `on_drain`.
    waiting: VecDeque<Box<[u8]>>,
    /// Invariant: the sum of their lengths.
    bytes: usize,
    /// The pause before the try after the next one.
    pause: Duration,
    /// The sum of its pauses since it last had room.
    stuck: Duration,
    /// The timer that ends its pause; `None` while it is due.
    timer: Option<TimerId>,
}

/// The shortest pause, which is for a receiver that is only busy.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause: for one that does not read, sixteen calls a second are no burden.
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

impl ReceiverQueues {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether datagrams for this receiver wait, so that others have to wait behind them.
    #[inline]
    pub(crate) fn has(&self, to: &UnixAddr) -> bool {
        !self.is_empty() && self.places.contains_key(to)
    }

    /// Makes a queue for a receiver. Returns the place of a new one, and the pause before its first
    /// try, for which the caller sets a timer.
    pub(crate) fn open(&mut self, to: &UnixAddr) -> Option<(u32, Duration)> {
        if self.has(to) {
            return None;
        }
        let pause = FIRST_PAUSE;
        let queue = ReceiverQueue {
            to: to.clone(),
            waiting: VecDeque::new(),
            bytes: 0,
            pause: 2 * pause,
            stuck: pause,
            timer: None,
        };
        let place = self.queues.insert(queue) as u32;
        self.places.insert(to.clone(), place);
        Some((place, pause))
    }

    /// Whether the queue of a receiver may take another datagram of `length` bytes. `free`:
    /// datagrams and bytes that the socket has room for.
    pub(crate) fn may_take(&self, to: &UnixAddr, length: usize, free: (usize, usize)) -> bool {
        let Some(&place) = self.places.get(to) else { return true };
        let queue = &self.queues[place as usize];
        queue.waiting.len() < free.0 && queue.bytes + length <= free.1
    }

    /// Adds a datagram to a queue that is there.
    pub(crate) fn push(&mut self, to: &UnixAddr, bytes: &[u8]) {
        if let Some(&place) = self.places.get(to) {
            let queue = &mut self.queues[place as usize];
            queue.bytes += bytes.len();
            queue.waiting.push_back(bytes.into());
        }
    }

    pub(crate) fn set_timer(&mut self, place: u32, timer: TimerId) {
        if let Some(queue) = self.queues.get_mut(place as usize) {
            queue.timer = Some(timer);
        }
    }

    /// A timer has fired: its queue is due. `false` if the queue is gone.
    pub(crate) fn mark_due(&mut self, place: u32, timer: TimerId) -> bool {
        let queue = self.queues.get_mut(place as usize);
        let Some(queue) = queue.filter(|queue| queue.timer == Some(timer)) else { return false };
        queue.timer = None;
        self.due.push_back(place);
        true
    }

    /// All queues are due. Returns the timers that would have made them so.
    pub(crate) fn mark_all_due(&mut self) -> Vec<TimerId> {
        let waiting = self.queues.iter_mut().filter_map(|(place, queue)| {
            let timer = queue.timer.take()?;
            Some((place as u32, timer))
        });
        let (places, timers): (Vec<_>, Vec<_>) = waiting.unzip();
        self.due.extend(places);
        timers
    }

    /// The first datagram of the first queue that is due.
    pub(crate) fn first(&mut self) -> Option<(&UnixAddr, &[u8])> {
        while let Some(&place) = self.due.front() {
            if !self.queues[place as usize].waiting.is_empty() {
                break;
            }
            self.due.pop_front();
            let queue = self.queues.remove(place as usize);
            self.places.remove(&queue.to);
        }
        let queue = &self.queues[*self.due.front()? as usize];
        Some((&queue.to, queue.waiting.front()?))
    }

    /// The first is sent, or lost.
    pub(crate) fn pop(&mut self) {
        if let Some(queue) = self.due.front().and_then(|&place| self.queues.get_mut(place as usize))
        {
            queue.bytes -= queue.waiting.pop_front().map_or(0, |bytes| bytes.len());
            (queue.pause, queue.stuck) = (FIRST_PAUSE, Duration::ZERO);
        }
    }

    /// The first queue that is due finds no room, and is due no more. Returns its place and its
    /// pause, for which the caller sets a timer.
    pub(crate) fn block(&mut self) -> Option<(u32, Duration)> {
        let place = self.due.pop_front()?;
        let queue = self.queues.get_mut(place as usize)?;
        let pause = queue.pause;
        queue.pause = (2 * pause).min(LONGEST_PAUSE);
        queue.stuck += pause;
        Some((place, pause))
    }

    /// Gives up the first queue that is due, if it has found no room for `timeout`. Returns its
    /// receiver, and how many datagrams and bytes are lost.
    pub(crate) fn give_up(&mut self) -> Option<(UnixAddr, usize, usize)> {
        let queue = self.queues.get_mut(*self.due.front()? as usize)?;
        if queue.stuck < self.timeout {
            return None;
        }
        let lost = mem::take(&mut queue.waiting);
        Some((queue.to.clone(), lost.len(), mem::take(&mut queue.bytes)))
    }

    /// The first queue that is due is tried after the others.
    pub(crate) fn rotate(&mut self) {
        if let Some(place) = self.due.pop_front() {
            self.due.push_back(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_timeout() -> ReceiverQueues {
        ReceiverQueues { timeout: Duration::MAX, ..ReceiverQueues::default() }
    }

    /// Opens a queue, with the number of its place for a timer.
    fn open(queues: &mut ReceiverQueues, to: &UnixAddr) -> TimerId {
        let (place, pause) = queues.open(to).unwrap();
        assert_eq!(pause, FIRST_PAUSE);
        let timer = TimerId::new(place, 1, 1);
        queues.set_timer(place, timer);
        timer
    }

    #[test]
    fn a_queue_that_is_blocked_holds_up_no_other() {
        let (slow, fast) = (UnixAddr::from("slow"), UnixAddr::from("fast"));
        let mut queues = without_timeout();
        let timers = [open(&mut queues, &slow), open(&mut queues, &fast)];
        for number in 0..3 {
            queues.push(&slow, &[number]);
            queues.push(&fast, &[number]);
        }
        assert!(queues.open(&slow).is_none(), "it is there");
        assert!(queues.first().is_none(), "none is due");
        assert!(queues.mark_due(0, timers[0]) && queues.mark_due(1, timers[1]));
        assert!(!queues.mark_due(0, timers[0]), "it is due already");
        assert_eq!(queues.first(), Some((&slow, &[0][..])));
        assert_eq!(queues.block(), Some((0, 2 * FIRST_PAUSE)));
        for number in 0..3 {
            assert_eq!(queues.first(), Some((&fast, &[number][..])));
            queues.pop();
        }
        assert!(queues.first().is_none());
        assert!(queues.has(&slow) && !queues.has(&fast));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_with_room() {
        let to = UnixAddr::from("a");
        let mut queues = without_timeout();
        let timer = open(&mut queues, &to);
        queues.push(&to, b"first");
        queues.push(&to, b"second");
        let pauses: Vec<_> = (0..8)
            .map(|_| {
                assert!(queues.mark_due(0, timer));
                assert!(queues.first().is_some());
                let (place, pause) = queues.block().unwrap();
                queues.set_timer(place, timer);
                pause.as_millis()
            })
            .collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 64, 64]);
        assert!(queues.mark_due(0, timer));
        queues.pop();
        assert_eq!(queues.first(), Some((&to, &b"second"[..])));
        assert_eq!(queues.block(), Some((0, FIRST_PAUSE)));
    }

    #[test]
    fn a_queue_takes_no_more_than_is_left_for_others() {
        let [one, two] = ["one", "two"].map(UnixAddr::from);
        let mut queues = without_timeout();
        let mut free = (12, 1_000);
        for (to, most) in [(&one, 6), (&two, 3), (&one, 0)] {
            queues.open(to);
            let mut taken = 0;
            while queues.may_take(to, 10, free) {
                queues.push(to, &[0; 10]);
                free = (free.0 - 1, free.1 - 10);
                taken += 1;
            }
            assert_eq!(taken, most);
        }
        // By bytes as well.
        assert!(queues.may_take(&one, 40, (7, 100)) && !queues.may_take(&one, 41, (7, 100)));
    }

    #[test]
    fn a_queue_that_has_had_no_room_for_long_is_given_up() {
        let to = UnixAddr::from("a");
        let mut queues =
            ReceiverQueues { timeout: Duration::from_millis(7), ..ReceiverQueues::default() };
        let timer = open(&mut queues, &to);
        queues.push(&to, b"first");
        queues.push(&to, b"next");
        queues.push(&to, b"last");
        let block = |queues: &mut ReceiverQueues| {
            assert!(queues.mark_due(0, timer) && queues.first().is_some());
            assert_eq!(queues.give_up(), None);
            let pause = queues.block().unwrap().1;
            queues.set_timer(0, timer);
            pause.as_millis()
        };
        // 1 ms at first, and 2.
        assert_eq!(block(&mut queues), 2);
        assert!(queues.mark_due(0, timer));
        queues.pop();
        assert!(queues.first().is_some() && queues.block().is_some());
        queues.set_timer(0, timer);
        // 1, 2 and 4 ms since it had room.
        assert_eq!([block(&mut queues), block(&mut queues)], [2, 4]);
        assert!(queues.mark_due(0, timer) && queues.first().is_some());
        assert_eq!(queues.give_up(), Some((to.clone(), 2, 8)));
        assert!(queues.first().is_none() && queues.is_empty());
    }

    #[test]
    fn a_queue_without_datagrams_goes_when_it_is_looked_at() {
        let to = UnixAddr::from("a");
        let mut queues = without_timeout();
        let timer = open(&mut queues, &to);
        assert_eq!(queues.mark_all_due(), [timer]);
        assert!(queues.first().is_none());
        assert!(queues.is_empty());
    }
}
