//! The commands. Texts of errors are those of Redis, since clients look at them.

use super::reply;
use super::request::Request;
use super::session::Session;
use super::store::{Expiry, Full, Store};

/// The commands and nothing else.
const NAMES: [&str; 23] = [
    "PING", "ECHO", "GET", "SET", "DEL", "EXISTS", "INCR", "INCRBY", "TTL", "PTTL", "EXPIRE",
    "PEXPIRE", "PERSIST", "DBSIZE", "FLUSHALL", "INFO", "COMMAND", "CONFIG", "HELLO", "CLIENT",
    "SELECT", "RESET", "QUIT",
];

/// The commands of which there are many.
const GET: u32 = letters(b"GET");
const SET: u32 = letters(b"SET");
const INCR: u32 = letters(b"INCR");
const PING: u32 = letters(b"PING");

/// Bytes of the longest name.
const NAME_BYTES: usize = 8;

/// What a request of HTTP begins with, or has in its second line. A web page may make a browser
/// send one here, with commands in the body. `GET` is not among them: `Host:` comes behind it.
const HTTP: [&[u8]; 2] = [b"POST", b"HOST:"];

pub(crate) const SYNTAX: &str = "ERR syntax error";
const NO_INTEGER: &str = "ERR value is not an integer or out of range";

/// What `CONFIG GET` knows; the benchmark asks for these.
const CONFIG: [(&str, &str); 3] = [("save", ""), ("appendonly", "no"), ("databases", "1")];

/// Bytes of an unknown command that are sent back.
const QUOTED_BYTES: usize = 128;

/// What one command works on.
pub(crate) struct Command<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) session: &'a mut Session,
    pub(crate) clients: usize,
    pub(crate) commands: &'a mut u64,
    pub(crate) now: u64,
}

impl Command<'_> {
    /// Runs a request and appends its reply; `false` if the client is to be closed.
    #[inline]
    pub(crate) fn run(&mut self, request: &Request<'_>, out: &mut Vec<u8>) -> bool {
        match (letters(request.get(0)), request.len()) {
            (GET, 2) => match self.store.get(request.get(1), self.now) {
                Some(value) => reply::bulk(out, value),
                None => reply::null(out, self.session.protocol),
            },
            (SET, 3..) => self.set(request, out),
            (INCR, 2) => self.add(request.get(1), 1, out),
            (PING, 1) => reply::simple(out, "PONG"),
            _ => return self.run_rare(request, out),
        }
        true
    }

    fn run_rare(&mut self, request: &Request<'_>, out: &mut Vec<u8>) -> bool {
        let mut buffer = [0; NAME_BYTES];
        let name = upper_case(request.get(0), &mut buffer);
        let (now, key) = (self.now, request.get(1));
        match (name, request.len()) {
            (_, 0) => {}
            (b"PING" | b"ECHO", 2) => reply::bulk(out, key),
            (b"QUIT", 1..) => {
                reply::ok(out);
                return false;
            }
            (first, _) if HTTP.contains(&first) => return false,
            (b"DEL", 2..) => {
                let removed = request.from(1).filter(|key| self.store.remove(key, now));
                reply::integer(out, removed.count() as i64);
            }
            (b"EXISTS", 2..) => {
                let found = request.from(1).filter(|key| self.store.get(key, now).is_some());
                reply::integer(out, found.count() as i64);
            }
            (b"INCRBY", 3) => match integer(request.get(2)) {
                Some(step) => self.add(key, step, out),
                None => reply::error(out, NO_INTEGER),
            },
            (b"TTL", 2) => self.time_to_live(key, 1_000, out),
            (b"PTTL", 2) => self.time_to_live(key, 1, out),
            (b"EXPIRE", 3..) => self.expire(request, 1_000, out),
            (b"PEXPIRE", 3..) => self.expire(request, 1, out),
            (b"PERSIST", 2) => {
                let is_there = self.store.get(key, now).is_some();
                reply::integer(out, i64::from(is_there && self.store.persist(key)));
            }
            (b"DBSIZE", 1) => reply::integer(out, self.store.len() as i64),
            (b"FLUSHALL", 1) => self.flush(out),
            (b"FLUSHALL", 2) if is_flush_option(key) => self.flush(out),
            (b"FLUSHALL", _) => reply::error(out, SYNTAX),
            (b"INFO", 1..) => reply::text(out, self.session.protocol, &self.info()),
            (b"COMMAND", 1..) => self.describe(key, out),
            (b"CONFIG", 3..) if key.eq_ignore_ascii_case(b"get") => {
                config(request, self.session, out);
            }
            (b"CONFIG", 2..) => reply::error(out, "ERR unknown subcommand; there is CONFIG GET"),
            (b"HELLO", 1..) => self.session.hello(request, out),
            (b"CLIENT", 2..) => self.session.client(request, out),
            (b"SELECT", 2) => match integer(key) {
                Some(0) => reply::ok(out),
                Some(_) => reply::error(out, "ERR DB index is out of range"),
                None => reply::error(out, NO_INTEGER),
            },
            (b"RESET", 1) => self.session.reset(out),
            _ if NAMES.iter().any(|known| known.as_bytes() == name) => {
                wrong_number(&lower_case(request.get(0)), out);
            }
            _ => unknown(request.get(0), out),
        }
        true
    }

    fn set(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        let (key, value) = (request.get(1), request.get(2));
        let options = match request.len() {
            3 => SetOptions::default(),
            _ => match SetOptions::parse(request, self.now) {
                Ok(options) => options,
                Err(text) => return reply::error(out, text),
            },
        };
        if let Some(must_exist) = options.must_exist {
            if self.store.get(key, self.now).is_some() != must_exist {
                return reply::null(out, self.session.protocol);
            }
        }
        let mut expiry = options.expiry;
        if expiry == Expiry::Keep && self.store.get(key, self.now).is_none() {
            expiry = Expiry::Never; // what has expired already is not kept
        }
        match self.store.set(key, value, expiry) {
            Ok(()) => reply::ok(out),
            Err(Full) => out_of_memory(out),
        }
    }

    /// `INCR` and `INCRBY`.
    fn add(&mut self, key: &[u8], step: i64, out: &mut Vec<u8>) {
        let (old, expiry) = match self.store.get(key, self.now) {
            None => (Some(0), Expiry::Never),
            Some(value) => (integer(value), Expiry::Keep),
        };
        let Some(old) = old else {
            return reply::error(out, NO_INTEGER);
        };
        let Some(new) = old.checked_add(step) else {
            return reply::error(out, "ERR increment or decrement would overflow");
        };
        match self.store.set(key, new.to_string().as_bytes(), expiry) {
            Ok(()) => reply::integer(out, new),
            Err(Full) => out_of_memory(out),
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        self.store.clear();
        reply::ok(out);
    }

    /// In units of so many milliseconds, rounded to the nearest; -1: for ever, -2: not there.
    fn time_to_live(&self, key: &[u8], unit_ms: u64, out: &mut Vec<u8>) {
        let left = match self.store.deadline(key, self.now) {
            None => -2,
            Some(None) => -1,
            Some(Some(deadline)) => ((deadline - self.now + unit_ms / 2) / unit_ms) as i64,
        };
        reply::integer(out, left);
    }

    fn expire(&mut self, request: &Request<'_>, unit_ms: i64, out: &mut Vec<u8>) {
        let condition = match Condition::parse(request) {
            Ok(condition) => condition,
            Err(text) => return reply::error(out, &text),
        };
        let Some(time) = integer(request.get(2)) else {
            return reply::error(out, NO_INTEGER);
        };
        let Some(deadline) = deadline(self.now, time, unit_ms) else {
            let name = lower_case(request.get(0));
            let text = format!("ERR invalid expire time in '{name}' command");
            return reply::error(out, &text);
        };
        let key = request.get(1);
        let old = self.store.deadline(key, self.now);
        let is_set = old.is_some_and(|old| condition.holds(old, deadline));
        if is_set && deadline <= self.now {
            self.store.remove(key, self.now);
        } else if is_set && self.store.expire_at(key, deadline) == Err(Full) {
            return out_of_memory(out);
        }
        reply::integer(out, i64::from(is_set));
    }

    fn info(&self) -> String {
        format!(
            "# Server\r\nserver_name:waterwheel-kv\r\nredis_mode:standalone\r\n\
             process_id:{}\r\nuptime_in_seconds:{}\r\n\r\n\
             # Clients\r\nconnected_clients:{}\r\n\r\n\
             # Memory\r\nused_memory_dataset:{}\r\n\r\n\
             # Stats\r\ntotal_commands_processed:{}\r\nexpired_keys:{}\r\n\r\n\
             # Keyspace\r\ndb0:keys={},expires={}\r\n",
            std::process::id(),
            self.now / 1_000,
            self.clients,
            self.store.bytes(),
            self.commands,
            self.store.expired(),
            self.store.len(),
            self.store.expiring(),
        )
    }

    /// `COMMAND COUNT`, and for the rest of `COMMAND` as little as a client can live with.
    fn describe(&self, subcommand: &[u8], out: &mut Vec<u8>) {
        if subcommand.eq_ignore_ascii_case(b"count") {
            reply::integer(out, NAMES.len() as i64);
        } else {
            reply::array(out, 0);
        }
    }
}

/// What may follow the time in `EXPIRE`: when it is set at all.
#[derive(Default)]
struct Condition {
    /// `XX` and `NX`: only if the key expires already, or only if not.
    must_expire: Option<bool>,
    /// `GT`: only if it then expires later. A key that does not expire does so last of all.
    is_later: bool,
    /// `LT`: only if it then expires sooner.
    is_sooner: bool,
}

impl Condition {
    fn parse(request: &Request<'_>) -> Result<Self, String> {
        let (mut parsed, mut is_nx, mut is_xx) = (Self::default(), false, false);
        for option in request.from(3) {
            let mut buffer = [0; NAME_BYTES];
            match upper_case(option, &mut buffer) {
                b"NX" => is_nx = true,
                b"XX" => is_xx = true,
                b"GT" => parsed.is_later = true,
                b"LT" => parsed.is_sooner = true,
                _ => return Err(format!("ERR Unsupported option {}", quoted(option))),
            }
        }
        if is_nx && (is_xx || parsed.is_later || parsed.is_sooner) {
            let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(text.to_owned());
        }
        if parsed.is_later && parsed.is_sooner {
            let text = "ERR GT and LT options at the same time are not compatible";
            return Err(text.to_owned());
        }
        parsed.must_expire = (is_nx || is_xx).then_some(is_xx);
        Ok(parsed)
    }

    fn holds(&self, old: Option<u64>, new: u64) -> bool {
        let old_or_last = old.unwrap_or(u64::MAX);
        self.must_expire.is_none_or(|must_expire| must_expire == old.is_some())
            && (!self.is_later || new > old_or_last)
            && (!self.is_sooner || new < old_or_last)
    }
}

/// What may follow key and value in `SET`.
struct SetOptions {
    expiry: Expiry,
    /// `XX` and `NX`: set it only if the key exists, or only if not.
    must_exist: Option<bool>,
}

impl Default for SetOptions {
    fn default() -> Self {
        Self { expiry: Expiry::Never, must_exist: None }
    }
}

impl SetOptions {
    fn parse(request: &Request<'_>, now: u64) -> Result<Self, &'static str> {
        let mut parsed = Self::default();
        let mut options = request.from(3);
        while let Some(option) = options.next() {
            let mut buffer = [0; NAME_BYTES];
            match upper_case(option, &mut buffer) {
                b"NX" if parsed.must_exist != Some(true) => parsed.must_exist = Some(false),
                b"XX" if parsed.must_exist != Some(false) => parsed.must_exist = Some(true),
                b"KEEPTTL" if parsed.expiry == Expiry::Never => parsed.expiry = Expiry::Keep,
                unit @ (b"EX" | b"PX") if parsed.expiry == Expiry::Never => {
                    let unit_ms = if unit == b"EX" { 1_000 } else { 1 };
                    let time = integer(options.next().ok_or(SYNTAX)?).ok_or(NO_INTEGER)?;
                    let deadline = deadline(now, time, unit_ms)
                        .filter(|_| time > 0)
                        .ok_or("ERR invalid expire time in 'set' command")?;
                    parsed.expiry = Expiry::At(deadline);
                }
                _ => return Err(SYNTAX),
            }
        }
        Ok(parsed)
    }
}

fn is_flush_option(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"sync") || word.eq_ignore_ascii_case(b"async")
}

fn config(request: &Request<'_>, session: &Session, out: &mut Vec<u8>) {
    let is_wanted = |name: &str| {
        let is_wanted =
            |wanted: &[u8]| wanted == b"*" || wanted.eq_ignore_ascii_case(name.as_bytes());
        request.from(2).any(is_wanted)
    };
    let found: Vec<_> = CONFIG.iter().filter(|(name, _)| is_wanted(name)).collect();
    reply::map(out, session.protocol, found.len());
    for (name, value) in found {
        reply::bulk(out, name.as_bytes());
        reply::bulk(out, value.as_bytes());
    }
}

fn unknown(name: &[u8], out: &mut Vec<u8>) {
    reply::error(out, &format!("ERR unknown command '{}'", quoted(name)));
}

pub(crate) fn wrong_number(command: &str, out: &mut Vec<u8>) {
    reply::error(out, &format!("ERR wrong number of arguments for '{command}' command"));
}

/// A word of the client that is sent back, or its beginning.
pub(crate) fn quoted(word: &[u8]) -> impl std::fmt::Display {
    word[..word.len().min(QUOTED_BYTES)].escape_ascii()
}

/// A name as errors have it.
pub(crate) fn lower_case(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_lowercase()
}

fn out_of_memory(out: &mut Vec<u8>) {
    reply::error(out, "OOM command not allowed when used memory > 'maxmemory'.");
}

/// A word of three or four letters as one number to compare, whatever their case: 0 for a word of
/// another length. A word with any other character equals no word of letters.
#[inline]
const fn letters(word: &[u8]) -> u32 {
    const UPPER: u8 = !0x20;
    match *word {
        [a, b, c] => u32::from_le_bytes([a & UPPER, b & UPPER, c & UPPER, 0xff]),
        [a, b, c, d] => u32::from_le_bytes([a & UPPER, b & UPPER, c & UPPER, d & UPPER]),
        _ => 0,
    }
}

/// A name in upper case; empty if it is too long to be one.
#[inline]
fn upper_case<'b>(name: &[u8], buffer: &'b mut [u8; NAME_BYTES]) -> &'b [u8] {
    let Some(buffer) = buffer.get_mut(..name.len()) else {
        return &[];
    };
    for (to, byte) in buffer.iter_mut().zip(name) {
        *to = byte.to_ascii_uppercase();
    }
    buffer
}

/// An integer as Redis writes it: no plus sign, no leading zero, no space.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain = match digits {
        [b'0'] => digits.len() == text.len(),
        [first, ..] => (b'1'..=b'9').contains(first),
        [] => false,
    };
    if !is_plain {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The time so many units from now, or 0 if that is before the beginning; `None` if it cannot be
/// counted.
fn deadline(now: u64, time: i64, unit_ms: i64) -> Option<u64> {
    let wait = time.checked_mul(unit_ms)?;
    let deadline = match u64::try_from(wait) {
        Ok(wait) => now.checked_add(wait)?,
        Err(_) => now.saturating_sub(wait.unsigned_abs()),
    };
    (deadline <= waterwheel::wheel::LAST_TICK).then_some(deadline)
}
