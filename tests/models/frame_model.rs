//! Frames by definition, and what the library makes of the same bytes.

use waterwheel::frame::{self, FrameError, LengthPrefix};

/// What became of an input or of a whole stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cut {
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) error: Option<FrameError>,
    pub(crate) consumed: usize,
}

/// Takes all that a frame iterator yields, and proves that nothing comes after its end.
pub(crate) fn take_all<'a>(mut frames: impl Iterator<Item = Result<&'a [u8], FrameError>>) -> Cut {
    let mut cut = Cut::default();
    for item in frames.by_ref() {
        match item {
            Ok(frame) => cut.frames.push(frame.to_vec()),
            Err(error) => {
                cut.error = Some(error);
                break;
            }
        }
    }
    for _ in 0..3 {
        assert_eq!(frames.next(), None, "the iterator goes on after its end");
    }
    cut
}

pub(crate) fn cut_lines(input: &[u8], max_bytes: usize) -> Cut {
    let mut lines = frame::lines(input, max_bytes);
    let cut = take_all(lines.by_ref());
    Cut { consumed: lines.consumed(), ..cut }
}

pub(crate) fn cut_delimited(input: &[u8], delimiter: &[u8], max_bytes: usize) -> Cut {
    let mut frames = frame::delimited(input, delimiter, max_bytes);
    let cut = take_all(frames.by_ref());
    Cut { consumed: frames.consumed(), ..cut }
}

pub(crate) fn cut_prefixed(input: &[u8], prefix: LengthPrefix, max_bytes: usize) -> Cut {
    let mut frames = frame::length_prefixed(input, prefix, max_bytes);
    let cut = take_all(frames.by_ref());
    Cut { consumed: frames.consumed(), ..cut }
}

pub(crate) fn cut_fixed<const N: usize>(input: &[u8]) -> Cut {
    let mut frames = frame::fixed::<N>(input);
    let cut = take_all(frames.by_ref().map(|frame| Ok(&frame[..])));
    Cut { consumed: frames.consumed(), ..cut }
}

/// Feeds a stream in pieces as the runtime does: what is not consumed comes back in front of the
/// next piece, and an error ends the connection.
pub(crate) fn feed<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    cut: impl Fn(&[u8]) -> Cut,
) -> Cut {
    let (mut kept, mut total) = (Vec::new(), Cut::default());
    for piece in pieces {
        kept.extend_from_slice(piece);
        let part = cut(&kept);
        kept.drain(..part.consumed);
        total.frames.extend(part.frames);
        total.consumed += part.consumed;
        total.error = part.error;
        if total.error.is_some() {
            break;
        }
    }
    total
}

/// The stream cut at these places, which are within it; pieces may be empty.
pub(crate) fn split(stream: &[u8], mut ends: Vec<usize>) -> Vec<&[u8]> {
    ends.push(stream.len());
    ends.sort_unstable();
    let starts = [0].into_iter().chain(ends.clone());
    starts.zip(ends.clone()).map(|(start, end)| &stream[start..end]).collect()
}

/// Asserts that the whole stream, the given split and single bytes all give `expected`.
#[track_caller]
pub(crate) fn expect_any_split<'a>(
    stream: &'a [u8],
    pieces: Vec<&'a [u8]>,
    expected: &Cut,
    cut: impl Fn(&[u8]) -> Cut,
) {
    assert_eq!(&cut(stream), expected, "in one piece");
    assert_eq!(&feed(pieces, &cut), expected, "in pieces");
    assert_eq!(&feed(stream.chunks(1), &cut), expected, "byte by byte");
}

pub(crate) fn too_long(at_least: u64, limit: u64) -> Option<FrameError> {
    Some(FrameError::TooLong { at_least, limit })
}

/// Terminated frames by definition. `first` finds the first frame and its size with terminator;
/// a frame without end is bad if none of `endings`, sent next, would make it a good one.
fn model_terminated(
    stream: &[u8],
    max_bytes: usize,
    endings: &[&[u8]],
    first: impl Fn(&[u8]) -> Option<(usize, usize)>,
) -> Cut {
    let mut cut = Cut::default();
    loop {
        let rest = &stream[cut.consumed..];
        let passes = |input: &[u8]| first(input).is_some_and(|(size, _)| size <= max_bytes);
        let bad = match first(rest) {
            Some((size, taken)) if size <= max_bytes => {
                cut.frames.push(rest[..size].to_vec());
                cut.consumed += taken;
                continue;
            }
            Some(_) => true,
            None => !endings.iter().any(|ending| passes(&[rest, ending].concat())),
        };
        if bad {
            cut.error = too_long(max_bytes as u64 + 1, max_bytes as u64);
        }
        return cut;
    }
}

pub(crate) fn model_lines(stream: &[u8], max_bytes: usize) -> Cut {
    model_terminated(stream, max_bytes, &[b"\n", b"\r\n"], |input| {
        let end = input.iter().position(|&byte| byte == b'\n')?;
        let has_cr = end > 0 && input[end - 1] == b'\r';
        Some((end - usize::from(has_cr), end + 1))
    })
}

pub(crate) fn model_delimited(stream: &[u8], delimiter: &[u8], max_bytes: usize) -> Cut {
    let endings: Vec<_> = (0..delimiter.len()).map(|at| &delimiter[at..]).collect();
    model_terminated(stream, max_bytes, &endings, |input| {
        let mut windows = input.windows(delimiter.len());
        let end = windows.position(|window| window == delimiter)?;
        Some((end, end + delimiter.len()))
    })
}

/// A prefix and what it is made of, told independently of the library.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PrefixModel {
    pub(crate) prefix: LengthPrefix,
    pub(crate) width_bytes: usize,
    pub(crate) big_endian: bool,
    pub(crate) own_bytes: u64,
}

impl PrefixModel {
    pub(crate) fn encode(self, payload_bytes: u64) -> Vec<u8> {
        let length = payload_bytes + self.own_bytes;
        let shift = |at| 8 * if self.big_endian { self.width_bytes - 1 - at } else { at };
        (0..self.width_bytes).map(|at| (length >> shift(at)) as u8).collect()
    }

    pub(crate) fn decode(self, bytes: &[u8]) -> u64 {
        let mut wide = [0; 8];
        if self.big_endian {
            wide[8 - bytes.len()..].copy_from_slice(bytes);
            u64::from_be_bytes(wide)
        } else {
            wide[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(wide)
        }
    }

    pub(crate) fn cut(self, stream: &[u8], max_bytes: usize) -> Cut {
        let mut cut = Cut::default();
        while let Some(bytes) = stream[cut.consumed..].get(..self.width_bytes) {
            let length = self.decode(bytes);
            if length < self.own_bytes {
                let minimum = self.own_bytes;
                cut.error = Some(FrameError::LengthBelowPrefix { length, minimum });
                break;
            }
            let size = length - self.own_bytes;
            if size > max_bytes as u64 {
                cut.error = too_long(size, max_bytes as u64);
                break;
            }
            let (start, size) = (cut.consumed + self.width_bytes, size as usize);
            let Some(frame) = stream.get(start..start + size) else {
                break;
            };
            cut.frames.push(frame.to_vec());
            cut.consumed = start + size;
        }
        cut
    }
}

pub(crate) fn all_prefixes() -> Vec<PrefixModel> {
    let big = [
        (1, LengthPrefix::U8),
        (2, LengthPrefix::U16_BE),
        (3, LengthPrefix::U24_BE),
        (4, LengthPrefix::U32_BE),
        (8, LengthPrefix::U64_BE),
    ];
    let little = [
        (2, LengthPrefix::U16_LE),
        (3, LengthPrefix::U24_LE),
        (4, LengthPrefix::U32_LE),
        (8, LengthPrefix::U64_LE),
    ];
    let big = big.map(|(width, prefix)| (width, prefix, true));
    let little = little.map(|(width, prefix)| (width, prefix, false));
    let plain = big.into_iter().chain(little).map(|(width_bytes, prefix, big_endian)| {
        PrefixModel { prefix, width_bytes, big_endian, own_bytes: 0 }
    });
    let counting = plain.clone().map(|model| PrefixModel {
        prefix: model.prefix.counting_itself(),
        own_bytes: model.width_bytes as u64,
        ..model
    });
    plain.chain(counting).collect()
}
