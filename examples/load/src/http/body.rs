//! Where the body of an answer ends.

use crate::units::plural;

/// The longest line of a size with its extensions, and the longest trailer.
const MOST_LINE_BYTES: usize = 16 << 10;

/// How far a body has come in.
#[derive(Debug)]
pub(crate) enum Body {
    /// So many bytes are still to come.
    Length(u64),
    /// The line with the size of a chunk is next.
    Size,
    /// So many bytes of a chunk are still to come.
    Chunk(u64),
    /// The end of the line behind a chunk is next.
    ChunkEnd,
    /// A line behind the last chunk is next.
    Trailer,
    /// It ends with the connection.
    UntilEnd,
}

/// What was taken of the input.
pub(crate) struct Piece<'a> {
    pub(crate) used: usize,
    /// The part of it that belongs to the body.
    pub(crate) bytes: &'a [u8],
}

impl Body {
    #[inline]
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self, Self::Length(0))
    }

    /// Takes a piece from the front of the input; `None` if more of it is to come first.
    #[inline]
    pub(crate) fn take<'a>(&mut self, input: &'a [u8]) -> Result<Option<Piece<'a>>, String> {
        if input.is_empty() {
            return Ok(None);
        }
        match self {
            Self::Length(left) | Self::Chunk(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= count as u64;
                if let Self::Chunk(0) = self {
                    *self = Self::ChunkEnd;
                }
                Ok(Some(Piece { used: count, bytes: &input[..count] }))
            }
            Self::UntilEnd => Ok(Some(Piece { used: input.len(), bytes: input })),
            Self::Size | Self::ChunkEnd | Self::Trailer => self.take_line(input),
        }
    }

    fn take_line<'a>(&mut self, input: &[u8]) -> Result<Option<Piece<'a>>, String> {
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
            let is_short = input.len() < MOST_LINE_BYTES;
            return if is_short { Ok(None) } else { Err("a line has no end".to_owned()) };
        };
        let Some(line) = input[..end].strip_suffix(b"\r") else {
            return Err("a line of its chunks ends without CR".to_owned());
        };
        *self = match self {
            Self::Size => match size(line)? {
                0 => Self::Trailer,
                size => Self::Chunk(size),
            },
            Self::Trailer if line.is_empty() => Self::Length(0),
            Self::Trailer => Self::Trailer,
            _ if line.is_empty() => Self::Size,
            _ => return Err("a chunk is longer than its size".to_owned()),
        };
        Ok(Some(Piece { used: end + 1, bytes: &[] }))
    }

    /// What is missing of it, of which so much has come.
    pub(crate) fn missing(&self, came: u64) -> String {
        let came = plural(came, "byte");
        match self {
            Self::Length(left) => format!("{came} of its body came, {left} are missing"),
            _ => format!("{came} of its body came, and no last chunk"),
        }
    }
}

/// The size at the beginning of a line.
fn size(line: &[u8]) -> Result<u64, String> {
    let wrong = || format!("\"{}\" is no size of a chunk", line.escape_ascii());
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    let is_size = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_size).ok_or_else(wrong)?;
    u64::from_str_radix(text, 16).map_err(|_| wrong())
}
