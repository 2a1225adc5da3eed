//! The clock, the wheel, and what each timer is for.

mod list;

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use crate::base::id::{ConnId, SocketId, Timer, TimerId};
use crate::base::memory::GiveBack;
use crate::base::tick::{NANOS_PER_TICK, NEVER, after, ticks};
use crate::base::wheel::{Named, Step, Wheel};
use crate::engine::turn_ends::TurnEnds;
use crate::sys::Clock;

pub(crate) use list::TimerList;

/// Who has set a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A connection: the timer ends with it.
    Connection(ConnId),
    /// A datagram socket, likewise.
    Socket(SocketId),
    /// A handler, by its place in the reactor.
    Handler(u32),
}

/// A timer of the user's that has fired.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fired {
    pub(crate) timer: Timer,
    /// Whether the timer does not fire again.
    pub(crate) is_last: bool,
}

/// What an entry of the wheel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The connection in this slot must be looked at: silence, a deadline.
    Connection(u32),
    /// A timer of the user's: whose it is, and the token that comes back with it.
    User(Owner, u64),
    /// A listener that failed to accept tries again.
    Accept(u32),
    /// A datagram socket that failed to receive tries again.
    Receive(SocketId),
    /// Datagrams that wait for a receiver of a Unix socket, by their place, are tried again.
    #[cfg(unix)]
    Resend(SocketId, u32),
    /// A session of a datagram socket, by its place, may have fallen silent.
    Session(SocketId, u32),
    /// Connections that have lasted get their entry in the wheel.
    Deferred,
    /// The end of draining.
    Drained,
    /// The service manager is told that the loop turns.
    #[cfg(all(feature = "systemd", unix))]
    Watchdog,
}

/// The one entry in the wheel that watches over a connection. Its slot names the entry, so that
/// neither has to keep a name of the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Armed {
    /// The tick at which it fires; [`NEVER`] if there is no entry.
    tick: u64,
}

impl Armed {
    /// No entry.
    pub(crate) const NONE: Self = Self { tick: NEVER };

    /// The tick at which it fires; [`NEVER`] if there is no entry.
    #[inline]
    pub(crate) fn tick(self) -> u64 {
        self.tick
    }

    /// Whether the wheel looks at the connection no later than at a tick.
    #[inline]
    pub(crate) fn covers(self, tick: u64) -> bool {
        self.tick <= tick
    }
}

/// How long a new connection goes without an entry in the wheel at the least, in ticks, and half as
/// long as at the most. Most short-lived ones end before they get one. Limits that could pass
/// meanwhile are armed at once.
const DEFERRED_TICKS: u64 = 100;

/// The clock and all timers of a reactor.
#[derive(Debug)]
pub(crate) struct Timers {
    /// Asked once a turn, and where a callback sets a timer.
    clock: Clock,
    /// The turn's tick.
    now: u64,
    /// When the clock was sampled for it, in nanoseconds.
    sampled: u64,
    /// Whether no turn has begun in its tick before.
    is_first_in_tick: bool,
    /// All timers.
    wheel: Wheel<Due>,
    /// No timer is due before this tick, except user timers that were set in this turn, which are
    /// due after it.
    next_due: u64,
    /// New connections that have idle limits and no entry in the wheel yet, the oldest first.
    deferred: Vec<ConnId>,
    /// So many of them were there when the wheel asked for them last.
    ///
    /// Invariant: at most `deferred.len()`.
    lasted: usize,
    /// The tick since which the others have come.
    deferred_since: u64,
    /// When turns ended that were not over within their tick.
    turn_ends: TurnEnds,
    /// Whose bytes may have moved in this turn, beside those that the poll reported.
    active: Vec<ConnId>,
    /// Events of this turn, or of the last one while the next is prepared.
    reported: usize,
}

impl Timers {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            now: 0,
            sampled: 0,
            is_first_in_tick: false,
            wheel: Wheel::new(),
            next_due: 0,
            deferred: Vec::new(),
            lasted: 0,
            deferred_since: 0,
            turn_ends: TurnEnds::new(),
            active: Vec::new(),
            reported: 0,
        }
    }

    /// The turn's tick.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// The tick by the clock: the turn may have been long already.
    #[inline]
    pub(crate) fn clock_tick(&self) -> u64 {
        self.clock.tick()
    }

    /// The time of day.
    pub(crate) fn system_time(&self) -> SystemTime {
        self.clock.system_time()
    }

    /// Nanoseconds by the clock.
    #[inline]
    pub(crate) fn clock_nanos(&self) -> u64 {
        self.clock.nanos()
    }

    /// A turn begins, or something outside a turn.
    #[inline]
    pub(crate) fn sample_clock(&mut self) {
        self.sampled = self.clock.nanos();
        let now = self.sampled / NANOS_PER_TICK;
        self.is_first_in_tick = now != self.now;
        self.now = now;
    }

    /// When the turn began, in nanoseconds.
    #[inline]
    pub(crate) fn sampled(&self) -> u64 {
        self.sampled
    }

    /// The wheel, to be looked at.
    pub(crate) fn wheel(&self) -> &Wheel<Due> {
        &self.wheel
    }

    /// Every live entry of the wheel: its level and slot, or `None` if it is due; its deadline;
    /// what it is for.
    #[cfg(feature = "sim")]
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Option<(usize, usize)>, u64, Due)> {
        self.wheel.entries().map(|(place, deadline, named)| (place, deadline, due_of(named).1))
    }

    /// Timers that are set.
    pub(crate) fn len(&self) -> usize {
        self.wheel.len()
    }

    /// When the wheel wants to be looked at; [`NEVER`] if no timer is set.
    #[inline]
    pub(crate) fn look_ahead(&mut self) -> u64 {
        self.next_due = self.next_deadline().unwrap_or(NEVER);
        self.next_due
    }

    /// The tick at which to look at the wheel, without preparing the next turn; `None` if no timer
    /// is set.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    /// Whether a timer may be due.
    #[inline]
    pub(crate) fn may_be_due(&self) -> bool {
        self.now >= self.next_due
    }

    /// Has the wheel make a step towards the turn's tick: the next timer that is due, or timers
    /// that were looked at and are not.
    #[inline]
    pub(crate) fn step(&mut self) -> Step<Due> {
        self.wheel.step(self.now)
    }

    /// How long after its deadline the timer has fired that was popped last, in ticks.
    pub(crate) fn lateness(&self) -> u64 {
        self.now.saturating_sub(self.wheel.popped_deadline())
    }

    /// Sets a timer of the loop: once, at the end of `wait`.
    pub(crate) fn set(&mut self, wait: Duration, due: Due) -> TimerId {
        self.wheel.insert(self.end_of(wait), due)
    }

    /// The tick at which a wait that begins now is surely over.
    pub(crate) fn end_of(&self, wait: Duration) -> u64 {
        after(self.clock.tick(), ticks(wait).max(1))
    }

    /// Sets a timer of the loop at a tick.
    pub(crate) fn set_at(&mut self, deadline: u64, due: Due) -> TimerId {
        self.next_due = self.next_due.min(deadline);
        self.wheel.insert(deadline, due)
    }

    /// Takes a timer of the loop back.
    pub(crate) fn cancel(&mut self, timer: TimerId) -> bool {
        self.wheel.cancel(timer)
    }

    // The one entry of a connection.

    /// Sees to it that the wheel looks at a connection no later than at `deadline`.
    ///
    /// A deadline that moved away leaves the entry where it is: the entry fires too early once and
    /// is armed anew, so that activity costs no wheel operation.
    #[inline]
    pub(crate) fn arm(&mut self, id: ConnId, armed: &mut Armed, deadline: u64) {
        if deadline >= armed.tick() {
            return;
        }
        self.wheel.arm(id.index() as u32, deadline);
        self.next_due = self.next_due.min(deadline);
        armed.tick = deadline;
    }

    /// Takes the entry of a connection back.
    #[inline]
    pub(crate) fn disarm(&mut self, id: ConnId, armed: Armed) {
        if armed.tick != NEVER {
            self.wheel.disarm(id.index() as u32);
        }
    }

    /// Whether a limit of so many ticks leaves time to see first whether a new connection lasts.
    #[inline]
    pub(crate) fn may_defer(shortest: u64) -> bool {
        shortest > 3 * DEFERRED_TICKS
    }

    /// Has a new connection armed when it has lasted for a while.
    #[inline]
    pub(crate) fn defer(&mut self, id: ConnId) {
        if self.deferred().is_empty() {
            self.set_deferred();
        }
        self.deferred.push(id);
    }

    #[cold]
    fn set_deferred(&mut self) {
        self.deferred_since = self.now;
        self.wheel.insert(after(self.now, DEFERRED_TICKS), Due::Deferred);
    }

    /// The connections that were deferred, and how many of them have lasted. The list is to be
    /// given back.
    pub(crate) fn take_deferred(&mut self) -> (Vec<ConnId>, usize) {
        if self.now >= self.deferred_since + 2 * DEFERRED_TICKS {
            self.lasted = self.deferred.len(); // the loop is late: no limit must wait for the next
        }
        (std::mem::take(&mut self.deferred), self.lasted)
    }

    /// Gives the list back: those that have lasted are armed, and the others have their time.
    pub(crate) fn give_back_deferred(&mut self, mut deferred: Vec<ConnId>) {
        deferred.drain(..self.lasted);
        deferred.give_back();
        self.lasted = deferred.len();
        self.deferred = deferred;
        if self.lasted > 0 {
            self.set_deferred();
        }
    }

    /// The connections that wait for their entry.
    #[inline]
    pub(crate) fn deferred(&self) -> &[ConnId] {
        &self.deferred
    }

    // Timers of the user's.

    /// Sets a timer of a handler, a connection or a socket: once, or every `wait` if `periodic`.
    pub(crate) fn set_user(
        &mut self,
        owner: Owner,
        wait: Duration,
        periodic: bool,
        token: u64,
    ) -> TimerId {
        let wait = ticks(wait).max(1);
        // The turn may have been long already.
        let deadline = after(self.clock.tick(), wait);
        let period = u32::try_from(wait).unwrap_or(u32::MAX);
        let period = NonZeroU32::new(period).filter(|_| periodic);
        let due = Due::User(owner, token);
        match period {
            Some(period) => self.wheel.insert_periodic(deadline, period, due),
            None => self.wheel.insert(deadline, due),
        }
    }

    /// Takes a timer of the user's back; whose it was, if it was still to fire.
    pub(crate) fn cancel_user(&mut self, timer: TimerId) -> Option<Owner> {
        // What the loop itself has armed stays, whatever id comes here.
        let Some(Due::User(owner, _)) = self.wheel.get(timer) else { return None };
        self.wheel.cancel(timer);
        self.wheel.give_back();
        Some(owner)
    }

    /// Whether a timer of the user's is still to fire.
    pub(crate) fn has_user(&self, timer: TimerId) -> bool {
        self.wheel.contains(timer)
    }

    /// A timer of the user's has fired.
    pub(crate) fn user_fired(&self, id: TimerId, token: u64) -> Fired {
        Fired { timer: Timer { id, token }, is_last: !self.wheel.contains(id) }
    }

    // Silence.

    /// The tick until which something may have moved that has this stamp.
    #[inline]
    pub(crate) fn latest(&self, stamp: u64) -> u64 {
        self.turn_ends.latest(stamp)
    }

    /// Bytes of a connection may move although the poll has reported nothing of it.
    #[inline]
    pub(crate) fn note_active(&mut self, id: ConnId) {
        if self.active.last() != Some(&id) {
            self.active.push(id); // its input and its output are noted one behind the other
        }
    }

    /// The last connection that was noted so in this turn.
    pub(crate) fn last_active(&self) -> Option<ConnId> {
        self.active.last().copied()
    }

    pub(crate) fn take_active(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.active)
    }

    pub(crate) fn give_back_active(&mut self, active: Vec<ConnId>) {
        self.active = active;
    }

    #[inline]
    pub(crate) fn clear_active(&mut self) {
        self.active.clear();
        self.active.give_back();
    }

    /// A turn has seen to so many events.
    #[inline]
    pub(crate) fn set_reported(&mut self, count: usize) {
        self.reported = count;
    }

    /// Connections whose bytes may have moved in this turn, at most.
    #[inline]
    pub(crate) fn moved(&self) -> usize {
        self.reported + self.active.len()
    }

    /// Entries for which the lists and the table of ids have room.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.deferred.capacity().max(self.active.capacity()).max(self.wheel.room_of_ids())
    }

    /// The turn has ended, in a later tick than it began in. Returns whether its stamps stay as
    /// they are; else what has moved or begun in it must be stamped anew.
    pub(crate) fn note_turn_end(&mut self, end: u64) -> bool {
        let is_small = self.moved() <= FEW;
        self.turn_ends.note(self.now, end, self.is_first_in_tick, is_small)
    }

    /// Connections have a limit of so many ticks that counts from their stamps.
    pub(crate) fn note_limit(&mut self, limit: u64) {
        self.turn_ends.note_limit(limit);
    }

    /// The tick in which the turn ended that began in this one.
    pub(crate) fn turn_end(&self, start: u64) -> u64 {
        self.turn_ends.of(start)
    }
}

/// A turn that moved no more connections than that has their stamps renewed: others of its tick
/// would seem younger than they are.
const FEW: usize = 16;

/// What a timer of the wheel is for: those of places are the entries of connections.
#[inline]
pub(crate) fn due_of(named: Named<Due>) -> (TimerId, Due) {
    match named {
        Named::Id(id, due) => (id, due),
        Named::Place(slot) => (TimerId::NONE, Due::Connection(slot)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::World;

    fn timers() -> Timers {
        Timers::new(World::Os.clock())
    }

    fn id(index: u32) -> ConnId {
        ConnId::new(index, 1)
    }

    /// The next that is due, over all steps of the wheel to it.
    fn next_due(timers: &mut Timers) -> Option<(TimerId, Due)> {
        loop {
            match timers.step() {
                Step::Fired(named) => return Some(due_of(named)),
                Step::Moved(_) => {}
                Step::Idle => return None,
            }
        }
    }

    /// What fires until a tick, and when, in a loop that sleeps as long as it may.
    fn fired_until(timers: &mut Timers, end: u64) -> Vec<(u64, Due)> {
        let mut fired = Vec::new();
        while timers.look_ahead() <= end {
            timers.now = timers.now.max(timers.next_due);
            assert!(timers.may_be_due());
            while let Some((_, due)) = next_due(timers) {
                assert_eq!(timers.lateness(), 0);
                fired.push((timers.now, due));
            }
        }
        fired
    }

    #[test]
    fn the_one_entry_of_a_connection_is_of_its_earliest_deadline() {
        let mut timers = timers();
        let mut armed = Armed::NONE;
        assert_eq!((timers.look_ahead(), timers.next_deadline()), (NEVER, None));
        timers.disarm(id(3), armed);
        for (deadline, tick) in [(500, 500), (900, 500), (500, 500), (300, 300)] {
            timers.arm(id(3), &mut armed, deadline);
            assert_eq!((armed.tick(), timers.len(), timers.wheel().len()), (tick, 1, 1));
            timers.now = tick - 1;
            assert!(armed.covers(tick) && !armed.covers(tick - 1) && !timers.may_be_due());
            timers.now = tick;
            assert!(timers.may_be_due());
            timers.now = 0;
        }
        assert_eq!(fired_until(&mut timers, 1_000), [(300, Due::Connection(3))]);
        armed = Armed::NONE;
        timers.arm(id(3), &mut armed, 2_000);
        assert!(timers.next_deadline().is_some());
        timers.disarm(id(3), armed);
        assert_eq!((timers.len(), timers.look_ahead()), (0, NEVER));
    }

    #[test]
    fn a_timer_of_the_loop_is_taken_back_once() {
        let mut timers = timers();
        timers.look_ahead();
        let timer = timers.set_at(70, Due::Drained);
        timers.set_at(80, Due::Accept(5));
        timers.now = 70;
        assert!(timers.may_be_due());
        timers.now = 0;
        assert!(timers.cancel(timer) && !timers.cancel(timer));
        assert_eq!(fired_until(&mut timers, 1_000), [(80, Due::Accept(5))]);
        timers.set_at(90, Due::Drained);
        timers.now = 93;
        assert!(next_due(&mut timers).is_some() && timers.lateness() == 3);
        // A wait is over at the earliest when as much has passed of the clock.
        let before = timers.clock_tick();
        timers.set(Duration::from_millis(200), Due::Drained);
        let range = after(before, 200)..=after(timers.clock_tick(), 200);
        timers.now = before;
        let fired = fired_until(&mut timers, NEVER - 1);
        assert!(fired.len() == 1 && range.contains(&fired[0].0), "{fired:?} {range:?}");
        assert!(timers.end_of(Duration::ZERO) >= after(before, 1));
    }

    #[test]
    fn a_new_connection_is_armed_once_it_has_lasted() {
        let mut timers = timers();
        assert!(Timers::may_defer(301) && !Timers::may_defer(300));
        timers.now = 1_000;
        timers.defer(id(1));
        timers.defer(id(2));
        assert_eq!((timers.deferred(), timers.len()), (&[id(1), id(2)][..], 1));
        for (begun, all, lasted) in
            [(1_000, vec![id(1), id(2)], 0), (1_101, vec![id(1), id(2), id(3)], 2)]
        {
            let fired = fired_until(&mut timers, begun + 150);
            assert_eq!(fired, [(after(begun, DEFERRED_TICKS), Due::Deferred)]);
            let taken = timers.take_deferred();
            assert_eq!(taken, (all, lasted));
            timers.give_back_deferred(taken.0);
            if lasted == 0 {
                timers.defer(id(3));
            }
            assert_eq!(timers.len(), 1);
        }
        assert_eq!(timers.deferred(), [id(3)]);
        fired_until(&mut timers, 1_400);
        let taken = timers.take_deferred();
        assert_eq!(taken, (vec![id(3)], 1));
        timers.give_back_deferred(taken.0);
        assert_eq!((timers.deferred().len(), timers.len()), (0, 0));
        // A loop that is late has none wait for the next time.
        for (late, lasted) in [(2 * DEFERRED_TICKS - 1, 0), (2 * DEFERRED_TICKS, 1)] {
            let mut timers = super::tests::timers();
            timers.now = 50;
            timers.defer(id(1));
            timers.now += late;
            assert_eq!(timers.take_deferred(), (vec![id(1)], lasted));
        }
    }

    #[test]
    fn a_timer_of_the_users_fires_once_or_periodically_until_it_is_taken_back() {
        let mut timers = timers();
        let wait = Duration::from_millis(5);
        let (owner, other) = (Owner::Connection(id(1)), Owner::Handler(2));
        let once = timers.set_user(owner, wait, false, 8);
        let again = timers.set_user(other, wait, true, 9);
        let kept = timers.set_user(owner, wait, false, 10);
        assert!(timers.has_user(once) && timers.has_user(again) && timers.has_user(kept));
        assert_eq!((timers.cancel_user(kept), timers.cancel_user(kept)), (Some(owner), None));
        let mut fired = Vec::new();
        while timers.look_ahead() <= 1_000 {
            timers.now = timers.next_due;
            while let Some((id, due)) = next_due(&mut timers) {
                let Due::User(owner, token) = due else { panic!("{due:?}") };
                let told = timers.user_fired(id, token);
                assert_eq!((told.timer.id, told.timer.token), (id, token));
                fired.push((timers.now, owner, id, token, told.is_last));
            }
        }
        let whose = |it: &(u64, Owner, TimerId, u64, bool)| (it.1, it.2, it.3);
        let (last, rest) = fired.iter().partition::<Vec<_>, _>(|it| it.4);
        assert!(last.len() == 1 && whose(last[0]) == (owner, once, 8), "{last:?}");
        assert!(rest.iter().all(|it| whose(it) == (other, again, 9)), "{rest:?}");
        let ticks: Vec<u64> = rest.iter().map(|it| it.0).collect();
        assert!(ticks.len() > 100 && ticks.windows(2).all(|two| two[1] == two[0] + 5));
        assert!(!timers.has_user(once) && timers.has_user(again));
        assert_eq!(timers.cancel_user(again), Some(other));
        assert_eq!((timers.len(), timers.has_user(again)), (0, false));
    }

    #[test]
    fn the_clock_is_read_at_the_start_of_a_turn() {
        let mut timers = timers();
        let before = timers.clock_nanos();
        timers.sample_clock();
        assert!((before..=timers.clock_nanos()).contains(&timers.sampled()));
        assert_eq!(timers.now(), timers.sampled() / NANOS_PER_TICK);
        assert!(timers.clock_tick() >= timers.now());
        while timers.clock_tick() == timers.now() {} // a millisecond
        let sampled = timers.sampled();
        timers.sample_clock();
        assert!(timers.sampled() > sampled && timers.now() > sampled / NANOS_PER_TICK);
    }

    #[test]
    fn whose_bytes_have_moved_is_noted_until_the_turn_ends() {
        let mut timers = timers();
        for index in [1, 1, 2, 2, 1] {
            timers.note_active(id(index));
            assert_eq!(timers.last_active(), Some(id(index)));
        }
        timers.set_reported(4);
        assert_eq!(timers.moved(), 7);
        let active = timers.take_active();
        assert_eq!(active, [id(1), id(2), id(1)]);
        assert_eq!((timers.moved(), timers.last_active()), (4, None));
        timers.give_back_active(active);
        assert_eq!(timers.moved(), 7);
        timers.clear_active();
        assert_eq!((timers.moved(), timers.last_active()), (4, None));
    }

    #[test]
    fn what_has_the_stamp_of_a_late_turn_may_have_moved_until_its_end() {
        let mut timers = timers();
        (timers.now, timers.reported) = (4, FEW);
        assert!(!timers.note_turn_end(5) && !timers.is_first_in_tick, "so few are stamped anew");
        (timers.now, timers.reported) = (5, FEW + 1);
        assert!(timers.note_turn_end(6) && !timers.is_first_in_tick);
        assert_eq!([4, 5].map(|stamp| timers.latest(stamp)), [4, 6]);
        timers.now = 7;
        assert!(!timers.note_turn_end(9), "a turn before it may have the same stamp");
        assert_eq!([5, 7].map(|start| timers.turn_end(start)), [6, 9]);
        assert_eq!(timers.latest(7), 7);
        while timers.clock_tick() <= 9 {}
        timers.sample_clock();
        let now = timers.now();
        assert!(timers.note_turn_end(now + 9));
        assert_eq!([now, now + 9].map(|stamp| timers.latest(stamp)), [now + 9; 2]);
    }
}
