//! The receiving end: one transfer a connection.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use support::canonical;
use transfer::bars::Bars;
use transfer::name;
use transfer::wire::{self, Put};
use waterwheel::{
    Closed, Conn, ConnId, Context, DeadlineKind, Handler, HandlerKey, Idle, IdleKind, Peer, Remote,
    Timer, TimerHandler,
};

use crate::incoming::{Reason, Transfer, line_of};
use crate::writer::{self, End, Job, Report, Target};

/// How long transfers may take to end once the receiver is to end.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// How long a connection may take to offer a file: until then it takes a place for nothing.
const OFFER_TIMEOUT: Duration = Duration::from_secs(10);

/// Most characters that are shown of what is turned away.
const SHOWN_CHARS: usize = 300;

/// What all transfers share.
pub(crate) struct Inbox {
    pub(crate) service: HandlerKey<Self>,
    pub(crate) remote: Remote,
    pub(crate) dir: PathBuf,
    pub(crate) force: bool,
    /// Longest wait for a sender.
    pub(crate) timeout: Duration,
    /// Transfers to take before the end; `None` for all that come.
    pub(crate) count: Option<u64>,
    pub(crate) bars: Bars,
    pub(crate) transfers: HashMap<ConnId, Transfer>,
    /// Threads that may still write, by the name of the part: two long names may have one. Where
    /// letters of either case are the same, the lock of the file tells that two names are one part.
    pub(crate) threads: HashMap<String, Writing>,
    /// Transfers that failed.
    pub(crate) failures: u64,
}

/// A thread that may still write.
pub(crate) struct Writing {
    /// The connection that it was begun for, which may have ended.
    id: ConnId,
    thread: JoinHandle<End>,
    /// A transfer of the same part that waits for its end.
    next: Option<Begin>,
}

/// What a thread is begun with.
struct Begin {
    id: ConnId,
    target: Target,
    jobs: Receiver<Job>,
}

impl Inbox {
    /// Takes the first line; how many bytes it took, 0 if it needs more.
    fn on_first_line(&mut self, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        match line_of(input) {
            Ok(None) => 0,
            Ok(Some((line, taken))) => {
                self.on_offer(conn, line);
                taken
            }
            Err(reason) => {
                self.turn_away(conn, "a sender", &reason);
                input.len()
            }
        }
    }

    fn on_offer(&mut self, conn: &mut Conn<'_>, line: &[u8]) {
        let Some(put) = wire::parse_put(line) else {
            // A stranger, who has nothing to do with our transfers.
            let said = String::from_utf8_lossy(line);
            return self.turn_away(conn, &said, "this is not `put LENGTH NAME`");
        };
        let name = put.name.clone();
        if let Err(reason) = self.accept(conn, put) {
            self.failures += 1;
            self.turn_away(conn, &name, &reason);
        }
    }

    /// Begins a transfer, or lets it wait for one that is about to end.
    fn accept(&mut self, conn: &mut Conn<'_>, put: Put) -> Result<(), Reason> {
        name::check(&put.name)?;
        let key = name::part_of(&put.name);
        if self.is_received(&key, conn) {
            return Err("a file of that name is being received".to_owned());
        }
        let target = Target {
            dir: self.dir.clone(),
            name: put.name.clone(),
            length: put.length,
            force: self.force,
        };
        let (writer, jobs) = channel();
        let begin = Begin { id: conn.id(), target, jobs };
        match self.threads.get_mut(&key) {
            Some(writing) => writing.next = Some(begin),
            None => self.begin(key, begin).map_err(|error| error.to_string())?,
        }
        conn.set_deadline(DeadlineKind::User, None);
        conn.set_periodic_timer(wire::WAIT_PERIOD, 0);
        let transfer = Transfer::new(put, canonical(conn.peer_addr()), self.timeout, writer);
        self.transfers.insert(conn.id(), transfer);
        Ok(())
    }

    /// Whether somebody who is still there sends to that part, or waits to.
    fn is_received(&self, key: &str, conn: &mut Conn<'_>) -> bool {
        let Some(writing) = self.threads.get(key) else { return false };
        let waiting = writing.next.as_ref().map(|next| next.id);
        [Some(writing.id), waiting].into_iter().flatten().any(|id| {
            let is_under_way = self.transfers.get(&id).is_some_and(|it| !it.is_saving());
            is_under_way && conn.other_conn(id).is_some_and(|conn| conn.is_writable())
        })
    }

    fn begin(&mut self, key: String, begin: Begin) -> io::Result<()> {
        let Begin { id, target, jobs } = begin;
        let (remote, service, own_key) = (self.remote.clone(), self.service, key.clone());
        let report = move |report| {
            let key = own_key.clone();
            // A reactor that has stopped waits for nothing.
            let _ = remote.with(service, move |inbox: &mut Self, cx| match report {
                Report::Ready(have, sum) => inbox.on_ready(id, have, sum, cx),
                Report::Wrote(buffer) => inbox.on_wrote(id, buffer, cx),
                Report::Ended(end) => inbox.on_ended(key, end, cx),
            });
        };
        let thread = writer::start(target, jobs, report)?;
        self.threads.insert(key, Writing { id, thread, next: None });
        Ok(())
    }

    fn on_ready(&mut self, id: ConnId, have: u64, sum: u32, cx: &mut Context<'_>) {
        if let (Some(transfer), Some(mut conn)) = (self.transfers.get_mut(&id), cx.conn(id)) {
            transfer.offer(&mut conn, have, sum);
        }
    }

    fn on_wrote(&mut self, id: ConnId, buffer: Vec<u8>, cx: &mut Context<'_>) {
        if let (Some(transfer), Some(mut conn)) = (self.transfers.get_mut(&id), cx.conn(id)) {
            transfer.wrote(&mut conn, buffer);
        }
    }

    /// A thread writes no more; the next one may.
    fn on_ended(&mut self, key: String, end: End, cx: &mut Context<'_>) {
        let Some(writing) = self.threads.remove(&key) else { return };
        if let Some(transfer) = self.transfers.remove(&writing.id) {
            if let Some(mut conn) = cx.conn(writing.id) {
                conn.write(answer_to(&end).as_bytes());
                conn.close();
            }
            self.conclude(transfer, end);
            self.count_down(cx);
        }
        let next = writing.next.filter(|next| self.transfers.contains_key(&next.id));
        let Some(next) = next else { return };
        let id = next.id;
        if let (Err(error), Some(mut conn)) = (self.begin(key, next), cx.conn(id)) {
            self.fail(&mut conn, &error.to_string());
        }
    }

    /// Tells both sides why a transfer has ended too soon.
    fn fail(&mut self, conn: &mut Conn<'_>, reason: &str) {
        conn.write(wire::no(reason).as_bytes());
        conn.close();
        if let Some(transfer) = self.transfers.remove(&conn.id()) {
            self.conclude(transfer, End::Failed(reason.to_owned()));
            self.count_down(&mut conn.context());
        }
    }

    /// Tells both sides why nothing begins.
    fn turn_away(&self, conn: &mut Conn<'_>, said: &str, reason: &str) {
        conn.write(wire::no(reason).as_bytes());
        conn.close();
        let said: String = said.chars().take(SHOWN_CHARS).collect();
        let (said, peer) = (name::shown(&said), canonical(conn.peer_addr()));
        self.bars.complain(&format!("recv_file: {said} from {peer}: {reason}"));
    }

    /// The bar goes before the line comes, and the thread ends.
    fn conclude(&mut self, transfer: Transfer, end: End) {
        match transfer.conclude(end) {
            Ok(line) => self.bars.say(&line),
            Err(line) => {
                self.failures += 1;
                self.bars.complain(&format!("recv_file: {line}"));
            }
        }
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

    /// The loop has stopped: waits for the threads, and tells what has become of the files that
    /// were being saved.
    pub(crate) fn finish(&mut self) {
        for (_, writing) in mem::take(&mut self.threads) {
            let end = writing.thread.join();
            let end = end.unwrap_or_else(|_| End::Failed("its thread has panicked".to_owned()));
            if let Some(transfer) = self.transfers.remove(&writing.id) {
                self.conclude(transfer, end);
            }
        }
    }
}

fn answer_to(end: &End) -> String {
    match end {
        End::Saved | End::WasThere => wire::done(),
        End::Failed(reason) => wire::no(reason),
    }
}

impl Handler for Inbox {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        conn.set_deadline(DeadlineKind::User, Some(OFFER_TIMEOUT));
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut taken = 0;
        while taken < input.len() && conn.is_writable() && !conn.is_paused() {
            let rest = &input[taken..];
            let result = match self.transfers.get_mut(&conn.id()) {
                Some(transfer) => transfer.step(conn, rest, &self.bars),
                None => Ok(self.on_first_line(conn, rest)),
            };
            match result {
                Ok(0) => break,
                Ok(count) => taken += count,
                Err(reason) => self.fail(conn, &reason),
            }
        }
        taken
    }

    fn on_timer(&mut self, (): &mut (), conn: &mut Conn<'_>, _: Timer) {
        if self.transfers.get(&conn.id()).is_some_and(Transfer::is_ours_to_move) {
            conn.write(wire::wait().as_bytes());
        }
    }

    fn on_idle(&mut self, (): &mut (), conn: &mut Conn<'_>, _: IdleKind) -> Idle {
        match self.transfers.get(&conn.id()) {
            Some(transfer) if transfer.is_ours_to_move() => Idle::Keep,
            _ => Idle::Close,
        }
    }

    fn on_eof(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        if !self.transfers.get(&conn.id()).is_some_and(Transfer::is_saving) {
            conn.close(); // else it hears yet how it went
        }
    }

    fn on_shutdown(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        // What is under way may come to its end.
        if !self.transfers.contains_key(&conn.id()) {
            conn.close();
        }
    }

    fn on_close(&mut self, (): (), closed: Closed, cx: &mut Context<'_>) {
        // A file that is being saved is told of when it is, though nobody hears of it any more.
        if self.transfers.get(&closed.id).is_some_and(Transfer::is_saving) {
            return;
        }
        if let Some(transfer) = self.transfers.remove(&closed.id) {
            let reason = format!("broke off after {}: {}", transfer.progress(), closed.reason);
            self.conclude(transfer, End::Failed(reason));
            self.count_down(cx);
        }
    }
}

impl TimerHandler for Inbox {
    fn on_handler_timer(&mut self, _: Timer, _: &mut Context<'_>) {
        self.transfers.values().for_each(Transfer::show);
    }
}
