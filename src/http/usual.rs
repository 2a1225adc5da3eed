//! The answer that nearly all requests get: 200, a media type of the server's own, a small body and
//! no other fields. All of it is made in one place, where what the last one began with still
//! stands.

use std::ptr;
use std::time::{Duration, SystemTime};

use super::date::DateLine;

/// Bytes of such an answer at the most: of more, copying is no small part of the work any more.
const ROOM_BYTES: usize = 512;

/// The last of such answers.
#[derive(Debug)]
pub(super) struct UsualAnswer {
    room: [u8; ROOM_BYTES],
    /// Bytes of the status line, the date, the type, and what stands before the length.
    common: usize,
    /// The line of the type that is there.
    kind: &'static str,
    /// The loop's time in seconds whose date is there.
    second: u64,
}

impl UsualAnswer {
    pub(super) fn new() -> Self {
        Self { room: [0; ROOM_BYTES], common: 0, kind: "", second: u64::MAX }
    }

    /// An answer whose type is this line; `None` if it is too large.
    #[inline]
    pub(super) fn make(
        &mut self,
        kind: &'static str,
        body: &[u8],
        (date, now): (&mut DateLine, Duration),
        clock: impl FnOnce() -> SystemTime,
    ) -> Option<&[u8]> {
        if self.second != now.as_secs() || !ptr::eq(self.kind, kind) {
            self.renew(kind, date.with_ok(now, clock), now.as_secs())?;
        }
        let length = body.len();
        let digits = 1 + usize::from(length >= 10) + usize::from(length >= 100);
        let head = digits + 4;
        let own = self.room.get_mut(self.common..self.common + head + length)?;
        let (head, rest) = own.split_at_mut(head);
        let mut left = length;
        for digit in head[..digits].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        head[digits..].copy_from_slice(b"\r\n\r\n");
        rest.copy_from_slice(body);
        let end = self.common + digits + 4 + length;
        Some(&self.room[..end])
    }

    #[inline(never)]
    fn renew(&mut self, kind: &'static str, head: &[u8], second: u64) -> Option<()> {
        self.kind = ""; // until all is there
        let mut end = 0;
        for part in [head, kind.as_bytes(), b"Content-Length: "] {
            self.room.get_mut(end..end + part.len())?.copy_from_slice(part);
            end += part.len();
        }
        (self.common, self.kind, self.second) = (end, kind, second);
        Some(())
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
            for (second, kind) in [(1, 0), (1, 1), (2, 1), (2, 0), (2, 0)] {
                let (kind, body) = (kinds[kind], &body[..length]);
                let clock = || SystemTime::UNIX_EPOCH + Duration::from_secs(second);
                let now = Duration::from_secs(second);
                let made = usual.make(kind, body.as_bytes(), (&mut date, now), clock);
                let date = format!("Date: Thu, 01 Jan 1970 00:00:0{second} GMT\r\n");
                let whole = format!(
                    "HTTP/1.1 200 OK\r\n{date}{kind}Content-Length: {length}\r\n\r\n{body}"
                );
                let expected = (whole.len() <= ROOM_BYTES).then_some(whole.as_str());
                assert_eq!(made.map(|made| std::str::from_utf8(made).unwrap()), expected);
            }
        }
        let long: &'static str = Box::leak("x".repeat(ROOM_BYTES).into_boxed_str());
        let now = Duration::from_secs(2);
        assert!(usual.make(long, b"", (&mut date, now), || panic!("known")).is_none());
        assert!(usual.make(kinds[0], b"", (&mut date, now), || panic!("known")).is_some());
    }
}
