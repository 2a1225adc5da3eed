//! What the page is sent: the state of the recorder as JSON.

use std::fmt::{self, Write};

use super::conns::{Entry, UNKNOWN};
use super::json::Quoted;
use super::recorder::Recorder;
use super::tally::{Histogram, nanos};
use super::warning::Warning;

/// The page shows no more connections: those in the lowest slots.
const MAX_SHOWN: usize = 1_024;

/// The state of a recorder. All numbers grow; the page takes differences.
pub(super) struct View<'a>(pub(super) &'a Recorder);

impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(recorder) = self;
        let tally = &recorder.tally;
        let numbers = [
            ("at", recorder.now()),
            ("turns", tally.turns),
            ("turn_ns", tally.turn_length),
            ("poll_ns", tally.poll_length),
            ("callbacks", tally.callbacks),
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
        histogram(f, "turn_hist", &tally.turn_lengths)?;
        histogram(f, "callback_hist", &tally.callback_lengths)?;
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
        f.write_char('}')
    }
}

/// A list, each member as `write` writes it.
fn list<T>(
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

fn histogram(f: &mut fmt::Formatter<'_>, name: &str, histogram: &Histogram) -> fmt::Result {
    write!(f, ",\"{name}\":")?;
    list(f, &histogram.0, |f, count| write!(f, "{count}"))
}

/// Slot, id, handler, age in milliseconds, bytes in and out, queued bytes, callbacks, phase, peer.
fn conn(f: &mut fmt::Formatter<'_>, it: &Entry, now: u64) -> fmt::Result {
    let (slot, id, age) = (it.id.slot(), it.id, now.saturating_sub(it.since) / 1_000_000);
    let handler = if it.handler == UNKNOWN { -1 } else { i64::from(it.handler) };
    let (read, written, output) = (it.bytes_read, it.bytes_written, it.output_bytes);
    write!(f, "[{slot},\"{id}\",{handler},{age},{read},{written},{output},{},", it.callbacks)?;
    let phase = match it {
        Entry { is_open: false, is_ended: true, .. } => "closing",
        Entry { is_open: false, is_outgoing: true, .. } => "connecting",
        Entry { is_open: false, .. } => "opening",
        Entry { is_paused: true, .. } => "paused",
        Entry { output_bytes: 1.., .. } => "writing",
        _ => "open",
    };
    match it.peer {
        Some(peer) => write!(f, "\"{phase}\",\"{peer}\"]"),
        None => write!(f, "\"{phase}\",null]"),
    }
}

fn warning(f: &mut fmt::Formatter<'_>, it: &Warning) -> fmt::Result {
    let (kind, text) = (it.kind.name(), Quoted(&it.text));
    let (meaning, advice) = (Quoted(it.kind.meaning()), Quoted(it.kind.advice()));
    let (at, count) = (it.at.as_millis(), it.count);
    write!(f, "{{\"kind\":\"{kind}\",\"text\":{text},\"meaning\":{meaning},")?;
    write!(f, "\"advice\":{advice},\"at_ms\":{at},\"count\":{count}}}")
}
