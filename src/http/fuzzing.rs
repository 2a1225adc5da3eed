//! The readers of what peers send, driven by the bytes of a fuzzer: they never panic, and say the
//! same however the input is cut.

use std::mem::MaybeUninit;

use super::chunk::{ChunkDecoder, Found};
use super::client::read_answer_head;
use super::head::{self, Framing, Head, HeadLimits, KnownHost, MAX_FIELDS};
use super::known::Known;
use super::method::Method;
use super::target::Target;

pub(super) const LIMITS: HeadLimits = HeadLimits { head: 16 << 10, target: 8 << 10 };

/// What a parser says of an input: the length and the framing of a head, nothing yet, or a refusal.
fn parse_head(input: &[u8]) -> Result<Option<(usize, Framing)>, u16> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut known_host = KnownHost::default();
    let parsed = head::parse(input, &mut slots, LIMITS, &mut known_host);
    let found = parsed.map_err(|refusal| refusal.status)?;
    Ok(found.map(|(head, length)| (length, head.framing)))
}

/// All that a head says.
pub(super) fn said(head: &Head<'_>) -> String {
    let fields: Vec<_> = head.fields.iter().collect();
    let Head { method, version, target, host, framing, .. } = head;
    let rest = (head.keep_alive, head.expects_continue, head.is_encoded, head.upgrade);
    format!("{method} {version:?} {target:?} {host:?} {framing:?} {fields:?} {rest:?}")
}

/// What a head at the beginning of the input says, and its length. It is offered to be kept.
pub(super) fn parse_and_learn(
    input: &[u8],
    known: &mut Known,
) -> Result<Option<(String, usize)>, u16> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut known_host = KnownHost::default();
    let parsed = head::parse(input, &mut slots, LIMITS, &mut known_host);
    let found = parsed.map_err(|refusal| refusal.status)?;
    Ok(found.map(|(head, length)| {
        known.learn(&input[..length], &head);
        (said(&head), length)
    }))
}

/// A head that is known says what it says when it is parsed, and so do its fields behind another
/// request line.
fn check_known(taken: &[u8]) {
    let mut known = Known::default();
    let parsed = parse_and_learn(taken, &mut known);
    let mut find = |input: &[u8]| {
        let found = known.find(input, LIMITS);
        found.map(|(head, length)| (said(&head), length))
    };
    if let Some(found) = find(taken) {
        assert_eq!(parsed, Ok(Some(found)));
    }
    let line = taken.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let other = [b"PUT /a?b HTTP/1.1\r\n", &taken[line..]].concat();
    if let Some(found) = find(&other) {
        assert_eq!(parse_and_learn(&other, &mut Known::default()), Ok(Some(found)));
    }
    assert!((0..taken.len()).all(|cut| find(&taken[..cut]).is_none()));
}

/// Heads of requests: one that is taken ends with an empty line, each line ends as it should, and
/// no part of it is refused; what frames a body stands there once.
pub fn head(bytes: &[u8]) {
    read_answer_head(bytes);
    // As the server does; the parser would skip line ends of more kinds.
    let Ok(skipped) = head::skip_empty_lines(bytes) else { return };
    let bytes = &bytes[skipped..];
    if bytes.starts_with(b"\r") {
        return; // a part of an empty line: more of it is waited for
    }
    let Ok(Some((length, framing))) = parse_head(bytes) else {
        // Looking for the end goes on where it stopped, and finds the same.
        let whole = head::find_end(bytes, 0);
        if let Ok(None) = head::find_end(&bytes[..bytes.len() / 2], 0) {
            assert_eq!(head::find_end(bytes, bytes.len() / 2), whole);
        }
        return;
    };
    let taken = &bytes[..length];
    assert!(taken.ends_with(b"\r\n\r\n"));
    assert_eq!(parse_head(taken), Ok(Some((length, framing))));
    check_known(taken);
    assert!(head::find_end(taken, 0).is_ok_and(|end| end == Some(length)));
    for cut in 0..length {
        assert!(matches!(parse_head(&taken[..cut]), Ok(None)), "refused when cut at {cut}");
    }
    let lines = || taken.split(|&byte| byte == b'\n').skip(1);
    assert!(lines().all(|line| line.is_empty() || line.ends_with(b"\r")));
    let count = |name: &str| {
        let is = |line: &&[u8]| {
            let colon = line.iter().position(|&byte| byte == b':');
            colon.is_some_and(|colon| line[..colon].eq_ignore_ascii_case(name.as_bytes()))
        };
        lines().filter(is).count()
    };
    let wanted = match framing {
        Framing::None => count("content-length") <= 1 && count("transfer-encoding") == 0,
        Framing::Length(_) => count("content-length") == 1 && count("transfer-encoding") == 0,
        Framing::Chunked => count("content-length") == 0 && count("transfer-encoding") == 1,
    };
    assert!(wanted, "{framing:?}");
    assert!(count("host") <= 1);
}

/// What a body came to.
#[derive(Debug, PartialEq)]
enum End {
    Partial,
    Complete(usize),
    Refused(u16),
}

/// Decodes a body whose input comes in pieces of at most `step` bytes, as a connection hands it
/// over: what is not used comes again.
fn decode(bytes: &[u8], step: usize) -> (Vec<u8>, End) {
    let mut decoder = ChunkDecoder::new();
    let (mut data, mut used, mut come) = (Vec::new(), 0, 0);
    loop {
        match decoder.decode(&bytes[used..come]) {
            Err(refusal) => return (data, End::Refused(refusal.status)),
            Ok((count, found)) => {
                used += count;
                assert!(used <= come);
                match found {
                    Found::Data(piece) => {
                        assert!(!piece.is_empty());
                        data.extend_from_slice(piece);
                    }
                    Found::End(_) => return (data, End::Complete(used)),
                    Found::Partial if come == bytes.len() => return (data, End::Partial),
                    Found::Partial => come = bytes.len().min(come + step),
                }
            }
        }
    }
}

/// Chunked bodies: the same data and the same end, in one piece or in many. The first byte says
/// how large those are.
pub fn chunk(bytes: &[u8]) {
    let Some((&step, bytes)) = bytes.split_first() else { return };
    let (data, end) = decode(bytes, usize::MAX >> 1);
    let (cut_data, cut_end) = decode(bytes, usize::from(step).max(1));
    match end {
        // A piece of what is refused may have come before the refusal.
        End::Refused(_) => assert!(matches!(cut_end, End::Refused(_)), "{cut_end:?}"),
        end => assert_eq!((cut_data, cut_end), (data, end)),
    }
}

/// Targets: what is routed is a path without dot segments, or an asterisk.
pub fn target(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let method = if first & 1 == 0 { Method::Get } else { Method::Options };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(target) = Target::parse(text, method) else { return };
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    let mut room = String::new();
    let Ok(path) = target.routed(&mut room) else { return };
    assert!(path.starts_with('/') || path == "*", "{path:?}");
    assert!(!path.contains('\0'));
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."), "{path:?}");
    assert!(!target.is_plain || path == target.path);
}

/// Bodies of forms: the same parts, in one piece or in many. The first byte says how large those
/// are.
#[cfg(feature = "http-forms")]
pub fn multipart(bytes: &[u8]) {
    use super::forms::parts::{PartReader, Piece};

    let Some((&step, bytes)) = bytes.split_first() else { return };
    let read = |step: usize| {
        let mut reader = PartReader::new(b"multipart/form-data; boundary=b").ok()?;
        let mut seen = Vec::new();
        for piece in bytes.chunks(step) {
            let result = reader.feed(piece, &mut |piece| {
                match piece {
                    Piece::Part(part) => seen.push((format!("{part:?}"), Vec::new(), false)),
                    Piece::Data(data) => {
                        assert!(!data.is_empty());
                        seen.last_mut().expect("data of a part").1.extend_from_slice(data);
                    }
                    Piece::End => seen.last_mut().expect("the end of a part").2 = true,
                }
                true
            });
            if result.is_err() {
                return None;
            }
        }
        Some((seen, reader.is_finished()))
    };
    let (whole, cut) = (read(bytes.len().max(1)), read(usize::from(step).max(1)));
    match (&whole, &cut) {
        // How much of an unfinished part was handed over depends on what is held back.
        (Some((whole, false)), Some((cut, false))) => assert_eq!(whole.len(), cut.len()),
        _ => assert_eq!(whole, cut),
    }
}

/// Ranges: what is taken lies within the file. The first two bytes are its length.
#[cfg(feature = "http-files")]
pub fn range(bytes: &[u8]) {
    use super::files::{Verdict, judge_range};

    let Some((&[high, low], bytes)) = bytes.split_first_chunk() else { return };
    let length = u64::from(u16::from_be_bytes([high, low]));
    let Ok(value) = std::str::from_utf8(bytes) else { return };
    match judge_range(value, length) {
        Verdict::Part(part) => {
            assert!(part.start < part.end && part.end <= length, "{part:?} of {length}");
            let unit = value.get(..5).is_some_and(|unit| unit.eq_ignore_ascii_case("bytes"));
            assert!(unit, "{value:?}");
        }
        verdict => assert!(matches!(verdict, Verdict::Whole | Verdict::Unsatisfiable)),
    }
}
