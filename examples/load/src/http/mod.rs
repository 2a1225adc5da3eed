//! Requests of HTTP/1.1, and whether each answer is right: its status, its framing and its body.

mod body;
mod head;
mod request;
mod told;
mod url;
mod wish;

use waterwheel::{Conn, Written};

use crate::plan::Plan;
use crate::talk::{Heard, Talk};
use crate::tally::Mistake;
use body::Body;
use head::{Framing, Head};

pub(crate) use request::Request;
pub(crate) use told::{figures, reworded, settings};
pub(crate) use url::Url;
pub(crate) use wish::{Circumstances, Wish};

/// The longest head of an answer.
const MOST_HEAD_BYTES: usize = 64 << 10;

/// Of a longer body, only so much is compared, and its length.
const MOST_COMPARED_BYTES: usize = 16 << 20;

/// Requests that are written by one call.
const BURST_BYTES: usize = 32 << 10;

/// What the body of an answer must be.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// What the first answer brings.
    First,
    /// This: its beginning, and its length.
    Body(Vec<u8>, u64),
    Any,
}

pub(crate) struct Http {
    /// As many requests as are written by one call.
    burst: Vec<u8>,
    /// Bytes of one request.
    size: usize,
    is_head: bool,
    closes: bool,
    status: u16,
    expected: Expected,
    /// The last head, as it was sent, and what it says: most answers of a server begin alike, and
    /// comparing is cheaper than parsing.
    known: Option<(Vec<u8>, Head)>,
}

/// What has come back on a connection.
pub(crate) struct Ear {
    /// Answers that are complete.
    answered: u64,
    /// What is said by the head of the answer that is coming in; `None` before it.
    head: Option<Head>,
    body: Body,
    /// Bytes of the body so far.
    at: u64,
    /// The body is not what it must be.
    is_different: bool,
    /// The body, while it is not known yet what it must be.
    kept: Vec<u8>,
    /// The last answer has come: nothing may follow.
    is_over: bool,
}

impl Default for Ear {
    fn default() -> Self {
        Self {
            answered: 0,
            head: None,
            body: Body::Length(0),
            at: 0,
            is_different: false,
            kept: Vec::new(),
            is_over: false,
        }
    }
}

impl Talk for Http {
    type Ear = Ear;

    const GREETS: bool = true;

    fn new(plan: &Plan) -> Self {
        let request = plan.http.as_ref().expect("the modes talk HTTP only if the plan has it");
        let size = request.bytes.len();
        let count = plan.depth.min(BURST_BYTES / size).max(1);
        Self {
            burst: request.bytes.repeat(count),
            size,
            is_head: request.method == "HEAD",
            closes: request.closes,
            status: request.status,
            expected: request.expected.clone(),
            known: None,
        }
    }

    /// Servers may take a second request before the first is answered, and many do not like it.
    fn most_in_flight(plan: &Plan) -> u64 {
        plan.depth as u64
    }

    #[inline]
    fn send(&mut self, conn: &mut Conn<'_>, _: u64, _: u64, count: usize) -> Written {
        let mut left = count * self.size;
        loop {
            let piece = &self.burst[..left.min(self.burst.len())];
            let written = conn.write(piece);
            left -= piece.len();
            if left == 0 || !written.is_accepted() {
                return written;
            }
        }
    }

    #[inline]
    fn hear(
        &mut self,
        ear: &mut Ear,
        _: &mut Conn<'_>,
        (stream, sent): (u64, u64),
        input: &[u8],
    ) -> Result<Heard, Mistake> {
        self.read(ear, sent, input).map_err(|why| Mistake {
            kind: "malformed answer".to_owned(),
            what: format!("connection {stream}, answer {}: {why}", ear.answered),
        })
    }

    fn hear_end(&mut self, ear: &mut Ear) -> Heard {
        match (ear.head, &ear.body) {
            (Some(head), Body::UntilEnd) => self.conclude(ear, head),
            _ => Heard::default(),
        }
    }

    fn cut(&self, ear: &Ear) -> Option<String> {
        ear.head?;
        Some(format!("answer {}: {}", ear.answered, ear.body.missing(ear.at)))
    }
}

impl Http {
    /// Takes what came in, up to the end of an answer.
    #[inline]
    fn read(&mut self, ear: &mut Ear, sent: u64, input: &[u8]) -> Result<Heard, String> {
        if ear.is_over {
            return Err("more came behind an answer that said it is the last".to_owned());
        }
        if ear.answered == sent {
            return Err("it came without a request".to_owned());
        }
        let mut used = 0;
        let head = match ear.head {
            Some(head) => head,
            None => match self.read_head(input)? {
                None => return Ok(Heard::default()),
                Some((head, length)) => {
                    used = length;
                    self.begin(ear, head);
                    head
                }
            },
        };
        while !ear.body.is_complete() {
            let Some(piece) = ear.body.take(&input[used..])? else {
                return Ok(Heard { used, ..Heard::default() });
            };
            used += piece.used;
            if !piece.bytes.is_empty() {
                self.compare(ear, head, piece.bytes);
            }
        }
        Ok(Heard { used, ..self.conclude(ear, head) })
    }

    /// Takes a head, and those of interim answers before it.
    #[inline]
    fn read_head(&mut self, input: &[u8]) -> Result<Option<(Head, usize)>, String> {
        if let Some((bytes, head)) = &self.known
            && input.starts_with(bytes)
        {
            return Ok(Some((*head, bytes.len())));
        }
        self.parse_head(input)
    }

    fn parse_head(&mut self, input: &[u8]) -> Result<Option<(Head, usize)>, String> {
        let mut skipped = 0;
        loop {
            let Some((head, length)) = head::parse(&input[skipped..], self.is_head)? else {
                let is_short = input.len() - skipped < MOST_HEAD_BYTES;
                return if is_short { Ok(None) } else { Err("its head has no end".to_owned()) };
            };
            if !matches!(head.status, 100 | 102..200) {
                self.known = Some((input[skipped..skipped + length].to_vec(), head));
                return Ok(Some((head, skipped + length)));
            }
            skipped += length;
        }
    }

    #[inline]
    fn begin(&self, ear: &mut Ear, head: Head) {
        ear.head = Some(head);
        ear.at = 0;
        ear.is_different = false;
        ear.kept.clear();
        ear.body = match head.framing {
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Size,
            Framing::UntilEnd => Body::UntilEnd,
        };
    }

    /// Compares a piece of a body with what it must be.
    #[inline]
    fn compare(&self, ear: &mut Ear, head: Head, piece: &[u8]) {
        let at = usize::try_from(ear.at).unwrap_or(usize::MAX);
        ear.at += piece.len() as u64;
        if head.status != self.status {
            return;
        }
        match &self.expected {
            Expected::Body(body, _) => {
                let body = body.get(at..).unwrap_or_default();
                let count = body.len().min(piece.len());
                ear.is_different |= body[..count] != piece[..count];
            }
            Expected::First => {
                let count = piece.len().min(MOST_COMPARED_BYTES.saturating_sub(ear.kept.len()));
                ear.kept.extend_from_slice(&piece[..count]);
            }
            Expected::Any => {}
        }
    }

    /// An answer is complete.
    #[inline]
    fn conclude(&mut self, ear: &mut Ear, head: Head) -> Heard {
        let mistake = self.judge(ear, head);
        ear.head = None;
        ear.body = Body::Length(0);
        ear.answered += 1;
        ear.is_over = head.is_last;
        let (body_bytes, is_last) = (ear.at, head.is_last);
        Heard { answers: 1, body_bytes, mistake, is_last, ..Heard::default() }
    }

    #[inline]
    fn judge(&mut self, ear: &mut Ear, head: Head) -> Option<Box<Mistake>> {
        if head.status != self.status {
            return Some(self.tell_status(head.status));
        }
        if self.closes && !head.is_last {
            return Some(tell_unannounced());
        }
        if let Expected::First = self.expected {
            self.expected = Expected::Body(std::mem::take(&mut ear.kept), ear.at);
        }
        let Expected::Body(body, length) = &self.expected else { return None };
        if ear.at != *length {
            return Some(tell_length(ear.at, *length));
        }
        if !ear.kept.is_empty() {
            // It has come in beside the first one.
            ear.is_different |= !body.starts_with(&ear.kept);
            ear.kept = Vec::new();
        }
        ear.is_different.then(tell_difference)
    }

    #[cold]
    fn tell_status(&self, status: u16) -> Box<Mistake> {
        Mistake::boxed(format!("status {status}"), format!("status {status}, not {}", self.status))
    }
}

#[cold]
fn tell_unannounced() -> Box<Mistake> {
    let what = "the answer to a request with Connection: close does not say it too";
    Mistake::boxed("no end announced".to_owned(), what.to_owned())
}

#[cold]
fn tell_length(came: u64, wanted: u64) -> Box<Mistake> {
    Mistake::boxed("wrong length".to_owned(), format!("a body of {came} bytes, not {wanted}"))
}

#[cold]
fn tell_difference() -> Box<Mistake> {
    Mistake::boxed("wrong body".to_owned(), "a body of the right length differs".to_owned())
}
