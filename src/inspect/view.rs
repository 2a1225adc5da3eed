//! What the page is sent: the state of the recorder as JSON.

use std::fmt::{self, Write};
use std::ops::Range;

use super::conns::{Entry, UNKNOWN};
use super::record::{Happened, ON_DATA, Record};
use super::recorder::Recorder;
use super::tally::nanos;
use super::trace::phase_name;
use super::warning::Warning;
use crate::base::json::Quoted;
use crate::engine::observer::LoopState;

/// The page shows no more connections: those in the lowest slots.
const MAX_SHOWN: usize = 1_024;

/// The page's timeline is told of what has ended in the last so many nanoseconds: more than the
/// time between two views, for those that come late.
const SPAN_WINDOW: u64 = 500_000_000;

/// So many records are looked at for the timeline, and so many of the longest are sent.
const MAX_LOOKED_AT: usize = 16_384;
const MAX_SPANS: usize = 96;

/// The state of a recorder. Numbers grow, and the page takes differences; those of peaks do not.
///
/// The end of the object is missing: lanes follow, which each page has chosen for itself.
pub(super) struct View<'a> {
    pub(super) recorder: &'a Recorder,
    /// How the loop stands now.
    pub(super) state: LoopState,
    /// Callbacks by their length, without those of ignored handlers.
    pub(super) callbacks: [u64; 64],
}

impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recorder, state, callbacks } = self;
        let tally = &recorder.tally;
        let numbers = [
            ("at", recorder.now()),
            ("turns", tally.turn_lengths.count()),
            ("turn_ns", tally.turn_length),
            ("poll_ns", tally.poll_length),
            ("peak_turn_ns", tally.peaks.turn_length),
            ("callbacks", callbacks.iter().sum()),
            ("begun", tally.begun),
            ("opened", tally.opened),
            ("closed", tally.closed),
            ("reset", tally.reset),
            ("read", tally.bytes_read),
            ("written", tally.bytes_written),
            ("armed", tally.timers_armed),
            ("fired", tally.timers_fired),
            ("late_ns", tally.late),
            ("latest_ns", tally.latest),
            ("woken", tally.woken),
            ("marks", tally.marks),
            ("panics", tally.panics),
            ("slow_ns", nanos(recorder.options.slow_callback)),
            ("warned", recorder.warnings.total),
        ];
        f.write_char('{')?;
        for (name, number) in numbers {
            write!(f, "\"{name}\":{number},")?;
        }
        f.write_str("\"phases\":")?;
        list(f, &tally.phases, |f, it| write!(f, "[{},{}]", it.length, it.count))?;
        f.write_str(",\"peak_counts\":")?;
        list(f, tally.peaks.counts, |f, count| write!(f, "{count}"))?;
        histogram(f, "turn_hist", tally.turn_lengths.counts())?;
        histogram(f, "callback_hist", callbacks)?;
        f.write_str(",\"handlers\":")?;
        list(f, &tally.handlers, |f, it| {
            let name = Quoted(&it.name);
            match it.is_ignored {
                true => f.write_str("null"),
                false => write!(f, "[{name},{},{},{}]", it.callbacks, it.length, it.longest),
            }
        })?;
        let is_shown = |entry: &&Entry| !tally.is_ignored(entry.handler);
        let count = recorder.conns.iter().filter(is_shown).count();
        write!(f, ",\"connections\":{count},\"conns\":")?;
        let shown = recorder.conns.iter().filter(is_shown).take(MAX_SHOWN);
        list(f, shown, |f, it| conn(f, it, recorder.now()))?;
        f.write_str(",\"warnings\":")?;
        list(f, recorder.warnings().iter().rev(), warning)?;
        queues(f, state)?;
        f.write_str(",\"spans\":")?;
        list(f, longest(recorder), |f, it| span(f, recorder, it))
    }
}

/// The queues, and the slots of the wheel: level, slot, entries.
fn queues(f: &mut fmt::Formatter<'_>, state: &LoopState) -> fmt::Result {
    let LoopState { tick, timers, deferred, ready, messages, .. } = state;
    let LoopState { flushes, closes, retries, .. } = state;
    write!(f, ",\"loop\":{{\"tick\":{tick},\"timers\":{timers},\"deferred\":{deferred},")?;
    write!(f, "\"ready\":{ready},\"messages\":{messages},\"flushes\":{flushes},")?;
    write!(f, "\"closes\":{closes},\"retries\":{retries},\"wheel\":")?;
    list(f, &state.wheel, |f, it| write!(f, "[{},{},{}]", it.level, it.slot, it.entries))?;
    f.write_char('}')
}

/// The longest spans since the last view: turns, phases and callbacks.
fn longest(recorder: &Recorder) -> Vec<&Record> {
    let from = recorder.now().saturating_sub(SPAN_WINDOW);
    let recent = recorder.ring.iter().rev().take(MAX_LOOKED_AT).take_while(|it| it.end() >= from);
    let mut spans: Vec<&Record> = recent.filter(|it| it.end() > it.at).collect();
    spans.sort_unstable_by_key(|it| std::cmp::Reverse(it.end() - it.at));
    spans.truncate(MAX_SPANS);
    spans
}

/// When it began, how long it took, how deep it lies, its name, its connection.
fn span(f: &mut fmt::Formatter<'_>, recorder: &Recorder, it: &Record) -> fmt::Result {
    let (at, length) = (it.at, it.end() - it.at);
    let callback = |handler: u16, name: u8| {
        let handler = recorder.handler_name(handler.into());
        format!("{handler} {}", recorder.names.name(name.into()))
    };
    let (depth, name, conn) = match it.what {
        Happened::Turn { .. } => (0, "turn".to_owned(), None),
        Happened::Phase { phase, .. } => (1, phase_name(phase).to_owned(), None),
        Happened::ConnCallback { handler, name, conn, .. } => {
            (2, callback(handler, name), Some(conn))
        }
        Happened::Message { handler, conn, .. } => (2, callback(handler, ON_DATA), Some(conn)),
        Happened::Callback { handler, name, .. } => (2, callback(handler, name), None),
        _ => (2, String::new(), None),
    };
    write!(f, "[{at},{length},{depth},{},", Quoted(&name))?;
    match conn {
        Some(conn) => write!(f, "\"{conn}\"]"),
        None => f.write_str("null]"),
    }
}

/// A list, each member as `write` writes it.
pub(super) fn list<T>(
    f: &mut fmt::Formatter<'_>,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    f.write_char('[')?;
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        write(f, item)?;
    }
    f.write_char(']')
}

/// The buckets that the page shows. What is shorter or longer counts to the first or the last one.
const SHOWN_BUCKETS: Range<usize> = 7..33;

fn histogram(f: &mut fmt::Formatter<'_>, name: &str, counts: &[u64; 64]) -> fmt::Result {
    let Range { start, end } = SHOWN_BUCKETS;
    let mut shown = counts[SHOWN_BUCKETS].to_vec();
    shown[0] += counts[..start].iter().sum::<u64>();
    shown[end - start - 1] += counts[end..].iter().sum::<u64>();
    write!(f, ",\"{name}\":")?;
    list(f, shown, |f, count| write!(f, "{count}"))
}

/// Slot, id, handler, age in milliseconds, bytes in and out, queued bytes, callbacks, phase, peer.
fn conn(f: &mut fmt::Formatter<'_>, it: &Entry, now: u64) -> fmt::Result {
    let (slot, id, age) = (it.id.slot(), it.id, now.saturating_sub(it.since) / 1_000_000);
    let handler = handler(it);
    let (read, written, output) = (it.bytes_read, it.bytes_written, it.output_bytes);
    write!(f, "[{slot},\"{id}\",{handler},{age},{read},{written},{output},{},", it.callbacks)?;
    let phase = phase(it);
    match it.peer {
        Some(peer) => write!(f, "\"{phase}\",\"{peer}\"]"),
        None => write!(f, "\"{phase}\",null]"),
    }
}

/// The handler by its index, or -1.
pub(super) fn handler(it: &Entry) -> i64 {
    if it.handler == UNKNOWN { -1 } else { it.handler.into() }
}

pub(super) fn phase(it: &Entry) -> &'static str {
    match it {
        Entry { is_open: false, end: Some(_), .. } => "closing",
        Entry { is_open: false, is_outgoing: true, .. } => "connecting",
        Entry { is_open: false, .. } => "opening",
        Entry { is_paused: true, .. } => "paused",
        Entry { output_bytes: 1.., .. } => "writing",
        _ => "open",
    }
}

fn warning(f: &mut fmt::Formatter<'_>, it: &Warning) -> fmt::Result {
    let (kind, text) = (it.kind.name(), Quoted(&it.text));
    let (meaning, advice) = (Quoted(it.kind.meaning()), Quoted(it.kind.advice()));
    let (at, count) = (it.at.as_millis(), it.count);
    write!(f, "{{\"kind\":\"{kind}\",\"text\":{text},\"meaning\":{meaning},")?;
    write!(f, "\"advice\":{advice},\"at_ms\":{at},\"count\":{count}}}")
}
