//! What is told of an exchange when it is over.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::date::http_date;
use super::exchange::ReplyId;
use super::head::{Head, Version};
use super::method::Method;

/// Bytes of a path that are logged.
const MAX_LOGGED_PATH: usize = 200;

/// What is kept of a request until its exchange is over.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) peer: SocketAddr,
    target: Box<str>,
    agent: Option<Box<[u8]>>,
    referer: Option<Box<[u8]>>,
    pub(super) began: Duration,
    /// The status with which the server has refused the body.
    pub(super) refused: Option<u16>,
}

impl Saved {
    pub(super) fn new(head: &Head<'_>, peer: SocketAddr, began: Duration) -> Self {
        let field = |name: &str| {
            let mut fields = head.fields.iter();
            fields.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.into()))
        };
        Self {
            peer,
            target: head.target.raw.into(),
            agent: field("user-agent"),
            referer: field("referer"),
            began,
            refused: None,
        }
    }
}

impl Saved {
    /// Of a request whose end nobody wants to be told.
    pub(super) fn target_only(head: &Head<'_>, peer: SocketAddr, began: Duration) -> Self {
        let target = head.target.raw.into();
        Self { peer, target, agent: None, referer: None, began, refused: None }
    }

    /// The target up to its query, escaped, and no longer than a line of a log may be.
    pub(super) fn path(&self) -> String {
        let path = self.target.split(['?', '#']).next().unwrap_or_default().as_bytes();
        let mut text = String::new();
        let _ = write_escaped(&mut text, &path[..path.len().min(MAX_LOGGED_PATH)]);
        if path.len() > MAX_LOGGED_PATH {
            text.push('…');
        }
        text
    }

    /// Target, user agent and referer.
    pub(super) fn parts(&self) -> (&str, Option<&[u8]>, Option<&[u8]>) {
        (&self.target, self.agent.as_deref(), self.referer.as_deref())
    }
}

/// An exchange that is over, for [`Server::on_finish`](super::Server::on_finish).
///
/// It is written as a line of the common log format with `{}`, and as an object of JSON by
/// [`json`](Self::json). What the client chose is escaped in both, so that it can forge neither a
/// line nor what a terminal shows.
///
/// # Examples
/// ```
/// use waterwheel::http::{Router, Server};
/// let server = Server::new((), Router::new()).on_finish(|_, record| println!("{record}"));
/// # let _ = server;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Record<'a> {
    /// Which exchange it was.
    pub id: ReplyId,
    /// The other end.
    pub peer: SocketAddr,
    /// The method.
    pub method: Method,
    /// The target as it was sent.
    pub target: &'a str,
    /// The version of the request.
    pub version: Version,
    /// The status of the answer; 0 if there was none.
    pub status: u16,
    /// Whether the answer was written whole. A refusal of the server's own within the body (400,
    /// 408) is not the answer to the request.
    pub is_complete: bool,
    /// Bytes of the body of the request that were read.
    pub received_bytes: u64,
    /// Bytes of the body of the answer.
    pub sent_bytes: u64,
    /// The time of day at the end.
    pub time: SystemTime,
    /// From the head of the request to the end of the answer, in steps of 1 ms, as the loop sees
    /// it.
    pub duration: Duration,
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`.
    pub referer: Option<&'a [u8]>,
}

impl Record<'_> {
    /// The record as one line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let mut text = String::with_capacity(256);
        let _ = self.write_json(&mut text);
        text
    }

    fn write_json(&self, out: &mut String) -> fmt::Result {
        let time = http_date(self.time);
        write!(out, "{{\"id\":\"{}\",\"time\":\"{time}\",\"peer\":\"{}\",", self.id, self.peer)?;
        write!(out, "\"method\":\"{}\",\"target\":", self.method)?;
        write_json_text(out, self.target.as_bytes())?;
        write!(out, ",\"version\":\"{}\",\"status\":{},", name(self.version), self.status)?;
        write!(out, "\"complete\":{},\"received\":{},", self.is_complete, self.received_bytes)?;
        write!(out, "\"sent\":{},\"ms\":{}", self.sent_bytes, self.duration.as_millis())?;
        for (key, value) in [("agent", self.user_agent), ("referer", self.referer)] {
            if let Some(value) = value {
                write!(out, ",\"{key}\":")?;
                write_json_text(out, value)?;
            }
        }
        out.write_char('}')
    }
}

/// The combined log format: host, identity, user, time, request, status, bytes, referer, agent;
/// then the exchange and the milliseconds.
impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = http_date(self.time);
        write!(f, "{} - - [{time}] \"{} ", self.peer.ip(), self.method)?;
        write_escaped(f, self.target.as_bytes())?;
        write!(f, " {}\" {} {}", name(self.version), self.status, self.sent_bytes)?;
        for value in [self.referer, self.user_agent] {
            f.write_str(" \"")?;
            write_escaped(f, value.unwrap_or(b"-"))?;
            f.write_str("\"")?;
        }
        write!(f, " {} {}", self.id, self.duration.as_millis())
    }
}

const fn name(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

/// Writes text with quotes, backslashes and all that is not visible ASCII escaped as `\xNN`.
fn write_escaped(out: &mut impl Write, text: &[u8]) -> fmt::Result {
    for &byte in text {
        match byte {
            b'"' | b'\\' => write!(out, "\\{}", char::from(byte))?,
            b' '..=b'~' => out.write_char(char::from(byte))?,
            _ => write!(out, "\\x{byte:02x}")?,
        }
    }
    Ok(())
}

fn write_json_text(out: &mut String, text: &[u8]) -> fmt::Result {
    out.push('"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => write!(out, "\\{}", char::from(byte))?,
            b' '..=b'~' => out.push(char::from(byte)),
            _ => write!(out, "\\u{byte:04x}")?,
        }
    }
    out.push('"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(agent: &[u8]) -> Record<'_> {
        Record {
            id: ReplyId { conn: crate::base::id::ConnId::NONE, exchange: 7 },
            peer: ([127, 0, 0, 1], 5).into(),
            method: Method::Get,
            target: "/\"x",
            version: Version::Http11,
            status: 200,
            is_complete: true,
            received_bytes: 0,
            sent_bytes: 13,
            time: SystemTime::UNIX_EPOCH,
            duration: Duration::from_millis(3),
            user_agent: Some(agent),
            referer: None,
        }
    }

    #[test]
    fn what_a_client_sends_forges_neither_a_line_nor_a_terminal() {
        let agent = b"a\" 200 0\x1b[2J\xff\\";
        let record = record(agent);
        let line = record.to_string();
        assert!(line.starts_with("127.0.0.1 - - [Thu, 01 Jan 1970 00:00:00 GMT] \"GET /\\\"x "));
        assert!(line.contains(r#" HTTP/1.1" 200 13 "-" "a\" 200 0\x1b[2J\xff\\" "#), "{line}");
        assert!(line.ends_with("/7 3"), "{line}");
        let json = record.json();
        assert!(json.contains(r#""target":"/\"x""#), "{json}");
        assert!(json.contains(r#""agent":"a\" 200 0\u001b[2J\u00ff\\""#), "{json}");
        assert!(!json.contains("referer"), "{json}");
    }

    #[test]
    fn a_clock_that_is_wrong_by_far_is_no_panic() {
        let early = Record { time: SystemTime::UNIX_EPOCH - Duration::from_secs(5), ..record(b"") };
        assert!(early.to_string().contains("[Thu, 01 Jan 1970 00:00:00 GMT]"));
        assert!(early.json().contains("Thu, 01 Jan 1970"));
    }
}
