//! What a connection waits for, and when its time runs out.

use std::rc::Rc;

use crate::base::close::{IdleKind, TimeoutKind};
use crate::base::tick::{NEVER, after};
use crate::stream::connection::cold::{Meter, put_off};
use crate::stream::connection::{Connection, Expiry, Flags, Phase};

impl<S> Connection<S> {
    /// Bytes came in.
    #[inline]
    pub(crate) fn note_received(&mut self, bytes: usize, now: u64) {
        self.read_at = now;
        let Some(cold) = &mut self.cold else { return };
        if let Some((_, Expiry::Timeout(TimeoutKind::FirstByte))) = cold.wait {
            cold.wait = None;
        }
        if let (Some(meter), Some(rate)) = (&mut cold.receiving, self.config.receive_rate) {
            meter.add(bytes, now, rate);
        }
    }

    /// Bytes left.
    #[inline]
    pub(crate) fn note_sent(&mut self, bytes: usize, now: u64) {
        self.written_at = now;
        let Some(cold) = &mut self.cold else { return };
        if let (Phase::Closing(_), Some((tick, Expiry::Timeout(TimeoutKind::Close)))) =
            (&self.phase, &mut cold.wait)
        {
            // The time that a close may take is that without progress.
            *tick = after(now, self.config.close);
            cold.is_wait_new = true;
        }
        if !self.flags.has(Flags::HAS_OUTPUT) {
            cold.sending = None;
        } else if let (Some(meter), Some(rate)) = (&mut cold.sending, self.config.send_rate) {
            meter.add(bytes, now, rate);
        }
    }

    /// Output that the kernel had taken before has moved, last at this tick.
    pub(crate) fn note_moved(&mut self, at: u64) {
        self.written_at = self.written_at.max(at);
        let is_ending = matches!(self.phase, Phase::Closing(_) | Phase::Lingering(_));
        let wait = self.cold.as_mut().and_then(|cold| cold.wait.as_mut());
        if let (true, Some((tick, Expiry::Timeout(TimeoutKind::Close)))) = (is_ending, wait) {
            *tick = after(at, self.config.close).max(*tick);
        }
    }

    /// Output is queued from now on.
    pub(crate) fn watch_output(&mut self, now: u64) {
        if let Some(rate) = self.config.send_rate {
            self.cold_mut().sending.get_or_insert(Meter::new(now, rate));
        }
    }

    /// Whether a message is incomplete, after the handler has seen what there is. One that is
    /// `new` gets a full measure of time.
    pub(crate) fn watch_message(&mut self, incomplete: bool, new: bool, now: u64) {
        let config = Rc::clone(&self.config);
        let cold = self.cold_mut();
        if !incomplete || new {
            cold.receiving = None;
            if let Some((_, Expiry::Timeout(TimeoutKind::Message))) = cold.wait {
                cold.wait = None;
            }
        }
        if incomplete {
            if let Some(rate) = config.receive_rate {
                cold.receiving.get_or_insert(Meter::new(now, rate));
            }
            if let Some(limit) = config.message {
                cold.begin_wait(after(now, limit), Expiry::Timeout(TimeoutKind::Message));
            }
        }
    }

    /// Gives the connect its time.
    pub(crate) fn set_connect_wait(&mut self, now: u64, ticks: u64) {
        self.cold_mut().wait = Some((after(now, ticks), Expiry::Connect));
    }

    /// Gives the first byte its time.
    pub(super) fn set_first_byte_wait(&mut self, now: u64, ticks: u64) {
        let cold = self.cold_mut();
        cold.wait = None;
        cold.begin_wait(after(now, ticks), Expiry::Timeout(TimeoutKind::FirstByte));
    }

    /// The connect is over or pauses, and no deadline of a phase runs meanwhile.
    pub(crate) fn clear_wait(&mut self) {
        if let Some(cold) = &mut self.cold {
            cold.wait = None;
        }
    }

    /// Gives the close its time, unless it has it already.
    pub(crate) fn set_close_wait(&mut self, now: u64) {
        let tick = after(now, self.config.close);
        self.cold_mut().begin_wait(tick, Expiry::Timeout(TimeoutKind::Close));
    }

    /// The waits of an open connection are over.
    pub(crate) fn clear_waits(&mut self) {
        self.user_deadline = NEVER;
        if let Some(cold) = &mut self.cold {
            (cold.wait, cold.receiving) = (None, None);
        }
    }

    #[inline]
    pub(crate) fn has_user_deadline(&self) -> bool {
        self.user_deadline != NEVER
    }

    /// The shortest of its limits of silence and of the time to the handler's own deadline; `NEVER`
    /// for none.
    #[inline]
    pub(crate) fn shortest_wait(&self, now: u64) -> u64 {
        let left = match self.user_deadline {
            NEVER => NEVER,
            tick => tick.saturating_sub(now),
        };
        left.min(self.config.shortest_idle)
    }

    /// Gives the handler's own deadline its time; `NEVER` for none.
    #[inline]
    pub(crate) fn set_user_deadline(&mut self, tick: u64) {
        self.user_deadline = tick;
    }

    /// The tick at which it must be looked at, if nothing moves before; `NEVER` for never.
    /// `latest` gives the tick until which something may have moved that has a stamp.
    pub(crate) fn deadline(&self, latest: impl Fn(u64) -> u64) -> u64 {
        if self.flags.is_usual() && self.read_at == self.written_at {
            // Just opened, as a rule: in a storm of short connections this is all there is to do.
            let idle = after(latest(self.read_at), self.config.shortest_idle);
            return idle.min(self.user_deadline);
        }
        let mut earliest = NEVER;
        self.each_deadline(latest, |tick, _| earliest = earliest.min(tick));
        earliest
    }

    /// What has run out by now, the earliest first.
    pub(crate) fn expired(&self, now: u64, latest: impl Fn(u64) -> u64) -> Option<Expiry> {
        let mut first: Option<(u64, Expiry)> = None;
        self.each_deadline(latest, |tick, expiry| {
            if tick <= now && first.is_none_or(|(earlier, _)| tick < earlier) {
                first = Some((tick, expiry));
            }
        });
        first.map(|(_, expiry)| expiry)
    }

    fn each_deadline(&self, latest: impl Fn(u64) -> u64, mut each: impl FnMut(u64, Expiry)) {
        if self.is_closed() {
            return;
        }
        if let Some(cold) = &self.cold {
            if let Some(connector) = &cold.connector {
                each(connector.next_at, Expiry::Attempt);
            }
            let awaits_input = matches!(cold.wait, Some((_, Expiry::Timeout(kind)))
                if kind == TimeoutKind::FirstByte || kind == TimeoutKind::Message);
            if let (Some((tick, expiry)), false) = (cold.wait, awaits_input && !self.wants_read()) {
                let limit = self.limit_of(expiry).filter(|_| cold.is_wait_new);
                each(limit.map_or(tick, |limit| put_off(tick, limit, &latest)), expiry);
            }
            if let Some(meter) = cold.sending {
                each(meter.deadline(&latest), Expiry::Timeout(TimeoutKind::SendRate));
            }
        }
        if !self.is_open() {
            return;
        }
        if self.has_user_deadline() {
            each(self.user_deadline, Expiry::Timeout(TimeoutKind::User));
        }
        if let Some(cold) = &self.cold {
            if let Some(meter) = cold.receiving {
                each(meter.deadline(&latest), Expiry::Timeout(TimeoutKind::ReceiveRate));
            }
        }
        let mut limits = self.idle_limits();
        if !self.wants_read() {
            limits.read = None; // it is not the peer who is silent
        }
        let (read, written) = (latest(self.read_at), latest(self.written_at));
        for (limit, since, kind) in [
            (limits.read, read, IdleKind::Read),
            (limits.write, written, IdleKind::Write),
            (limits.all, read.max(written), IdleKind::All),
        ] {
            if let Some(limit) = limit {
                each(after(since, limit), Expiry::Idle(kind));
            }
        }
    }

    /// The time of a wait that counts from the turn in which it began.
    fn limit_of(&self, expiry: Expiry) -> Option<u64> {
        match expiry {
            Expiry::Timeout(TimeoutKind::FirstByte) => self.config.first_byte,
            Expiry::Timeout(TimeoutKind::Message) => self.config.message,
            Expiry::Timeout(TimeoutKind::Close) => Some(self.config.close),
            _ => None,
        }
    }

    /// A turn that began at `start` was long, and has come to its `end`: what has the stamp of its
    /// start may have moved or begun there. What began earlier can have the stamp too, if the turn
    /// before was long: the next one begins where it has ended.
    pub(crate) fn refresh(&mut self, start: u64, end: u64) {
        for stamp in [&mut self.read_at, &mut self.written_at] {
            if *stamp == start {
                *stamp = end;
            }
        }
        let wait = self.cold.as_ref().and_then(|cold| cold.wait);
        let limit = wait.and_then(|(_, expiry)| self.limit_of(expiry));
        let config = &self.config;
        let Some(cold) = &mut self.cold else { return };
        if let (true, Some((tick, _)), Some(limit)) = (cold.is_wait_new, &mut cold.wait, limit) {
            // One that began before keeps the stamp of its own turn.
            if *tick == after(start, limit) {
                (*tick, cold.is_wait_new) = (after(end, limit), false);
            }
        }
        let meters =
            [(&mut cold.receiving, config.receive_rate), (&mut cold.sending, config.send_rate)];
        for (meter, rate) in meters {
            if let (Some(meter), Some(rate)) = (meter, rate) {
                meter.refresh(start, end, rate);
            }
        }
    }

    /// The handler keeps it although it was idle: the limit starts anew.
    pub(crate) fn keep(&mut self, kind: IdleKind, now: u64) {
        if kind != IdleKind::Write {
            self.read_at = now;
        }
        if kind != IdleKind::Read {
            self.written_at = now;
        }
    }
}
