//! Frames: whatever the split of a stream, the same frames and the same error come out.

use quickcheck::{Gen, QuickCheck};
use waterwheel::frame::{self, FrameError, LengthPrefix};

use crate::frame_model::{
    Cut, all_prefixes, cut_delimited, cut_fixed, cut_lines, cut_prefixed, expect_any_split, feed,
    model_delimited, model_lines, split, too_long,
};

/// The stream cut at the given places, in order; pieces may be empty.
fn split_at<'a>(stream: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    split(stream, places.iter().take(6).map(|at| at % (stream.len() + 1)).collect())
}

/// A stream of these bytes, chosen by random numbers.
fn of(bytes: &[u8], random: &[usize]) -> Vec<u8> {
    random.iter().map(|random| bytes[random % bytes.len()]).collect()
}

#[test]
fn lines_are_those_of_the_model_in_any_split() {
    fn property(stream: Vec<usize>, max_bytes: usize, places: Vec<usize>) {
        let (stream, max_bytes) = (of(b"ab\r\n", &stream), max_bytes % 6);
        let expected = model_lines(&stream, max_bytes);
        let pieces = split_at(&stream, &places);
        expect_any_split(&stream, pieces, &expected, |input| cut_lines(input, max_bytes));
    }
    QuickCheck::new().tests(256).rng(Gen::new(24)).quickcheck(property as fn(_, _, _));
}

#[test]
fn long_lines_are_those_of_the_model_in_any_split() {
    fn property(stream: Vec<u8>, max_bytes: usize, places: Vec<usize>) {
        let byte = |random: &u8| match random % 32 {
            29 => b'\r',
            30 => b'\n',
            _ => b'a',
        };
        let stream: Vec<u8> = stream.iter().map(byte).collect();
        let max_bytes = 20 + max_bytes % 70;
        let expected = model_lines(&stream, max_bytes);
        let pieces = split_at(&stream, &places);
        expect_any_split(&stream, pieces, &expected, |input| cut_lines(input, max_bytes));
    }
    QuickCheck::new().tests(256).rng(Gen::new(400)).quickcheck(property as fn(_, _, _));
}

#[test]
fn delimited_frames_are_those_of_the_model_in_any_split() {
    type Delimiter = (usize, Vec<usize>);
    fn property(stream: Vec<usize>, delimiter: Delimiter, max_bytes: usize, places: Vec<usize>) {
        let (first, mut more) = delimiter;
        more.truncate(first / 2 % 5);
        let (stream, delimiter) = (of(b"ab", &stream), of(b"ab", &[&[first][..], &more].concat()));
        let max_bytes = max_bytes % 12;
        let expected = model_delimited(&stream, &delimiter, max_bytes);
        let cut = |input: &[u8]| cut_delimited(input, &delimiter, max_bytes);
        expect_any_split(&stream, split_at(&stream, &places), &expected, cut);
    }
    QuickCheck::new().tests(256).rng(Gen::new(40)).quickcheck(property as fn(_, _, _, _));
}

#[test]
fn fixed_frames_are_chunks_in_any_split() {
    fn property(stream: Vec<u8>, places: Vec<usize>) {
        let chunks = stream.chunks_exact(7);
        let consumed = stream.len() - chunks.remainder().len();
        let expected = Cut { frames: chunks.map(<[u8]>::to_vec).collect(), error: None, consumed };
        expect_any_split(&stream, split_at(&stream, &places), &expected, cut_fixed::<7>);
    }
    QuickCheck::new().tests(256).rng(Gen::new(40)).quickcheck(property as fn(_, _));
}

#[test]
fn prefixed_frames_are_those_of_the_model_in_any_split() {
    // Frames as a peer would send them, some over the limit of 12, then whatever.
    fn property(model: usize, frames: Vec<Vec<u8>>, junk: Vec<Option<u8>>, places: Vec<usize>) {
        let model = all_prefixes()[model % all_prefixes().len()];
        let mut stream = Vec::new();
        for payload in &frames {
            stream.extend(model.encode(payload.len() as u64));
            stream.extend(payload);
        }
        // Small numbers are lengths of frames.
        stream.extend(junk.iter().zip(0..16).map(|(junk, small)| junk.unwrap_or(small)));
        let expected = model.cut(&stream, 12);
        expect_any_split(&stream, split_at(&stream, &places), &expected, |input| {
            cut_prefixed(input, model.prefix, 12)
        });
    }
    QuickCheck::new().tests(256).rng(Gen::new(15)).quickcheck(property as fn(_, _, _, _));
}

#[test]
fn an_encoded_length_is_that_of_the_model() {
    fn property(model: usize, kind: u8, payload_bytes: u64) {
        let model = all_prefixes()[model % all_prefixes().len()];
        let payload_bytes = match kind % 3 {
            0 => payload_bytes % 300,
            1 => 65_000 + payload_bytes % 1000,
            _ => payload_bytes,
        };
        let largest = (u64::MAX >> (64 - 8 * model.width_bytes)) - model.own_bytes;
        let encoded = model.prefix.encode(usize::try_from(payload_bytes).unwrap());
        if payload_bytes <= largest {
            assert_eq!(&encoded.unwrap()[..], model.encode(payload_bytes));
        } else {
            let refused = FrameError::PrefixTooNarrow { size: payload_bytes, limit: largest };
            assert_eq!(encoded, Err(refused));
        }
    }
    QuickCheck::new().tests(256).quickcheck(property as fn(_, _, _));
}

#[track_caller]
fn expect_lines(input: &[u8], max_bytes: usize, frames: &[&[u8]], error: Option<FrameError>) {
    let cut = cut_lines(input, max_bytes);
    assert_eq!(cut.frames, frames);
    assert_eq!(cut.error, error);
}

#[test]
fn a_line_of_exactly_the_limit_passes() {
    expect_lines(b"abc\n", 3, &[b"abc"], None);
    expect_lines(b"abc\r\n", 3, &[b"abc"], None);
    expect_lines(b"abcd\n", 3, &[], too_long(4, 3));
    expect_lines(b"abcd\r\n", 3, &[], too_long(4, 3));
}

#[test]
fn a_cr_at_the_end_of_the_input_may_belong_to_the_terminator() {
    expect_lines(b"abc\r", 3, &[], None);
    expect_lines(b"abc\r\r", 3, &[], too_long(4, 3));
    expect_lines(b"abc\rd", 3, &[], too_long(4, 3));
    let cut = feed([&b"abc\r"[..], b"\n"], |input| cut_lines(input, 3));
    assert_eq!((cut.frames, cut.consumed), (vec![b"abc".to_vec()], 5));
}

#[test]
fn a_cr_elsewhere_is_part_of_the_line() {
    expect_lines(b"a\rb\r\r\n", 9, &[b"a\rb\r"], None);
}

#[test]
fn an_endless_line_is_refused_at_the_first_byte_over_the_limit() {
    expect_lines(b"abc", 3, &[], None);
    expect_lines(b"abcd", 3, &[], too_long(4, 3));
}

#[test]
fn good_lines_come_before_the_error_and_stay_consumed() {
    let cut = cut_lines(b"a\nb\nfar too long\nc\n", 4);
    assert_eq!(cut.frames, [b"a", b"b"]);
    assert_eq!((cut.error, cut.consumed), (too_long(5, 4), 4));
}

#[test]
fn a_limit_of_zero_lets_only_empty_frames_pass() {
    expect_lines(b"\n\r\na", 0, &[b"", b""], too_long(1, 0));
    assert_eq!(cut_delimited(b"--a", b"--", 0).error, too_long(1, 0));
    let cut = cut_prefixed(b"\x00\x00\x01", LengthPrefix::U8, 0);
    assert_eq!((cut.frames.len(), cut.error), (2, too_long(1, 0)));
}

#[test]
fn an_empty_input_has_no_frames() {
    assert_eq!(cut_lines(b"", 0), Cut::default());
    assert_eq!(cut_delimited(b"", b"--", 0), Cut::default());
    assert_eq!(cut_fixed::<1>(b""), Cut::default());
    assert_eq!(cut_prefixed(b"", LengthPrefix::U8, 0), Cut::default());
}

#[test]
fn a_terminator_is_found_wherever_it_stands() {
    for before in 0..70 {
        for after in [0, 1, 15, 16, 40] {
            let stream = [vec![b'a'; before], b"\r\n".to_vec(), vec![b'b'; after]].concat();
            let frame = vec![b'a'; before];
            assert_eq!(cut_lines(&stream, 70).frames, [&frame[..]]);
            assert_eq!(cut_delimited(&stream, b"\r\n", 70).frames, [&frame[..]]);
        }
    }
}

#[test]
fn many_empty_lines_are_as_many_lines() {
    let input = [b'\n'; 100];
    let mut lines = frame::lines(&input, 80);
    assert_eq!(lines.by_ref().filter(|line| *line == Ok(&b""[..])).count(), 100);
    assert_eq!(lines.consumed(), 100);
}

#[test]
fn a_delimiter_that_overlaps_itself_ends_the_frame_at_once() {
    assert_eq!(cut_delimited(b"xaaaay", b"aa", 9).frames, [&b"x"[..], b""]);
    assert_eq!(cut_delimited(b"abababac", b"abac", 9).frames, [b"abab"]);
}

#[test]
fn half_a_delimiter_over_the_limit_is_given_a_chance() {
    assert_eq!(cut_delimited(b"abc--", b"--=", 3).error, None);
    assert_eq!(cut_delimited(b"abc--x", b"--=", 3).error, too_long(4, 3));
    assert_eq!(cut_delimited(b"abcd--", b"--=", 3).error, too_long(4, 3));
}

#[test]
#[should_panic = "must not be empty"]
fn an_empty_delimiter_is_a_mistake_of_the_program() {
    let _ = frame::delimited(b"abc", b"", 3);
}

#[test]
fn frames_outlive_the_delimiter() {
    let input = b"a--b";
    let first = {
        let delimiter = vec![b'-'; 2];
        frame::delimited(input, &delimiter, 9).next()
    };
    assert_eq!(first, Some(Ok(&b"a"[..])));
}

#[test]
fn a_prefix_over_the_limit_is_refused_before_its_body() {
    let cut = cut_prefixed(b"\x00\x00\x00\x05", LengthPrefix::U32_BE, 4);
    assert_eq!(cut.error, too_long(5, 4));
    assert_eq!(cut_prefixed(b"\x00\x00\x00\x05", LengthPrefix::U32_BE, 5).error, None);
}

#[test]
fn a_length_that_counts_itself_has_its_own_width_at_least() {
    let prefix = LengthPrefix::U16_BE.counting_itself();
    assert_eq!(cut_prefixed(b"\x00\x02", prefix, 9).frames, [b""]);
    let error = Some(FrameError::LengthBelowPrefix { length: 1, minimum: 2 });
    assert_eq!(cut_prefixed(b"\x00\x01", prefix, 9).error, error);
}

#[test]
fn the_longest_payload_of_a_prefix_can_be_sent_and_one_byte_more_cannot() {
    let itself = LengthPrefix::U8.counting_itself();
    for (prefix, limit) in [(LengthPrefix::U8, 255), (itself, 254), (LengthPrefix::varint(1), 127)]
    {
        assert_eq!(prefix.encode(limit).unwrap().as_ref().len(), 1);
        let (size, limit) = (limit as u64 + 1, limit as u64);
        let error = FrameError::PrefixTooNarrow { size, limit };
        assert_eq!(prefix.encode(size as usize), Err(error));
    }
    assert_eq!(LengthPrefix::U16_BE.encode(258).unwrap().as_ref(), [1, 2]);
}

#[test]
fn what_is_exactly_as_long_as_the_limit_passes_behind_a_header_and_by_a_rule() {
    let input = b"H\x03abc";
    let cut = |limit| frame::headed::<1>(input, LengthPrefix::U8, limit).next();
    assert_eq!(cut(3), Some(Ok((b"H", &b"abc"[..]))));
    assert_eq!(cut(2), Some(Err(FrameError::TooLong { at_least: 3, limit: 2 })));
    let by_rule = |limit| frame::by_rule(input, limit, |_| Ok(Some(5))).next();
    assert_eq!(by_rule(5), Some(Ok(&input[..])));
    assert_eq!(by_rule(4), Some(Err(FrameError::TooLong { at_least: 5, limit: 4 })));
}

#[test]
fn no_length_overflows() {
    for model in all_prefixes() {
        for max_bytes in [0, 1, isize::MAX as usize, usize::MAX] {
            for stream in [[0xff; 16], [0x7f; 16]] {
                let cut = cut_prefixed(&stream, model.prefix, max_bytes);
                assert_eq!(cut.consumed, 0, "{model:?}");
            }
        }
    }
    let cut = cut_prefixed(&[0xff; 8], LengthPrefix::U64_LE, usize::MAX);
    assert_eq!(cut.error, too_long(u64::MAX, isize::MAX as u64 - 8));
}

#[test]
fn a_limit_without_bound_is_allowed() {
    expect_lines(b"a\nb", usize::MAX, &[b"a"], None);
    assert_eq!(cut_delimited(b"a--b", b"--", usize::MAX).frames, [b"a"]);
}

#[test]
fn who_stops_early_has_consumed_what_was_yielded() {
    let mut lines = frame::lines(b"one\r\ntwo\nthree\n", 80);
    assert_eq!(lines.consumed(), 0);
    assert_eq!(lines.next(), Some(Ok(&b"one"[..])));
    assert_eq!(lines.consumed(), 5);
    assert_eq!(lines.next(), Some(Ok(&b"two"[..])));
    assert_eq!(lines.consumed(), 9);
}

#[test]
fn errors_name_size_and_limit() {
    let told = |error: FrameError| -> String {
        let error: Box<dyn std::error::Error + Send + Sync> = error.into();
        error.to_string()
    };
    let error = told(FrameError::TooLong { at_least: 5001, limit: 4096 });
    assert!(error.contains("5001") && error.contains("4096"), "{error}");
    let error = told(FrameError::LengthBelowPrefix { length: 3, minimum: 4 });
    assert!(error.contains('3') && error.contains('4'), "{error}");
    let error = told(FrameError::PrefixTooNarrow { size: 300, limit: 255 });
    assert!(error.contains("300") && error.contains("255"), "{error}");
}
