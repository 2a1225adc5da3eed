//! What the two say to each other: a line each, ended by a newline.
//!
//! ```text
//!  sender                          receiver
//!  put LENGTH NAME         ->
//!                          <-      ok HAVE SUM      so much is there, with this checksum
//!  from OFFSET             ->                       HAVE if the checksums agree, else 0
//!  the bytes from OFFSET   ->
//!  sum SUM                 ->                       of the whole; "-" if it was not taken
//!                          <-      done             it is saved
//! ```
//! Instead of `ok` and of `done`, and at any time between, the receiver may say `no REASON`.
//! Checksums are CRC-32, in eight hexadecimal digits.
//!
//! A whole file that is there already is offered as one of which all is there: a sender that was
//! cut off before the `done` hears it so, and one of another file hears `no`.
//!
//! Each gives up on one who is silent for long. So whoever lets the other wait, because it reads a
//! file for its checksum or brings it to the disk, says `wait` every few seconds. It means nothing
//! else, and may come wherever a line may.

use std::time::Duration;

/// How often whoever lets the other wait says so: well within the time that people wait.
pub const WAIT_PERIOD: Duration = Duration::from_secs(5);

/// Longest line: a name of 255 bytes that is refused with a reason, and not for its length, has
/// room in it several times.
pub const LINE_BYTES: usize = 4_096;

/// So much of a reason is shown.
const REASON_CHARS: usize = 300;

/// What the sender offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub length: u64,
    pub name: String,
}

/// What the receiver answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// So many bytes are there, with this checksum.
    Ok(u64, u32),
    /// The file is saved.
    Done,
    /// It is not.
    No(String),
    /// It takes a while.
    Wait,
}

pub fn put(length: u64, name: &str) -> String {
    format!("put {length} {name}\n")
}

pub fn parse_put(line: &[u8]) -> Option<Put> {
    let line = std::str::from_utf8(line).ok()?;
    let (length, name) = line.strip_prefix("put ")?.split_once(' ')?;
    Some(Put { length: number(length)?, name: name.to_owned() })
}

pub fn ok(have: u64, sum: u32) -> String {
    format!("ok {have} {sum:08x}\n")
}

pub fn wait() -> String {
    "wait\n".to_owned()
}

pub fn is_wait(line: &[u8]) -> bool {
    line == b"wait"
}

pub fn done() -> String {
    "done\n".to_owned()
}

pub fn no(reason: &str) -> String {
    // A reason is one line, whatever is in it.
    format!("no {}\n", reason.replace(char::is_control, " "))
}

pub fn parse_answer(line: &[u8]) -> Option<Answer> {
    let line = String::from_utf8_lossy(line);
    match line.as_ref() {
        "done" => return Some(Answer::Done),
        "wait" => return Some(Answer::Wait),
        _ => {}
    }
    if let Some(reason) = line.strip_prefix("no ") {
        // It is shown on a terminal, on one line.
        let reason = reason.chars().take(REASON_CHARS);
        let reason = reason.map(|char| if char.is_control() { ' ' } else { char });
        return Some(Answer::No(reason.collect()));
    }
    let (have, sum) = line.strip_prefix("ok ")?.split_once(' ')?;
    Some(Answer::Ok(number(have)?, parse_sum(sum)?))
}

pub fn from(offset: u64) -> String {
    format!("from {offset}\n")
}

pub fn parse_from(line: &[u8]) -> Option<u64> {
    number(std::str::from_utf8(line).ok()?.strip_prefix("from ")?)
}

pub fn sum(sum: Option<u32>) -> String {
    match sum {
        Some(sum) => format!("sum {sum:08x}\n"),
        None => "sum -\n".to_owned(),
    }
}

/// The checksum, if one was taken.
pub fn parse_trailer(line: &[u8]) -> Option<Option<u32>> {
    match std::str::from_utf8(line).ok()?.strip_prefix("sum ")? {
        "-" => Some(None),
        digits => parse_sum(digits).map(Some),
    }
}

fn parse_sum(digits: &str) -> Option<u32> {
    let is_plain = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_plain.then(|| u32::from_str_radix(digits, 16).ok())?
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}
