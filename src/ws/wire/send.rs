//! What a WebSocket sends.

use std::rc::Rc;

use crate::handler::{Conn, DeadlineKind};
use crate::stream::Written;
use crate::ws::code::write_close;
use crate::ws::deflate::Params;
use crate::ws::handler::Kind;
use crate::ws::header::{Built, FIN, MAX_CONTROL, Opcode, RSV1};
use crate::ws::mask::copy_masked;
use crate::ws::wire::Wire;
use crate::ws::wire::flags::{BEHIND, DONE, PAUSED, SAID_CLOSE, STREAMS, YIELDED};
use crate::ws::{CloseCode, Frame};

impl Wire {
    /// Sends a frame, as it stands.
    #[inline]
    pub(in crate::ws) fn write(&self, conn: &mut Conn<'_>, first: u8, payload: &[u8]) -> Written {
        if !self.is_client() {
            if payload.len() <= MAX_CONTROL {
                return conn.write_vectored(&[&[first, payload.len() as u8], payload]);
            }
            let head = Built::new(first, payload.len(), None);
            return conn.write_vectored(&[head.as_slice(), payload]);
        }
        let Some(key) = self.shared.random() else {
            conn.abort();
            return Written::Closed;
        };
        let head = Built::new(first, payload.len(), Some(key));
        self.shared.with_masked(|masked| {
            if masked.len() < payload.len() {
                masked.resize(payload.len(), 0);
            }
            copy_masked(masked, payload, key);
            conn.write_vectored(&[head.as_slice(), &masked[..payload.len()]])
        })
    }

    /// Sends a message.
    #[inline]
    pub(in crate::ws) fn send(
        &mut self,
        conn: &mut Conn<'_>,
        kind: Kind,
        payload: &[u8],
    ) -> Written {
        if self.has(SAID_CLOSE | DONE | STREAMS) {
            return self.refuse();
        }
        let opcode = opcode(kind);
        let written = match self.agreed.deflate {
            Some(params) => self.send_deflated(conn, opcode, payload, params),
            None => self.write(conn, FIN | opcode, payload),
        };
        if written.is_accepted() {
            self.shared.count_sent();
        }
        written
    }

    fn send_deflated(
        &mut self,
        conn: &mut Conn<'_>,
        opcode: u8,
        payload: &[u8],
        params: Params,
    ) -> Written {
        let own = self.shared.options.deflate.filter(|own| payload.len() >= own.min_bytes);
        let Some(own) = own else { return self.write(conn, FIN | opcode, payload) };
        let how = own.how(params.bits);
        let shared = Rc::clone(&self.shared);
        shared.with_codecs(|codecs| {
            let extra = self.extra.as_ref().filter(|_| params.keeps);
            let window = extra.map_or(&[][..], |extra| extra.sent.bytes());
            shared.note_context(window.len());
            let Some(body) = codecs.deflate(payload, window, how) else {
                return self.write(conn, FIN | opcode, payload);
            };
            let written = self.write(conn, FIN | RSV1 | opcode, body);
            if params.keeps && written.is_accepted() {
                self.extra().sent.push(payload, params.bits);
            }
            written
        })
    }

    /// Sends a part of a message as a frame of its own.
    pub(in crate::ws) fn send_part(
        &mut self,
        conn: &mut Conn<'_>,
        kind: Kind,
        part: &[u8],
        is_last: bool,
    ) -> Written {
        if !self.is_open() {
            return Written::Closed;
        }
        let streams = self.has(STREAMS);
        let opcode = if streams { Opcode::Continuation as u8 } else { opcode(kind) };
        let written = self.write(conn, opcode | if is_last { FIN } else { 0 }, part);
        if written.is_accepted() {
            self.put(STREAMS, !is_last);
            if streams == is_last {
                self.shared.hold(conn.id(), !is_last);
            }
            if is_last {
                self.shared.count_sent();
            }
        }
        written
    }

    /// Sends a frame that was made before, whole.
    pub(in crate::ws) fn send_framed(&mut self, conn: &mut Conn<'_>, frame: &Frame) -> Written {
        if self.is_client() || self.agreed.deflate.is_some_and(|params| params.keeps) {
            return self.send(conn, frame.kind(), frame.payload());
        }
        if self.has(SAID_CLOSE | DONE | STREAMS) {
            return self.refuse();
        }
        let written = conn.write(frame.bytes(self.shared_bits(), &self.shared));
        if written.is_accepted() {
            self.shared.count_sent();
        }
        written
    }

    /// The window of frames that were compressed once for all; `None`: they are sent as they are.
    pub(in crate::ws) fn shared_bits(&self) -> Option<u8> {
        self.agreed.deflate.filter(|params| !params.keeps).map(|params| params.bits)
    }

    /// Whether a message can be sent whole now.
    #[cold]
    fn refuse(&self) -> Written {
        if self.is_open() {
            log::error!("a message was to be sent within another that is sent in parts");
        }
        Written::Closed
    }

    /// Sends a ping.
    pub(in crate::ws) fn ping(&mut self, conn: &mut Conn<'_>, payload: &[u8]) -> Written {
        if !self.is_open() {
            return Written::Closed;
        }
        let payload = &payload[..payload.len().min(MAX_CONTROL)];
        self.write(conn, FIN | Opcode::Ping as u8, payload)
    }

    /// Says Close, if it was not said; the peer has its time to answer.
    pub(in crate::ws) fn say_close(&mut self, conn: &mut Conn<'_>, code: CloseCode, reason: &str) {
        if self.has(SAID_CLOSE) {
            return;
        }
        let mut payload = [0; MAX_CONTROL];
        let length = write_close(code, reason, &mut payload);
        // The output may have left when the deadline looks for it, perhaps a moment before.
        self.put(BEHIND, conn.pending_bytes() > 0);
        self.write(conn, FIN | Opcode::Close as u8, &payload[..length]);
        self.put(SAID_CLOSE, true);
        if self.has(PAUSED | YIELDED) {
            self.put(PAUSED | YIELDED, false);
            conn.resume_reading(); // or the answer is never seen
        }
        self.shared.hold(conn.id(), true);
        conn.set_deadline(DeadlineKind::User, Some(self.shared.options.close_timeout));
    }
}

fn opcode(kind: Kind) -> u8 {
    match kind {
        Kind::Text => Opcode::Text as u8,
        Kind::Binary => Opcode::Binary as u8,
    }
}
