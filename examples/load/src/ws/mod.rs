//! Echoes over WebSocket (RFC 6455), with a codec that shares nothing with the server's: each
//! message must come back as it was sent, in one frame or in many.

mod frame;
mod hello;

use waterwheel::{Conn, Written};

use crate::pattern::{Pattern, mix};
use crate::plan::Plan;
use crate::talk::{Heard, Talk};
use crate::tally::Mistake;
use frame::Head;

pub(crate) use hello::Hello;

/// What is written by one call: so much of a message, or messages that are as long together. A
/// multiple of four, because that is how masks go on.
const BURST_BYTES: usize = 32 << 10;

/// The longest head of a frame.
const MOST_HEAD_BYTES: usize = 14;

pub(crate) struct Ws {
    pattern: Pattern,
    size: u64,
    hello: Vec<u8>,
    /// The number of the next mask.
    next_key: u64,
    /// What is about to be written.
    out: Vec<u8>,
}

/// What has come back on a connection.
#[derive(Default)]
pub(crate) struct Ear {
    /// The server has agreed to speak WebSocket.
    is_up: bool,
    /// Messages that are complete.
    answered: u64,
    /// Bytes of the next one so far.
    at: u64,
    /// The next one has begun.
    is_begun: bool,
    /// Bytes of its frame that are to come.
    left: u64,
    /// That frame ends it.
    is_last_frame: bool,
    said_close: bool,
    heard_close: bool,
}

impl Talk for Ws {
    type Ear = Ear;

    const GREETS: bool = false;

    fn new(plan: &Plan) -> Self {
        let hello = plan.ws.as_ref().expect("the modes talk WebSocket only if the plan has it");
        Self {
            pattern: Pattern::new(plan.seed),
            size: plan.size as u64,
            hello: hello.bytes.clone(),
            next_key: mix(plan.seed),
            out: Vec::with_capacity(BURST_BYTES + MOST_HEAD_BYTES),
        }
    }

    fn most_in_flight(_: &Plan) -> u64 {
        u64::MAX
    }

    fn greet(&mut self, conn: &mut Conn<'_>) -> bool {
        conn.write(&self.hello);
        true
    }

    #[inline]
    fn send(&mut self, conn: &mut Conn<'_>, stream: u64, first: u64, count: usize) -> Written {
        for number in first..first + count as u64 {
            let key = self.key();
            frame::write_head(&mut self.out, frame::BINARY, self.size, key);
            let mut done = 0;
            while done < self.size {
                let piece = (self.size - done).min(BURST_BYTES as u64) as usize;
                let begin = self.out.len();
                self.out.resize(begin + piece, 0);
                let bytes = &mut self.out[begin..];
                self.pattern.fill(stream, number * self.size + done, bytes);
                frame::mask(bytes, key);
                done += piece as u64;
                if self.out.len() >= BURST_BYTES && done < self.size {
                    let written = self.flush(conn);
                    if !written.is_accepted() {
                        return written;
                    }
                }
            }
            if self.out.len() >= BURST_BYTES {
                let written = self.flush(conn);
                if !written.is_accepted() {
                    return written;
                }
            }
        }
        self.flush(conn)
    }

    #[inline]
    fn hear(
        &mut self,
        ear: &mut Ear,
        conn: &mut Conn<'_>,
        (stream, sent): (u64, u64),
        input: &[u8],
    ) -> Result<Heard, Mistake> {
        if !ear.is_up {
            return hear_hello(ear, stream, input);
        }
        self.read(ear, conn, (stream, sent), input).map_err(|(kind, why)| Mistake {
            kind,
            what: format!("connection {stream}, message {}: {why}", ear.answered),
        })
    }

    fn hear_end(&mut self, ear: &mut Ear) -> Heard {
        let is_cut_short = ear.said_close && !ear.heard_close;
        let what = "the server ends the connection without a Close frame".to_owned();
        let mistake = is_cut_short.then(|| Mistake::boxed("no Close".to_owned(), what));
        Heard { mistake, ..Heard::default() }
    }

    fn cut(&self, ear: &Ear) -> Option<String> {
        if ear.said_close && !ear.heard_close {
            return Some("no answer to the Close frame".to_owned());
        }
        let (at, size) = (ear.at, self.size);
        ear.is_begun.then(|| format!("message {}: {at} of {size} bytes", ear.answered))
    }

    fn bye(&mut self, ear: &mut Ear, conn: &mut Conn<'_>) -> bool {
        ear.said_close = true;
        self.control(conn, frame::CLOSE, &1000_u16.to_be_bytes());
        true
    }
}

fn hear_hello(ear: &mut Ear, stream: u64, input: &[u8]) -> Result<Heard, Mistake> {
    match hello::check(input) {
        Ok(None) => Ok(Heard::default()),
        Ok(Some(used)) => {
            ear.is_up = true;
            Ok(Heard { used, is_up: true, ..Heard::default() })
        }
        Err(why) => Err(Mistake {
            kind: "no WebSocket".to_owned(),
            what: format!("connection {stream}, the answer to the handshake: {why}"),
        }),
    }
}

/// The kind of a mistake, and what it is.
type Wrong = (String, String);

fn malformed(why: String) -> Wrong {
    ("malformed frame".to_owned(), why)
}

impl Ws {
    /// Another mask for each frame: no secret, since nobody listens in on a test.
    #[inline]
    fn key(&mut self) -> [u8; 4] {
        self.next_key = self.next_key.wrapping_add(1);
        (mix(self.next_key) as u32).to_ne_bytes()
    }

    #[inline]
    fn flush(&mut self, conn: &mut Conn<'_>) -> Written {
        let written = conn.write(&self.out);
        self.out.clear();
        written
    }

    fn control(&mut self, conn: &mut Conn<'_>, opcode: u8, payload: &[u8]) {
        let key = self.key();
        frame::write_head(&mut self.out, opcode, payload.len() as u64, key);
        let begin = self.out.len();
        self.out.extend_from_slice(payload);
        frame::mask(&mut self.out[begin..], key);
        self.flush(conn);
    }

    /// Takes what came in, up to the end of a message.
    #[inline]
    fn read(
        &mut self,
        ear: &mut Ear,
        conn: &mut Conn<'_>,
        (stream, sent): (u64, u64),
        input: &[u8],
    ) -> Result<Heard, Wrong> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            if ear.left == 0 {
                let Some(head) = Head::parse(rest).map_err(malformed)? else { break };
                if head.is_control() {
                    let Some(payload) = rest[head.size..].get(..head.length as usize) else {
                        break;
                    };
                    used += head.size + payload.len();
                    self.hear_control(ear, conn, head.opcode, payload)?;
                    continue;
                }
                self.begin(ear, &head, sent)?;
                used += head.size;
            }
            let rest = &input[used..];
            let piece = &rest[..rest.len().min(usize::try_from(ear.left).unwrap_or(usize::MAX))];
            self.compare(ear, stream, piece)?;
            used += piece.len();
            if ear.left > 0 {
                break;
            }
            if ear.is_last_frame {
                self.end(ear)?;
                return Ok(Heard { used, answers: 1, ..Heard::default() });
            }
        }
        Ok(Heard { used, ..Heard::default() })
    }

    #[inline]
    fn begin(&self, ear: &mut Ear, head: &Head, sent: u64) -> Result<(), Wrong> {
        let wanted = if ear.is_begun { frame::CONTINUATION } else { frame::BINARY };
        if head.opcode != wanted {
            let found = head.opcode;
            return Err(malformed(format!("a frame of kind {found}, not of kind {wanted}")));
        }
        if ear.answered == sent || ear.heard_close {
            return Err(malformed("more came back than was sent".to_owned()));
        }
        if head.length > self.size - ear.at {
            return Err(wrong_length(ear.at.saturating_add(head.length), self.size));
        }
        ear.is_begun = true;
        ear.left = head.length;
        ear.is_last_frame = head.is_last;
        Ok(())
    }

    #[inline]
    fn compare(&self, ear: &mut Ear, stream: u64, piece: &[u8]) -> Result<(), Wrong> {
        let at = ear.answered * self.size + ear.at;
        if let Some((index, wanted)) = self.pattern.difference(stream, at, piece) {
            let (place, found) = (ear.at + index as u64, piece[index]);
            let why = format!("byte {place}: {found:#04x} came back for {wanted:#04x}");
            return Err(("wrong bytes".to_owned(), why));
        }
        ear.at += piece.len() as u64;
        ear.left -= piece.len() as u64;
        Ok(())
    }

    /// The last frame of a message is complete.
    #[inline]
    fn end(&self, ear: &mut Ear) -> Result<(), Wrong> {
        if ear.at != self.size {
            return Err(wrong_length(ear.at, self.size));
        }
        ear.at = 0;
        ear.is_begun = false;
        ear.answered += 1;
        Ok(())
    }

    fn hear_control(
        &mut self,
        ear: &mut Ear,
        conn: &mut Conn<'_>,
        opcode: u8,
        payload: &[u8],
    ) -> Result<(), Wrong> {
        match opcode {
            frame::PING => self.control(conn, frame::PONG, payload),
            frame::CLOSE => {
                ear.heard_close = true;
                if !ear.said_close {
                    return Err(closed_by_server(payload));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cold]
fn wrong_length(came: u64, wanted: u64) -> Wrong {
    ("wrong length".to_owned(), format!("it has {came} bytes or more, not {wanted}"))
}

#[cold]
fn closed_by_server(payload: &[u8]) -> Wrong {
    let (code, reason) = match payload {
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]).to_string(), reason),
        _ => ("without a code".to_owned(), &[][..]),
    };
    let reason = String::from_utf8_lossy(reason);
    (format!("closed by the server: {code}"), format!("the server said Close {code} {reason:?}"))
}
