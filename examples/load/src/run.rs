//! What all modes have in common: the phases of a run, its counts and its end.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use waterwheel::{
    CloseReason, Closed, Conn, Context, DeadlineKind, HandlerKey, OnPanic, Reactor, ReactorOptions,
    TimerHandler,
};

use crate::patience;
use crate::plan::{Mode, Plan};
use crate::progress::{Progress, View};
use crate::signal;
use crate::talk::{Heard, Talk};
use crate::tally::{Mistake, Tally, record};
use crate::tls;

/// How long a server may take to end a connection whose end it has announced.
pub(crate) const END_PATIENCE: Duration = Duration::from_secs(2);

/// How long a server may take to answer what comes before the first message.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);

/// Whether an end that was announced has come as it should: a server that has unread requests of
/// ours resets the connection.
pub(crate) fn is_orderly(closed: &Closed) -> bool {
    matches!(closed.reason, CloseReason::Peer | CloseReason::Reset)
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Connections are made.
    Dial,
    /// Load is made and not measured.
    WarmUp,
    /// Load is measured.
    Measure,
    /// No more load; what is on its way may still arrive.
    Finish,
    /// The outcome has been handed over.
    Over,
}

/// One way of making load: a handler that begins by itself and hands over a tally in the end.
pub(crate) trait Maker: TimerHandler + Sized {
    /// How often `on_handler_timer` is called.
    const TICK: Duration;

    fn new(run: Run) -> Self;

    /// The reactor runs, and this is the handler's key.
    fn begin(&mut self, service: HandlerKey<Self>, cx: &mut Context<'_>);
}

/// Runs a reactor until its handler has an outcome.
pub(crate) fn drive<M: Maker>(plan: &Rc<Plan>, addr: SocketAddr) -> Result<Tally, Box<dyn Error>> {
    // A handler belongs to its reactor for good, so its outcome is sent.
    let (sender, outcome) = mpsc::channel();
    // A load tester that goes on after a mistake of its own would print wrong numbers.
    let options = ReactorOptions::default().on_panic(OnPanic::Abort);
    let mut reactor = Reactor::with_options(options)?;
    let service = reactor.register(M::new(Run::new(plan, addr, sender)?));
    reactor.set_periodic_timer(service, M::TICK, 0);
    reactor.context().post(service, move |maker, cx| maker.begin(service, cx));
    reactor.run()?;
    Ok(outcome.try_recv()?)
}

/// What a mode needs besides its own.
pub(crate) struct Run {
    pub(crate) plan: Rc<Plan>,
    pub(crate) addr: SocketAddr,
    pub(crate) tally: Tally,
    phase: Phase,
    phase_began: Instant,
    /// When an answer was last seen to have come while finishing, and the answers then.
    progressed: Instant,
    answers_then: u64,
    progress: Progress,
    /// Set by a signal.
    interrupted: Arc<AtomicBool>,
    outcome: Sender<Tally>,
}

impl Run {
    fn new(plan: &Rc<Plan>, addr: SocketAddr, outcome: Sender<Tally>) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            plan: Rc::clone(plan),
            addr,
            tally: Tally::new(),
            phase: Phase::Dial,
            phase_began: now,
            progressed: now,
            answers_then: 0,
            progress: Progress::new(plan),
            interrupted: signal::flag()?,
            outcome,
        })
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether load is to be made, measured or not.
    #[inline]
    pub(crate) fn makes_load(&self) -> bool {
        self.phase <= Phase::Measure
    }

    pub(crate) fn enter(&mut self, phase: Phase) {
        if self.phase == Phase::Over {
            return;
        }
        let now = Instant::now();
        let passed = now - self.phase_began;
        match self.phase {
            Phase::Dial => self.tally.dialling = passed,
            Phase::Measure => self.tally.window = passed,
            _ => {}
        }
        self.phase = phase;
        self.phase_began = now;
    }

    /// The phase that is due now, because the time of this one has passed or somebody has had
    /// enough.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Phase> {
        if self.interrupted.load(Ordering::Relaxed) && !self.tally.interrupted {
            self.tally.interrupted = true;
            return match self.phase {
                Phase::Dial => Some(Phase::Over),
                Phase::WarmUp | Phase::Measure => Some(Phase::Finish),
                Phase::Finish => Some(Phase::Over),
                Phase::Over => None,
            };
        }
        let passed = now - self.phase_began;
        // Each datagram has a timeout of its own.
        let is_quiet = self.plan.mode != Mode::Udp && self.is_quiet(now);
        // All may have been lost while others were still dialled.
        let is_deserted = self.tally.live == 0 && self.plan.mode != Mode::Storm;
        match self.phase {
            Phase::WarmUp | Phase::Measure if is_deserted => Some(Phase::Over),
            Phase::WarmUp if passed >= self.plan.warmup => Some(Phase::Measure),
            Phase::Measure if passed >= self.plan.duration => Some(Phase::Finish),
            Phase::Finish if is_quiet => Some(Phase::Over),
            _ => None,
        }
    }

    /// Whether what has no answer yet is not worth waiting for: nothing has come for a while.
    fn is_quiet(&mut self, now: Instant) -> bool {
        let answers = self.tally.answers + self.tally.woken;
        if answers != self.answers_then {
            self.answers_then = answers;
            self.progressed = now;
        }
        let silent_for = now - self.progressed.max(self.phase_began);
        let longest = self.tally.exchange.max().max(self.tally.wake.max());
        let is_bounded = self.plan.mode != Mode::Hold;
        let longest = Duration::from_nanos(longest);
        patience::is_over(now - self.phase_began, silent_for, longest, is_bounded)
    }

    /// Tells the user how it goes, if it is time to.
    pub(crate) fn show(&mut self, now: Instant) {
        if self.phase == Phase::Over {
            return; // the tally has been handed over
        }
        let plan = &self.plan;
        let total = (plan.warmup + plan.duration).as_secs_f64();
        let passed = (now - self.phase_began).as_secs_f64();
        let done = match self.phase {
            Phase::Dial => self.tally.opened as f64 / plan.connections().max(1) as f64,
            Phase::WarmUp => passed / total,
            Phase::Measure => (plan.warmup.as_secs_f64() + passed) / total,
            Phase::Finish | Phase::Over => 1.0,
        };
        let phase = match (self.phase, plan.mode) {
            (Phase::Dial, _) => "dialling",
            (Phase::WarmUp, _) => "warming up",
            (Phase::Measure, Mode::Hold) => "holding",
            (Phase::Measure, _) => "measuring",
            (Phase::Finish, Mode::Hold) => "asking the idle",
            (Phase::Finish | Phase::Over, _) => "finishing",
        };
        let view = View {
            phase,
            done,
            answers: self.tally.answers,
            live: self.tally.live,
            faults: self.tally.faults(),
            lost: (plan.mode == Mode::Udp).then_some(self.tally.datagrams.counts.lost),
        };
        self.progress.show(now, &view);
    }

    /// An exchange is complete; a wrong answer has no time.
    #[inline]
    pub(crate) fn answered(&mut self, took: Duration, is_right: bool) {
        self.tally.answers += 1;
        if self.phase == Phase::Measure && is_right {
            self.tally.measured += 1;
            record(&mut self.tally.exchange, took);
        }
    }

    /// A connection came up.
    pub(crate) fn opened(&mut self) {
        self.tally.opened += 1;
        self.tally.live += 1;
    }

    /// A connection over TCP came up, so long after it was dialled, perhaps in the place of one
    /// that has ended in order.
    pub(crate) fn connected(&mut self, took: Duration, is_again: bool, conn: &mut Conn<'_>) {
        if self.plan.ws.is_some() {
            conn.set_deadline(DeadlineKind::User, None); // that of the greeting
        }
        if !is_again {
            self.opened();
        }
        // Each is a dial of its own in a storm; elsewhere all are made before it is measured.
        if self.plan.mode == Mode::Storm && self.phase != Phase::Measure {
            return;
        }
        record(&mut self.tally.connect, took);
        if let Some(is_resumed) = tls::is_resumed(conn) {
            self.tally.handshakes += 1;
            self.tally.resumed += u64::from(is_resumed);
        }
    }

    /// A connection did not come up.
    pub(crate) fn refused(&mut self, error: &io::Error, cx: &mut Context<'_>) {
        if self.phase == Phase::Over {
            return;
        }
        self.tally.refuse(error);
        let hint = match error.kind() {
            io::ErrorKind::ConnectionRefused => "; no server listens there",
            io::ErrorKind::TimedOut => "; no answer from there",
            _ => "",
        };
        self.end_if_hopeless(format!("{error}{hint}"), cx);
    }

    /// Has a talk begin; returns whether its greeting has to be answered first.
    #[inline]
    pub(crate) fn greet<T: Talk>(&mut self, talk: &mut T, conn: &mut Conn<'_>) -> bool {
        let is_asked = talk.greet(conn);
        if is_asked {
            conn.set_deadline(DeadlineKind::User, Some(GREETING_PATIENCE));
        }
        is_asked
    }

    /// A connection has ended before its greeting was answered, or because of the answer.
    pub(crate) fn not_greeted(&mut self, closed: &Closed, cx: &mut Context<'_>) {
        if self.phase == Phase::Over {
            return;
        }
        let mistake = self.tally.first_wrong.clone();
        match mistake.filter(|_| matches!(closed.reason, CloseReason::Local)) {
            // The mistake is told already.
            Some(why) => {
                self.tally.refused += 1;
                self.end_if_hopeless(why, cx);
            }
            None => {
                let why = format!("{}, before the handshake was answered", closed.reason);
                self.refused(&io::Error::other(why), cx);
            }
        }
    }

    /// If no connection ever came up, there is no point in going on.
    fn end_if_hopeless(&mut self, why: String, cx: &mut Context<'_>) {
        if self.tally.opened == 0 {
            self.tally.hopeless = Some(why);
            self.end(cx);
        }
    }

    /// Has a talk take what came in, and notes what is wrong with it; `None` if the connection
    /// cannot go on, and is reset.
    #[inline]
    pub(crate) fn hear<T: Talk>(
        &mut self,
        talk: &mut T,
        ear: &mut T::Ear,
        conn: &mut Conn<'_>,
        (stream, sent): (u64, u64),
        input: &[u8],
    ) -> Option<Heard> {
        match talk.hear(ear, conn, (stream, sent), input) {
            Ok(mut heard) => {
                self.note(stream, &mut heard);
                Some(heard)
            }
            Err(mistake) => {
                self.tally.mistake(mistake);
                conn.abort();
                None
            }
        }
    }

    /// Notes the body of an answer, and what is wrong with it.
    #[inline]
    pub(crate) fn note(&mut self, stream: u64, heard: &mut Heard) {
        if self.phase == Phase::Measure {
            self.tally.body_bytes += heard.body_bytes;
        }
        if let Some(mistake) = &mut heard.mistake {
            mistake.what = format!("connection {stream}: {}", mistake.what);
            self.tally.mistake(Mistake { kind: mistake.kind.clone(), what: mistake.what.clone() });
        }
    }

    /// A connection has ended, perhaps within an answer. Nobody wants that before the run is over,
    /// except where this end did it because of wrong bytes.
    pub(crate) fn closed(&mut self, closed: &Closed, cut: Option<String>, cx: &mut Context<'_>) {
        if self.phase == Phase::Over {
            return;
        }
        if !matches!(closed.reason, CloseReason::Local) {
            self.tally.lose(closed, cut);
        }
        self.leave(cx);
    }

    /// A connection is no longer up, and is not made again.
    pub(crate) fn leave(&mut self, cx: &mut Context<'_>) {
        if self.phase == Phase::Over {
            return;
        }
        self.tally.live -= 1;
        if self.tally.live == 0 && self.phase > Phase::Dial {
            self.end(cx);
        }
    }

    /// Hands the outcome over and stops the reactor.
    pub(crate) fn end(&mut self, cx: &mut Context<'_>) {
        if self.phase == Phase::Over {
            return;
        }
        self.enter(Phase::Over);
        self.progress.clear();
        let tally = std::mem::replace(&mut self.tally, Tally::new());
        // The receiver waits until the reactor has stopped.
        let _ = self.outcome.send(tally);
        cx.stop();
    }
}
