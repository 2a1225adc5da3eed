//! One transfer, as the loop sees it.

use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;

use transfer::bars::{Bar, Bars};
use transfer::name;
use transfer::wire::{self, Put};
use waterwheel::{Conn, DeadlineKind, frame};

use crate::writer::{End, Job};

/// Bytes that one sender may be ahead of its disk.
const AHEAD_BYTES: usize = 1 << 20;

/// Bytes a second that content comes at, at the least: a sender that drips keeps a place that
/// another one could have.
pub(crate) const LEAST_RATE: u64 = 1 << 10;

/// Bytes a second that any disk reads: a sender may take so long over its checksum.
const READ_RATE: u64 = 4 << 20;

/// What a small buffer counts for.
const LEAST_COST: usize = 4 << 10;

/// Why a transfer ends before it is whole.
pub(crate) type Reason = String;

/// One transfer.
pub(crate) struct Transfer {
    name: String,
    /// Who sends it.
    peer: SocketAddr,
    length: u64,
    /// Bytes that have come, those of earlier transfers among them.
    received: u64,
    stage: Stage,
    /// Longest wait for a sender that has nothing to read.
    timeout: Duration,
    /// So many bytes must have come before the deadline of the connection.
    due: u64,
    /// Its thread, or the one that it will have.
    writer: Sender<Job>,
    /// What its thread has and has not written.
    ahead: usize,
    /// Buffers to be used again.
    spares: Vec<Vec<u8>>,
    bar: Option<Bar>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The thread looks at what there is, or waits for another to end.
    Opening,
    /// So much is there; the sender says where it goes on.
    Offered(u64),
    /// The bytes come.
    Content,
    /// The checksum comes.
    Trailer,
    /// The thread brings it to the disk.
    Saving,
}

impl Transfer {
    pub(crate) fn new(put: Put, peer: SocketAddr, timeout: Duration, writer: Sender<Job>) -> Self {
        Self {
            name: put.name,
            peer,
            length: put.length,
            received: 0,
            stage: Stage::Opening,
            timeout,
            due: 0,
            writer,
            ahead: 0,
            spares: Vec::new(),
            bar: None,
        }
    }

    /// Takes one step of what has come; how many bytes it took, 0 if it needs more.
    pub(crate) fn step(
        &mut self,
        conn: &mut Conn<'_>,
        input: &[u8],
        bars: &Bars,
    ) -> Result<usize, Reason> {
        match self.stage {
            Stage::Content => return Ok(self.take(conn, input)),
            // It comes again when there is an offer. Who sends nothing before is not paused, and
            // so is heard when it goes.
            Stage::Opening => {
                conn.pause_reading();
                return Ok(0);
            }
            // It has said all that counts.
            Stage::Saving => return Ok(input.len()),
            Stage::Offered(_) | Stage::Trailer => {}
        }
        let Some((line, taken)) = line_of(input)? else { return Ok(0) };
        match self.stage {
            _ if wire::is_wait(line) => {}
            Stage::Offered(have) => self.go_on(conn, line, have, bars)?,
            _ => self.finish(conn, line)?,
        }
        Ok(taken)
    }

    /// Sets how long the connection may live on as it is. A `wait` does not move that, so that a
    /// sender cannot keep its place for ever.
    fn set_patience(&mut self, conn: &mut Conn<'_>) {
        let patience = match self.stage {
            // The thread is not waited for by the sender's fault.
            Stage::Opening | Stage::Saving => None,
            Stage::Offered(have) => Some(self.timeout + time_to_read(have)),
            Stage::Content => {
                self.due = self.received + LEAST_RATE * self.timeout.as_secs();
                Some(self.timeout)
            }
            Stage::Trailer => Some(self.timeout + time_to_read(self.length)),
        };
        conn.set_deadline(DeadlineKind::User, patience);
    }

    /// The thread has seen what there is.
    pub(crate) fn offer(&mut self, conn: &mut Conn<'_>, have: u64, sum: u32) {
        self.stage = Stage::Offered(have);
        conn.write(wire::ok(have, sum).as_bytes());
        conn.resume_reading();
        self.set_patience(conn);
    }

    /// The sender says where it goes on.
    fn go_on(
        &mut self,
        conn: &mut Conn<'_>,
        line: &[u8],
        have: u64,
        bars: &Bars,
    ) -> Result<(), Reason> {
        let offset = wire::parse_from(line).filter(|&offset| offset == 0 || offset == have);
        let offset = offset.ok_or_else(|| match have {
            0 => "this is not `from 0`".to_owned(),
            _ => format!("this is not `from 0` or `from {have}`"),
        })?;
        self.received = offset;
        self.bar = Some(bars.add(&self.name, self.length, offset));
        self.stage = if offset == self.length { Stage::Trailer } else { Stage::Content };
        self.set_patience(conn);
        self.ask(Job::From(offset));
        Ok(())
    }

    /// Hands bytes to the thread; lets the sender wait if that is behind.
    fn take(&mut self, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let left = self.length - self.received;
        let taken = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let mut buffer = self.spares.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(&input[..taken]);
        self.received += taken as u64;
        self.ahead += cost(&buffer);
        self.ask(Job::Bytes(buffer));
        if self.received == self.length {
            self.stage = Stage::Trailer;
        }
        if self.ahead >= AHEAD_BYTES {
            conn.pause_reading();
            conn.set_deadline(DeadlineKind::User, None);
        } else if self.stage == Stage::Trailer || self.received >= self.due {
            self.set_patience(conn);
        }
        taken
    }

    /// The thread has written this.
    pub(crate) fn wrote(&mut self, conn: &mut Conn<'_>, buffer: Vec<u8>) {
        self.ahead -= cost(&buffer);
        self.spares.push(buffer);
        if self.ahead <= AHEAD_BYTES / 2 && conn.is_paused() {
            conn.resume_reading();
            self.set_patience(conn);
        }
    }

    fn finish(&mut self, conn: &mut Conn<'_>, line: &[u8]) -> Result<(), Reason> {
        let sum = wire::parse_trailer(line).ok_or_else(|| "this is not `sum SUM`".to_owned())?;
        self.stage = Stage::Saving;
        self.set_patience(conn);
        self.ask(Job::Finish(sum));
        Ok(())
    }

    /// Whether it is whole, and is being saved: then nothing more is wanted of its sender.
    pub(crate) fn is_saving(&self) -> bool {
        self.stage == Stage::Saving
    }

    /// Whether the sender waits for us.
    pub(crate) fn is_ours_to_move(&self) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Saving) || self.ahead > 0
    }

    /// How far it has come.
    pub(crate) fn progress(&self) -> String {
        format!("{} of {} bytes", self.received, self.length)
    }

    pub(crate) fn show(&self) {
        if let Some(bar) = &self.bar {
            bar.show(self.received);
        }
    }

    /// What there is to say of it at its end; an error if it is not received.
    pub(crate) fn conclude(self, end: End) -> Result<String, String> {
        let name = name::shown(&self.name);
        match end {
            End::Saved => {
                let summary = self.bar.as_ref().map(|bar| bar.summary(self.length));
                Ok(format!("received {name}: {}", summary.unwrap_or_default()))
            }
            End::WasThere => Ok(format!("received {name}: it was there already")),
            End::Failed(reason) => Err(format!("{name} from {}: {reason}", self.peer)),
        }
    }

    fn ask(&self, job: Job) {
        // A thread that has ended has said why, and that is on its way.
        let _ = self.writer.send(job);
    }
}

/// The next line, if it is whole, and how many bytes it takes with its end.
pub(crate) fn line_of(input: &[u8]) -> Result<Option<(&[u8], usize)>, Reason> {
    let mut lines = frame::lines(input, wire::LINE_BYTES);
    match lines.next() {
        None => Ok(None),
        Some(Ok(line)) => Ok(Some((line, lines.consumed()))),
        Some(Err(_)) => Err("the line is too long".to_owned()),
    }
}

fn time_to_read(bytes: u64) -> Duration {
    Duration::from_secs(bytes / READ_RATE)
}

/// What a buffer counts for: one with a few bytes takes room too.
fn cost(buffer: &[u8]) -> usize {
    buffer.len().max(LEAST_COST)
}
