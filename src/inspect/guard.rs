//! Who may look: whoever has the token, from a page of this server, at an address of loopback.

use std::fmt::{self, Write};
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::http::Request;

/// 128 bits that nobody guesses, as hexadecimal digits.
#[derive(Clone)]
pub(super) struct Token([u8; 32]);

impl Token {
    /// # Errors
    /// - The system's, if it has no random numbers.
    pub(super) fn new() -> io::Result<Self> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(io::Error::other)?;
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bits) {
            for (digit, half) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = b"0123456789abcdef"[usize::from(half)];
            }
        }
        Ok(Self(digits))
    }

    /// Whether a text is the token. The time that it takes tells nothing of where they differ.
    pub(super) fn is(&self, text: &str) -> bool {
        let differing = |sum: u8, (one, other): (&u8, u8)| black_box(sum | (one ^ other));
        text.len() == self.0.len() && self.0.iter().zip(text.bytes()).fold(0, differing) == 0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&digit| f.write_char(char::from(digit)))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// What a request is refused for.
pub(super) const NO_LOOPBACK: &str = "this page is served at an address of loopback only\n";
pub(super) const OTHER_ORIGIN: &str = "another page asks for this one\n";

/// Whether a request may come from a page of this server, or from no page.
///
/// A name in `Host` may lead here from a stranger's page (DNS rebinding); a literal address of
/// loopback cannot. A page of another origin says so in `Origin`, or in `Sec-Fetch-Site`.
pub(super) fn check(req: &Request<'_>) -> Result<(), &'static str> {
    let host = req.header("host").unwrap_or_default();
    if !is_loopback_literal(host) {
        return Err(NO_LOOPBACK);
    }
    if let Some(origin) = req.header_bytes("origin") {
        if origin.strip_prefix(b"http://") != Some(host.as_bytes()) {
            return Err(OTHER_ORIGIN);
        }
    }
    match req.header_bytes("sec-fetch-site") {
        // The first page is reached by a link from anywhere: it needs the token.
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) if req.path() == "/" => Ok(()),
        Some(_) => Err(OTHER_ORIGIN),
    }
}

/// Whether this is `127.0.0.1` or `[::1]`, or another address of loopback, with a port or without.
fn is_loopback_literal(host: &str) -> bool {
    let ip = host.parse::<SocketAddr>().map(|addr| addr.ip()).ok();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ip.or_else(|| bare.parse::<IpAddr>().ok()).is_some_and(|ip| ip.is_loopback())
}

/// The value of a cookie.
pub(super) fn cookie<'a>(req: &Request<'a>, name: &str) -> Option<&'a str> {
    let mut pairs = req.header("cookie")?.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_the_token() {
        let (token, other) = (Token::new().unwrap(), Token::new().unwrap());
        let text = token.to_string();
        assert!(token.is(&text) && text.len() == 32);
        assert!(!other.is(&text) && !token.is("") && !token.is(&text[1..]));
        assert!(!token.is(&format!("{text}0")));
        for at in 0..32 {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            assert!(!token.is(std::str::from_utf8(&changed).unwrap()));
        }
        assert_eq!(format!("{token:?}"), "Token", "it is in no log");
    }

    #[test]
    fn only_literals_of_loopback_are_hosts() {
        for host in ["127.0.0.1", "127.0.0.1:7100", "[::1]:7100", "[::1]", "127.9.9.9:1"] {
            assert!(is_loopback_literal(host), "{host}");
        }
        let others = ["", "localhost:7100", "127.0.0.1.evil.example", "10.0.0.1:7100", "[::2]:1"];
        for host in others.into_iter().chain(["127.1", "0x7f.0.0.1", "2130706433", "[127.0.0.1"]) {
            assert!(!is_loopback_literal(host), "{host}");
        }
    }
}
