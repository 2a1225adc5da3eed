//! One WebSocket below the program's callbacks: what comes in; `send` has what goes out.

mod parts;
mod send;

use std::rc::Rc;
use std::time::Duration;

use crate::base::close::Deadline;
use crate::base::id::ConnId;
use crate::handler::{Conn, DeadlineKind};
use crate::ws::CloseCode;
use crate::ws::assembly::{Assembly, Place, inflater_for};
use crate::ws::code::{Fault, parse_close};
use crate::ws::deflate::{Params, Window};
use crate::ws::handler::Kind;
use crate::ws::header::{self, FIN, Header, Opcode};
use crate::ws::room::TOO_SLOW;
use crate::ws::shared::Shared;
use crate::ws::wire::parts::Pauses;

/// What has become of a WebSocket, a bit each.
mod flags {
    /// The client's side.
    pub(super) const CLIENT: u16 = 1;
    /// A Close frame was sent: nothing is sent behind it, and data that come are dropped.
    pub(super) const SAID_CLOSE: u16 = 1 << 1;
    /// Nothing more is read: the peer has said Close, or was failed.
    pub(super) const DONE: u16 = 1 << 2;
    /// Something came since the deadline was last looked at.
    pub(super) const HEARD: u16 = 1 << 3;
    /// A ping was sent because nothing came.
    pub(super) const PINGED: u16 = 1 << 4;
    /// A message is being sent in parts.
    pub(super) const STREAMS: u16 = 1 << 5;
    /// The peer was told that it is in the middle of a message.
    pub(super) const INCOMPLETE: u16 = 1 << 6;
    /// The program has paused reading.
    pub(super) const PAUSED: u16 = 1 << 7;
    /// Reading is paused until others have had their turn.
    pub(super) const YIELDED: u16 = 1 << 8;
    /// Messages are delivered in parts.
    pub(super) const IN_PARTS: u16 = 1 << 9;
    /// The program has paused reading since the deadline was last looked at.
    pub(super) const WAS_PAUSED: u16 = 1 << 10;
    /// The ping, or the Close frame, was seen to stand behind output.
    pub(super) const BEHIND: u16 = 1 << 11;
}

use flags::{
    BEHIND, CLIENT, DONE, HEARD, IN_PARTS, INCOMPLETE, PAUSED, PINGED, SAID_CLOSE, STREAMS,
    WAS_PAUSED, YIELDED,
};

/// Bytes that one look at the input may inflate before other connections have their turn. A message
/// is inflated whole, whatever its size.
const INFLATE_BUDGET: usize = 1 << 20;

/// Bytes of a context that is kept that cost as much as one that is inflated: each message, sent or
/// received, has its context copied, and one that is sent has it looked through.
const CONTEXT_SHARE: usize = 8;

/// How long the rest of the input waits then: the shortest time there is.
const YIELD: Duration = Duration::from_millis(1);

/// Between two looks at a connection that is not pinged.
const LONG: Duration = Duration::from_secs(86_400);

/// What both sides have agreed on in the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Which of the subprotocols, by its place in the options.
    pub(super) protocol: Option<u8>,
    pub(super) deflate: Option<Params>,
}

/// What the peer said last.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) code: CloseCode,
    pub(super) reason: Box<str>,
    pub(super) is_clean: bool,
}

/// What a WebSocket holds now and then. Behind one pointer, and not one each, because that is a
/// quarter of what an idle one has.
#[derive(Default)]
pub(super) struct Extra {
    /// The message that is coming in, and waits for more input.
    assembly: Option<Box<Assembly>>,
    /// What was sent, if a context is kept.
    sent: Window,
    /// What was received, likewise.
    received: Window,
    farewell: Option<Farewell>,
    /// When reading was paused, if a message may come in parts.
    pauses: Pauses,
    /// When the connection is looked at next, if its reading has yielded since the last time.
    next_look: Option<Duration>,
}

impl Extra {
    fn is_empty(&self) -> bool {
        let has_windows = !(self.sent.bytes().is_empty() && self.received.bytes().is_empty());
        let has_clocks = self.next_look.is_some() || self.pauses != Pauses::default();
        let is_used = has_windows || has_clocks;
        !is_used && self.assembly.is_none() && self.farewell.is_none()
    }
}

/// What has come in.
#[derive(Debug)]
pub(super) enum Step {
    /// A whole message.
    Message(Kind, Place),
    /// A part of a message; the assembly has it.
    Part,
    /// A pong; its payload is kept by the assembly.
    Pong,
    /// There is no more in the input, or nothing more is read.
    Wait,
}

/// A WebSocket. Small, because an idle one is this and its state.
pub(super) struct Wire {
    pub(super) shared: Rc<Shared>,
    /// What one that is idle, and keeps no context, does not have.
    extra: Option<Box<Extra>>,
    pub(super) agreed: Agreed,
    flags: u16,
}

impl Wire {
    pub(super) fn new(shared: Rc<Shared>, agreed: Agreed, is_client: bool) -> Self {
        let in_parts = if shared.options.parts.is_some() { IN_PARTS } else { 0 };
        let flags = in_parts | if is_client { CLIENT } else { 0 };
        Self { shared, extra: None, agreed, flags }
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    fn put(&mut self, flag: u16, is_set: bool) {
        self.flags = if is_set { self.flags | flag } else { self.flags & !flag };
    }

    pub(super) fn is_client(&self) -> bool {
        self.has(CLIENT)
    }

    /// Whether messages can be sent.
    pub(super) fn is_open(&self) -> bool {
        !self.has(SAID_CLOSE | DONE)
    }

    /// Whether nothing more is read.
    pub(super) fn is_done(&self) -> bool {
        self.has(DONE)
    }

    /// The handshake is done.
    pub(super) fn open(&mut self, conn: &mut Conn<'_>) {
        self.shared.count(|stats| stats.opened += 1);
        conn.set_deadline(DeadlineKind::User, self.shared.options.ping_interval);
    }

    // What comes in.

    /// Bytes came in: the message that they go on with, or the buffers that all share.
    #[inline]
    pub(super) fn begin_input(&mut self) -> Box<Assembly> {
        self.put(HEARD, true);
        let waiting = if self.extra.is_some() { self.resume_assembly() } else { None };
        let mut assembly = waiting.unwrap_or_else(|| self.shared.take_assembly());
        assembly.inflated = 0;
        self.shared.begin_work();
        assembly
    }

    #[cold]
    fn resume_assembly(&mut self) -> Option<Box<Assembly>> {
        let mut extra = self.extra.take()?;
        let assembly = extra.assembly.take();
        self.keep_extra(extra);
        assembly
    }

    fn keep_extra(&mut self, extra: Box<Extra>) {
        if extra.is_empty() {
            self.shared.put_back_extra(extra);
        } else {
            self.extra = Some(extra);
        }
    }

    fn extra(&mut self) -> &mut Extra {
        let shared = &self.shared;
        self.extra.get_or_insert_with(|| shared.take_extra())
    }

    /// What the peer said last.
    pub(super) fn farewell(&self) -> Option<&Farewell> {
        self.extra.as_ref()?.farewell.as_ref()
    }

    /// The input was looked at.
    #[inline]
    pub(super) fn end_input(&mut self, conn: &mut Conn<'_>, assembly: Box<Assembly>) {
        let is_busy = assembly.is_busy() && !self.is_done();
        if is_busy {
            self.extra().assembly = Some(assembly);
        } else if !self.is_done() {
            self.shared.put_back(assembly);
            if self.extra.is_some() {
                self.end_clocks();
            }
        }
        // A message in parts may last: it has a rate of its own.
        let is_declared = is_busy && !self.has(IN_PARTS);
        if self.has(INCOMPLETE) != is_declared {
            self.put(INCOMPLETE, is_declared);
            conn.declare_incomplete(is_declared);
        }
    }

    /// Whether the rest of the input waits, because the program wants so, or for others to have
    /// their turn; or is of no use any more, because the program has ended the connection.
    #[inline]
    pub(super) fn yields(
        &mut self,
        conn: &mut Conn<'_>,
        assembly: &Assembly,
        has_more: bool,
    ) -> bool {
        if self.has(PAUSED) || has_more && (is_ended(conn) || is_held_back(conn)) {
            return true;
        }
        let work = assembly.inflated + self.shared.context_bytes() / CONTEXT_SHARE;
        let is_over = work >= INFLATE_BUDGET && self.is_open();
        if is_over {
            self.put(YIELDED, true);
            conn.pause_reading();
            conn.set_deadline(DeadlineKind::User, Some(YIELD));
        }
        is_over
    }

    /// The most frequent frame alone: a message of fewer than 126 bytes, whole, and unmasked or
    /// masked as it should be. Where its bytes are in the input, for a client.
    #[inline]
    pub(super) fn small(
        &self,
        input: &[u8],
        at: &mut usize,
        assembly: &mut Assembly,
    ) -> Option<(Kind, Place)> {
        let rest = &input[*at..];
        let &[first, second, ..] = rest else { return None };
        let kind = match first {
            0x81 => Kind::Text,
            0x82 => Kind::Binary,
            _ => return None,
        };
        let (masked, start) = if self.is_client() { (0, 2) } else { (0x80, 6) };
        let length = usize::from(second ^ masked);
        let is_fit = length < 126 && length <= self.shared.options.max_message_bytes;
        if !is_fit || assembly.is_busy() || self.has(SAID_CLOSE | DONE | IN_PARTS) {
            return None;
        }
        let payload = rest.get(start..start + length)?;
        let begin = *at + start;
        *at = begin + length;
        if masked == 0 {
            return Some((kind, Place::Input(begin..*at)));
        }
        let &[_, _, a, b, c, d, ..] = rest else { return None };
        assembly.take_whole(payload, [a, b, c, d]);
        Some((kind, Place::Assembled))
    }

    /// Looks for the next thing in the input, from `at` on.
    #[inline]
    pub(super) fn step(
        &mut self,
        conn: &mut Conn<'_>,
        input: &[u8],
        at: &mut usize,
        assembly: &mut Assembly,
    ) -> Result<Step, Fault> {
        while !self.is_done() {
            let rest = &input[*at..];
            if assembly.left() > 0 {
                if rest.is_empty() {
                    break;
                }
                *at += self.take(assembly, rest)?;
            } else {
                let Some(header) = header::parse(rest, !self.is_client())? else { break };
                if header.opcode.is_control() {
                    let end = header.size + header.length as usize;
                    let Some(payload) = rest.get(header.size..end) else { break };
                    *at += end;
                    if let Some(step) = self.control(conn, &header, payload, assembly)? {
                        return Ok(step);
                    }
                    continue;
                }
                if let Some(step) = self.whole(&header, rest, at, assembly)? {
                    return Ok(step);
                }
                self.begin(&header, assembly)?;
                *at += header.size;
                if header.length == 0 {
                    self.take(assembly, &[])?;
                }
            }
            if assembly.has_part() && !self.has(SAID_CLOSE) {
                return Ok(Step::Part);
            }
            if assembly.is_whole() {
                if let Some(kind) = assembly.kind().filter(|_| !self.has(SAID_CLOSE)) {
                    return Ok(Step::Message(kind, Place::Assembled));
                }
                self.end_assembled(assembly);
            }
        }
        Ok(Step::Wait)
    }

    /// A message that came whole, in one frame and not compressed: there is nothing to assemble.
    #[inline]
    fn whole(
        &self,
        header: &Header,
        rest: &[u8],
        at: &mut usize,
        assembly: &mut Assembly,
    ) -> Result<Option<Step>, Fault> {
        let kind = match header.opcode {
            Opcode::Text => Kind::Text,
            Opcode::Binary => Kind::Binary,
            _ => return Ok(None),
        };
        let is_apart = header.is_deflated || self.has(SAID_CLOSE | IN_PARTS);
        if !header.is_last || is_apart || assembly.is_begun() {
            return Ok(None);
        }
        if header.length > self.shared.options.max_message_bytes as u64 {
            return Err(Fault::too_big("a message over the limit"));
        }
        let (start, end) = (header.size, header.size + header.length as usize);
        let Some(payload) = rest.get(start..end) else { return Ok(None) };
        let place = if self.is_client() {
            Place::Input(*at + start..*at + end)
        } else {
            assembly.take_whole(payload, header.key);
            Place::Assembled
        };
        *at += end;
        Ok(Some(Step::Message(kind, place)))
    }

    fn begin(&self, header: &Header, assembly: &mut Assembly) -> Result<(), Fault> {
        let Self { shared, extra, .. } = self;
        let agreed = self.agreed.deflate;
        if self.has(SAID_CLOSE) {
            assembly.skip(header);
            return Ok(());
        }
        assembly.begin(header, shared.limits(), || {
            let params = agreed?;
            let window = extra.as_ref().filter(|_| params.peer_keeps);
            let window = window.map(|extra| &extra.received);
            shared.note_context(window.map_or(0, |window| window.bytes().len()));
            Some(shared.with_codecs(|codecs| inflater_for(codecs, window)))
        })
    }

    fn take(&mut self, assembly: &mut Assembly, rest: &[u8]) -> Result<usize, Fault> {
        if self.has(SAID_CLOSE) {
            return Ok(assembly.drop_bytes(rest.len()));
        }
        if self.has(IN_PARTS) {
            return self.take_some(assembly, rest);
        }
        assembly.take(rest, self.shared.limits())
    }

    /// The message was delivered.
    #[inline]
    pub(super) fn end_message(&mut self, assembly: &mut Assembly) {
        if assembly.is_begun() {
            self.end_assembled(assembly);
        } else {
            assembly.clear();
        }
    }

    fn end_assembled(&mut self, assembly: &mut Assembly) {
        let is_kept = self.agreed.deflate.filter(|params| params.peer_keeps);
        let is_noted = assembly.is_inflated() && !self.has(IN_PARTS);
        if let Some(params) = is_kept.filter(|_| is_noted) {
            self.extra().received.push(assembly.bytes(), params.peer_bits);
        }
        if let Some(inflater) = assembly.end() {
            self.shared.with_codecs(|codecs| codecs.put_back(inflater));
        }
    }

    /// A control frame, whole.
    fn control(
        &mut self,
        conn: &mut Conn<'_>,
        header: &Header,
        masked: &[u8],
        assembly: &mut Assembly,
    ) -> Result<Option<Step>, Fault> {
        let payload = assembly.take_control(masked, header.key);
        match header.opcode {
            Opcode::Ping if self.is_open() => {
                self.write(conn, FIN | Opcode::Pong as u8, payload);
            }
            Opcode::Pong if self.is_open() => return Ok(Some(Step::Pong)),
            Opcode::Close => self.answer_close(conn, payload)?,
            _ => {}
        }
        Ok(None)
    }

    /// The peer has said Close.
    fn answer_close(&mut self, conn: &mut Conn<'_>, payload: &[u8]) -> Result<(), Fault> {
        let (code, reason) = parse_close(payload)?;
        self.say_close(conn, code, "");
        self.put(DONE, true);
        self.extra().farewell = Some(Farewell { code, reason: reason.into(), is_clean: true });
        // It is the server that ends the connection beneath.
        if !self.is_client() {
            conn.close();
        }
        Ok(())
    }

    /// The peer has broken a rule: it is told which, and nothing more is read.
    #[cold]
    pub(super) fn fail(&mut self, conn: &mut Conn<'_>, fault: Fault) {
        let now = conn.context().now();
        self.shared.note_fault(conn.id(), fault, now);
        self.say_close(conn, fault.code, fault.text);
        self.put(DONE, true);
        let Fault { code, text } = fault;
        self.extra().farewell = Some(Farewell { code, reason: text.into(), is_clean: false });
        conn.close();
    }

    /// The deadline has passed: of a Close frame's answer, of a pong, or of silence.
    pub(super) fn deadline(&mut self, conn: &mut Conn<'_>) -> Deadline {
        if self.has(SAID_CLOSE) {
            let wait = self.shared.options.close_timeout;
            return self.wait_for_output(conn, wait).unwrap_or(Deadline::Close);
        }
        let (interval, timeout) =
            (self.shared.options.ping_interval, self.shared.options.pong_timeout);
        let now = conn.context().now();
        if self.has(YIELDED) {
            self.put(YIELDED, false);
            if !self.has(PAUSED) {
                conn.resume_reading();
            }
            let left = self.until_look(now, interval.unwrap_or(LONG));
            if !left.is_zero() {
                return Deadline::Keep(left);
            }
        }
        self.note_look();
        if self.is_slow(conn) {
            self.fail(conn, Fault::policy("a message that comes too slowly"));
            return Deadline::Keep(self.shared.options.close_timeout);
        } else if self.has(HEARD | PAUSED | WAS_PAUSED) || interval.is_none() {
            // What is not read is not heard, pongs among it: that is not the peer's silence.
            self.put(HEARD | PINGED | WAS_PAUSED, false);
        } else if self.has(PINGED) {
            if let Some(keep) = self.wait_for_output(conn, timeout) {
                return keep;
            }
            self.shared.count(|stats| stats.lost += 1);
            return Deadline::Reset;
        } else {
            self.put(PINGED, true);
            self.put(BEHIND, conn.pending_bytes() > 0);
            self.write(conn, FIN | Opcode::Ping as u8, b"");
            return Deadline::Keep(timeout);
        }
        Deadline::Keep(interval.unwrap_or(LONG))
    }

    /// Output has fallen to the low mark: the peer reads, and reading may have waited for that.
    pub(super) fn note_drain(&mut self) {
        self.put(HEARD, true);
    }

    /// The connection beneath has ended.
    pub(super) fn end(&mut self, id: ConnId) {
        if self.has(SAID_CLOSE | STREAMS) {
            self.shared.hold(id, false);
        }
        if self.shared.was_closed_by_room(id) && self.farewell().is_none() {
            let (code, reason) = (CloseCode::POLICY, TOO_SLOW.into());
            self.extra().farewell = Some(Farewell { code, reason, is_clean: false });
        }
    }

    pub(super) fn set_paused(&mut self, conn: &mut Conn<'_>, is_paused: bool) {
        if !self.is_open() {
            return; // or the peer's answer would not be read
        }
        self.put(PAUSED, is_paused);
        self.put(WAS_PAUSED, true);
        self.note_pause(&conn.context(), is_paused);
        if is_paused || self.has(YIELDED) {
            conn.pause_reading();
        } else {
            conn.resume_reading();
        }
    }

    /// How long an answer is waited for yet that has not come in its time: what it answers stands
    /// behind output, which a slow peer still takes. If that has left by now, it may have done so a
    /// moment ago, and the peer has its time once more. `None` if the peer has had its time.
    fn wait_for_output(&mut self, conn: &mut Conn<'_>, time: Duration) -> Option<Deadline> {
        let Some(stall) = conn.output_stall() else {
            let was_behind = self.has(BEHIND);
            self.put(BEHIND, false);
            return was_behind.then_some(Deadline::Keep(time));
        };
        self.put(BEHIND, true);
        let left = time.saturating_sub(stall);
        (!left.is_zero()).then_some(Deadline::Keep(left))
    }
}

/// Whether reading waits until the peer has taken output: one read has thousands of messages, and
/// the answers to all of them might be more than may be queued.
fn is_held_back(conn: &Conn<'_>) -> bool {
    conn.is_above_high_mark() && !conn.is_reading()
}

/// Whether the connection has ended, by the program's word or at a limit, so that no input of it is
/// of use any more.
pub(super) fn is_ended(conn: &mut Conn<'_>) -> bool {
    let id = conn.id();
    conn.other_conn(id).is_none()
}
