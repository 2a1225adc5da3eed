//! Recordings, and their form as a trace of Chrome's.

use std::fmt;
use std::io;

use super::record::{Happened, ON_DATA, Places, Record};
use crate::base::id::ConnId;
use crate::base::json::Quoted;
use crate::engine::observer::Phase;

/// A copy of what a [`Recorder`](super::Recorder) has kept. It is `Send`: take it to another
/// thread to write it, because writing a full one would hold the loop.
///
/// # Format
/// [`write_trace`](Self::write_trace) writes the JSON of Chrome's trace events, which
/// <https://ui.perfetto.dev> and <https://www.speedscope.app> open. Turns contain phases, and
/// phases contain callbacks; what happened between them are instants, and the number of
/// connections is a counter. Times are counted from the first record. A span ends a nanosecond or
/// two before the one around it, so that rounding does not make them cross. Bytes that move before
/// a connection is accepted, in a handshake for example, name none: it may be refused.
pub struct Recording {
    pub(super) records: Vec<Record>,
    /// The least time of the records, from which a trace counts.
    pub(super) begun: u64,
    /// Names of handlers, by index.
    pub(super) handlers: Vec<String>,
    /// Names of callbacks and marks.
    pub(super) names: Places,
}

impl Record {
    /// When it ended.
    pub(super) fn end(&self) -> u64 {
        match self.what {
            Happened::Turn { length, .. }
            | Happened::Phase { length, .. }
            | Happened::ConnCallback { length, .. }
            | Happened::Callback { length, .. } => self.at + length,
            Happened::Message { length, .. } => self.at + u64::from(length),
            _ => self.at,
        }
    }
}

impl Recording {
    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Writes it as trace events of Chrome's, in JSON. Use a buffered writer.
    ///
    /// # Errors
    /// - The writer's.
    pub fn write_trace(&self, to: &mut impl io::Write) -> io::Result<()> {
        to.write_all(Self::HEAD.as_bytes())?;
        for record in &self.records {
            write!(to, ",\n{}", Shown { record, of: self })?;
        }
        to.write_all(Self::TAIL.as_bytes())
    }

    /// The trace as a text.
    #[must_use]
    pub fn to_trace(&self) -> String {
        let mut text = String::with_capacity(256 + 128 * self.records.len());
        text.push_str(Self::HEAD);
        self.write_events(&mut text, 0..self.len());
        text.push_str(Self::TAIL);
        text
    }

    /// What a trace begins with: the names of the process and of its thread.
    pub(super) const HEAD: &str = concat!(
        "{\"traceEvents\":[\n",
        r#"{"ph":"M","name":"process_name","pid":1,"tid":1,"args":{"name":"waterwheel"}},"#,
        "\n",
        r#"{"ph":"M","name":"thread_name","pid":1,"tid":1,"args":{"name":"loop"}}"#,
    );

    /// What a trace ends with.
    pub(super) const TAIL: &str = "\n],\"displayTimeUnit\":\"ms\"}\n";

    /// Adds these events, each behind a comma.
    pub(super) fn write_events(&self, to: &mut String, range: std::ops::Range<usize>) {
        use fmt::Write;
        for record in &self.records[range] {
            // A string takes all that is written.
            let _ = write!(to, ",\n{}", Shown { record, of: self });
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("records", &self.records.len()).finish_non_exhaustive()
    }
}

/// The name of a phase.
pub(super) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Events => "events",
        Phase::Ready => "ready queue",
        Phase::Mailbox => "mailbox",
        Phase::Timers => "timers",
        Phase::FlushAndClose => "flush and close",
    }
}

/// Nanoseconds as microseconds, exactly.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

/// How many spans a span lies in, which is how many nanoseconds it is shortened by.
const PHASE_DEPTH: u64 = 1;
const CALLBACK_DEPTH: u64 = 2;

/// A record as a trace event.
struct Shown<'a> {
    record: &'a Record,
    of: &'a Recording,
}

impl Shown<'_> {
    /// A time as it is shown.
    fn shown(&self, at: u64) -> Micros {
        Micros(at.saturating_sub(self.of.begun))
    }

    /// Something that lasts. Arguments would be a part of its name in speedscope, so there is none
    /// but the connection.
    fn lasting(
        &self,
        f: &mut fmt::Formatter<'_>,
        (category, name): (&str, &str),
        length: u64,
        conn: Option<ConnId>,
    ) -> fmt::Result {
        let (name, at, length) = (Quoted(name), self.shown(self.record.at), Micros(length));
        write!(f, r#"{{"ph":"X","cat":"{category}","name":{name},"pid":1,"tid":1,"#)?;
        write!(f, r#""ts":{at},"dur":{length}"#)?;
        match conn {
            Some(conn) => write!(f, r#","args":{{"conn":"{conn}"}}}}"#),
            None => f.write_str("}"),
        }
    }

    /// Something that does not.
    fn instant(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        arguments: fmt::Arguments<'_>,
    ) -> fmt::Result {
        let (name, at) = (Quoted(name), self.shown(self.record.at));
        write!(f, r#"{{"ph":"i","s":"t","name":{name},"pid":1,"tid":1,"ts":{at},"#)?;
        write!(f, r#""args":{{{arguments}}}}}"#)
    }

    /// Something that happened to a connection, with a number.
    fn of_conn(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        conn: ConnId,
        bytes: u32,
    ) -> fmt::Result {
        self.instant(f, name, format_args!(r#""conn":"{conn}","bytes":{bytes}"#))
    }

    /// Bytes that have moved, of a connection if that is known.
    fn of_bytes(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        conn: Option<ConnId>,
        bytes: u32,
    ) -> fmt::Result {
        match conn {
            Some(conn) => self.of_conn(f, name, conn, bytes),
            None => self.instant(f, name, format_args!(r#""bytes":{bytes}"#)),
        }
    }

    fn callback_name(&self, handler: u16, name: u8) -> String {
        let handler = self.of.handlers.get(usize::from(handler)).map_or("?", String::as_str);
        format!("{handler} {}", self.of.names.name(usize::from(name)))
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.record.what {
            Happened::Turn { length, connections } => {
                self.lasting(f, ("turn", "turn"), length, None)?;
                let at = self.shown(self.record.end());
                write!(f, ",\n{{\"ph\":\"C\",\"name\":\"connections\",\"pid\":1,\"tid\":1,")?;
                write!(f, r#""ts":{at},"args":{{"connections":{connections}}}}}"#)
            }
            Happened::Phase { phase, length } => {
                let length = length.saturating_sub(PHASE_DEPTH);
                self.lasting(f, ("phase", phase_name(phase)), length, None)
            }
            Happened::ConnCallback { name, handler, length, conn } => {
                let length = length.saturating_sub(CALLBACK_DEPTH);
                let name = self.callback_name(handler, name);
                self.lasting(f, ("callback", &name), length, Some(conn))
            }
            Happened::Message { handler, length, conn, read, written } => {
                self.of_conn(f, "read", conn, read)?;
                f.write_str(",\n")?;
                let length = u64::from(length).saturating_sub(CALLBACK_DEPTH);
                let name = self.callback_name(handler, ON_DATA);
                self.lasting(f, ("callback", &name), length, Some(conn))?;
                if written > 0 {
                    f.write_str(",\n")?;
                    self.of_conn(f, "written", conn, written)?;
                }
                Ok(())
            }
            Happened::Callback { name, handler, length } => {
                let length = length.saturating_sub(CALLBACK_DEPTH);
                let name = self.callback_name(handler, name);
                self.lasting(f, ("callback", &name), length, None)
            }
            Happened::Begun { conn, is_outgoing: false } => self.of_conn(f, "accepted", conn, 0),
            Happened::Begun { conn, is_outgoing: true } => self.of_conn(f, "connecting", conn, 0),
            Happened::Opened { conn } => self.of_conn(f, "opened", conn, 0),
            Happened::Closed { conn, why, unsent_bytes } => {
                self.of_conn(f, why.text(), conn, unsent_bytes)
            }
            Happened::Read { conn, bytes } => self.of_bytes(f, "read", conn, bytes),
            Happened::Written { conn, bytes } => self.of_bytes(f, "written", conn, bytes),
            Happened::Armed { wait } => {
                self.instant(f, "timer set", format_args!(r#""wait_us":{}"#, Micros(wait)))
            }
            Happened::Fired { late } => {
                self.instant(f, "timer fired", format_args!(r#""late_us":{}"#, Micros(late)))
            }
            Happened::Woken => self.instant(f, "woken", format_args!("")),
            Happened::Panicked => self.instant(f, "panic", format_args!("")),
            Happened::Mark { name } => {
                self.instant(f, self.of.names.name(name as usize), format_args!(""))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_are_shown_as_microseconds() {
        assert_eq!(Micros(1_234_567).to_string(), "1234.567");
        assert_eq!(Micros(5).to_string(), "0.005");
    }
}
