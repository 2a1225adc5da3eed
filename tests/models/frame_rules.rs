//! Frames with varints, with a header before the length, and with a rule of the program's.

use quickcheck::{Arbitrary, Gen, QuickCheck};
use waterwheel::frame::{self, FrameError, LengthPrefix};

use crate::frame_model::{Cut, cut_prefixed, expect_any_split, split, take_all, too_long};

const LIMIT: usize = 300;

/// Seven bits a byte, told independently of the library.
fn model_varint(bytes: &[u8], widest: usize) -> Result<Option<(u64, usize)>, FrameError> {
    let mut number = 0;
    for place in 0..widest {
        let Some(&byte) = bytes.get(place) else { return Ok(None) };
        number += u64::from(byte % 128) * 128u64.pow(place as u32);
        if byte < 128 {
            return Ok(Some((number, place + 1)));
        }
    }
    Err(FrameError::PrefixTooLong { limit: widest as u64 })
}

/// Frames of a header, a varint and so many bytes, joined as `N` bytes of header and payload.
fn model_headed(stream: &[u8], header: usize, widest: usize, counts_itself: bool) -> Cut {
    let mut cut = Cut::default();
    while let Some(rest) = stream[cut.consumed..].get(header..) {
        let (length, width) = match model_varint(rest, widest) {
            Ok(Some(found)) => found,
            Ok(None) => break,
            Err(error) => {
                cut.error = Some(error);
                break;
            }
        };
        let minimum = if counts_itself { width as u64 } else { 0 };
        if length < minimum {
            cut.error = Some(FrameError::LengthBelowPrefix { length, minimum });
            break;
        }
        let size = length - minimum;
        if size > LIMIT as u64 {
            cut.error = too_long(size, LIMIT as u64);
            break;
        }
        let Some(payload) = rest.get(width..width + size as usize) else { break };
        let head = &stream[cut.consumed..cut.consumed + header];
        cut.frames.push([head, payload].concat());
        cut.consumed += header + width + size as usize;
    }
    cut
}

fn cut_headed<const N: usize>(input: &[u8], prefix: LengthPrefix) -> Cut {
    let mut frames = frame::headed::<N>(input, prefix, LIMIT);
    let mut joined: Vec<Result<Vec<u8>, FrameError>> = Vec::new();
    for item in frames.by_ref() {
        joined.push(item.map(|(header, payload)| [&header[..], payload].concat()));
    }
    let cut = take_all(joined.iter().map(|item| item.as_deref().map_err(|error| *error)));
    Cut { consumed: frames.consumed(), ..cut }
}

fn cut_by_rule(input: &[u8], rule: fn(&[u8]) -> Result<Option<u64>, FrameError>) -> Cut {
    let mut frames = frame::by_rule(input, LIMIT, rule);
    let cut = take_all(frames.by_ref());
    Cut { consumed: frames.consumed(), ..cut }
}

/// A byte of type, a length of two bytes, another byte, and so many bytes. Type 9 is refused.
fn rule(input: &[u8]) -> Result<Option<u64>, FrameError> {
    if input[0] == 9 {
        return Err(FrameError::Malformed("no such type"));
    }
    Ok(input.get(1..3).map(|length| 4 + u64::from(u16::from_be_bytes([length[0], length[1]]))))
}

fn model_rule(stream: &[u8]) -> Cut {
    let mut cut = Cut::default();
    loop {
        let rest = &stream[cut.consumed..];
        if rest.first() == Some(&9) {
            cut.error = Some(FrameError::Malformed("no such type"));
            break;
        }
        if rest.len() < 3 {
            break;
        }
        let size = 4 + 256 * usize::from(rest[1]) + usize::from(rest[2]);
        if size > LIMIT {
            cut.error = too_long(size as u64, LIMIT as u64);
            break;
        }
        if rest.len() < size {
            break;
        }
        cut.frames.push(rest[..size].to_vec());
        cut.consumed += size;
    }
    cut
}

fn pieces<'a>(stream: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    split(stream, places.iter().take(6).map(|at| at % (stream.len() + 1)).collect())
}

/// Small numbers, so that many frames are whole, and bytes that go on.
#[derive(Clone, Debug)]
struct Stream(Vec<u8>);

impl Arbitrary for Stream {
    fn arbitrary(random: &mut Gen) -> Self {
        let bytes = Vec::<(u8, u8)>::arbitrary(random).into_iter();
        Self(
            bytes
                .map(|(kind, byte)| match kind % 8 {
                    0 => byte,
                    1 => 0x80 + byte % 4,
                    _ => byte % 10,
                })
                .collect(),
        )
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(self.0.shrink().map(Self))
    }
}

#[test]
fn frames_with_varints_are_those_of_the_model_in_any_split() {
    fn property(Stream(stream): Stream, widest: usize, counts_itself: bool, places: Vec<usize>) {
        let widest = 1 + widest % 8;
        let prefix = LengthPrefix::varint(widest);
        let prefix = if counts_itself { prefix.counting_itself() } else { prefix };
        let cut = |input: &[u8]| cut_prefixed(input, prefix, LIMIT);
        let expected = model_headed(&stream, 0, widest, counts_itself);
        expect_any_split(&stream, pieces(&stream, &places), &expected, cut);
    }
    QuickCheck::new().tests(256).rng(Gen::new(500)).quickcheck(property as fn(_, _, _, _));
}

#[test]
fn frames_with_a_header_are_those_of_the_model_in_any_split() {
    fn property(Stream(stream): Stream, widest: usize, places: Vec<usize>) {
        let widest = 1 + widest % 8;
        let prefix = LengthPrefix::varint(widest);
        let expected = model_headed(&stream, 1, widest, false);
        expect_any_split(&stream, pieces(&stream, &places), &expected, |input| {
            cut_headed::<1>(input, prefix)
        });
        let expected = model_headed(&stream, 3, widest, false);
        expect_any_split(&stream, pieces(&stream, &places), &expected, |input| {
            cut_headed::<3>(input, prefix)
        });
    }
    QuickCheck::new().tests(256).rng(Gen::new(500)).quickcheck(property as fn(_, _, _));
}

#[test]
fn frames_by_a_rule_are_those_of_the_model_in_any_split() {
    fn property(Stream(stream): Stream, places: Vec<usize>) {
        let expected = model_rule(&stream);
        let cut = |input: &[u8]| cut_by_rule(input, rule);
        expect_any_split(&stream, pieces(&stream, &places), &expected, cut);
    }
    QuickCheck::new().tests(256).rng(Gen::new(500)).quickcheck(property as fn(_, _));
}

#[test]
fn an_encoded_varint_is_read_back_and_is_as_short_as_can_be() {
    fn property(kind: u8, payload_bytes: usize, widest: usize, counts_itself: bool) {
        let payload_bytes = match kind % 3 {
            0 => payload_bytes % 300,
            1 => 16_000 + payload_bytes % 1000,
            _ => payload_bytes % (1 << 56),
        };
        let widest = 1 + widest % 8;
        let prefix = LengthPrefix::varint(widest);
        let prefix = if counts_itself { prefix.counting_itself() } else { prefix };
        let own = |width: usize| if counts_itself { width } else { 0 };
        let largest = (1usize << (7 * widest)) - 1 - own(widest);
        let encoded = prefix.encode(payload_bytes);
        if payload_bytes > largest {
            let (size, limit) = (payload_bytes as u64, largest as u64);
            assert_eq!(encoded, Err(FrameError::PrefixTooNarrow { size, limit }));
            return;
        }
        let encoded = encoded.unwrap();
        let (length, width) = model_varint(&encoded, widest).unwrap().unwrap();
        assert_eq!((length as usize, width), (payload_bytes + own(width), encoded.len()));
        let narrower = width - 1;
        let fits = narrower > 0 && payload_bytes + own(narrower) < 1 << (7 * narrower);
        assert!(!fits, "{narrower} bytes would do");
    }
    QuickCheck::new().tests(256).quickcheck(property as fn(_, _, _, _));
}

#[test]
fn a_varint_that_does_not_end_is_refused_at_its_last_byte() {
    let prefix = LengthPrefix::varint(4);
    assert_eq!(cut_prefixed(&[0x80; 3], prefix, LIMIT).error, None);
    let error = Some(FrameError::PrefixTooLong { limit: 4 });
    assert_eq!(cut_prefixed(&[0x80; 4], prefix, LIMIT).error, error);
    // Longer than it must be, which passes.
    assert_eq!(cut_prefixed(&[0x81, 0x80, 0, b'x'], prefix, LIMIT).frames, [b"x"]);
}

#[test]
fn a_rule_that_says_zero_does_not_go_round_for_ever() {
    let cut = cut_by_rule(b"abc", |_| Ok(Some(0)));
    assert!(matches!(cut.error, Some(FrameError::Malformed(_))), "{cut:?}");
    assert_eq!(cut_by_rule(b"", |_| Ok(Some(0))), Cut::default());
    assert_eq!(cut_by_rule(b"abc", |_| Ok(Some(u64::MAX))).error, too_long(u64::MAX, 300));
}

#[test]
#[should_panic = "1 to 8 bytes"]
fn a_varint_has_a_width() {
    let _ = LengthPrefix::varint(9);
}
