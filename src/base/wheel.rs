//! A hierarchical timer wheel: ticks go in, timers come out.
//!
//! The wheel has no clock and does no I/O. A tick is whatever the caller counts; the
//! reactor counts milliseconds since it started. Setting and cancelling a timer take constant
//! time however many there are, which is the scheme of George Varghese and Tony Lauck,
//! "Hashed and Hierarchical Timing Wheels" (SOSP 1987).
//!
//! # How it works
//!
//! A tick is read as seven digits of six bits. Level 0 has a slot for each value of the lowest
//! digit, level 1 for each value of the next, and so on. A timer waits on the level of the highest
//! digit in which its deadline differs from the current tick, in the slot of that digit:
//!
//! ```text
//!             digit   6 .. 3   2   1   0
//!      current tick   0 .. 0   4  17  60
//!   deadline, first   0 .. 0   4  17  63   level 0, slot 63
//!  deadline, second   0 .. 0   4  20   5   level 1, slot 20: due some time in those 64 ticks
//! ```
//!
//! When the current tick enters a slot of a higher level, the slot's timers move down to where
//! their lower digits put them (a *cascade*), so that each fires at its exact tick. Timers with
//! equal deadlines always wait in the same slot, in the order in which they were set.
//!
//! A cascade takes one chunk of the slot at a time, and the timers in it that are due fire before
//! the next chunk is looked at. So among a million timers of one slot the first fires at once, and
//! the caller can turn to other work between two chunks. What is set meanwhile for a tick of that
//! slot goes behind its last chunk, because older timers of the same tick may still be in it.
//!
//! # What it costs
//!
//! A slot holds its timers side by side in chunks, not as links through a slab: setting a timer
//! appends a record of 16 bytes to a chunk, and a cascade reads memory in order. The price is that
//! a cancelled timer keeps its record until its slot is opened, or until cancelled timers outnumber
//! the others and one sweep removes them all. The records thus stay within a small multiple of the
//! timers that are set, plus a constant. Beside them stand, for each timer of the busiest moment
//! since the wheel had none, what it carries and eight bytes, and 16 bytes more up to the highest
//! index of one that was put off or is periodic. A sweep is cheap for each timer but
//! handles many at once: among a million timers it can take milliseconds.

use std::fmt;
use std::mem;
use std::num::NonZeroU32;

use crate::base::chunks::Chunks;
use crate::base::id::{IdTable, Key, PlaceTable, TimerId};
use crate::base::memory::{KEPT_ENTRIES, Leaving};

/// The last tick a wheel counts: 2⁴² − 1, which is 139 years of milliseconds.
///
/// Later deadlines and later values of `now` are taken as this tick.
pub const LAST_TICK: u64 = (1 << (DIGIT_BITS * LEVELS as u32)) - 1;

/// Bits in a digit of a tick: 64 slots a level, so that one word tells which are occupied.
const DIGIT_BITS: u32 = 6;

/// Slots in a level.
const SLOTS: usize = 1 << DIGIT_BITS;

/// Levels in the wheel, and digits in a tick.
const LEVELS: usize = 7;

/// Stale records tolerated for each live one before a sweep: a third less work for each
/// cancellation than with one, and memory for four records where one would do at the worst.
const STALE_PER_LIVE: usize = 3;

/// Stale records tolerated beyond that.
///
/// This slack keeps a wheel of a few timers from sweeping at every other cancellation. At 16 bytes
/// a record, at most 4 KiB are wasted.
const STALE_SLACK: usize = 256;

/// Emptied buffers kept for other slots: as many as one cascade to level 0 can ask for.
///
/// At 16 bytes a record they hold at most 256 KiB.
const SPARE_BUFFERS: usize = SLOTS;

/// A hierarchical timer wheel of timers that each carry a payload `T`.
///
/// The wheel keeps a current tick, which starts at 0 and moves only in [`pop_due`](Self::pop_due).
/// Start counting near 0, for example at the start of the program: a wheel ends at [`LAST_TICK`].
///
/// # Examples
///
/// ```
/// use waterwheel::wheel::Wheel;
///
/// let mut wheel = Wheel::new();
/// let retry = wheel.insert(250, "retry");
/// let idle = wheel.insert(30_000, "idle");
/// assert_eq!(wheel.next_deadline(), Some(250));
///
/// assert_eq!(wheel.pop_due(249), None);
/// assert_eq!(wheel.pop_due(251), Some((retry, "retry")));
/// assert_eq!(wheel.pop_due(251), None);
///
/// assert!(wheel.cancel(idle));
/// assert!(wheel.is_empty());
/// ```
pub struct Wheel<T> {
    /// Every deadline before this tick has been popped.
    ///
    /// Invariant: at most [`LAST_TICK`].
    tick: u64,
    /// The due ones of a chunk, to pop before all others: the next is the last.
    ///
    /// Invariant: every deadline in it is at most `tick`.
    due: Vec<Record>,
    /// The rest of the slot that the current tick has entered, to be looked through before the tick
    /// moves on, and what was set for its ticks since.
    ///
    /// Invariant: every deadline in it is at most `horizon`.
    opened: Chunks<Record>,
    /// The last tick of that slot; the current tick if nothing of the slot is left.
    ///
    /// Invariant: at least `tick`.
    horizon: u64,
    /// Timers to come, by level and then by digit.
    ///
    /// Invariant: a record in slot `d` of level `l` agrees with `tick` in all digits above `l`, and
    /// its digit `l` is `d`, which is greater than that of `tick`.
    slots: Box<[Slot; LEVELS * SLOTS]>,
    /// For each level, the slots that hold a record.
    ///
    /// Invariant: bit `d` of word `l` is set exactly when slot `d` of level `l` is not empty.
    occupied: [u64; LEVELS],
    /// Which records are of a live timer.
    ///
    /// Invariant: every live key is in exactly one record of `due`, `opened` and `slots`.
    names: Names,
    /// What the timers with an id carry, by the index of the id.
    payloads: Vec<T>,
    /// Noted deadlines and periods, by the index of the id: up to the highest that a timer with one
    /// had, so that the others take no room here.
    extras: Vec<Extra>,
    /// Timers that are set: those with an id, and those of places.
    live: usize,
    /// Records whose timer was cancelled.
    ///
    /// Invariant: `due`, `opened` and `slots` hold `live + stale` records.
    /// Invariant: at most `STALE_PER_LIVE * live + STALE_SLACK` after a cancellation.
    stale: usize,
    /// Emptied buffers, so that a steady state does not allocate for every tick.
    ///
    /// Invariant: at most `SPARE_BUFFERS`; each is empty and has a capacity.
    spare: Vec<Vec<Record>>,
    /// The deadline of the timer that was popped last.
    popped_deadline: u64,
    /// The memory of ids that were forgotten.
    leaving: Leaving<T, Extra>,
}

impl<T: Copy> Wheel<T> {
    /// Creates an empty wheel whose current tick is 0.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tick: 0,
            due: Vec::new(),
            opened: Chunks::new(),
            horizon: 0,
            slots: Box::new([const { Slot::new() }; LEVELS * SLOTS]),
            occupied: [0; LEVELS],
            names: Names { ids: IdTable::new(), places: PlaceTable::default() },
            payloads: Vec::new(),
            extras: Vec::new(),
            live: 0,
            stale: 0,
            spare: Vec::new(),
            popped_deadline: 0,
            leaving: Leaving::none(),
        }
    }

    /// Sets a timer that fires once, at the tick `deadline` or as soon after it as the caller pops.
    ///
    /// A deadline at or before the current tick is taken as the current tick: the timer is due at
    /// the next [`pop_due`](Self::pop_due), after the timers that are due already. A deadline
    /// after [`LAST_TICK`] is taken as that one.
    ///
    /// # Panics
    ///
    /// Panics if 2³¹ timers are set already.
    pub fn insert(&mut self, deadline: u64, payload: T) -> TimerId {
        let Some(place) = self.place_with_room(deadline) else {
            return self.insert_slowly(deadline, None, payload);
        };
        let key = self.names.ids.allocate();
        self.slots[place.slot()].push_within_room(Record { deadline, key });
        self.begin(key, None, payload)
    }

    /// Sets a timer that fires at the tick `deadline` and then every `period` ticks.
    ///
    /// All its firings have the same id. The next deadline is counted from the last deadline, not
    /// from when it was popped, so the timer keeps its phase; deadlines missed by then are skipped,
    /// so it never fires in a burst. Beyond [`LAST_TICK`] it ends.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::num::NonZeroU32;
    /// use waterwheel::wheel::Wheel;
    ///
    /// let mut wheel = Wheel::new();
    /// let period = NonZeroU32::new(10).ok_or("zero")?;
    /// let id = wheel.insert_periodic(5, period, "ping");
    ///
    /// assert_eq!(wheel.pop_due(37), Some((id, "ping")));
    /// assert_eq!(wheel.pop_due(37), None); // 15, 25 and 35 were missed
    /// assert_eq!(wheel.next_deadline(), Some(45));
    /// assert!(wheel.cancel(id));
    /// # Ok::<(), &str>(())
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if 2³¹ timers are set already.
    pub fn insert_periodic(&mut self, deadline: u64, period: NonZeroU32, payload: T) -> TimerId {
        self.insert_slowly(deadline, Some(period), payload)
    }

    /// Cancels a timer; `false` if the id names none: it has fired or was cancelled before, or
    /// another wheel has made the id.
    ///
    /// The timer does not fire after this, even if its deadline has passed.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        let is_live = self.names.ids.release_id(id);
        if is_live {
            self.note_cancelled();
        }
        is_live
    }

    /// Puts a timer off until the tick `deadline`; `false` if the id names none that is still to
    /// fire. This is for a timeout that every sign of life puts off: it costs a few nanoseconds.
    ///
    /// The wheel only notes the deadline, and moves the timer when the old one has come. So
    /// [`next_deadline`](Self::next_deadline) may still report the old one, and among timers of
    /// equal deadline the timer counts as set when it is moved. A deadline before the noted one
    /// counts only if the timer has not been moved yet, and none before that at which it was set:
    /// to make a timer due earlier, cancel it and set another. A periodic timer goes on from the
    /// new deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// use waterwheel::wheel::Wheel;
    ///
    /// let mut wheel = Wheel::new();
    /// let idle = wheel.insert(30, "idle");
    /// assert!(wheel.postpone(idle, 45));
    /// assert_eq!(wheel.pop_due(44), None);
    /// assert_eq!(wheel.pop_due(45), Some((idle, "idle")));
    /// assert!(!wheel.postpone(idle, 60)); // it has fired
    /// ```
    #[inline]
    pub fn postpone(&mut self, id: TimerId, deadline: u64) -> bool {
        let Some(key) = self.names.ids.key_of(id) else { return false };
        let deadline = deadline.min(LAST_TICK);
        match self.extras.get_mut(key.index()) {
            Some(extra) => extra.postponed_to = deadline,
            None => self.extra_of_new(key).postponed_to = deadline,
        }
        true
    }

    /// Whether the id names a timer that is still to fire.
    #[must_use]
    pub fn contains(&self, id: TimerId) -> bool {
        self.names.ids.key_of(id).is_some()
    }

    /// What a timer carries; `None` if the id names none that is still to fire.
    pub(crate) fn get(&self, id: TimerId) -> Option<T> {
        self.names.ids.key_of(id).map(|key| self.payloads[key.index()])
    }

    /// Sets the one timer of a place, instead of the one that may be set.
    ///
    /// The owner of the wheel numbers the places, such as the slots of a slab. Nothing has to be
    /// kept of such a timer: its place is its name, and all that it carries. Each place up to the
    /// highest one takes four bytes.
    pub(crate) fn arm(&mut self, place: u32, deadline: u64) {
        self.disarm(place);
        if self.names.places.is_worn(place) {
            self.sweep(); // its first generation comes again
        }
        let key = self.names.places.open(place);
        self.live += 1;
        self.set(Record { deadline: deadline.min(LAST_TICK), key });
    }

    /// Cancels the timer of a place, if one is set.
    pub(crate) fn disarm(&mut self, place: u32) {
        if self.names.places.is_open(place) {
            self.names.places.close(place);
            self.note_cancelled();
        }
    }

    /// The tick at which to call [`pop_due`](Self::pop_due) next; `None` when no timer is set.
    ///
    /// The returned tick is never later than the earliest deadline, and is that deadline unless
    /// timers were cancelled or put off: the deadline of a cancelled timer, or the old one of a
    /// timer that was put off, may still be reported, and the pop at that tick then finds nothing.
    /// A timer that is already due counts as the current tick. After a pop that returned a timer
    /// the returned tick may be the current one although nothing more is due: only the next pop
    /// looks for it.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if !self.leaving.is_empty() {
            Some(self.tick) // only the reactor sees it so: `pop_due` goes on until it is empty
        } else if self.is_empty() {
            None
        } else if self.due.is_empty() && self.opened.is_empty() {
            self.first_occupied().map(|place| self.slots[place.slot()].earliest)
        } else {
            Some(self.tick)
        }
    }

    /// Takes the next timer whose deadline is at or before `now`, or moves the current tick to
    /// `now` and returns `None`.
    ///
    /// Timers come in the order of their deadlines, and those of one deadline in the order in which
    /// they were set. The id of a timer that fires once is stale from here on. The work does not
    /// depend on how far `now` lies ahead. A `now` before the current tick is taken as the
    /// current tick, and one after [`LAST_TICK`] as that one.
    ///
    /// The caller decides how many timers to take before it does other work. Timers may be set and
    /// cancelled between two calls.
    ///
    /// # Examples
    ///
    /// ```
    /// use waterwheel::wheel::Wheel;
    ///
    /// let mut wheel = Wheel::new();
    /// let first = wheel.insert(7, 'a');
    /// let second = wheel.insert(7, 'b');
    /// assert_eq!(wheel.pop_due(100), Some((first, 'a')));
    /// wheel.cancel(second);
    /// assert_eq!(wheel.pop_due(100), None);
    /// ```
    pub fn pop_due(&mut self, now: u64) -> Option<(TimerId, T)> {
        loop {
            match self.step(now) {
                // Only the reactor has places, and it calls `step`.
                Step::Moved(_) | Step::Fired(Named::Place(_)) => {}
                Step::Fired(Named::Id(id, payload)) => return Some((id, payload)),
                Step::Idle => return None,
            }
        }
    }

    /// As [`pop_due`](Self::pop_due), where places have timers too, and for a caller who wants to
    /// stop within a cascade.
    #[inline]
    pub(crate) fn step(&mut self, now: u64) -> Step<T> {
        let now = now.clamp(self.tick, LAST_TICK);
        while let Some(record) = self.due.pop() {
            // Without stale records there is no need to look the key up.
            if self.stale == 0 || self.names.is_live(record.key) {
                return self.fire(record, now);
            }
            self.stale -= 1;
        }
        self.step_on(now)
    }

    /// For each slot that is not empty: its level, its number, and how many records it holds.
    /// Cancelled timers count until they are dropped.
    pub(crate) fn occupancy(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let slots = self
            .slots
            .iter()
            .enumerate()
            .map(|(at, slot)| (at / SLOTS, at % SLOTS, slot.chunks.len()));
        slots.filter(|&(_, _, records)| records > 0)
    }

    /// Every live timer: its level and slot, or `None` if the tick has entered its slot; its
    /// deadline; what it is.
    #[cfg(feature = "sim")]
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Option<(usize, usize)>, u64, Named<T>)> {
        let near = self.due.iter().rev().chain(self.opened.iter()).map(|record| (None, record));
        let slots = self.slots.iter().enumerate().flat_map(|(at, slot)| {
            slot.chunks.iter().map(move |record| (Some((at / SLOTS, at % SLOTS)), record))
        });
        let live = near.chain(slots).filter(|(_, record)| self.names.is_live(record.key));
        live.map(|(place, record)| (place, record.deadline, self.named(record.key)))
    }

    /// The deadline of the timer that was popped last.
    pub(crate) fn popped_deadline(&self) -> u64 {
        self.popped_deadline
    }

    /// Where a timer goes that can be set without any memory to be found for it: nearly all can,
    /// and a function that calls no other one has nothing to save.
    #[inline]
    fn place_with_room(&self, deadline: u64) -> Option<Place> {
        if deadline <= self.horizon || !self.names.ids.has_free() {
            return None;
        }
        let place = Place::of(deadline, self.tick);
        let has_room = place.level < LEVELS && self.slots[place.slot()].chunks.has_room();
        has_room.then_some(place)
    }

    /// Sets a timer for which there may be no room.
    #[inline(never)]
    fn insert_slowly(&mut self, deadline: u64, period: Option<NonZeroU32>, payload: T) -> TimerId {
        if !self.names.ids.has_free() {
            self.names.ids.add_indices();
            self.payloads.resize(self.names.ids.indices(), payload);
        }
        let key = self.names.ids.allocate();
        self.set(Record { deadline: deadline.min(LAST_TICK), key });
        self.begin(key, period, payload)
    }

    /// Notes what a timer carries whose record is set.
    #[inline(always)]
    fn begin(&mut self, key: Key, period: Option<NonZeroU32>, payload: T) -> TimerId {
        self.live += 1;
        self.payloads[key.index()] = payload;
        match self.extras.get_mut(key.index()) {
            Some(extra) => *extra = Extra { period, ..Extra::NONE },
            None if period.is_none() => {}
            None => self.extra_of_new(key).period = period,
        }
        self.names.ids.id_of(key)
    }

    /// What a timer has beside that had nothing yet.
    #[inline(never)]
    fn extra_of_new(&mut self, key: Key) -> &mut Extra {
        self.extras.resize(key.index() + 1, Extra::NONE);
        &mut self.extras[key.index()]
    }

    /// A timer was cancelled whose record is left.
    #[inline]
    fn note_cancelled(&mut self) {
        self.live -= 1;
        self.stale += 1;
        if self.stale > STALE_PER_LIVE * self.live + STALE_SLACK {
            self.sweep();
        }
    }

    /// Puts the record of a timer that was set where it belongs.
    #[inline]
    fn set(&mut self, record: Record) {
        debug_assert!(record.deadline <= LAST_TICK);
        if record.deadline <= self.horizon {
            self.opened.push(record, &mut self.spare);
        } else {
            self.place(record);
        }
    }

    /// Puts a record that is not due into the slot in which it belongs at the current tick.
    #[inline(always)] // into `insert`
    fn place(&mut self, record: Record) {
        let place = Place::of(record.deadline, self.tick);
        debug_assert!(place.start(self.tick) > self.tick);
        self.occupied[place.level] |= 1 << place.digit;
        let slot = &mut self.slots[place.slot()];
        slot.earliest = slot.earliest.min(record.deadline);
        slot.chunks.push(record, &mut self.spare);
    }

    /// Ends a timer that has fired for the last time, or sets a periodic one again, and tells what
    /// fired. One that was put off is set again instead.
    #[inline]
    fn fire(&mut self, record: Record, now: u64) -> Step<T> {
        // No extra has the index of a place: it is higher than that of any id.
        let Extra { postponed_to, period } =
            self.extras.get(record.key.index()).copied().unwrap_or(Extra::NONE);
        if postponed_to > record.deadline {
            self.set(Record { deadline: postponed_to, ..record });
            return Step::Moved(1);
        }
        self.popped_deadline = record.deadline;
        let fired = Step::Fired(self.named(record.key));
        if let Some(deadline) = period.and_then(|period| record.deadline_after(period, now)) {
            self.set(Record { deadline, ..record });
        } else {
            self.names.release(record.key);
            self.live -= 1;
        }
        fired
    }

    /// What a live key names.
    #[inline]
    fn named(&self, key: Key) -> Named<T> {
        match key.place() {
            Some(place) => Named::Place(place),
            None => Named::Id(self.names.ids.id_of(key), self.payloads[key.index()]),
        }
    }

    /// The slot that the current tick reaches first.
    fn first_occupied(&self) -> Option<Place> {
        // All slots of a level lie within one slot of the next, and ahead of it: the lowest
        // occupied level comes first whatever the digits are.
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        Some(Place { level, digit: self.occupied[level].trailing_zeros() })
    }

    /// Goes on when the due timers of a chunk have fired: with the next chunk of the slot, or with
    /// the next slot.
    fn step_on(&mut self, now: u64) -> Step<T> {
        if let Some(chunk) = self.opened.pop_front() {
            return Step::Moved(self.cascade(chunk));
        }
        match self.first_occupied() {
            Some(place) if place.start(self.tick) <= now => {
                self.open(place, now);
                Step::Moved(0)
            }
            _ => {
                (self.tick, self.horizon) = (now, now);
                self.give_back();
                match self.leaving.shrink() {
                    0 => Step::Idle,
                    count => Step::Moved(count),
                }
            }
        }
    }

    /// Moves the tick into the slot that it reaches first, on the way to `now`.
    fn open(&mut self, place: Place, now: u64) {
        debug_assert!(self.due.is_empty() && self.opened.is_empty(), "nothing is left behind");
        let earliest = self.slots[place.slot()].earliest;
        debug_assert!(earliest > self.tick && earliest >= place.start(self.tick));
        // Going to the earliest deadline, not to the start of the slot, skips the levels on which
        // a lone timer would only be moved.
        self.tick = earliest.min(now);
        self.horizon = place.end(self.tick);
        self.opened = self.take_slot(place).chunks;
    }

    /// Takes all records out of a slot.
    fn take_slot(&mut self, place: Place) -> Slot {
        self.occupied[place.level] &= !(1 << place.digit);
        mem::replace(&mut self.slots[place.slot()], Slot::new())
    }

    /// Moves the live records of a chunk to where they belong now that the tick has entered their
    /// slot: to the due ones, or to lower levels. Returns how many are not due.
    fn cascade(&mut self, mut chunk: Vec<Record>) -> usize {
        let len = chunk.len();
        if self.stale > 0 {
            self.stale -= self.names.drop_stale(&mut chunk).dropped;
        }
        if self.tick < self.horizon {
            chunk.retain(|&record| {
                let is_due = record.deadline <= self.tick;
                if !is_due {
                    self.place(record);
                }
                is_due
            });
        }
        chunk.reverse();
        let not_due = len - chunk.len();
        let emptied = mem::replace(&mut self.due, chunk);
        self.recycle(emptied);
        not_due
    }

    /// Keeps an emptied buffer for another slot.
    fn recycle(&mut self, mut buffer: Vec<Record>) {
        buffer.clear();
        if buffer.capacity() > 0 && self.spare.len() < SPARE_BUFFERS {
            self.spare.push(buffer);
        }
    }

    /// Drops the records of all cancelled timers.
    ///
    /// A sweep reads at most two records for each cancellation since the last one, and a constant.
    #[cold]
    fn sweep(&mut self) {
        self.stale -= self.names.drop_stale(&mut self.due).dropped;
        let opened = mem::replace(&mut self.opened, Chunks::new());
        self.opened = self.swept(opened).chunks;
        for level in 0..LEVELS {
            let mut digits = self.occupied[level];
            while digits != 0 && self.stale > 0 {
                let place = Place { level, digit: digits.trailing_zeros() };
                digits &= digits - 1;
                let chunks = self.take_slot(place).chunks;
                let slot = self.swept(chunks);
                if !slot.chunks.is_empty() {
                    self.occupied[level] |= 1 << place.digit;
                    self.slots[place.slot()] = slot;
                }
            }
        }
        debug_assert_eq!(self.stale, 0);
    }

    /// The live ones of some records, as a slot.
    fn swept(&mut self, chunks: Chunks<Record>) -> Slot {
        let mut slot = Slot::new();
        for mut chunk in chunks.into_vecs() {
            let Swept { dropped, earliest } = self.names.drop_stale(&mut chunk);
            self.stale -= dropped;
            slot.earliest = slot.earliest.min(earliest);
            let emptied = slot.chunks.append(chunk);
            self.recycle(emptied);
        }
        let last = &mut slot.chunks.last;
        if last.is_empty() {
            let emptied = mem::take(last);
            self.recycle(emptied);
        } else if last.capacity() > 4 * last.len() {
            last.shrink_to(2 * last.len());
        }
        slot
    }

    /// Begins to give back what the busiest moment took, if no timer has an id.
    #[inline]
    pub(crate) fn give_back(&mut self) {
        let is_much = self.payloads.len() > KEPT_ENTRIES && self.leaving.is_empty();
        if is_much && self.names.ids.live() == 0 {
            self.forget_ids();
        }
    }

    #[cold]
    fn forget_ids(&mut self) {
        if let Some(ids) = self.names.ids.give_back() {
            let payloads = mem::take(&mut self.payloads);
            self.leaving = Leaving::new(payloads, mem::take(&mut self.extras), ids);
        }
    }
}

impl<T> Wheel<T> {
    /// The number of timers that are set; a periodic one counts once.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The current tick: every deadline before it has been popped.
    #[must_use]
    pub fn tick(&self) -> u64 {
        self.tick
    }
}

impl<T: Copy> Default for Wheel<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("tick", &self.tick)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// A timer that is set, or has just fired.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named<T> {
    /// An entry that has an id, and what the caller wants back.
    Id(TimerId, T),
    /// That of a place.
    Place(u32),
}

/// What a wheel has done.
pub(crate) enum Step<T> {
    /// A timer has fired.
    Fired(Named<T>),
    /// This many timers were looked at that are not due, or forgotten: there may be more to do.
    Moved(usize),
    /// Nothing is due, and the current tick is the caller's.
    Idle,
}

/// A firing to come: 16 bytes, because a slot has many side by side.
#[derive(Clone, Copy)]
struct Record {
    /// The tick to fire at; before the current tick only if it was set that way.
    deadline: u64,
    /// Whose firing it is: a record whose key is no longer live is stale.
    key: Key,
}

impl Record {
    /// The first deadline of a periodic timer after `now`, unless the wheel ends before it.
    fn deadline_after(&self, period: NonZeroU32, now: u64) -> Option<u64> {
        debug_assert!(self.deadline <= now, "only a due timer fires");
        let period = u64::from(period.get());
        let missed = (now - self.deadline) / period;
        let next = self.deadline + (missed + 1) * period;
        (next <= LAST_TICK).then_some(next)
    }
}

/// What a timer with an id may have beside its record and its payload.
#[derive(Clone, Copy)]
struct Extra {
    /// The deadline to which the timer was put off, if it is later than that of its record.
    postponed_to: u64,
    /// Ticks between two firings.
    period: Option<NonZeroU32>,
}

impl Extra {
    const NONE: Self = Self { postponed_to: 0, period: None };
}

/// The keys of live timers: those that ids name, and those of places.
struct Names {
    ids: IdTable,
    places: PlaceTable,
}

impl Names {
    #[inline]
    fn is_live(&self, key: Key) -> bool {
        match key.place() {
            None => self.ids.is_live(key),
            Some(_) => self.places.is_live(key),
        }
    }

    #[inline]
    fn release(&mut self, key: Key) {
        match key.place() {
            None => self.ids.release(key),
            Some(place) => self.places.close(place),
        }
    }

    /// Removes the stale ones of some records.
    fn drop_stale(&self, records: &mut Vec<Record>) -> Swept {
        // Not `Vec::retain`: that branches on a condition which no branch predictor can learn.
        let (len, mut kept, mut earliest) = (records.len(), 0, u64::MAX);
        for i in 0..len {
            let record = records[i];
            let live = self.is_live(record.key);
            earliest = earliest.min(if live { record.deadline } else { u64::MAX });
            records[kept] = record;
            kept += usize::from(live);
        }
        records.truncate(kept);
        Swept { dropped: len - kept, earliest }
    }
}

/// The timers due within one stretch of ticks: one tick on level 0, 64 on level 1, and so on.
struct Slot {
    chunks: Chunks<Record>,
    /// A tick that no deadline in the slot precedes, and the first of them unless some are stale.
    ///
    /// Invariant: `u64::MAX` when the slot is empty.
    earliest: u64,
}

impl Slot {
    const fn new() -> Self {
        Self { chunks: Chunks::new(), earliest: u64::MAX }
    }

    /// Adds a record where there is room for one: the slot has others then, and so is known to be
    /// occupied.
    #[inline(always)]
    fn push_within_room(&mut self, record: Record) {
        debug_assert!(self.chunks.has_room() && !self.chunks.is_empty());
        self.earliest = self.earliest.min(record.deadline);
        self.chunks.last.push(record);
    }
}

/// Which slot of the wheel.
#[derive(Clone, Copy)]
struct Place {
    /// Less than `LEVELS`, unless it is the place of a deadline after `LAST_TICK`.
    level: usize,
    /// Invariant: less than `SLOTS`.
    digit: u32,
}

impl Place {
    /// Where a timer with this deadline waits at this tick.
    fn of(deadline: u64, tick: u64) -> Self {
        debug_assert!(tick < deadline);
        // They differ: the lowest bit, which decides nothing here, only spares a test for 0.
        let level = (deadline ^ tick | 1).ilog2() / DIGIT_BITS;
        let digit = (deadline >> (level * DIGIT_BITS)) as u32 % SLOTS as u32;
        Self { level: level as usize, digit }
    }

    fn slot(self) -> usize {
        self.level * SLOTS + self.digit as usize
    }

    /// The first tick of the slot, seen from a tick that agrees with it in all higher digits.
    fn start(self, tick: u64) -> u64 {
        let shift = self.level as u32 * DIGIT_BITS;
        let turn = tick >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS);
        turn | u64::from(self.digit) << shift
    }

    /// The last tick of the slot, likewise.
    fn end(self, tick: u64) -> u64 {
        let shift = self.level as u32 * DIGIT_BITS;
        self.start(tick) + (1 << shift) - 1
    }
}

/// What a sweep found in some records.
struct Swept {
    /// Stale records removed.
    dropped: usize,
    /// The first deadline of the live ones; `u64::MAX` if there are none.
    earliest: u64,
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use quickcheck::{Gen, QuickCheck};

    use super::*;
    use crate::base::chunks::CHUNK_RECORDS;
    use crate::base::memory::FORGOTTEN_PER_STEP;

    impl<T> Wheel<T> {
        fn records(&self) -> usize {
            let slots: usize = self.slots.iter().map(|slot| slot.chunks.len()).sum();
            slots + self.due.len() + self.opened.len()
        }

        fn room(&self) -> usize {
            let slots: usize = self.slots.iter().map(|slot| slot.chunks.room()).sum();
            let spare: usize = self.spare.iter().map(Vec::capacity).sum();
            slots + self.due.capacity() + self.opened.room() + spare
        }

        /// Timers with an id for which there is room.
        pub(crate) fn room_of_ids(&self) -> usize {
            self.payloads.capacity().max(self.names.ids.indices()).max(self.leaving.left())
        }
    }

    #[test]
    fn a_record_takes_sixteen_bytes() {
        assert_eq!(size_of::<Record>(), 16);
    }

    #[test]
    fn far_timers_take_little_more_than_their_records() {
        let mut wheel = Wheel::new();
        for i in 0..19_000 {
            wheel.insert(30_000 + i, ());
        }
        assert!(wheel.room() < 20_000, "{} records of room", wheel.room());
    }

    #[test]
    fn rearming_for_ever_keeps_memory_bounded() {
        const LIVE: usize = 1_024; // whole batches of indices
        let mut wheel = Wheel::new();
        let mut ids: Vec<_> = (0..LIVE).map(|i| wheel.insert(30_000, i)).collect();
        for step in 0..100_000 {
            let i = step * 7 % LIVE;
            assert!(wheel.cancel(ids[i]));
            ids[i] = wheel.insert(step as u64 / 10 + 30_000, i);
            assert_eq!(wheel.pop_due(step as u64 / 10), None);
            if step % 50 == 0 {
                assert_eq!(wheel.records(), wheel.len() + wheel.stale);
                assert!(wheel.records() <= (STALE_PER_LIVE + 1) * LIVE + STALE_SLACK + 1);
            }
        }
        assert!(wheel.room() <= 2 * (4 * LIVE + STALE_SLACK) + SPARE_BUFFERS * CHUNK_RECORDS);
        assert_eq!(wheel.names.ids.indices(), LIVE);
    }

    /// More than a chunk of them in one slot, one of which was cancelled.
    #[cfg(feature = "sim")]
    #[test]
    fn what_is_set_is_listed_where_it_waits() {
        let mut wheel = Wheel::new();
        let gone = wheel.insert(7, 0);
        for _ in 0..300 {
            wheel.insert(7, 1);
        }
        let far = [wheel.insert(70, 2), wheel.insert(5_000, 3)];
        assert!(wheel.cancel(gone));
        assert_eq!(wheel.pop_due(6), None);
        let late = wheel.insert(2, 4);
        assert!(wheel.occupancy().eq([(0, 7, 301), (1, 1, 1), (2, 1, 1)]));
        let mut found = Vec::new();
        for (place, deadline, named) in wheel.entries() {
            let Named::Id(id, payload) = named else { panic!("{named:?}") };
            found.push((place, deadline, payload));
            assert!(payload == 1 || [far[0], far[1], late].contains(&id));
        }
        assert_eq!(found[0], (None, 2, 4));
        assert_eq!(found[1..301], [(Some((0, 7)), 7, 1); 300]);
        assert_eq!(found[301..], [(Some((1, 1)), 70, 2), (Some((2, 1)), 5_000, 3)]);
    }

    #[test]
    fn a_burst_leaves_only_the_spare_buffers() {
        let mut wheel = Wheel::new();
        for i in 0..100_000 {
            wheel.insert(1_000 + i % 10, ());
        }
        while wheel.pop_due(2_000).is_some() {}
        assert!(wheel.room() <= (SPARE_BUFFERS + 1) * CHUNK_RECORDS);
    }

    #[test]
    fn a_sweep_waits_until_stale_records_are_too_many_and_then_takes_all() {
        let mut wheel = Wheel::new();
        let ids: Vec<_> = (0..1_000).map(|i| wheel.insert(i + 1, i)).collect();
        // The last cancellation that is let be: 814 stale, and 3 * 186 + 256.
        for (stale, &id) in (1..=814).zip(&ids) {
            assert!(wheel.cancel(id));
            assert_eq!(wheel.stale, stale);
        }
        assert!(wheel.cancel(ids[814]));
        assert_eq!((wheel.stale, wheel.records(), wheel.len()), (0, 185, 185));
    }

    #[test]
    fn a_sweep_counts_what_it_takes_from_the_timers_that_are_due() {
        let mut wheel = Wheel::new();
        let ids: Vec<_> = (0..1_000).map(|i| wheel.insert(1, i)).collect();
        assert_eq!(wheel.pop_due(1), Some((ids[0], 0)));
        for &id in &ids[1..900] {
            assert!(wheel.cancel(id));
            assert_eq!(wheel.records(), wheel.len() + wheel.stale);
        }
        assert!(wheel.stale < 800, "there was a sweep");
        let left: Vec<_> = std::iter::from_fn(|| wheel.pop_due(1)).map(|(_, i)| i).collect();
        assert_eq!(left, (900..1_000).collect::<Vec<_>>());
        assert_eq!(wheel.stale, 0);
    }

    #[test]
    fn a_sweep_gives_memory_back_where_less_than_a_quarter_is_left() {
        for (kept, room) in [(16, 64), (15, 30)] {
            let mut wheel = Wheel::new();
            let ids: Vec<_> = (0..64).map(|i| wheel.insert(50, i)).collect();
            assert_eq!(wheel.slots[50].chunks.room(), 64);
            for &id in &ids[kept..] {
                assert!(wheel.cancel(id));
            }
            wheel.sweep();
            assert_eq!((wheel.slots[50].chunks.len(), wheel.slots[50].chunks.room()), (kept, room));
        }
    }

    #[test]
    fn a_slot_that_gave_memory_back_grows_by_doubling_to_a_chunk_and_no_further() {
        let mut wheel = Wheel::new();
        let ids: Vec<_> = (0..64).map(|i| wheel.insert(50, i)).collect();
        assert!(ids[15..].iter().all(|&id| wheel.cancel(id)));
        wheel.sweep();
        let mut rooms = vec![wheel.slots[50].chunks.room()];
        for i in 15..CHUNK_RECORDS {
            wheel.insert(50, i);
            rooms.push(wheel.slots[50].chunks.room());
        }
        rooms.dedup();
        assert_eq!(rooms, [30, 60, 120, 240, CHUNK_RECORDS]);
    }

    #[test]
    fn a_cascade_looks_at_one_chunk_in_a_step() {
        let mut wheel = Wheel::new();
        let first = wheel.insert(100, 0);
        for i in 1..1_000 {
            wheel.insert(101 + i % 10, i);
        }
        let mut moved = Vec::new();
        loop {
            match wheel.step(100) {
                Step::Moved(count) => moved.push(count),
                // After one chunk, and not after four.
                Step::Fired(Named::Id(id, 0)) => assert_eq!((id, moved.len()), (first, 2)),
                Step::Fired(named) => panic!("{named:?} is not due"),
                Step::Idle => break,
            }
            assert_eq!(wheel.records(), wheel.len());
        }
        // The slot is opened, three whole chunks with the one that is due, and what is left.
        assert_eq!(moved, [0, 255, 256, 256, 232]);
    }

    #[test]
    fn what_is_set_within_a_cascade_fires_behind_older_timers_of_its_tick() {
        let mut wheel = Wheel::new();
        for i in 0..300 {
            wheel.insert(100 + i % 3, i);
        }
        assert!(matches!(wheel.pop_due(100), Some((_, 0))));
        assert_eq!((wheel.tick(), wheel.next_deadline()), (100, Some(100)));
        for (deadline, i) in [(7, 300), (101, 301), (127, 303), (128, 304), (102, 302)] {
            wheel.insert(deadline, i);
        }
        let due = |wheel: &mut Wheel<_>, now| -> Vec<u64> {
            std::iter::from_fn(|| wheel.pop_due(now)).map(|(_, i)| i).collect()
        };
        let class = |class| (0..303).filter(move |i| i % 3 == class);
        assert!(due(&mut wheel, 100).into_iter().eq(class(0).skip(1)));
        assert_eq!(wheel.next_deadline(), Some(101));
        assert!(due(&mut wheel, 101).into_iter().eq(class(1)));
        assert!(due(&mut wheel, 102).into_iter().eq(class(2)));
        assert_eq!(due(&mut wheel, 127), [303]);
        assert_eq!(due(&mut wheel, 128), [304]);
    }

    #[test]
    fn a_sweep_within_a_cascade_takes_what_is_stale_there() {
        let mut wheel = Wheel::new();
        let ids: Vec<_> = (0..1_000).map(|i| wheel.insert(100 + i % 2, i)).collect();
        assert_eq!(wheel.pop_due(100), Some((ids[0], 0)));
        for &id in &ids[1..990] {
            assert!(wheel.cancel(id));
            assert_eq!(wheel.records(), wheel.len() + wheel.stale);
        }
        assert!(wheel.stale < 500, "there was a sweep");
        let left: Vec<_> = std::iter::from_fn(|| wheel.pop_due(101)).map(|(_, i)| i).collect();
        assert_eq!(left, [990, 992, 994, 996, 998, 991, 993, 995, 997, 999]);
    }

    #[test]
    fn a_timer_that_fires_once_has_no_period_of_the_one_before_it() {
        let mut wheel = Wheel::new();
        let once = wheel.insert(5, 'a');
        let periodic = wheel.insert_periodic(5, NonZeroU32::MIN, 'b');
        assert_eq!(wheel.pop_due(5), Some((once, 'a')));
        assert_eq!(wheel.pop_due(5), Some((periodic, 'b')));
        assert_eq!((wheel.get(once), wheel.get(periodic)), (None, Some('b')));
        assert!(wheel.cancel(periodic));
        let next = wheel.insert(8, 'c');
        let others = [wheel.insert(8, 'd'), wheel.insert(8, 'e')]; // the second has a new index
        assert_eq!(wheel.extras.len(), 2, "one that fires once has no place there");
        assert!(others.iter().all(|&id| wheel.cancel(id)));
        assert_eq!(wheel.pop_due(9), Some((next, 'c')));
        assert_eq!((wheel.pop_due(20), wheel.len()), (None, 0));
    }

    #[test]
    fn a_timer_that_is_popped_late_says_since_when_it_was_due() {
        let mut wheel = Wheel::new();
        wheel.insert(70, 'a');
        wheel.insert_periodic(80, NonZeroU32::MIN, 'b');
        for (deadline, payload) in [(70, 'a'), (80, 'b'), (101, 'b')] {
            assert_eq!(wheel.pop_due(deadline.max(100)).map(|(_, popped)| popped), Some(payload));
            assert_eq!(wheel.popped_deadline(), deadline);
        }
    }

    #[test]
    fn a_small_table_of_ids_is_kept() {
        let mut wheel = Wheel::new();
        let ids: Vec<_> = (0..KEPT_ENTRIES).map(|_| wheel.insert(10, ())).collect();
        assert!(ids.iter().all(|&id| wheel.cancel(id)));
        assert_eq!(wheel.pop_due(10), None);
        assert_eq!(wheel.names.ids.indices(), KEPT_ENTRIES);
    }

    #[test]
    fn what_the_busiest_moment_took_goes_back_and_no_id_comes_again() {
        let mut wheel = Wheel::new();
        let mut seen = Vec::new();
        for round in 1..=4 {
            let first = wheel.insert(10 * round, 0);
            let ids: Vec<_> = (0..KEPT_ENTRIES).map(|i| wheel.insert(10 * round, i)).collect();
            assert!(wheel.room_of_ids() > KEPT_ENTRIES);
            assert!(wheel.cancel(first));
            if round % 2 == 0 {
                assert!(ids.iter().all(|&id| wheel.cancel(id)));
            } else {
                while wheel.pop_due(10 * round).is_some() {}
            }
            assert!(wheel.pop_due(10 * round).is_none());
            assert_eq!((wheel.room_of_ids(), wheel.len()), (0, 0), "round {round}");
            seen.extend(ids);
            seen.push(first);
            let mut different = seen.clone();
            different.sort_unstable();
            different.dedup();
            assert_eq!(different.len(), seen.len());
            assert!(!seen.iter().any(|&id| wheel.contains(id)));
        }
    }

    #[test]
    fn what_the_busiest_moment_took_goes_back_piece_by_piece() {
        const PIECES: usize = 5;
        let mut wheel = Wheel::new();
        wheel.arm(0, 100);
        for i in 0..PIECES * FORGOTTEN_PER_STEP {
            wheel.insert(10, i);
        }
        let (mut fired, mut room) = (0, Vec::new());
        loop {
            match wheel.step(10) {
                Step::Fired(_) => fired += 1,
                // The slot is opened and its chunks are looked at, and none is moved.
                Step::Moved(0) => {}
                Step::Moved(count) => {
                    assert_eq!((fired, count), (PIECES * FORGOTTEN_PER_STEP, FORGOTTEN_PER_STEP));
                    room.push(wheel.leaving.room()[0] / FORGOTTEN_PER_STEP);
                    let due = if room.len() < PIECES { 10 } else { 100 };
                    assert_eq!(wheel.next_deadline(), Some(due), "the next piece is asked for");
                    let id = wheel.insert(100, 7);
                    assert!(wheel.cancel(id) && wheel.payloads.len() < FORGOTTEN_PER_STEP);
                }
                Step::Idle => break,
            }
        }
        assert_eq!(room, [4, 3, 2, 1, 0]);
        assert_eq!((wheel.leaving.room(), wheel.len()), ([0; 4], 1));
    }

    #[test]
    fn the_memory_of_a_second_burst_waits_for_that_of_the_first() {
        let mut wheel = Wheel::new();
        for burst in [4 * FORGOTTEN_PER_STEP, 2 * FORGOTTEN_PER_STEP] {
            let ids: Vec<_> = (0..burst).map(|number| wheel.insert(100, number)).collect();
            assert!(ids.into_iter().all(|id| wheel.cancel(id)));
            wheel.give_back();
        }
        let pieces = std::iter::from_fn(|| match wheel.step(10) {
            Step::Moved(count) => Some(count),
            _ => None,
        });
        assert_eq!(pieces.filter(|&count| count == FORGOTTEN_PER_STEP).count(), 6);
        assert_eq!(wheel.leaving.room(), [0; 4]);
    }

    #[test]
    fn a_cascade_leaves_the_cancelled_behind() {
        let mut wheel = Wheel::new();
        let kept = wheel.insert(200, 'a');
        let cancelled = wheel.insert(201, 'b');
        assert!(wheel.cancel(cancelled));
        assert_eq!(wheel.pop_due(195), None); // into the slot of 192 to 255
        assert_eq!((wheel.stale, wheel.records()), (0, 1));
        assert_eq!(wheel.pop_due(300), Some((kept, 'a')));
    }

    #[test]
    fn a_mass_cancellation_frees_the_chunks() {
        let mut wheel = Wheel::new();
        let ids: Vec<_> = (0..100_000).map(|i| wheel.insert(i + 1, i)).collect();
        for (_, &id) in ids.iter().enumerate().filter(|(i, _)| i % 1_000 != 0) {
            assert!(wheel.cancel(id));
        }
        assert!(wheel.records() <= (STALE_PER_LIVE + 1) * wheel.len() + STALE_SLACK);
        assert!(wheel.room() <= 4 * wheel.records() + SPARE_BUFFERS * CHUNK_RECORDS);
        assert!(wheel.spare.len() <= SPARE_BUFFERS);
        assert!(wheel.spare.iter().all(|buffer| buffer.is_empty() && buffer.capacity() > 0));
        let left: Vec<_> = std::iter::from_fn(|| wheel.pop_due(100_000)).map(|(_, i)| i).collect();
        assert_eq!(left, (0..100).map(|i| i * 1_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_steady_state_reuses_its_buffers() {
        let mut wheel = Wheel::new();
        for now in 0..10_000 {
            wheel.insert(now + 40, ());
            wheel.pop_due(now);
        }
        let buffers = |wheel: &Wheel<()>| {
            let used = wheel.slots.iter().filter(|slot| slot.chunks.room() > 0).count();
            used + wheel.spare.len()
        };
        let before = buffers(&wheel);
        for now in 10_000..20_000 {
            wheel.insert(now + 40, ());
            wheel.pop_due(now);
        }
        assert_eq!(buffers(&wheel), before);
    }

    #[test]
    fn an_index_out_of_generations_is_given_up() {
        let mut wheel = Wheel::new();
        let first = wheel.insert(10, 'a');
        wheel.cancel(first);
        wheel.names.ids.wear_out(0);
        let last = wheel.insert(20, 'b');
        assert_eq!(last, TimerId::new(0, u32::MAX, wheel.names.ids.maker()));
        assert!(wheel.cancel(last));
        let next = wheel.insert(30, 'c');
        assert_eq!(next, TimerId::new(1, 1, wheel.names.ids.maker()));
        assert!(!wheel.contains(first) && !wheel.contains(last) && wheel.contains(next));
        assert_eq!(wheel.pop_due(100), Some((next, 'c')));
        assert_eq!(wheel.pop_due(100), None);
    }

    /// All that is due at `now`: the places, and the payloads of the timers with an id.
    fn popped(wheel: &mut Wheel<u32>, now: u64) -> Vec<Result<u32, u32>> {
        let mut popped = Vec::new();
        loop {
            match wheel.step(now) {
                Step::Fired(Named::Place(place)) => popped.push(Ok(place)),
                Step::Fired(Named::Id(_, payload)) => popped.push(Err(payload)),
                Step::Moved(_) => {}
                Step::Idle => return popped,
            }
        }
    }

    #[test]
    fn places_and_ids_fire_in_one_order() {
        let mut wheel = Wheel::new();
        wheel.arm(0, 70);
        wheel.insert(70, 0);
        wheel.arm(3, 5);
        wheel.arm(2, 70);
        assert_eq!((wheel.len(), wheel.next_deadline()), (4, Some(5)));
        assert_eq!(popped(&mut wheel, 69), [Ok(3)]);
        wheel.disarm(3); // it has fired
        assert_eq!(popped(&mut wheel, 70), [Ok(0), Err(0), Ok(2)]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_place_whose_generations_come_again_is_swept_first() {
        let mut wheel = Wheel::<u32>::new();
        wheel.arm(1, 50_000);
        wheel.disarm(1);
        wheel.names.places.wear_out(1);
        wheel.arm(1, 60_000);
        wheel.disarm(1);
        assert_eq!(wheel.stale, 2);
        wheel.arm(1, 70_000); // with the generation of the first one, and none before
        wheel.disarm(1);
        wheel.arm(1, 70_000);
        assert_eq!((wheel.records(), wheel.stale), (2, 1));
        assert_eq!(popped(&mut wheel, 69_999), []);
        assert_eq!(popped(&mut wheel, 70_000), [Ok(1)]);
    }

    #[test]
    fn each_place_has_the_deadline_that_was_set_last() {
        fn property(steps: Vec<(u32, u32, u64)>) {
            let mut wheel = Wheel::<u32>::new();
            let mut model = HashMap::new();
            for (what, place, ticks) in steps {
                let place = place % 300;
                let deadline = wheel.tick() + ((ticks % 200_000) >> (place % 18));
                match what % 6 {
                    0 => {
                        wheel.disarm(place);
                        model.remove(&place);
                    }
                    1 => {
                        let due = model.iter().map(|(&place, &at)| (at, place));
                        let mut due: Vec<_> = due.collect();
                        due.retain(|&(at, _)| at <= deadline);
                        due.sort_unstable();
                        let mut fired: Vec<_> =
                            popped(&mut wheel, deadline).into_iter().flatten().collect();
                        assert!(fired.is_sorted_by_key(|place| model[place]));
                        fired.sort_unstable_by_key(|place| (model[place], *place));
                        assert!(fired.iter().eq(due.iter().map(|(_, place)| place)));
                        model.retain(|_, at| *at > deadline);
                    }
                    _ => {
                        wheel.arm(place, deadline);
                        model.insert(place, deadline);
                    }
                }
                assert_eq!(wheel.len(), model.len());
                assert_eq!(wheel.records(), wheel.len() + wheel.stale);
                let first = model.values().min().copied();
                assert!(wheel.next_deadline() <= first);
                assert_eq!(wheel.next_deadline().is_some(), first.is_some());
            }
        }
        QuickCheck::new().tests(256).rng(Gen::new(500)).quickcheck(property as fn(_));
    }
}
