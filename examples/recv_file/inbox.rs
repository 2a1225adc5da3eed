//! The receiving end: one transfer a connection.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use waterwheel::{
    Closed, Conn, ConnId, Context, Handler, Idle, IdleKind, Peer, Remote, Service, TimerId, frame,
};

use crate::bars::{Bar, Bars};
use crate::name;
use crate::wire;
use crate::writer::{self, Job, Report, Target};

/// Bytes that one sender may be ahead of its disk.
const AHEAD_BYTES: usize = 1 << 20;

/// What a small buffer counts for.
const LEAST_COST: usize = 4 << 10;

/// How long the last answers may take to leave.
const DRAIN: Duration = Duration::from_secs(5);

/// What all transfers share.
pub(crate) struct Inbox {
    pub(crate) service: Service<Self>,
    pub(crate) remote: Remote,
    pub(crate) dir: PathBuf,
    pub(crate) force: bool,
    /// Transfers to take before the end; `None` for all that come.
    pub(crate) count: Option<u64>,
    pub(crate) bars: Bars,
    pub(crate) transfers: HashMap<ConnId, Transfer>,
    /// Threads that may still write, by the name of the part in small letters: two long names may
    /// have one part, and on some systems letters of either case are the same.
    pub(crate) threads: HashMap<String, JoinHandle<()>>,
    /// Transfers that failed.
    pub(crate) failures: u64,
}

/// One transfer.
pub(crate) struct Transfer {
    /// Who sends it, and under which name.
    name: String,
    length: u64,
    /// Bytes that have come, those of earlier transfers among them.
    received: u64,
    stage: Stage,
    /// Its thread.
    writer: Sender<Job>,
    /// What its thread has and has not written.
    ahead: usize,
    /// Buffers to be used again.
    spares: Vec<Vec<u8>>,
    bar: Option<Bar>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The thread looks at what there is.
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

/// Why a transfer ends before it is whole.
type Reason = String;

impl Inbox {
    /// The first line: what is offered.
    fn on_put(&mut self, conn: &mut Conn<'_>, line: &[u8]) -> Result<(), (String, Reason)> {
        let text = || String::from_utf8_lossy(line).chars().take(300).collect::<String>();
        let put = wire::parse_put(line)
            .ok_or_else(|| (text(), "this is not `put LENGTH NAME`".to_owned()))?;
        let refuse = |reason: &str| (put.name.clone(), reason.to_owned());
        name::check(&put.name).map_err(refuse)?;
        let key = name::part_of(&put.name).to_lowercase();
        if self.threads.contains_key(&key) {
            return Err(refuse("a file of that name is being received"));
        }
        let target = Target {
            dir: self.dir.clone(),
            name: put.name.clone(),
            length: put.length,
            force: self.force,
        };
        let (id, remote, service) = (conn.id(), self.remote.clone(), self.service);
        let ended = key.clone();
        let report = move |report| {
            // A reactor that has stopped waits for nothing.
            let key = ended.clone();
            let _ = remote.with(service, move |inbox: &mut Self, cx| match report {
                Report::Ended => drop(inbox.threads.remove(&key)),
                report => inbox.on_report(id, report, cx),
            });
        };
        let (writer, thread) =
            writer::start(target, report).map_err(|error| refuse(&error.to_string()))?;
        self.threads.insert(key, thread);
        conn.pause_reading(); // until it has seen what there is
        let transfer = Transfer {
            name: put.name,
            length: put.length,
            received: 0,
            stage: Stage::Opening,
            writer,
            ahead: 0,
            spares: Vec::new(),
            bar: None,
        };
        self.transfers.insert(id, transfer);
        Ok(())
    }

    /// The thread of a transfer has done something.
    fn on_report(&mut self, id: ConnId, report: Report, cx: &mut Context<'_>) {
        let Some(transfer) = self.transfers.get_mut(&id) else {
            return; // it has failed already
        };
        let conn = cx.conn(id);
        match (report, conn) {
            (Report::Ready(have, sum), Some(mut conn)) => {
                transfer.stage = Stage::Offered(have);
                conn.write(wire::ok(have, sum).as_bytes());
                conn.resume_reading();
            }
            (Report::Wrote(buffer), Some(mut conn)) => {
                transfer.ahead -= cost(&buffer);
                transfer.spares.push(buffer);
                if transfer.ahead <= AHEAD_BYTES / 2 {
                    conn.resume_reading();
                }
            }
            (Report::Saved, conn) => {
                if let Some(mut conn) = conn {
                    conn.write(b"done\n");
                    conn.close();
                }
                self.succeed(id, cx);
            }
            (Report::Failed(reason), conn) => {
                let name = transfer.name.clone();
                match conn {
                    Some(mut conn) => self.fail(&mut conn, &name, &reason),
                    None => self.give_up(id, &format!("{name}: {reason}")),
                }
                self.count_down(cx);
            }
            // A sender that has gone is told of when its connection ends.
            (Report::Ready(..) | Report::Wrote(_) | Report::Ended, _) => {}
        }
    }

    fn succeed(&mut self, id: ConnId, cx: &mut Context<'_>) {
        if let Some(transfer) = self.transfers.remove(&id) {
            let summary = transfer.bar.as_ref().map(|bar| bar.summary(transfer.length));
            drop(transfer.bar);
            let summary = summary.unwrap_or_default();
            self.bars.say(&format!("received {}: {summary}", transfer.name));
        }
        self.count_down(cx);
    }

    /// Tells both sides why a transfer has ended too soon.
    fn fail(&mut self, conn: &mut Conn<'_>, name: &str, reason: &str) {
        conn.write(wire::no(reason).as_bytes());
        conn.close();
        let peer = conn.peer_addr();
        self.give_up(conn.id(), &format!("{} from {peer}: {reason}", name.escape_debug()));
    }

    fn give_up(&mut self, id: ConnId, line: &str) {
        // The bar goes before the line comes, and the thread ends.
        self.transfers.remove(&id);
        self.failures += 1;
        self.bars.complain(&format!("recv_file: {line}"));
    }

    /// One transfer less is awaited.
    fn count_down(&mut self, cx: &mut Context<'_>) {
        if let Some(count) = &mut self.count {
            *count = count.saturating_sub(1);
            if *count == 0 {
                cx.drain(DRAIN);
            }
        }
    }

    /// Takes one step of what has come; how many bytes it took, 0 if it needs more.
    fn step(&mut self, conn: &mut Conn<'_>, input: &[u8]) -> Result<usize, (String, Reason)> {
        let id = conn.id();
        let Some(transfer) = self.transfers.get_mut(&id) else {
            return match line_of(input) {
                Ok(Some((line, taken))) => self.on_put(conn, line).map(|()| taken),
                Ok(None) => Ok(0),
                Err(reason) => Err(("a sender".to_owned(), reason)),
            };
        };
        let result = match transfer.stage {
            Stage::Content => Ok(transfer.take(conn, input)),
            Stage::Offered(have) => {
                let bars = &self.bars;
                line_of(input).and_then(|line| match line {
                    Some((line, taken)) => transfer.go_on(line, have, bars).map(|()| taken),
                    None => Ok(0),
                })
            }
            Stage::Trailer => line_of(input).and_then(|line| match line {
                Some((line, taken)) => transfer.finish(line).map(|()| taken),
                None => Ok(0),
            }),
            Stage::Opening | Stage::Saving => Err("more was sent than was asked for".to_owned()),
        };
        result.map_err(|reason| (transfer.name.clone(), reason))
    }
}

/// The next line, if it is whole, and how many bytes it takes with its end.
fn line_of(input: &[u8]) -> Result<Option<(&[u8], usize)>, Reason> {
    let mut lines = frame::lines(input, wire::LINE_BYTES);
    match lines.next() {
        None => Ok(None),
        Some(Ok(line)) => Ok(Some((line, lines.consumed()))),
        Some(Err(_)) => Err("the line is too long".to_owned()),
    }
}

/// What a buffer counts for: one with a few bytes takes room too.
fn cost(buffer: &[u8]) -> usize {
    buffer.len().max(LEAST_COST)
}

impl Transfer {
    /// The sender says where it goes on.
    fn go_on(&mut self, line: &[u8], have: u64, bars: &Bars) -> Result<(), Reason> {
        let offset = wire::parse_from(line).filter(|&offset| offset == 0 || offset == have);
        let offset = offset.ok_or_else(|| format!("this is not `from 0` or `from {have}`"))?;
        self.received = offset;
        self.bar = Some(bars.add(&self.name, self.length, offset));
        self.stage = if offset == self.length { Stage::Trailer } else { Stage::Content };
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
        }
        taken
    }

    fn finish(&mut self, line: &[u8]) -> Result<(), Reason> {
        let sum = wire::parse_trailer(line).ok_or_else(|| "this is not `sum SUM`".to_owned())?;
        self.stage = Stage::Saving;
        self.ask(Job::Finish(sum));
        Ok(())
    }

    /// Whether the sender waits for us.
    fn is_ours_to_move(&self) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Saving) || self.ahead > 0
    }

    fn ask(&self, job: Job) {
        // A thread that has ended has said why, and that is on its way.
        let _ = self.writer.send(job);
    }
}

impl Handler for Inbox {
    /// Whether the connection has asked for anything.
    type State = bool;

    fn on_accept(&mut self, _: &Peer) -> Option<bool> {
        Some(false)
    }

    fn on_data(&mut self, has_asked: &mut bool, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        *has_asked = true;
        let mut taken = 0;
        while taken < input.len() && !conn.is_paused() {
            match self.step(conn, &input[taken..]) {
                Ok(0) => break,
                Ok(count) => taken += count,
                Err((name, reason)) => {
                    self.fail(conn, &name, &reason);
                    self.count_down(&mut conn.context());
                    return input.len();
                }
            }
        }
        taken
    }

    fn on_idle(&mut self, _: &mut bool, conn: &mut Conn<'_>, _: IdleKind) -> Idle {
        match self.transfers.get(&conn.id()) {
            Some(transfer) if transfer.is_ours_to_move() => Idle::Keep,
            _ => Idle::Close,
        }
    }

    fn on_eof(&mut self, _: &mut bool, conn: &mut Conn<'_>) {
        let stage = self.transfers.get(&conn.id()).map(|transfer| transfer.stage);
        if stage != Some(Stage::Saving) {
            conn.close(); // else it hears yet how it went
        }
    }

    fn on_close(&mut self, has_asked: bool, closed: Closed, cx: &mut Context<'_>) {
        let id = closed.id;
        match self.transfers.get(&id) {
            // It is whole, and about to be saved; nobody hears of it any more.
            Some(Transfer { stage: Stage::Saving, .. }) => {}
            Some(transfer) => {
                let Transfer { name, received, length, .. } = transfer;
                let reason = &closed.reason;
                let line =
                    format!("{name}: broke off after {received} of {length} bytes: {reason}");
                self.give_up(id, &line);
                self.count_down(cx);
            }
            None if !has_asked => log::debug!("{id}: a connection that offered nothing"),
            None => {}
        }
    }

    fn on_service_timer(&mut self, _: TimerId, _: &mut Context<'_>) {
        for transfer in self.transfers.values() {
            if let Some(bar) = &transfer.bar {
                bar.show(transfer.received);
            }
        }
    }
}
