//! Any bytes in any pieces, against frames by definition.

use waterwheel::frame::FrameError;

use crate::frame_model::{
    Cut, all_prefixes, cut_delimited, cut_fixed, cut_lines, cut_prefixed, expect_any_split,
    model_delimited, model_lines, split,
};
use crate::input::Input;

/// The longest payload of a prefixed frame that a slice can hold beside the widest prefix.
const MAX_PAYLOAD_BYTES: usize = isize::MAX as usize - 8;

/// Bytes of a stream at the most: byte by byte takes the square of it.
const MOST_BYTES: usize = 256;

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.below(8);
    let max_bytes = match input.byte() {
        255 => usize::MAX,
        254 => usize::MAX - 1,
        253 => isize::MAX as usize,
        small => usize::from(small % 64),
    };
    let count = input.below(6);
    let places: Vec<u8> = (0..count).map(|_| input.byte()).collect();
    match kind {
        0..2 => lines(&mut input, max_bytes, &places),
        2..4 => delimited(&mut input, max_bytes, &places),
        4 => fixed(&mut input, &places),
        5 => encoded(&mut input),
        _ => prefixed(&mut input, max_bytes, &places),
    }
}

/// The stream, and the pieces that it comes in.
fn stream<'a>(input: &mut Input<'a>, places: &[u8]) -> (&'a [u8], Vec<&'a [u8]>) {
    let stream = input.take(MOST_BYTES);
    let ends = places.iter().map(|&at| usize::from(at) % (stream.len() + 1)).collect();
    (stream, split(stream, ends))
}

fn lines(input: &mut Input<'_>, max_bytes: usize, places: &[u8]) {
    let (stream, pieces) = stream(input, places);
    let expected = model_lines(stream, max_bytes);
    expect_any_split(stream, pieces, &expected, |input| cut_lines(input, max_bytes));
}

fn delimited(input: &mut Input<'_>, max_bytes: usize, places: &[u8]) {
    let length = 1 + usize::from(input.below(6));
    let delimiter = match input.take(length) {
        [] => b"\0",
        delimiter => delimiter,
    };
    let (stream, pieces) = stream(input, places);
    let expected = model_delimited(stream, delimiter, max_bytes);
    let cut = |input: &[u8]| cut_delimited(input, delimiter, max_bytes);
    expect_any_split(stream, pieces, &expected, cut);
}

fn fixed(input: &mut Input<'_>, places: &[u8]) {
    let (stream, pieces) = stream(input, places);
    let chunks = stream.chunks_exact(7);
    let consumed = stream.len() - chunks.remainder().len();
    let frames = chunks.map(<[u8]>::to_vec).collect();
    let expected = Cut { frames, error: None, consumed };
    expect_any_split(stream, pieces, &expected, cut_fixed::<7>);
}

fn prefixed(input: &mut Input<'_>, max_bytes: usize, places: &[u8]) {
    let models = all_prefixes();
    let model = models[usize::from(input.byte()) % models.len()];
    let (stream, pieces) = stream(input, places);
    let expected = model.cut(stream, max_bytes.min(MAX_PAYLOAD_BYTES));
    let cut = |input: &[u8]| cut_prefixed(input, model.prefix, max_bytes);
    expect_any_split(stream, pieces, &expected, cut);
}

/// A payload's length as it is written in front of it.
fn encoded(input: &mut Input<'_>) {
    let models = all_prefixes();
    let model = models[usize::from(input.byte()) % models.len()];
    let payload_bytes = input.number(64);
    let largest = (u64::MAX >> (64 - 8 * model.width_bytes)) - model.own_bytes;
    let encoded = model.prefix.encode(payload_bytes as usize);
    if payload_bytes <= largest {
        assert_eq!(encoded.unwrap()[..], model.encode(payload_bytes));
    } else {
        let refused = FrameError::PrefixTooNarrow { size: payload_bytes, limit: largest };
        assert_eq!(encoded, Err(refused));
    }
}
