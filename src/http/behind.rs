//! What came in before an upgrade that was given later, and what follows it.

use std::time::Duration;

use super::held::MAX_LEFT_BYTES;
use super::server::is_ended;
use super::upgrade::Upgraded;
use crate::base::close::{Deadline, Idle, IdleKind};
use crate::base::id::{Timer, TimerId};
use crate::handler::{Conn, Context};
use crate::stream::Closed;

/// How long a pause lasts when it is looked at first.
const FIRST_LOOK: Duration = Duration::from_millis(4);

/// How soon it is looked at behind a deadline, which may have ended the pause.
const NEXT_LOOK: Duration = Duration::from_millis(1);

/// The time between two looks doubles up to this, so that a long pause costs next to nothing.
const MAX_LOOK: Duration = Duration::from_millis(250);

/// Another protocol, with input and an end that the loop has told to HTTP already. They follow
/// when the protocol does not pause.
///
/// The callback of another connection may end a pause, and then nothing is called here: the loop
/// has no input that it would show again. So a timer looks, and only while there is something left.
pub(super) struct Behind<A> {
    inner: Box<dyn Upgraded<A>>,
    /// What is not consumed so far.
    rest: Vec<u8>,
    /// Whether the rest comes again without new bytes: behind a pause, or once there is room.
    waits: bool,
    /// Whether the end of the client is still to be told, behind the rest.
    has_ended: bool,
    /// When the pause is looked at.
    look: Option<TimerId>,
    /// How long the next look waits.
    wait: Duration,
}

/// Whether nothing is to be handed out: in a pause, and above the high mark.
fn is_held(conn: &Conn<'_>) -> bool {
    conn.is_paused() || conn.is_above_high_mark()
}

impl<A: 'static> Behind<A> {
    pub(super) fn new(inner: Box<dyn Upgraded<A>>, rest: Vec<u8>, has_ended: bool) -> Self {
        Self { inner, rest, waits: false, has_ended, look: None, wait: FIRST_LOOK }
    }

    /// A callback has returned: what is left follows, unless the protocol pauses.
    fn go_on(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        if self.waits && !is_held(conn) {
            self.hand_out(app, conn);
        }
        if is_ended(conn) {
            (self.rest, self.waits, self.has_ended) = (Vec::new(), false, false);
        } else if self.has_ended && !self.waits && !conn.is_paused() {
            self.has_ended = false;
            self.rest = Vec::new(); // a part of a message that will not become whole
            self.inner.on_eof(app, conn);
        }
        if self.is_paused_with_more(conn) && self.look.is_none() {
            self.look = Some(conn.set_timer(self.wait, 0));
            self.wait = (self.wait * 2).min(MAX_LOOK);
        }
    }

    fn is_paused_with_more(&self, conn: &Conn<'_>) -> bool {
        (self.waits || self.has_ended) && conn.is_paused()
    }

    fn hand_out(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        self.cancel_look(conn);
        self.wait = FIRST_LOOK; // the next pause is another one
        let mut is_progress = true;
        while is_progress && !is_ended(conn) {
            let used = self.inner.on_data(app, conn, &self.rest).min(self.rest.len());
            self.rest.drain(..used);
            self.waits = !self.rest.is_empty() && is_held(conn);
            // A pause that has ended within the callback is none.
            is_progress = used > 0 && !self.rest.is_empty() && !self.waits;
        }
    }

    fn cancel_look(&mut self, conn: &mut Conn<'_>) {
        if let Some(look) = self.look.take() {
            conn.cancel_timer(look);
        }
    }
}

impl<A: 'static> Upgraded<A> for Behind<A> {
    /// The protocol itself has been told, and may have seen what is left. It sees that once more,
    /// because it may have paused and gone on since.
    fn on_open(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        self.waits = !self.rest.is_empty();
        self.go_on(app, conn);
    }

    fn on_data(&mut self, app: &mut A, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if self.rest.is_empty() {
            return self.inner.on_data(app, conn, input);
        }
        self.rest.extend_from_slice(input);
        self.hand_out(app, conn); // in a pause too: then it is the last that the loop has
        let left = self.rest.len();
        if left > MAX_LEFT_BYTES {
            log::debug!("{}: {left} bytes of input were left unconsumed", conn.id());
            conn.abort();
        }
        self.go_on(app, conn);
        input.len()
    }

    fn on_drain(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        self.inner.on_drain(app, conn);
        self.go_on(app, conn);
    }

    fn on_eof(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        self.has_ended = true;
        self.go_on(app, conn);
    }

    fn on_idle(&mut self, app: &mut A, conn: &mut Conn<'_>, kind: IdleKind) -> Idle {
        self.inner.on_idle(app, conn, kind)
    }

    fn on_deadline(&mut self, app: &mut A, conn: &mut Conn<'_>) -> Deadline {
        let deadline = self.inner.on_deadline(app, conn);
        // What is handed out may set another deadline, which this one would replace: so it follows
        // in a callback of its own.
        if self.waits || self.has_ended {
            self.cancel_look(conn);
            self.look = Some(conn.set_timer(NEXT_LOOK, 0));
        }
        deadline
    }

    fn on_timer(&mut self, app: &mut A, conn: &mut Conn<'_>, timer: Timer) {
        if self.look == Some(timer.id) {
            self.look = None;
        } else {
            self.inner.on_timer(app, conn, timer);
        }
        self.go_on(app, conn);
    }

    fn on_shutdown(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        self.inner.on_shutdown(app, conn);
    }

    fn on_close(self: Box<Self>, app: &mut A, closed: &Closed, cx: &mut Context<'_>) {
        self.inner.on_close(app, closed, cx);
    }
}
