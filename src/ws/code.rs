//! The code with which one side tells the other why a WebSocket ends.

use std::fmt;

/// The code of a Close frame (RFC 6455, section 7.4).
///
/// Two codes never stand in a frame and are only reported here: [`NO_STATUS`](Self::NO_STATUS)
/// and [`ABNORMAL`](Self::ABNORMAL).
///
/// # Examples
/// ```
/// use waterwheel::ws::CloseCode;
///
/// assert_eq!(CloseCode::new(4001).map(CloseCode::get), Some(4001)); // a private one
/// assert_eq!(CloseCode::new(1004), None); // reserved
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: a server goes down, or a page is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer breaks the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: messages of this kind are not taken.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1005: a Close frame came without a code. Reported, never sent.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a Close frame. Reported, never sent.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: the content does not fit the kind of the message, such as a text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// 1008: a rule of the application, or of its limits, was broken.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message is too large.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: the server did not agree to an extension that the client needs.
    pub const EXTENSION: Self = Self(1010);
    /// 1011: the server met something that it cannot go on from.
    pub const INTERNAL: Self = Self(1011);
    /// 1012: the service restarts.
    pub const RESTART: Self = Self(1012);
    /// 1013: the service is overloaded; try again later.
    pub const TRY_AGAIN: Self = Self(1013);

    /// A code that may stand in a Close frame: 1000 to 1003, 1007 to 1014, and 3000 to 4999.
    #[must_use]
    pub fn new(code: u16) -> Option<Self> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// Whether it may stand in a Close frame.
    #[must_use]
    pub fn is_sendable(self) -> bool {
        Self::new(self.0).is_some()
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What is wrong with what a peer has sent: why the connection is failed, and with which code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Stands in the Close frame.
    pub(super) code: CloseCode,
    /// Stands behind it, and in the log.
    pub(super) text: &'static str,
}

impl Fault {
    /// The protocol is broken: 1002.
    pub(super) const fn protocol(text: &'static str) -> Self {
        Self { code: CloseCode::PROTOCOL_ERROR, text }
    }

    /// The content is not what it should be: 1007.
    pub(super) const fn data(text: &'static str) -> Self {
        Self { code: CloseCode::INVALID_DATA, text }
    }

    /// A limit of the endpoint is passed: 1008.
    pub(super) const fn policy(text: &'static str) -> Self {
        Self { code: CloseCode::POLICY, text }
    }

    /// Too large: 1009.
    pub(super) const fn too_big(text: &'static str) -> Self {
        Self { code: CloseCode::TOO_BIG, text }
    }
}

/// Reads the payload of a Close frame: the code, and the reason.
pub(super) fn parse_close(payload: &[u8]) -> Result<(CloseCode, &str), Fault> {
    match payload {
        [] => Ok((CloseCode::NO_STATUS, "")),
        [_] => Err(Fault::protocol("half a close code")),
        [high, low, reason @ ..] => {
            let code = CloseCode::new(u16::from_be_bytes([*high, *low]))
                .ok_or(Fault::protocol("a close code that may not be sent"))?;
            let reason = std::str::from_utf8(reason)
                .map_err(|_| Fault::data("a close reason that is not UTF-8"))?;
            Ok((code, reason))
        }
    }
}

/// Writes the payload of a Close frame into `to`; returns its length. The reason is cut, between
/// two characters, to what a control frame can hold.
pub(super) fn write_close(code: CloseCode, reason: &str, to: &mut [u8; 125]) -> usize {
    if !code.is_sendable() {
        return 0;
    }
    let mut end = reason.len().min(to.len() - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    to[..2].copy_from_slice(&code.get().to_be_bytes());
    to[2..2 + end].copy_from_slice(&reason.as_bytes()[..end]);
    2 + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_may_be_sent() {
        let good: Vec<u16> =
            (0..=u16::MAX).filter(|&code| CloseCode::new(code).is_some()).collect();
        let mut expected = vec![1000, 1001, 1002, 1003];
        expected.extend(1007..=1014);
        expected.extend(3000..=4999);
        assert_eq!(good, expected);
    }

    #[test]
    fn a_close_payload_is_read() {
        assert_eq!(parse_close(b""), Ok((CloseCode::NO_STATUS, "")));
        assert_eq!(parse_close(b"\x03\xe8bye"), Ok((CloseCode::NORMAL, "bye")));
        assert_eq!(parse_close(b"\x03").unwrap_err().code, CloseCode::PROTOCOL_ERROR);
        assert_eq!(parse_close(b"\x03\xee").unwrap_err().code, CloseCode::PROTOCOL_ERROR);
        assert_eq!(parse_close(b"\x03\xe8\xff").unwrap_err().code, CloseCode::INVALID_DATA);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut payload = [0; 125];
        let length = write_close(CloseCode::NORMAL, &"ä".repeat(100), &mut payload);
        assert_eq!(length, 2 + 122);
        assert_eq!(parse_close(&payload[..length]), Ok((CloseCode::NORMAL, &*"ä".repeat(61))));
        assert_eq!(write_close(CloseCode::NO_STATUS, "never", &mut payload), 0);
    }
}
