//! What is said on a connection, and whether what comes back is right.

use waterwheel::{Conn, Written};

use crate::pattern::Pattern;
use crate::plan::Plan;
use crate::tally::Mistake;

/// What is said: the modes decide when, and count.
pub(crate) trait Talk: Sized + 'static {
    /// What has come back on a connection so far.
    type Ear: Default + 'static;

    /// Whether a connection that is to be held idle makes one exchange first, so that what is held
    /// is a connection that was kept.
    const GREETS: bool;

    fn new(plan: &Plan) -> Self;

    /// How many messages may be in flight on a connection of an open loop.
    fn most_in_flight(plan: &Plan) -> u64;

    /// Says what comes before the first message. Returns whether the peer has to answer it.
    fn greet(&mut self, conn: &mut Conn<'_>) -> bool {
        let _ = conn;
        false
    }

    /// Writes `count` messages of a stream, from number `first` on.
    fn send(&mut self, conn: &mut Conn<'_>, stream: u64, first: u64, count: usize) -> Written;

    /// Takes what came in, up to the end of an answer at the most. `so_far` is the number of the
    /// stream, and how many of its messages have left on this connection. An error ends the
    /// connection: what follows would not be understood.
    fn hear(
        &mut self,
        ear: &mut Self::Ear,
        conn: &mut Conn<'_>,
        so_far: (u64, u64),
        input: &[u8],
    ) -> Result<Heard, Mistake>;

    /// The peer has finished sending, which may complete an answer.
    fn hear_end(&mut self, ear: &mut Self::Ear) -> Heard;

    /// What an end of the connection cuts off; `None` between two answers.
    fn cut(&self, ear: &Self::Ear) -> Option<String>;

    /// Says what comes behind the last message. Returns whether the peer has to answer it, by
    /// ending the connection.
    fn bye(&mut self, ear: &mut Self::Ear, conn: &mut Conn<'_>) -> bool {
        let _ = (ear, conn);
        false
    }
}

/// What came in.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Bytes of the input that were taken.
    pub(crate) used: usize,
    /// Answers that are complete now.
    pub(crate) answers: usize,
    /// Bytes of bodies in the answers.
    pub(crate) body_bytes: u64,
    /// What is wrong with the answer, although the connection can go on.
    pub(crate) mistake: Option<Box<Mistake>>,
    /// The peer ends the connection behind this answer.
    pub(crate) is_last: bool,
    /// The peer has answered the greeting.
    pub(crate) is_up: bool,
}

/// Whatever is sent comes back.
pub(crate) struct Echo {
    pattern: Pattern,
    size: usize,
}

/// What of a stream came back.
#[derive(Default)]
pub(crate) struct Received {
    /// Bytes of it.
    bytes: u64,
    /// Of these, bytes of the message that has not come whole.
    of_message: usize,
}

impl Talk for Echo {
    type Ear = Received;

    const GREETS: bool = false;

    fn new(plan: &Plan) -> Self {
        Self { pattern: Pattern::new(plan.seed), size: plan.size }
    }

    fn most_in_flight(_: &Plan) -> u64 {
        u64::MAX
    }

    /// In one call, since the messages lie in one stream.
    #[inline]
    fn send(&mut self, conn: &mut Conn<'_>, stream: u64, first: u64, count: usize) -> Written {
        self.pattern.write(conn, stream, first * self.size as u64, count * self.size)
    }

    #[inline]
    fn hear(
        &mut self,
        ear: &mut Received,
        _: &mut Conn<'_>,
        (stream, sent): (u64, u64),
        input: &[u8],
    ) -> Result<Heard, Mistake> {
        let (size, at) = (self.size, ear.bytes);
        let is_more = at + input.len() as u64 > sent * size as u64;
        if is_more || self.pattern.difference(stream, at, input).is_some() {
            return Err(self.mistake(stream, at, is_more, input));
        }
        ear.bytes += input.len() as u64;
        let bytes = ear.of_message + input.len();
        // Nearly always one: a division takes as long as all the rest.
        let answers = if bytes == size { 1 } else { bytes / size };
        ear.of_message = bytes - answers * size;
        Ok(Heard { used: input.len(), answers, ..Heard::default() })
    }

    fn hear_end(&mut self, _: &mut Received) -> Heard {
        Heard::default()
    }

    /// What is missing is told by the messages without an answer.
    fn cut(&self, _: &Received) -> Option<String> {
        None
    }
}

impl Echo {
    #[cold]
    fn mistake(&self, stream: u64, at: u64, is_more: bool, input: &[u8]) -> Mistake {
        Mistake::bytes(match self.pattern.difference(stream, at, input) {
            Some((index, wanted)) if !is_more => format!(
                "connection {stream}, byte {}: {:#04x} came back for {wanted:#04x}",
                at + index as u64,
                input[index],
            ),
            _ => format!("connection {stream}: more came back than was sent"),
        })
    }
}
