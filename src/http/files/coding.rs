//! Which form of a file a client takes (RFC 9110, 12.5.3).

use crate::http::fields::{members, trim};

/// How good a coding is to a client, in thousandths; 0 is not at all.
type Quality = u16;

const BEST: Quality = 1_000;

/// A coding of which a file may have a copy beside it.
#[derive(Debug)]
pub(super) struct Coding {
    /// What stands behind the name of the file.
    pub(super) ending: &'static str,
    pub(super) name: &'static str,
    /// Another name that clients know.
    alias: &'static str,
}

/// The codings, the one that is preferred first.
pub(super) const CODINGS: [Coding; 3] = [
    Coding { ending: ".br", name: "br", alias: "br" },
    Coding { ending: ".zst", name: "zstd", alias: "zstd" },
    Coding { ending: ".gz", name: "gzip", alias: "x-gzip" },
];

/// Which of the codings that there are is the best for a client; `None` for the file as it is.
/// `values` are those of all fields `Accept-Encoding`.
pub(super) fn choose<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    is_there: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut named: [Option<Quality>; CODINGS.len()] = [None; CODINGS.len()];
    let (mut identity, mut rest) = (None, None);
    for member in values.flat_map(members) {
        let (name, quality) = quality_of(member);
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("identity") {
            identity = Some(quality);
        } else if name == b"*" {
            rest = Some(quality);
        }
        for (coding, known) in CODINGS.iter().zip(&mut named) {
            if is(coding.name) || is(coding.alias) {
                *known = Some(quality);
            }
        }
    }
    // What is not named is as good as `*`; the file as it is, as little as possible.
    let mut best = (None, identity.unwrap_or(0));
    for (at, known) in named.into_iter().enumerate() {
        let quality = known.or(rest).unwrap_or(0);
        let is_better = quality > best.1 || quality == best.1 && best.0.is_none();
        if quality > 0 && is_better && is_there(at) {
            best = (Some(at), quality);
        }
    }
    best.0
}

/// A member of the list: its name, and how good it is. A malformed one is not good at all.
fn quality_of(member: &[u8]) -> (&[u8], Quality) {
    let mut parts = member.split(|&byte| byte == b';').map(trim);
    let name = parts.next().unwrap_or_default();
    let quality = match (parts.next(), parts.next()) {
        (None, _) => BEST,
        (Some([b'q' | b'Q', b'=', value @ ..]), None) => parse_quality(value).unwrap_or(0),
        _ => 0,
    };
    (name, quality)
}

/// `0`, `0.5`, `1.000` (RFC 9110, 12.4.2).
fn parse_quality(value: &[u8]) -> Option<Quality> {
    let (&first, rest) = value.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut quality = match first {
        b'0' => 0,
        b'1' => BEST,
        _ => return None,
    };
    let mut unit = BEST;
    for digit in digits {
        unit /= 10;
        quality += unit * Quality::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    (quality <= BEST).then_some(quality)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(value: &str, there: &[usize]) -> Option<&'static str> {
        let found = choose([value.as_bytes()].into_iter(), |at| there.contains(&at));
        found.map(|at| CODINGS[at].name)
    }

    #[test]
    fn the_best_coding_by_its_quality() {
        let all = [0, 1, 2];
        assert_eq!(chosen("gzip, deflate, br, zstd", &all), Some("br"));
        assert_eq!(chosen("gzip, deflate, br, zstd", &[1, 2]), Some("zstd"));
        assert_eq!(chosen("gzip;q=0.9, br;q=0.8", &all), Some("gzip"));
        assert_eq!(chosen("GZIP ; Q=0.1", &all), Some("gzip"));
        assert_eq!(chosen("x-gzip", &all), Some("gzip"));
        assert_eq!(chosen("*", &all), Some("br"));
        assert_eq!(chosen("br;q=0, *;q=0.5", &all), Some("zstd"));
        assert_eq!(chosen("gzip;q=0.5, identity", &all), None);
        assert_eq!(chosen("gzip, identity", &all), Some("gzip"));
        assert_eq!(chosen("identity;q=0.5, gzip;q=0.500", &all), Some("gzip"));
        for value in ["", "gzip;q=0", "deflate", "gzip;q=2", "gzip;q=0.1234", "gzip;x=1", "*;q=0"] {
            assert_eq!(chosen(value, &all), None, "{value}");
        }
        assert_eq!(chosen("br", &[2]), None);
    }
}
