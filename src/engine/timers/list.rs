//! The timers of one connection or socket, to be cancelled with it.

use crate::base::id::TimerId;

/// Ids of timers, among which some may have fired or been cancelled already.
#[derive(Debug, Default)]
pub(crate) struct TimerList(Vec<TimerId>);

/// So many of the newest are searched when one has ended. An older one stays until the list would
/// grow, so that the end of one costs the same however many there are.
const SEARCHED: usize = 8;

impl TimerList {
    /// Keeps a timer; forgets those that are no longer `live` before the list grows.
    pub(crate) fn add(&mut self, timer: TimerId, live: impl Fn(TimerId) -> bool) {
        if self.0.len() == self.0.capacity() {
            self.0.retain(|&timer| live(timer));
        }
        self.0.push(timer);
    }

    /// A timer has ended.
    pub(crate) fn remove(&mut self, timer: TimerId) {
        let first = self.0.len().saturating_sub(SEARCHED);
        if let Some(place) = self.0[first..].iter().position(|&kept| kept == timer) {
            self.0.swap_remove(first + place);
        }
    }

    /// Takes all out, also those that have ended.
    pub(crate) fn take(&mut self) -> Vec<TimerId> {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(number: u32) -> TimerId {
        TimerId::new(number, 1, 1)
    }

    #[test]
    fn a_list_forgets_the_ended_before_it_grows() {
        let mut list = TimerList::default();
        for number in 0..1_000 {
            list.add(timer(number), |kept| kept == timer(0));
        }
        assert!(list.0.len() < 10 && list.0.contains(&timer(0)), "{list:?}");
        assert!(list.take().contains(&timer(999)) && list.is_empty());
    }

    #[test]
    fn one_that_has_ended_goes_if_it_is_among_the_newest() {
        let mut list = TimerList::default();
        (0..20).for_each(|number| list.add(timer(number), |_| true));
        list.remove(timer(19));
        list.remove(timer(15));
        list.remove(timer(0));
        assert_eq!(list.0.len(), 18);
        assert!(list.0.contains(&timer(0)) && !list.0.contains(&timer(15)));
    }
}
