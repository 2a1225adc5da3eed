//! The `Date` of answers: formatted once a second, and only when there is an answer.

use std::io::Write;
use std::time::{Duration, SystemTime};

/// The status line of most answers, which stands before the date.
const OK: &[u8; 17] = b"HTTP/1.1 200 OK\r\n";

/// The status line, `Date: `, 29 bytes of the date, and the line end.
const LINE_BYTES: usize = OK.len() + 6 + 29 + 2;

/// A time of day as HTTP has it, which is none before 1970 and none after 9999: the type panics for
/// those.
pub(super) fn http_date(time: SystemTime) -> httpdate::HttpDate {
    let earliest = SystemTime::UNIX_EPOCH;
    let latest = earliest + Duration::from_secs(253_402_300_799);
    httpdate::HttpDate::from(time.clamp(earliest, latest))
}

/// The line of the second that goes on.
#[derive(Debug)]
pub(super) struct DateLine {
    line: [u8; LINE_BYTES],
    /// The loop's time in seconds for which `line` was made.
    second: u64,
}

impl DateLine {
    pub(super) fn new() -> Self {
        Self { line: [b' '; LINE_BYTES], second: u64::MAX }
    }

    /// The line, at a time of the loop. `clock` is asked for the time of day once a second.
    #[inline]
    pub(super) fn at(&mut self, now: Duration, clock: impl FnOnce() -> SystemTime) -> &[u8] {
        &self.with_ok(now, clock)[OK.len()..]
    }

    /// The line, and before it the status line of 200.
    #[inline]
    pub(super) fn with_ok(&mut self, now: Duration, clock: impl FnOnce() -> SystemTime) -> &[u8] {
        if self.second != now.as_secs() {
            self.renew(now.as_secs(), clock());
        }
        &self.line
    }

    #[cold]
    fn renew(&mut self, second: u64, time: SystemTime) {
        self.second = second;
        let date = http_date(time);
        self.line[..OK.len()].copy_from_slice(OK);
        let mut rest = &mut self.line[OK.len()..];
        // The date of all times that are left has 29 bytes.
        let _ = write!(rest, "Date: {date}\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_made_once_a_second() {
        let mut line = DateLine::new();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let first = line.at(Duration::from_millis(100), || at(784_111_777)).to_vec();
        assert_eq!(first, b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        let again = line.at(Duration::from_millis(999), || panic!("the second has not changed"));
        assert_eq!(again, first);
        let next = line.at(Duration::from_millis(1_000), || at(784_111_778)).to_vec();
        assert_eq!(next, b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n");
    }

    #[test]
    fn a_clock_that_is_wrong_by_far_panics_nowhere() {
        let mut line = DateLine::new();
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(5);
        assert!(line.at(Duration::ZERO, || before).starts_with(b"Date: Thu, 01 Jan 1970"));
        let Some(after) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(1 << 40)) else {
            return;
        };
        assert!(line.at(Duration::from_secs(1), || after).starts_with(b"Date: Fri, 31 Dec 9999"));
    }
}
