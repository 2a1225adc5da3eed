//! What a request asks for: the target, in its four forms, and the path that is routed.

use super::method::Method;
use super::refusal::Refusal;

/// The target of a request (RFC 9112, 3.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// As it was sent.
    pub(super) raw: &'a str,
    /// The path, as it was sent; `*` for the whole server.
    pub(super) path: &'a str,
    /// What stands behind the `?`.
    pub(super) query: Option<&'a str>,
    /// Host and port, of a target in absolute form.
    pub(super) authority: Option<&'a str>,
    /// Whether `path` has no escapes and no dot segments, so that it can be routed as it is.
    pub(super) is_plain: bool,
}

/// What a byte of a target is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands for itself.
    Plain,
    /// Not allowed (RFC 3986): controls, space, `"`, `#`, `<`, `>`, `\`, DEL, above ASCII.
    Bad,
    /// `%`: two hexadecimal digits follow.
    Escape,
    /// `.`: may be a dot segment.
    Dot,
    /// `?`: the query begins, where none has begun.
    Query,
}

/// The class of each byte. Browsers send `[`, `]`, `^`, `` ` ``, `{`, `|` and `}` as they are.
static CLASSES: [Class; 256] = {
    let mut classes = [Class::Bad; 256];
    let mut byte = b'!';
    while byte < 0x7f {
        classes[byte as usize] = match byte {
            b'"' | b'#' | b'<' | b'>' | b'\\' => Class::Bad,
            b'%' => Class::Escape,
            b'.' => Class::Dot,
            b'?' => Class::Query,
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
};

impl<'a> Target<'a> {
    /// Reads the target of a request.
    #[inline(always)]
    pub(super) fn parse(raw: &'a str, method: Method) -> Result<Self, Refusal> {
        if raw.starts_with('/') {
            return Self::read_path(raw, raw);
        }
        Self::parse_rare(raw, method)
    }

    /// The forms that few clients send.
    #[cold]
    fn parse_rare(raw: &'a str, method: Method) -> Result<Self, Refusal> {
        if raw == "*" {
            if method != Method::Options {
                return Err(Refusal::bad("the target * is for OPTIONS"));
            }
            return Ok(Self { raw, path: "*", query: None, authority: None, is_plain: true });
        }
        let Some(rest) = strip_scheme(raw) else {
            return Err(Refusal::bad("the target is neither a path nor a URI of http"));
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if !is_host(authority.as_bytes()) {
            return Err(Refusal::bad("the host of the target is malformed"));
        }
        // An empty path is the root, with or without a query behind it.
        let path = Self::read_path(raw, if rest.starts_with('/') { rest } else { "/" })?;
        let query = match rest.strip_prefix('?') {
            Some(query) => {
                check_query(query.as_bytes())?;
                Some(query)
            }
            None => path.query,
        };
        Ok(Self { query, authority: Some(authority), ..path })
    }

    /// Reads a path and the query behind it.
    #[inline(always)]
    fn read_path(raw: &'a str, text: &'a str) -> Result<Self, Refusal> {
        let bytes = text.as_bytes();
        // Without an early end, which costs more than it saves: most have nothing special.
        let found = bytes.iter().fold(0, |seen, &byte| seen | CLASSES[usize::from(byte)] as u8);
        if found == Class::Plain as u8 {
            return Ok(Self { raw, path: text, query: None, authority: None, is_plain: true });
        }
        Self::read_slowly(raw, text)
    }

    /// Reads a path and the query behind it, byte by byte.
    fn read_slowly(raw: &'a str, text: &'a str) -> Result<Self, Refusal> {
        let bytes = text.as_bytes();
        let mut is_plain = true;
        let mut at = 0;
        let mut query = None;
        while at < bytes.len() {
            match CLASSES[usize::from(bytes[at])] {
                Class::Plain => {}
                Class::Dot => is_plain &= at == 0 || bytes[at - 1] != b'/',
                Class::Query => {
                    check_query(&bytes[at + 1..])?;
                    query = Some(&text[at + 1..]);
                    break;
                }
                Class::Escape => {
                    if check_escape(bytes, at)? == 0 {
                        return Err(Refusal::bad("the path has an escaped NUL"));
                    }
                    is_plain = false;
                }
                Class::Bad => return Err(Refusal::bad(BAD_BYTE)),
            }
            at += 1;
        }
        Ok(Self { raw, path: &text[..at], query, authority: None, is_plain })
    }

    /// The path with its escapes decoded once and its dot segments removed, made in `room` where
    /// it is not what was sent (RFC 3986, 5.2.4). An escaped slash stays `%2F`: it is no separator.
    #[inline(always)]
    pub(super) fn routed<'b>(&self, room: &'b mut String) -> Result<&'b str, Refusal>
    where
        'a: 'b,
    {
        if self.is_plain {
            return Ok(self.path);
        }
        normalize(self.path, room)?;
        Ok(room)
    }
}

const BAD_BYTE: &str = "the target has a byte that must be escaped";

fn check_query(query: &[u8]) -> Result<(), Refusal> {
    for (at, &byte) in query.iter().enumerate() {
        match CLASSES[usize::from(byte)] {
            Class::Bad => return Err(Refusal::bad(BAD_BYTE)),
            Class::Escape => {
                check_escape(query, at)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The byte that the escape at this place stands for.
fn check_escape(bytes: &[u8], at: usize) -> Result<u8, Refusal> {
    let digit = |at| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    match (digit(at + 1), digit(at + 2)) {
        (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
        _ => Err(Refusal::bad("the target has a % without two hexadecimal digits")),
    }
}

/// Decodes the segments of a path, and walks them.
fn normalize(path: &str, room: &mut String) -> Result<(), Refusal> {
    let mut bytes = std::mem::take(room).into_bytes();
    bytes.clear();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let begin = bytes.len();
        bytes.push(b'/');
        decode(segment.as_bytes(), &mut bytes)?;
        let is_last = segments.peek().is_none();
        match &bytes[begin + 1..] {
            b"." => bytes.truncate(begin),
            b".." => {
                let above = bytes[..begin].iter().rposition(|&byte| byte == b'/');
                bytes.truncate(above.ok_or(Refusal::bad("the path leads above the root"))?);
            }
            _ => continue,
        }
        if is_last {
            bytes.push(b'/');
        }
    }
    let text = String::from_utf8(bytes);
    *room = text.map_err(|_| Refusal::bad("the path is not UTF-8"))?;
    Ok(())
}

/// Decodes the escapes of one segment. A slash that is escaped stays so.
fn decode(segment: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut at = 0;
    while let Some(&byte) = segment.get(at) {
        if byte != b'%' {
            out.push(byte);
            at += 1;
            continue;
        }
        match check_escape(segment, at)? {
            b'/' => out.extend_from_slice(b"%2F"),
            byte => out.push(byte),
        }
        at += 3;
    }
    Ok(())
}

fn strip_scheme(raw: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (head, rest) = raw.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// Whether it is a host and a port as `Host` has them (RFC 9110, 7.2; RFC 3986, 3.2.2): not empty,
/// no list, no user, no path. No label is empty but the root at the end, so that `..` never is a
/// host, which programs make directories of.
pub(super) fn is_host(value: &[u8]) -> bool {
    if let [b'[', rest @ ..] = value {
        let Some(end) = rest.iter().position(|&byte| byte == b']') else { return false };
        let (address, port) = (&rest[..end], &rest[end + 1..]);
        let is_address = std::str::from_utf8(address)
            .is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        return is_address && (port.is_empty() || is_port(port));
    }
    let end = value.iter().position(|&byte| !HOST_BYTES[usize::from(byte)]);
    let (name, port) = value.split_at(end.unwrap_or(value.len()));
    let mut escapes = name.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    let is_escaped = escapes.all(|(at, _)| check_escape(name, at).is_ok());
    let labels = name.strip_suffix(b".").unwrap_or(name).split(|&byte| byte == b'.');
    is_escaped && !labels.into_iter().any(<[u8]>::is_empty) && (port.is_empty() || is_port(port))
}

/// A colon and a port; an empty one is the default.
fn is_port(text: &[u8]) -> bool {
    let [b':', digits @ ..] = text else { return false };
    let number = |sum: u32, digit: &u8| sum * 10 + u32::from(digit - b'0');
    digits.len() <= 5
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0, number) <= u32::from(u16::MAX)
}

/// Bytes of a name or an address of version 4 (RFC 3986, 3.2.2).
static HOST_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let is_mark = matches!(
            byte as u8,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'='
                | b'%'
        );
        bytes[byte] = (byte as u8).is_ascii_alphanumeric() || is_mark;
        byte += 1;
    }
    bytes
};

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(raw: &str) -> Result<String, Refusal> {
        let mut room = String::new();
        Ok(Target::parse(raw, Method::Get)?.routed(&mut room)?.to_owned())
    }

    #[test]
    fn row_51_dot_segments_are_removed_before_routing() {
        for (raw, path) in [
            ("/", "/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/%2e%2E/b", "/b"),
            ("/a//b", "/a//b"),
            ("/a//../b", "/a/b"),
            ("/.a/..b/c.", "/.a/..b/c."),
            ("/%61%20b", "/a b"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%252fb", "/a%2fb"),
            ("/a%2f..%2fb", "/a%2F..%2Fb"),
        ] {
            assert_eq!(path_of(raw).as_deref(), Ok(path), "{raw}");
        }
        for raw in ["/..", "/../a", "/a/../../b", "/%2e%2e/", "/./.."] {
            assert_eq!(path_of(raw).unwrap_err().status, 400, "{raw}");
        }
    }

    #[test]
    fn row_50_escapes_have_two_digits_and_are_no_nul() {
        for raw in ["/%", "/%4", "/%4g", "/a?%", "/a?b=%z1", "/%00", "/a%00b", "/%ff"] {
            assert_eq!(path_of(raw).unwrap_err().status, 400, "{raw}");
        }
        assert_eq!(path_of("/%c3%a4?x=%00%ff").as_deref(), Ok("/ä"));
    }

    #[test]
    fn row_19_bytes_that_must_be_escaped() {
        for raw in ["/#a", "/a b", "/a\\b", "/\"", "/<", "/>", "/\u{e4}", "/a\x7f", "/?a#b", "/?\\"]
        {
            assert_eq!(path_of(raw).unwrap_err().status, 400, "{raw}");
        }
        assert_eq!(path_of("/a|b^[c]{d}`").as_deref(), Ok("/a|b^[c]{d}`"));
    }

    #[test]
    fn rows_16_17_18_the_forms_of_a_target() {
        let target = Target::parse("HTTP://Host:80/a?b", Method::Get).unwrap();
        assert_eq!((target.authority, target.path), (Some("Host:80"), "/a"));
        assert_eq!(target.query, Some("b"));
        let target = Target::parse("http://host?b?c", Method::Get).unwrap();
        assert_eq!((target.path, target.query), ("/", Some("b?c")));
        assert_eq!(Target::parse("*", Method::Options).unwrap().path, "*");
        for raw in ["*", "host:80", "a", "ftp://host/", "http:///a", "http://u@h/", "http://h:x/"] {
            assert_eq!(Target::parse(raw, Method::Get).unwrap_err().status, 400, "{raw}");
        }
    }

    #[test]
    fn row_21_hosts() {
        for good in
            ["a", "a.b:80", "127.0.0.1", "[::1]", "[::1]:443", "a:", "x_y~z", "a%C3%a4:1", "a.b."]
        {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "", "a,b", "u@h", "a/b", "a:x", "a:99999", "a:1:2", "a b", "[::1", "[x]", ":80",
            "[::1]x", "a\0", "a:+1", "[::1]:x", "ä", "%", "a%", "a%4", "%zz", "a%4:80", ".", "..",
            ".a", "a..b", "a..", ".:80",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
