//! Where a `Location` leads (RFC 3986, 5.2).

use crate::http::target::is_host;

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Whether the scheme is https.
    pub(super) is_secure: bool,
    /// In small letters.
    host: String,
    port: u16,
}

impl Origin {
    /// An origin with nothing behind it but a slash.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (is_secure, rest) = scheme(text)?;
        Self::of(is_secure, rest.strip_suffix('/').unwrap_or(rest))
    }

    fn of(is_secure: bool, authority: &str) -> Option<Self> {
        if !is_host(authority.as_bytes()) {
            return None; // user information too
        }
        let (host, port) = match authority.rsplit_once(':') {
            // A colon within brackets is of an address.
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, ""),
        };
        let port = match port {
            "" if is_secure => 443,
            "" => 80,
            port => port.parse().ok()?,
        };
        Some(Self { is_secure, host: host.to_ascii_lowercase(), port })
    }
}

/// Whether it is https, and what stands behind the two slashes.
fn scheme(text: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_secure = scheme.eq_ignore_ascii_case("https");
    (is_secure || scheme.eq_ignore_ascii_case("http")).then_some((is_secure, rest))
}

/// The origin and the target that a location means, in the answer to a request for `target`.
pub(super) fn resolve(from: &Origin, target: &str, location: &str) -> Option<(Origin, String)> {
    let location = location.split('#').next()?;
    if !location.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return None;
    }
    let (origin, rest) = match scheme(location) {
        Some((is_secure, rest)) => split_authority(is_secure, rest)?,
        None => match location.strip_prefix("//") {
            Some(rest) => split_authority(from.is_secure, rest)?,
            // A colon before the first slash is of another scheme.
            None if has_scheme(location) => return None,
            None => (from.clone(), location),
        },
    };
    let (path, query) = split_query(rest);
    let (base_path, base_query) = split_query(target);
    let is_absolute = origin != *from || location.contains("//") && scheme(location).is_some();
    let target = match path {
        "" if is_absolute || location.starts_with("//") => format!("/{query}"),
        "" if query.is_empty() => format!("{base_path}{base_query}"),
        "" => format!("{base_path}{query}"),
        path if path.starts_with('/') => without_dots(path) + query,
        path => {
            let directory = base_path.rfind('/').map_or("/", |at| &base_path[..=at]);
            without_dots(&format!("{directory}{path}")) + query
        }
    };
    Some((origin, target))
}

fn split_authority(is_secure: bool, rest: &str) -> Option<(Origin, &str)> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Some((Origin::of(is_secure, &rest[..end])?, &rest[end..]))
}

/// The path, and the query with its question mark.
fn split_query(text: &str) -> (&str, &str) {
    text.split_at(text.find('?').unwrap_or(text.len()))
}

fn has_scheme(text: &str) -> bool {
    let end = text.find(['/', '?']).unwrap_or(text.len());
    text[..end].contains(':')
}

/// Removes `.` and `..` (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_means_what_the_standard_says() {
        let from = Origin::parse("http://a").unwrap();
        // RFC 3986, 5.4, for the base http://a/b/c/d;p?q
        for (location, wanted) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            ("g?y#s", "/b/c/g?y"),
            (";x", "/b/c/;x"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            ("..g", "/b/c/..g"),
            ("./g/.", "/b/c/g/"),
            ("g/../h", "/b/c/h"),
            ("g?y/../x", "/b/c/g?y/../x"),
            ("http://a", "/"),
            ("http://a?x", "/?x"),
            ("HTTP://A:80/x", "/x"),
        ] {
            let found = resolve(&from, "/b/c/d;p?q", location);
            assert_eq!(found, Some((from.clone(), wanted.to_owned())), "{location}");
        }
        for (location, origin, wanted) in [
            ("//g", "http://g", "/"),
            ("//g?x", "http://g", "/?x"),
            ("https://[::1]:8/x/../y", "https://[::1]:8", "/y"),
            ("https://[::1]/", "https://[::1]:443", "/"),
            ("http://a:81/", "http://a:81/", "/"),
        ] {
            let origin = Origin::parse(origin).unwrap();
            let found = resolve(&from, "/b/c/d;p?q", location);
            assert_eq!(found, Some((origin, wanted.to_owned())), "{location}");
        }
        for location in [
            "ftp://a/",
            "javascript:x",
            "http://u@a/",
            "http://u:p@a/",
            "http:///x",
            "http://a\\b",
            "http://a:99999/",
            "/a b",
            "/ä",
            "http:x",
        ] {
            assert_eq!(resolve(&from, "/", location), None, "{location}");
        }
        assert!(Origin::parse("http://a/x").is_none());
        assert!(Origin::parse("a").is_none());
    }
}
