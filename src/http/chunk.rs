//! The chunked coding of bodies (RFC 9112, 7.1), decoded in place: a chunk is a slice of the input.

use super::fields::is_token;
use super::refusal::Refusal;

/// The longest line of a size, with its extensions and its line end.
const MAX_LINE_BYTES: usize = 16 + 256 + 2;

/// Bytes of extensions that a body may have.
const MAX_EXTENSION_BYTES: u64 = 16 << 10;

/// Bytes that are not data from which on their share is looked at, and the share that is too much,
/// in percent: a million chunks of one byte are an attack and no body.
const MAX_OVERHEAD_BYTES: u64 = 100_000;
const MAX_OVERHEAD_PERCENT: u64 = 80;

/// Bytes of trailers that a body may have, and their number.
const MAX_TRAILER_BYTES: usize = 16 << 10;
const MAX_TRAILERS: usize = 100;

/// Where the decoder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the line of a size.
    Size,
    /// Within a chunk, of which so many bytes are to come.
    Data(u64),
    /// Behind the data of a chunk, before its line end.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
}

/// What the decoder found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A part of the body.
    Data(&'a [u8]),
    /// Nothing more can be said before more has come in.
    Partial,
    /// The end of the body, with the trailers as they were sent, and checked.
    End(&'a [u8]),
}

/// Decodes one body.
#[derive(Debug)]
pub(super) struct ChunkDecoder {
    place: Place,
    /// Bytes of extensions so far.
    extension_bytes: u64,
    /// Bytes that were not data so far.
    overhead_bytes: u64,
    /// Bytes of data so far.
    data_bytes: u64,
}

impl ChunkDecoder {
    pub(super) fn new() -> Self {
        Self { place: Place::Size, extension_bytes: 0, overhead_bytes: 0, data_bytes: 0 }
    }

    /// Takes the next piece from the front of the input: how many bytes of it, and what they are.
    /// Lines are taken whole: what is left of one comes again with what follows it.
    pub(super) fn decode<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Found<'a>), Refusal> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            at += match self.place {
                Place::Data(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    if count == 0 {
                        return Ok((at, Found::Partial));
                    }
                    let left = left - count as u64;
                    self.place = if left == 0 { Place::DataEnd } else { Place::Data(left) };
                    self.data_bytes += count as u64;
                    return Ok((at + count, Found::Data(&rest[..count])));
                }
                Place::Trailers => {
                    let Some(length) = trailers(rest)? else { return Ok((at, Found::Partial)) };
                    return Ok((at + length, Found::End(&rest[..length - 2])));
                }
                Place::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        self.place = Place::Size;
                        2
                    }
                    [] | [b'\r'] => return Ok((at, Found::Partial)),
                    _ => return Err(Refusal::bad("a chunk is longer than its size says")),
                },
                Place::Size => match self.size_line(rest)? {
                    Some(length) => length,
                    None => return Ok((at, Found::Partial)),
                },
            };
        }
    }

    /// The line of a size, if it is there: its length with its line end.
    fn size_line(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        let head = &input[..input.len().min(MAX_LINE_BYTES)];
        let Some(end) = head.iter().position(|&byte| byte == b'\n') else {
            if head.len() == MAX_LINE_BYTES {
                return Err(Refusal::bad("the line of a chunk's size is too long"));
            }
            check_begun(head)?;
            return Ok(None);
        };
        let Some(line) = head[..end].strip_suffix(b"\r") else {
            return Err(Refusal::bad("the line of a chunk's size ends without CR"));
        };
        let (size, digits) = size(line)?;
        check_extensions(&line[digits..])?;
        self.extension_bytes += (line.len() - digits) as u64;
        self.overhead_bytes += line.len() as u64 + 4;
        let total = self.overhead_bytes + self.data_bytes;
        let is_mostly_overhead = self.overhead_bytes * 100 > total * MAX_OVERHEAD_PERCENT;
        if self.extension_bytes > MAX_EXTENSION_BYTES
            || self.overhead_bytes > MAX_OVERHEAD_BYTES && is_mostly_overhead
        {
            return Err(Refusal::bad("a body consists of little else than sizes of chunks"));
        }
        self.place = if size == 0 { Place::Trailers } else { Place::Data(size) };
        Ok(Some(end + 1))
    }
}

/// A part of a line is looked at as far as it goes, so that nonsense need not be waited for.
fn check_begun(line: &[u8]) -> Result<(), Refusal> {
    let (line, has_cr) = line.strip_suffix(b"\r").map_or((line, false), |line| (line, true));
    if line.is_empty() && !has_cr {
        return Ok(());
    }
    size(line).map(|_| ())
}

/// The size, and how many digits it has.
fn size(line: &[u8]) -> Result<(u64, usize), Refusal> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if !(1..=16).contains(&digits) {
        return Err(Refusal::bad("the size of a chunk is not 1 to 16 hexadecimal digits"));
    }
    let size = line[..digits].iter().fold(0, |sum: u64, &digit| {
        (sum << 4) | u64::from(char::from(digit).to_digit(16).unwrap_or_default())
    });
    if size > u64::MAX >> 1 {
        return Err(Refusal::bad("the size of a chunk is too large"));
    }
    Ok((size, digits))
}

/// Extensions are `;name`, `;name=token` or `;name="text"`, without white space around them.
fn check_extensions(mut rest: &[u8]) -> Result<(), Refusal> {
    const MALFORMED: Refusal = Refusal::bad("the extension of a chunk is malformed");
    while let Some((b';', extension)) = rest.split_first() {
        let length = |text: &[u8]| text.iter().take_while(|b| is_token(&[**b])).count();
        let name = length(extension);
        if name == 0 {
            return Err(MALFORMED);
        }
        rest = &extension[name..];
        if let Some((b'=', value)) = rest.split_first() {
            let count = match value {
                [b'"', text @ ..] => quoted(text).ok_or(MALFORMED)? + 1,
                _ => length(value),
            };
            if count == 0 {
                return Err(MALFORMED);
            }
            rest = &value[count..];
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(MALFORMED) }
}

/// The length of a quoted text behind its first quote, with its last one.
fn quoted(text: &[u8]) -> Option<usize> {
    let mut bytes = text.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at + 1),
            b'\\' => {
                let (_, &escaped) = bytes.next()?;
                is_quotable(escaped).then_some(())?;
            }
            byte => is_quotable(byte).then_some(())?,
        }
    }
    None
}

fn is_quotable(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// The trailers and the empty line behind them, if they are there: how many bytes.
fn trailers(input: &[u8]) -> Result<Option<usize>, Refusal> {
    if input.starts_with(b"\r\n") {
        return Ok(Some(2));
    }
    let end = super::head::find_end(input, 0)?;
    let length = match end {
        Some(end) if end <= MAX_TRAILER_BYTES => end,
        None if input.len() <= MAX_TRAILER_BYTES => return Ok(None),
        _ => return Err(Refusal::new(431, "the trailers of a body are too long")),
    };
    let mut slots = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    match httparse::parse_headers(&input[..length], &mut slots) {
        Ok(httparse::Status::Complete(_)) => Ok(Some(length)),
        Err(httparse::Error::TooManyHeaders) => {
            Err(Refusal::new(431, "a body has too many trailers"))
        }
        _ => Err(Refusal::bad("a trailer is malformed")),
    }
}
