//! The sending end: a connection for each file, a few at once.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use crc32fast::Hasher;
use transfer::bars::{Bar, Bars};
use transfer::name;
use transfer::sum;
use transfer::wire::{self, Answer};
use waterwheel::{
    Closed, Conn, ConnId, ConnectOptions, Context, Handler, HandlerKey, Idle, IdleKind, Peer,
    Remote, Timer, TimerHandler, frame,
};

/// What all transfers share.
pub(crate) struct Outbox {
    pub(crate) service: HandlerKey<Self>,
    pub(crate) remote: Remote,
    /// Where to.
    pub(crate) to: String,
    pub(crate) options: ConnectOptions,
    /// Whether the checksum of the whole is taken.
    pub(crate) takes_sums: bool,
    /// Files that have not begun.
    pub(crate) waiting: VecDeque<PathBuf>,
    pub(crate) bars: Bars,
    /// Those that have begun, by number.
    pub(crate) transfers: HashMap<u64, Transfer>,
    /// Transfers that have begun so far.
    pub(crate) begun: u64,
    /// Transfers that failed.
    pub(crate) failures: u64,
}

/// One transfer.
pub(crate) struct Transfer {
    path: PathBuf,
    name: String,
    length: u64,
    file: Arc<File>,
    stage: Stage,
    /// Its connection, once that is up.
    conn: Option<ConnId>,
    bar: Option<Bar>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The name was sent.
    Asked,
    /// The receiver has so much with this checksum, and ours is being taken.
    Comparing(u64, u32),
    /// The bytes leave, and the checksum of the whole is being taken.
    Sending,
    /// All was written; the receiver saves it.
    Sent,
}

/// What the thread has found that reads a file for its checksums.
enum Found {
    /// Of the part that the receiver has.
    Part(u32),
    /// Of the whole.
    Whole(u32),
    /// It cannot be read.
    Nothing(String),
}

impl Outbox {
    /// Begins with the next file that there is; stops the loop after the last one.
    pub(crate) fn next(&mut self, cx: &mut Context<'_>) {
        while let Some(path) = self.waiting.pop_front() {
            match Transfer::open(&path) {
                Ok(transfer) => {
                    self.begun += 1;
                    cx.connect(self.to.as_str(), self.service, self.begun, &self.options);
                    self.transfers.insert(self.begun, transfer);
                    return;
                }
                Err(reason) => self.complain(&path, &reason),
            }
        }
        if self.transfers.is_empty() {
            cx.stop();
        }
    }

    fn complain(&mut self, path: &Path, reason: &str) {
        self.failures += 1;
        let path = name::shown(&path.to_string_lossy());
        self.bars.complain(&format!("send_file: {path}: {reason}"));
    }

    /// A transfer has failed, and its connection ends.
    fn fail(&mut self, number: u64, conn: &mut Conn<'_>, reason: &str) {
        conn.abort();
        if let Some(transfer) = self.transfers.remove(&number) {
            drop(transfer.bar);
            self.complain(&transfer.path, reason);
        }
    }

    fn on_answer(&mut self, number: u64, conn: &mut Conn<'_>, answer: Answer) {
        let Some(transfer) = self.transfers.get_mut(&number) else { return };
        match (transfer.stage, answer) {
            (_, Answer::No(reason)) if reason.trim().is_empty() => {
                self.fail(number, conn, "refused, and it is not said why");
            }
            (_, Answer::No(reason)) => self.fail(number, conn, &format!("refused: {reason}")),
            (Stage::Asked, Answer::Ok(have, sum)) if have <= transfer.length => {
                self.compare(number, conn, have, sum);
            }
            (_, Answer::Wait) => {}
            (Stage::Sent, Answer::Done) if conn.pending_bytes() == 0 => self.succeed(number, conn),
            (Stage::Asked, Answer::Ok(have, _)) => {
                let length = transfer.length;
                let text = format!("the receiver says that it has {have} bytes of {length}");
                self.fail(number, conn, &text);
            }
            (_, Answer::Ok(..)) => self.fail(number, conn, "the receiver says `ok` out of turn"),
            (_, Answer::Done) => self.fail(number, conn, "the receiver says `done` out of turn"),
        }
    }

    /// The receiver has a part already, or nothing.
    fn compare(&mut self, number: u64, conn: &mut Conn<'_>, have: u64, sum: u32) {
        let Some(transfer) = self.transfers.get_mut(&number) else { return };
        transfer.stage = Stage::Comparing(have, sum);
        let whole = if self.takes_sums { Some(transfer.length) } else { None };
        if have > 0 || whole.is_some() {
            let (id, remote, service) = (conn.id(), self.remote.clone(), self.service);
            let report = move |found| {
                // A reactor that has stopped waits for nothing.
                let _ = remote.with(service, move |outbox: &mut Self, cx| {
                    if let Some(mut conn) = cx.conn(id) {
                        outbox.on_found(number, &mut conn, found);
                    }
                });
            };
            let path = transfer.path.clone();
            // The transfer holds it as long as it lasts.
            let file = Arc::downgrade(&transfer.file);
            let is_wanted = move || file.strong_count() > 0;
            let thread = thread::Builder::new().name("sums".to_owned());
            if let Err(error) =
                thread.spawn(move || read_sums(&path, have, whole, is_wanted, report))
            {
                return self.fail(number, conn, &error.to_string());
            }
        }
        if have == 0 {
            self.send(number, conn, 0);
        }
    }

    fn on_found(&mut self, number: u64, conn: &mut Conn<'_>, found: Found) {
        let Some(transfer) = self.transfers.get_mut(&number) else { return };
        match (found, transfer.stage) {
            (Found::Part(found), Stage::Comparing(have, sum)) => {
                self.send(number, conn, if found == sum { have } else { 0 });
            }
            (Found::Whole(sum), _) => {
                // It stands behind the file.
                conn.write(wire::sum(Some(sum)).as_bytes());
                transfer.stage = Stage::Sent;
            }
            (Found::Nothing(reason), _) => self.fail(number, conn, &reason),
            (Found::Part(_), _) => {}
        }
    }

    fn send(&mut self, number: u64, conn: &mut Conn<'_>, offset: u64) {
        let Some(transfer) = self.transfers.get_mut(&number) else { return };
        transfer.stage = Stage::Sending;
        transfer.bar = Some(self.bars.add(&transfer.name, transfer.length, offset));
        conn.write(wire::from(offset).as_bytes());
        if let Err(error) = conn.send_file(Arc::clone(&transfer.file), offset..transfer.length) {
            return self.fail(number, conn, &error.to_string());
        }
        if !self.takes_sums {
            conn.write(wire::sum(None).as_bytes());
            transfer.stage = Stage::Sent;
        }
    }

    /// Whether the receiver waits for a checksum.
    fn is_ours_to_move(&self, number: u64, conn: &Conn<'_>) -> bool {
        match self.transfers.get(&number).map(|transfer| transfer.stage) {
            Some(Stage::Comparing(..)) => true,
            Some(Stage::Sending) => conn.pending_bytes() == 0,
            _ => false,
        }
    }

    fn succeed(&mut self, number: u64, conn: &mut Conn<'_>) {
        conn.close();
        let Some(transfer) = self.transfers.remove(&number) else { return };
        let summary = transfer.bar.as_ref().map(|bar| bar.summary(transfer.length));
        drop(transfer.bar);
        let (name, summary) = (name::shown(&transfer.name), summary.unwrap_or_default());
        self.bars.say(&format!("sent {name}: {summary}"));
    }
}

impl Transfer {
    fn open(path: &Path) -> Result<Self, String> {
        let explain = |error: io::Error| format!("cannot open it: {error}");
        // To open a pipe would wait for whoever writes into it.
        if !fs::metadata(path).map_err(explain)?.is_file() {
            return Err("it is not a file; give files only".to_owned());
        }
        let mut file = File::open(path).map_err(explain)?;
        let length = file.metadata().map_err(explain)?.len();
        // Those of /proc have a length only as they are read.
        if length == 0
            && file.read(&mut [0]).map_err(|error| format!("cannot read it: {error}"))? > 0
        {
            return Err("it says that it is empty and is not; copy it first".to_owned());
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| "its name is not UTF-8; rename it".to_owned())?;
        name::check(name)?;
        Ok(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            length,
            file: Arc::new(file),
            stage: Stage::Asked,
            conn: None,
            bar: None,
        })
    }
}

/// Reads a file for its checksums, beside the loop: the kernel sends it without showing it to us.
///
/// It is opened again, since it is read from its own position.
fn read_sums(
    path: &Path,
    have: u64,
    whole: Option<u64>,
    is_wanted: impl Fn() -> bool,
    mut report: impl FnMut(Found),
) {
    let mut hasher = Hasher::new();
    let mut read = |report: &mut dyn FnMut(Found)| -> io::Result<()> {
        let mut file = File::open(path)?;
        sum::add(&mut hasher, &mut file, 0, have, &is_wanted)?;
        if have > 0 {
            report(Found::Part(hasher.clone().finalize()));
        }
        if let Some(length) = whole {
            sum::add(&mut hasher, &mut file, have, length, &is_wanted)?;
            report(Found::Whole(hasher.clone().finalize()));
        }
        Ok(())
    };
    if let Err(error) = read(&mut report) {
        report(Found::Nothing(format!("cannot read it: {error}")));
    }
}

impl Handler for Outbox {
    /// The number of its transfer.
    type State = u64;

    fn on_accept(&mut self, _: &Peer) -> Option<u64> {
        None // it listens nowhere
    }

    fn on_open(&mut self, &mut number: &mut u64, conn: &mut Conn<'_>) {
        if let Some(transfer) = self.transfers.get_mut(&number) {
            transfer.conn = Some(conn.id());
            conn.set_periodic_timer(wire::WAIT_PERIOD, 0);
            conn.write(wire::put(transfer.length, &transfer.name).as_bytes());
        }
    }

    fn on_data(&mut self, &mut number: &mut u64, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lines = frame::lines(input, wire::LINE_BYTES);
        for line in lines.by_ref() {
            match line.ok().and_then(wire::parse_answer) {
                Some(answer) => self.on_answer(number, conn, answer),
                None => self.fail(number, conn, "what answers is no recv_file"),
            }
        }
        lines.consumed()
    }

    fn on_timer(&mut self, &mut number: &mut u64, conn: &mut Conn<'_>, _: Timer) {
        if self.is_ours_to_move(number, conn) {
            conn.write(wire::wait().as_bytes());
        }
    }

    fn on_idle(&mut self, &mut number: &mut u64, conn: &mut Conn<'_>, _: IdleKind) -> Idle {
        if self.is_ours_to_move(number, conn) { Idle::Keep } else { Idle::Close }
    }

    fn on_close(&mut self, number: u64, closed: Closed, cx: &mut Context<'_>) {
        if let Some(transfer) = self.transfers.remove(&number) {
            drop(transfer.bar);
            let reason = format!("broke off: {}; try again to go on", closed.reason);
            self.complain(&transfer.path, &reason);
        }
        self.next(cx);
    }

    fn on_connect_failed(&mut self, number: u64, error: io::Error, cx: &mut Context<'_>) {
        if let Some(transfer) = self.transfers.remove(&number) {
            self.complain(&transfer.path, &error.to_string());
        }
        self.next(cx);
    }
}

impl TimerHandler for Outbox {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        for transfer in self.transfers.values() {
            let conn = transfer.conn.and_then(|id| cx.conn(id));
            if let (Some(bar), Some(conn)) = (&transfer.bar, conn) {
                bar.show(transfer.length - conn.pending_file_bytes());
            }
        }
    }
}
