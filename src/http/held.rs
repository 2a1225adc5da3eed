//! Input that has come in while nothing could be done with it: an answer was due, output was above
//! the high mark, or the budget of a callback was used up.

use super::exchange::{Input, ReplyId};
use super::server::{Server, is_ended};
use super::state::{Phase, State};
use crate::handler::{Conn, Context};

/// Input that may gather while an answer is due. Reading goes on up to it, so that the end of the
/// client is seen, and pauses then.
const MAX_HELD_BYTES: usize = 64 << 10;

/// Input that may be held where no pause keeps it from growing, as `Limits::max_input_bytes` has it
/// by default.
const MAX_LEFT_BYTES: usize = 1 << 20;

impl<A: 'static> Server<A> {
    /// Looks at what has come in while the answer was due.
    pub(super) fn go_on(&mut self, cx: &mut Context<'_>, id: ReplyId) {
        self.with(cx, id, |server, state, conn| server.go_on_with(state, conn));
    }

    /// As above, of a connection that is lent already: as a rule nothing is held.
    #[inline]
    pub(super) fn go_on_with(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        if state.held.is_some() || state.is_held || state.has_ended {
            self.feed_held(state, conn, b"");
        }
    }

    /// Takes what has been held, and what has come in behind it.
    pub(super) fn feed_held(&mut self, state: &mut State<A>, conn: &mut Conn<'_>, input: &[u8]) {
        if is_ended(conn) {
            // By the answer to what stood before it, say: nobody would see another one.
            state.held = None;
            return;
        }
        self.shared.begin(conn.context().now());
        if state.is_above && !matches!(state.phase, Phase::Upgraded(_)) {
            self.shared.note_above(); // `on_drain` follows
        }
        if let Some(mut held) = state.held.take() {
            held.extend_from_slice(input);
            let used = self.feed(state, conn, &held);
            held.drain(..used);
            if !held.is_empty() {
                state.held = Some(held);
            }
        }
        if !matches!(state.phase, Phase::Upgraded(_)) {
            state.is_above |= self.shared.is_above;
        }
        self.keep_held(state, conn);
    }

    /// Sees to what is held: when it is looked at again, and that it does not grow.
    pub(super) fn keep_held(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        if let Phase::Upgraded(_) = &state.phase {
            return self.follow_upgrade(state, conn);
        }
        if state.held.is_some() && self.is_out_of_budget() {
            self.go_on_soon(conn);
        }
        let left = state.held.as_ref().map_or(0, |held| held.len());
        if left > MAX_LEFT_BYTES {
            // Output has failed: what comes then is read in spite of a pause. Or the limit of a
            // head is larger.
            log::debug!("{}: {left} bytes of input were left unconsumed", conn.id());
            conn.abort();
        }
        let is_paused = matches!(&state.phase, Phase::Busy(exchange) if exchange.is_paused);
        // A head that has begun is read to its end, which its own limit bounds: no answer is due
        // that would end a pause.
        let is_in_head = matches!(state.phase, Phase::Head) && state.searched > 0;
        if left >= MAX_HELD_BYTES && !is_in_head {
            state.is_held = true;
            conn.pause_reading(); // again, where the body was gone on with
        } else if state.is_held {
            state.is_held = false;
            if !is_paused {
                conn.resume_reading();
            }
        }
        self.end_if_all_is_served(state, conn);
    }

    /// Whether the callback has begun as many requests as it may, and there is room for more
    /// answers.
    fn is_out_of_budget(&self) -> bool {
        self.shared.budget == 0 && !self.shared.is_above
    }

    /// Whether what is left must not stay with the loop, which would not show the client's end
    /// then, and bounds it by ending the connection: an answer is due, or no request may be begun.
    /// Or nothing would come that shows it to the other protocol.
    pub(super) fn must_hold(&self, state: &State<A>) -> bool {
        match &state.phase {
            Phase::Busy(exchange) if exchange.is_paused => false,
            Phase::Busy(exchange) if !exchange.waits_for_body() => true,
            Phase::Busy(_) => self.is_out_of_budget(),
            Phase::Head => self.shared.budget == 0,
            Phase::Upgraded(_) => true,
            Phase::Ended => false,
        }
    }

    /// The budget of this callback is used up, and more has come in.
    #[cold]
    fn go_on_soon(&mut self, conn: &mut Conn<'_>) {
        let key = conn.handler_key::<Self>();
        self.shared.key = Some(key);
        let id = ReplyId { conn: conn.id(), exchange: 0 };
        conn.context().post(key, move |server, cx| server.go_on(cx, id));
    }

    /// A client that has finished sending is done when it has all its answers, and when what it has
    /// sent last is no whole request.
    #[inline]
    pub(super) fn end_if_all_is_served(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        if state.has_ended {
            self.end_what_ended(state, conn);
        }
    }

    #[cold]
    fn end_what_ended(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        let has_more = state.held.is_some() && state.searched == 0;
        match &mut state.phase {
            Phase::Head if has_more && self.shared.budget == 0 => {} // soon, or when there is room
            Phase::Head => conn.close(),
            // No page ends one side only: it has gone.
            Phase::Busy(exchange) if exchange.is_events => {
                self.driver().give_up_request(state, conn);
            }
            Phase::Busy(exchange) => {
                let is_incomplete = !matches!(exchange.input, Input::None);
                let takes_more = exchange.waits_for_body() || state.held.is_none();
                if is_incomplete && takes_more && !exchange.is_paused {
                    self.driver().give_up_request(state, conn);
                }
                // Otherwise the answer is still sent.
            }
            Phase::Upgraded(_) | Phase::Ended => {}
        }
    }

    /// What had come in before an upgrade, and is not consumed, is the other protocol's; so is the
    /// end. The loop hands out both, by its own rules.
    fn follow_upgrade(&mut self, state: &mut State<A>, conn: &mut Conn<'_>) {
        let (held, has_ended) = (state.held.take(), std::mem::take(&mut state.has_ended));
        if held.is_some() || has_ended {
            conn.give_back(held.as_deref().map_or(&[], Vec::as_slice));
        }
    }
}

/// While the reactor drains: behind the reads of this turn, closes the connection if it is idle.
#[cold]
pub(super) fn close_if_idle_soon<A: 'static>(conn: &mut Conn<'_>) {
    let (key, id) = (conn.handler_key::<Server<A>>(), conn.id());
    conn.context().post(key, move |_, cx| {
        cx.with(key, id, |state: &mut State<A>, conn| {
            if is_idle(state, conn) {
                conn.close();
            }
        });
    });
}

/// Whether no request is served, has begun to come in, or may be in the kernel, which is not read
/// before the client has read an answer.
pub(super) fn is_idle<A: 'static>(state: &State<A>, conn: &Conn<'_>) -> bool {
    let is_between = matches!(state.phase, Phase::Head) && state.searched == 0;
    is_between && conn.is_reading() && !has_more(state.held.as_deref(), conn)
}

/// Whether a request waits to be looked at, or a part of one: an empty line is none.
fn has_more(held: Option<&Vec<u8>>, conn: &Conn<'_>) -> bool {
    let is_text = |byte: &u8| !matches!(byte, b'\r' | b'\n');
    held.into_iter().flatten().chain(conn.unconsumed()).any(is_text)
}
