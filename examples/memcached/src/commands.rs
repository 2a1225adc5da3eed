//! The commands of the text protocol, and what each is answered with.

use std::process;
use std::str::{self, FromStr};
use std::time::Duration;

use itoa::Buffer;
use waterwheel::{Conn, frame};

use crate::{Cache, Next};

/// Longest command: one may ask for many keys.
pub(crate) const MAX_LINE_BYTES: usize = 64 << 10;
const MAX_KEY_BYTES: usize = 250;
pub(crate) const MAX_VALUE_BYTES: usize = 1 << 20;

/// Words of the longest command but `get`.
const MAX_WORDS: usize = 6;

/// A time to live that is longer, in seconds, is a time of the calendar.
const MONTH: i64 = 60 * 60 * 24 * 30;

/// Clients choose by the number what they may ask for.
const VERSION: &str = "VERSION 1.4.0-waterwheel";

const UNKNOWN: &str = "ERROR";
const BAD_LINE: &str = "CLIENT_ERROR bad command line format";
const BAD_TIME: &str = "CLIENT_ERROR invalid exptime argument";
const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";

impl Cache {
    /// Serves the command at the front of an input. Returns the bytes that are done with: none if
    /// the command is not all here, or not all answered.
    pub(crate) fn serve(&mut self, next: &mut Next, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        let line = match lines.next() {
            Some(Ok(line)) => line,
            Some(Err(_)) => return give_up(conn, "CLIENT_ERROR line too long", input),
            None => return 0,
        };
        let (mut taken, now) = (lines.consumed(), conn.context().now());
        let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        let name = words.next().unwrap_or_default();
        if let b"get" | b"gets" = name {
            return if self.get(next, conn, name, words) { taken } else { 0 };
        }
        let mut args = [&b""[..]; MAX_WORDS];
        let count = args.iter_mut().zip(words).map(|(arg, word)| *arg = word).count();
        let (args, is_quiet) = match &args[..count] {
            // A key may have that name.
            [args @ .., b"noreply"] if name != b"delete" || !args.is_empty() => (args, true),
            args => (args, false),
        };
        let answer = match (name, args) {
            (b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas", _) => {
                let length = args.get(3).and_then(|word| number::<i32>(word));
                let length = length.and_then(|length| usize::try_from(length).ok());
                // Without it the value cannot be told from commands.
                let Some(length) = length else { return give_up(conn, BAD_LINE, input) };
                match self.change(name, args, length, &input[taken..], now) {
                    None => return 0,
                    Some(Ok(answer)) => {
                        taken += length + 2;
                        answer
                    }
                    Some(Err(error)) => {
                        *next = Next::Skipped(length);
                        error
                    }
                }
            }
            (b"incr" | b"decr", &[key, delta]) => match self.count(name, key, delta, now) {
                Ok(_) if is_quiet => return taken,
                Ok(value) => {
                    write!(conn, "{value}\r\n");
                    return taken;
                }
                Err(error) => error,
            },
            (b"version", []) if !is_quiet => VERSION,
            (b"verbosity", args) if args.len() == 1 || (is_quiet && args.is_empty()) => "OK",
            (b"stats", []) if !is_quiet => {
                self.write_stats(conn, now);
                "END"
            }
            (b"quit", []) if !is_quiet => {
                conn.close();
                return taken;
            }
            _ => self.command(name, args, conn, now).unwrap_or_else(|error| error),
        };
        if !is_quiet || answer == UNKNOWN {
            conn.write_vectored(&[answer.as_bytes(), b"\r\n"]);
        }
        taken
    }

    /// Answers a `get`; whether it is done, or the client has to read first.
    fn get<'a>(
        &mut self,
        next: &mut Next,
        conn: &mut Conn<'_>,
        name: &[u8],
        keys: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> bool {
        let now = conn.context().now();
        match keys.clone().map(<[u8]>::len).max() {
            None => conn.write(b"ERROR\r\n"),
            Some(longest) if longest > MAX_KEY_BYTES => {
                conn.write_vectored(&[BAD_LINE.as_bytes(), b"\r\n"])
            }
            Some(_) => {
                let answered = if let Next::Get(answered) = *next { answered } else { 0 };
                for (at, key) in keys.enumerate().skip(answered) {
                    if conn.is_above_high_mark() {
                        *next = Next::Get(at);
                        return false;
                    }
                    self.counts.gets += 1;
                    let Some(item) = self.store.get(key, now) else { continue };
                    self.counts.hits += 1;
                    // Each answer has numbers in it: `write!` would be a quarter of the work.
                    let (mut flags, mut length) = (Buffer::new(), Buffer::new());
                    let flags = flags.format(item.flags).as_bytes();
                    let length = length.format(item.value.len()).as_bytes();
                    conn.write_vectored(&[b"VALUE ", key, b" ", flags, b" ", length]);
                    if name == b"gets" {
                        write!(conn, " {}", item.unique);
                    }
                    conn.write_vectored(&[b"\r\n", &item.value, b"\r\n"]);
                }
                *next = Next::Command;
                conn.write(b"END\r\n")
            }
        };
        true
    }

    /// Runs a command with a value, which `input` begins with: `None` if it is not all here. After
    /// an error the value is still to be skipped.
    fn change(
        &mut self,
        name: &[u8],
        args: &[&[u8]],
        length: usize,
        input: &[u8],
        now: Duration,
    ) -> Option<Result<&'static str, &'static str>> {
        let (key, flags, exptime, unique) = match *args {
            [key, flags, exptime, _] if name != b"cas" => (key, flags, exptime, None),
            [key, flags, exptime, _, unique] if name == b"cas" => {
                (key, flags, exptime, Some(number::<u64>(unique)))
            }
            _ => return Some(Err(UNKNOWN)),
        };
        let numbers = number::<u32>(flags).zip(number::<i64>(exptime));
        let is_good = key.len() <= MAX_KEY_BYTES && unique != Some(None);
        let Some((flags, exptime)) = numbers.filter(|_| is_good) else {
            return Some(Err(BAD_LINE));
        };
        if length > MAX_VALUE_BYTES {
            if name == b"set" {
                self.store.remove(key); // or the old value would be taken for the new one
            }
            return Some(Err(TOO_LARGE));
        }
        let (value, end) = input.get(..length + 2)?.split_at(length);
        if end != b"\r\n" {
            return Some(Err("CLIENT_ERROR bad data chunk"));
        }
        self.counts.sets += 1;
        let expires = self.deadline(exptime, now);
        let old = if name == b"set" { None } else { self.store.get(key, now) };
        let (flags, expires, value) = match (name, old) {
            (b"add", Some(_)) | (b"replace" | b"append" | b"prepend", None) => {
                return Some(Ok("NOT_STORED"));
            }
            (b"cas", None) => return Some(Ok("NOT_FOUND")),
            (b"cas", Some(old)) if unique != Some(Some(old.unique)) => return Some(Ok("EXISTS")),
            (b"append", Some(old)) => (old.flags, old.expires, [&old.value, value].concat()),
            (b"prepend", Some(old)) => (old.flags, old.expires, [value, &old.value].concat()),
            _ => (flags, expires, value.to_vec()),
        };
        if value.len() > MAX_VALUE_BYTES {
            return Some(Ok(TOO_LARGE));
        }
        self.store.put(key, flags, expires, value.into());
        Some(Ok("STORED"))
    }

    fn count(
        &mut self,
        name: &[u8],
        key: &[u8],
        delta: &[u8],
        now: Duration,
    ) -> Result<u64, &'static str> {
        check(key)?;
        let delta: u64 = number(delta).ok_or("CLIENT_ERROR invalid numeric delta argument")?;
        let item = self.store.get(key, now).ok_or("NOT_FOUND")?;
        let value: u64 = number(item.value.trim_ascii())
            .ok_or("CLIENT_ERROR cannot increment or decrement non-numeric value")?;
        let up = name == b"incr";
        let value = if up { value.wrapping_add(delta) } else { value.saturating_sub(delta) };
        let (flags, expires) = (item.flags, item.expires);
        self.store.put(key, flags, expires, value.to_string().into_bytes().into());
        Ok(value)
    }

    /// Runs a command that is answered with a word.
    fn command(
        &mut self,
        name: &[u8],
        args: &[&[u8]],
        conn: &mut Conn<'_>,
        now: Duration,
    ) -> Result<&'static str, &'static str> {
        match (name, args) {
            (b"delete", &[key] | &[key, b"0"]) => {
                check(key)?;
                let found = self.store.get(key, now).map(|_| "DELETED").ok_or("NOT_FOUND");
                self.store.remove(key);
                found
            }
            (b"delete", [_, _]) => {
                Err("CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]")
            }
            (b"touch", &[key, exptime]) => {
                check(key)?;
                let exptime = number(exptime).ok_or(BAD_TIME)?;
                let expires = self.deadline(exptime, now);
                self.store.get(key, now).ok_or("NOT_FOUND")?.expires = expires;
                Ok("TOUCHED")
            }
            (b"flush_all", [] | [_]) => {
                let delay = args.first().map_or(Some(0), |word| number(word)).ok_or(BAD_TIME)?;
                if let Some(timer) = self.flush.take() {
                    conn.context().cancel_timer(timer);
                }
                match self.deadline(delay, now).filter(|&at| at > now) {
                    Some(at) => {
                        self.flush = Some(conn.context().set_timer(self.key, at - now, 0));
                    }
                    None => self.store.clear(),
                }
                Ok("OK")
            }
            _ => Err(UNKNOWN),
        }
    }

    /// The time of the loop that a time to live ends at: none, at once, from now on, or by the
    /// calendar.
    fn deadline(&self, exptime: i64, now: Duration) -> Option<Duration> {
        let seconds = Duration::from_secs(exptime.unsigned_abs());
        match exptime {
            0 => None,
            ..0 => Some(Duration::ZERO),
            1..=MONTH => Some(now + seconds),
            _ => Some(seconds.saturating_sub(self.epoch)),
        }
    }

    fn write_stats(&self, conn: &mut Conn<'_>, now: Duration) {
        let Self { store, counts, .. } = self;
        for (name, value) in [
            ("pid", process::id().into()),
            ("uptime", now.as_secs()),
            ("time", (self.epoch + now).as_secs()),
            ("threads", 1),
            ("curr_connections", conn.context().stats().connections),
            ("cmd_get", counts.gets),
            ("cmd_set", counts.sets),
            ("get_hits", counts.hits),
            ("get_misses", counts.gets - counts.hits),
            ("curr_items", store.len() as u64),
            ("bytes", store.bytes as u64),
            ("limit_maxbytes", store.max_bytes as u64),
            ("evictions", store.evictions),
        ] {
            write!(conn, "STAT {name} {value}\r\n");
        }
        write!(conn, "STAT version {}\r\n", &VERSION["VERSION ".len()..]);
    }
}

/// Passes over a value that is not stored, and what follows it up to the end of the line.
pub(crate) fn skip(next: &mut Next, bytes: usize, input: &[u8]) -> usize {
    let line = input.get(bytes..).map(|line| line.iter().position(|&byte| byte == b'\n'));
    *next = match line {
        Some(Some(_)) => Next::Command,
        Some(None) => Next::Skipped(0),
        None => Next::Skipped(bytes - input.len()),
    };
    line.flatten().map_or(input.len(), |end| bytes + end + 1)
}

/// Where the next command begins cannot be known.
fn give_up(conn: &mut Conn<'_>, error: &str, input: &[u8]) -> usize {
    conn.write_vectored(&[error.as_bytes(), b"\r\n"]);
    conn.close();
    input.len()
}

fn check(key: &[u8]) -> Result<(), &'static str> {
    if key.len() <= MAX_KEY_BYTES { Ok(()) } else { Err(BAD_LINE) }
}

fn number<T: FromStr>(word: &[u8]) -> Option<T> {
    str::from_utf8(word).ok()?.parse().ok()
}
