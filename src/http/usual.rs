//! The answer that nearly all requests get: 200, a media type of the server's own, a small body and
//! no fields of the handler's. All of it is made in one place, where what the last one began with
//! still stands.

use std::ptr;
use std::time::{Duration, SystemTime};

use super::date::DateLine;

/// Bytes of such an answer at the most: of more, copying is no small part of the work any more.
const ROOM_BYTES: usize = 512;

/// The last of such answers.
#[derive(Debug)]
pub(super) struct UsualAnswer {
    room: [u8; ROOM_BYTES],
    /// Bytes of the status line, the date, the lines of the next two, and what stands before the
    /// length.
    common: usize,
    /// The field `Connection` that is there.
    connection: &'static [u8],
    /// The field of the type that is there.
    kind: &'static str,
    /// The loop's time in seconds whose date is there.
    second: u64,
}

impl UsualAnswer {
    pub(super) fn new() -> Self {
        let (room, second) = ([0; ROOM_BYTES], u64::MAX);
        Self { room, common: 0, connection: b"", kind: "", second }
    }

    /// An answer with these fields; `None` if it is too large.
    #[inline]
    pub(super) fn make(
        &mut self,
        (connection, kind): (&'static [u8], &'static str),
        body: &[u8],
        (date, now): (&mut DateLine, Duration),
        clock: impl FnOnce() -> SystemTime,
    ) -> Option<&[u8]> {
        let has_fields = ptr::eq(self.kind, kind) && ptr::eq(self.connection, connection);
        if self.second != now.as_secs() || !has_fields {
            self.renew((connection, kind), date.with_ok(now, clock), now.as_secs())?;
        }
        let length = body.len();
        let digits = 1 + usize::from(length >= 10) + usize::from(length >= 100);
        let head = digits + 4;
        let own = self.room.get_mut(self.common..self.common + head + length)?;
        let (head, rest) = own.split_at_mut(head);
        let (number, end_of_head) = head.split_at_mut(digits);
        write_number(length as u32, number);
        end_of_head.copy_from_slice(b"\r\n\r\n");
        rest.copy_from_slice(body);
        let end = self.common + digits + 4 + length;
        Some(&self.room[..end])
    }

    #[inline(never)]
    fn renew(
        &mut self,
        (connection, kind): (&'static [u8], &'static str),
        head: &[u8],
        second: u64,
    ) -> Option<()> {
        self.second = u64::MAX; // until all is there
        let mut end = 0;
        for part in [head, connection, kind.as_bytes(), b"Content-Length: "] {
            self.room.get_mut(end..end + part.len())?.copy_from_slice(part);
            end += part.len();
        }
        (self.connection, self.kind) = (connection, kind);
        (self.common, self.second) = (end, second);
        Some(())
    }
}

/// Writes a number below 1,000 to as many digits as it has. Nearly all lengths have two or three.
#[inline(always)]
fn write_number(number: u32, digits: &mut [u8]) {
    let digit = |number: u32| b'0' + (number % 10) as u8;
    match digits {
        [one] => *one = digit(number),
        [ten, one] => (*ten, *one) = (digit(number / 10), digit(number)),
        [hundred, ten, one] => {
            (*hundred, *ten, *one) = (digit(number / 100), digit(number / 10), digit(number));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_all_lengths_kinds_and_seconds() {
        let (mut usual, mut date) = (UsualAnswer::new(), DateLine::new());
        let kinds = ["Content-Type: a/b\r\n", "Content-Type: application/json\r\n"];
        let body = "x".repeat(ROOM_BYTES);
        for length in [0, 1, 9, 10, 13, 99, 100, 101, 300, 380, 511, 512] {
            for (second, kind) in [(1, 0), (1, 1), (2, 1), (2, 0), (2, 0), (2, 2), (2, 0)] {
                let is_last = kind == 2;
                let connection = if is_last { "Connection: close\r\n" } else { "" };
                let (kind, body) = (kinds[kind % 2], &body[..length]);
                let clock = || SystemTime::UNIX_EPOCH + Duration::from_secs(second);
                let now = Duration::from_secs(second);
                let fields = (connection.as_bytes(), kind);
                let made = usual.make(fields, body.as_bytes(), (&mut date, now), clock);
                let date = format!("Date: Thu, 01 Jan 1970 00:00:0{second} GMT\r\n");
                let begin = format!("HTTP/1.1 200 OK\r\n{date}{connection}{kind}");
                let whole = format!("{begin}Content-Length: {length}\r\n\r\n{body}");
                let expected = (whole.len() <= ROOM_BYTES).then_some(whole.as_str());
                assert_eq!(made.map(|made| std::str::from_utf8(made).unwrap()), expected);
            }
        }
        let long: &'static str = std::str::from_utf8(&[b'x'; ROOM_BYTES]).unwrap();
        let now = Duration::from_secs(2);
        let mut is_made = |kind| {
            let made = usual.make((b"", kind), b"", (&mut date, now), || panic!("known"));
            made.is_some()
        };
        assert!(!is_made(long) && is_made(kinds[0]));
    }
}
