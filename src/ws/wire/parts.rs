//! A WebSocket whose messages are delivered in parts.

use std::time::Duration;

use crate::handler::{Conn, Context};
use crate::ws::assembly::Assembly;
use crate::ws::code::Fault;
use crate::ws::wire::Wire;
use crate::ws::wire::flags::{IN_PARTS, PAUSED};

impl Wire {
    /// Takes bytes of a frame, as far as they fit into one part.
    pub(super) fn take_some(
        &mut self,
        assembly: &mut Assembly,
        rest: &[u8],
    ) -> Result<usize, Fault> {
        let begun = assembly.bytes().len();
        let (count, slid) = assembly.take_some(rest, self.shared.limits())?;
        let is_kept = self.agreed.deflate.filter(|params| params.peer_keeps);
        if let Some(params) = is_kept.filter(|_| assembly.is_inflated()) {
            let inflated = &assembly.bytes()[begun - slid..];
            self.extra().received.push(inflated, params.peer_bits);
        }
        Ok(count)
    }

    /// Whether a message that comes in parts has brought too little in the time in which it could.
    /// What the program or a full queue of output holds back is not the peer's fault.
    pub(super) fn is_slow(&mut self, conn: &mut Conn<'_>) -> bool {
        let has_output = conn.pending_bytes() > 0;
        let options = &self.shared.options;
        let (Some(parts), Some(interval)) = (options.parts, options.ping_interval) else {
            return false;
        };
        let Some(extra) = self.extra.as_mut() else { return false };
        let Some(assembly) = extra.assembly.as_mut() else { return false };
        let (cx, rate) = (conn.context(), parts.min_bytes_per_second);
        let (now, pauses) = (cx.now(), &mut extra.pauses);
        let since = assembly.rated_since().filter(|_| !has_output);
        let Some(since) = since else {
            assembly.rate_anew(now);
            pauses.forget(now);
            return false;
        };
        // Both may have been at the end of their turns.
        let passed = now.saturating_sub(cx.turn_end(since)).saturating_sub(pauses.time(&cx));
        if passed < interval / 2 {
            return false; // the next look is for this time too
        }
        let is_slow = assembly.is_slower(rate, passed);
        assembly.rate_anew(now);
        pauses.forget(now);
        is_slow
    }

    /// The program has paused or resumed reading.
    pub(super) fn note_pause(&mut self, cx: &Context<'_>, is_paused: bool) {
        if self.has(IN_PARTS) {
            let pauses = &mut self.extra().pauses;
            if is_paused { pauses.begin(cx) } else { pauses.end(cx) }
        }
    }

    /// No message is coming in.
    #[cold]
    pub(super) fn end_clocks(&mut self) {
        let is_paused = self.has(PAUSED);
        let Some(mut extra) = self.extra.take() else { return };
        extra.next_look = None;
        if !is_paused {
            extra.pauses = Pauses::default();
        }
        self.keep_extra(extra);
    }

    /// Reading has yielded, which took the place of a look: how long it is to the next one. A
    /// message that has it yield again and again does not put that off.
    pub(super) fn until_look(&mut self, now: Duration, interval: Duration) -> Duration {
        let extra = self.extra.as_mut().filter(|extra| extra.assembly.is_some());
        let Some(extra) = extra else { return interval };
        let due = *extra.next_look.get_or_insert(now.saturating_add(interval));
        due.saturating_sub(now)
    }

    /// The connection is looked at.
    pub(super) fn note_look(&mut self) {
        match &mut self.extra {
            Some(extra) if extra.assembly.is_some() => extra.next_look = None,
            Some(_) => self.end_clocks(),
            None => {}
        }
    }
}

/// How long reading was paused since the rate of a message was last looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pauses {
    /// Since when reading is paused.
    since: Option<Duration>,
    /// The turn in which it was resumed: to its end nothing was read either.
    resumed: Option<Duration>,
    /// How long the pauses were up to then.
    time: Duration,
}

impl Pauses {
    fn begin(&mut self, cx: &Context<'_>) {
        self.settle(cx);
        self.since.get_or_insert(cx.now());
    }

    fn end(&mut self, cx: &Context<'_>) {
        if let Some(since) = self.since.take() {
            self.time += cx.now().saturating_sub(since);
            self.resumed = Some(cx.now());
        }
    }

    fn settle(&mut self, cx: &Context<'_>) {
        if let Some(at) = self.resumed.take() {
            self.time += cx.turn_end(at).min(cx.now()).saturating_sub(at);
        }
    }

    fn time(&mut self, cx: &Context<'_>) -> Duration {
        self.settle(cx);
        self.time + self.since.map_or(Duration::ZERO, |since| cx.now().saturating_sub(since))
    }

    /// Those up to now count no longer.
    fn forget(&mut self, now: Duration) {
        *self = Self { since: self.since.map(|_| now), ..Self::default() };
    }
}
