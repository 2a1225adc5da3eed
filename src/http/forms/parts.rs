//! From the bytes of a multipart body to its parts, at any split of the input.

use nostd_multipart::{Event, Parser, content_disposition};

use super::multipart::Part;
use crate::http::refusal::Refusal;

/// The largest header of a part, in bytes, with its line ends.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// Parts of a body.
const MAX_PARTS: u32 = 128;

/// A piece of a body.
#[derive(Debug)]
pub(in crate::http) enum Piece<'a> {
    /// A part begins.
    Part(&'a Part<'a>),
    /// Bytes of it, never none.
    Data(&'a [u8]),
    /// The part is complete.
    End,
}

/// How far the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has come that was no delimiter.
    Start,
    /// Text before the first delimiter, which means nothing.
    Preamble,
    /// The header of a part.
    Head,
    /// The data of a part.
    Data,
    /// The last delimiter has come; what follows means nothing.
    Finished,
}

/// What a look at a text has found.
enum Found {
    /// Nothing but text, or what may be the beginning of a delimiter at its end.
    Text,
    /// A delimiter; whether it is the last one.
    Delimiter(bool),
    /// The pieces are not wanted any more.
    Unwanted,
}

/// Cuts a body into parts. Of the input it keeps less than a delimiter or less than a header.
///
/// The parser of the crate borrows the boundary, and so cannot be kept with it from one piece of
/// input to the next. It is made for each piece, and brought to where the last one was by a text
/// that leads there: its states are few, and it is given whole lines of a header only.
#[derive(Debug)]
pub(in crate::http) struct PartReader {
    /// A delimiter and an empty line behind it: `--`, the boundary, and two line ends.
    delimiter: Box<[u8]>,
    stage: Stage,
    /// What may be the beginning of a delimiter, or of a line of a header.
    held: Vec<u8>,
    /// Bytes of the header so far, without those held.
    head_bytes: usize,
    parts: u32,
    head: Head,
}

/// What the header of a part says.
#[derive(Debug, Default)]
struct Head {
    name: Option<String>,
    file_name: Option<String>,
    content_type: Option<String>,
    has_encoding: bool,
}

impl PartReader {
    /// For the value of a `Content-Type`.
    pub(in crate::http) fn new(content_type: &[u8]) -> Result<Self, Refusal> {
        let Ok(parser) = Parser::<2, 0>::from_content_type(content_type) else {
            return Err(Refusal::bad("a multipart body has a boundary of 1 to 70 characters"));
        };
        Ok(Self {
            delimiter: [b"--", parser.boundary(), b"\r\n\r\n"].concat().into(),
            stage: Stage::Start,
            held: Vec::new(),
            head_bytes: 0,
            parts: 0,
            head: Head::default(),
        })
    }

    /// Whether the last delimiter has come.
    pub(in crate::http) fn is_finished(&self) -> bool {
        self.stage == Stage::Finished
    }

    /// Takes a piece of the body, and hands on what is in it until `take` returns `false`.
    pub(in crate::http) fn feed(
        &mut self,
        mut input: &[u8],
        take: &mut impl FnMut(Piece<'_>) -> bool,
    ) -> Result<(), Refusal> {
        while !input.is_empty() {
            let used = match self.stage {
                Stage::Finished => return Ok(()),
                Stage::Head => self.feed_line(input, take)?,
                Stage::Start | Stage::Preamble | Stage::Data => self.feed_text(input, take)?,
            };
            let Some(used) = used else { return Ok(()) };
            input = &input[used..];
        }
        Ok(())
    }

    /// Takes text up to the next delimiter; returns how much of the input that is.
    fn feed_text(
        &mut self,
        input: &[u8],
        take: &mut impl FnMut(Piece<'_>) -> bool,
    ) -> Result<Option<usize>, Refusal> {
        let mut text = std::mem::take(&mut self.held);
        let held = text.len();
        if held == 0 {
            let (used, found) = scan(&self.delimiter, self.stage, input, take)?;
            if matches!(found, Found::Text) {
                text.extend_from_slice(&input[used..]);
                self.held = text;
                self.pass_text(used);
                return Ok(Some(input.len()));
            }
            return self.pass((used, found), take).map(|goes_on| goes_on.then_some(used));
        }
        // So many bytes more decide what those held are.
        let more = input.len().min(lookahead(&self.delimiter));
        text.extend_from_slice(&input[..more]);
        let (used, found) = scan(&self.delimiter, self.stage, &text, take)?;
        if matches!(found, Found::Text) {
            self.pass_text(used);
            if used < held {
                debug_assert_eq!(more, input.len(), "enough text is decided");
                text.drain(..used);
                self.held = text;
                return Ok(Some(more));
            }
            text.clear();
            self.held = text;
            return Ok(Some(used - held));
        }
        debug_assert!(used >= held, "a delimiter was held although it was whole");
        text.clear();
        self.held = text;
        self.pass((used, found), take).map(|goes_on| goes_on.then_some(used.saturating_sub(held)))
    }

    /// So many bytes of text were no delimiter.
    fn pass_text(&mut self, used: usize) {
        if used > 0 && self.stage == Stage::Start {
            self.stage = Stage::Preamble;
        }
    }

    /// Goes on behind a delimiter, which so many bytes of text end with; whether pieces are still
    /// wanted.
    fn pass(
        &mut self,
        (used, found): (usize, Found),
        take: &mut impl FnMut(Piece<'_>) -> bool,
    ) -> Result<bool, Refusal> {
        let Found::Delimiter(is_last) = found else { return Ok(false) };
        // A delimiter at the start has two bytes less than that with the empty line.
        let has_text = match self.stage {
            Stage::Start => used > self.delimiter.len() - 2,
            stage => stage == Stage::Preamble,
        };
        if is_last && has_text {
            // An empty form is its last delimiter alone. This one lost what it had.
            return Err(Refusal::bad("a multipart body has text and no part"));
        }
        let ends_part = self.stage == Stage::Data;
        self.stage = if is_last { Stage::Finished } else { Stage::Head };
        self.head_bytes = 0;
        self.head = Head::default();
        if ends_part && !take(Piece::End) {
            return Ok(false);
        }
        if !is_last {
            self.parts += 1;
        }
        if self.parts > MAX_PARTS {
            return Err(Refusal::new(413, "a multipart body has at most 128 parts"));
        }
        Ok(true)
    }

    /// Takes a line of a header; returns how much of the input that is.
    fn feed_line(
        &mut self,
        input: &[u8],
        take: &mut impl FnMut(Piece<'_>) -> bool,
    ) -> Result<Option<usize>, Refusal> {
        let end = input.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(input.len(), |end| end + 1);
        if self.head_bytes + self.held.len() + used > MAX_HEAD_BYTES {
            return Err(Refusal::new(413, "the header of a part has at most 8,192 bytes"));
        }
        if end.is_none() {
            self.held.extend_from_slice(input);
            return Ok(Some(used));
        }
        let mut line = std::mem::take(&mut self.held);
        let is_end = if line.is_empty() {
            self.take_line(&input[..used])?
        } else {
            line.extend_from_slice(&input[..used]);
            self.take_line(&line)?
        };
        line.clear();
        self.held = line;
        if !is_end {
            return Ok(Some(used));
        }
        self.stage = Stage::Data;
        let part = self.head.part()?;
        Ok(take(Piece::Part(&part)).then_some(used))
    }

    /// Takes a whole line of a header; whether it is the empty one.
    fn take_line(&mut self, line: &[u8]) -> Result<bool, Refusal> {
        const MALFORMED: Refusal = Refusal::bad("the header of a part is malformed");
        self.head_bytes += line.len();
        let parser = Parser::<MAX_HEAD_BYTES, 1>::new(boundary(&self.delimiter));
        let mut parser = parser.map_err(|_| MALFORMED)?;
        parser.parse(&self.delimiter, false).map_err(|_| MALFORMED)?;
        match parser.parse(line, false) {
            Ok((_, Some(Event::HeadersEnd))) => Ok(true),
            Ok((_, Some(Event::Header { name, value }))) => {
                self.head.take(name, value).map(|()| false)
            }
            _ => Err(MALFORMED),
        }
    }
}

/// The boundary within a delimiter.
fn boundary(delimiter: &[u8]) -> &[u8] {
    &delimiter[2..delimiter.len() - 4]
}

/// So many bytes are enough to know whether a delimiter begins at the first.
fn lookahead(delimiter: &[u8]) -> usize {
    delimiter.len() + nostd_multipart::MAX_PADDING
}

/// Takes text up to a delimiter or to what may become one; returns how many bytes, with those of
/// the delimiter.
fn scan(
    delimiter: &[u8],
    stage: Stage,
    text: &[u8],
    take: &mut impl FnMut(Piece<'_>) -> bool,
) -> Result<(usize, Found), Refusal> {
    const MALFORMED: Refusal = Refusal::bad("the multipart body is malformed");
    let mut parser = Parser::<2, 0>::new(boundary(delimiter)).map_err(|_| MALFORMED)?;
    let lead = match stage {
        Stage::Start => &b""[..],
        Stage::Preamble => b"x",
        _ => delimiter,
    };
    let mut led = 0;
    while led < lead.len() {
        led += parser.parse(&lead[led..], false).map_err(|_| MALFORMED)?.0;
    }
    let mut used = 0;
    loop {
        let (count, event) = parser.parse(&text[used..], false).map_err(|_| MALFORMED)?;
        used += count;
        match event {
            None if count == 0 => return Ok((used, Found::Text)),
            None => {}
            Some(Event::Data(data)) if take(Piece::Data(data)) => {}
            Some(Event::Data(_)) => return Ok((used, Found::Unwanted)),
            Some(Event::PartStart) => return Ok((used, Found::Delimiter(false))),
            Some(Event::PartEnd) => return Ok((used, Found::Delimiter(parser.is_finished()))),
            Some(Event::Finished) => return Ok((used, Found::Delimiter(true))),
            Some(Event::Header { .. } | Event::HeadersEnd) => return Err(MALFORMED),
        }
    }
}

impl Head {
    /// Takes a field of the header. Those that say nothing of the data are left out.
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case(b"content-disposition") {
            return self.take_disposition(value);
        }
        if name.eq_ignore_ascii_case(b"content-type") {
            let starts = value.get(..10).unwrap_or_default();
            if starts.eq_ignore_ascii_case(b"multipart/") {
                return Err(Refusal::bad("a part has parts of its own"));
            }
            let value = text(value)?;
            if self.content_type.replace(value).is_some() {
                return Err(Refusal::bad("a part has two types"));
            }
        }
        if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            // These three change nothing (RFC 2045, 6.2); the others are not for forms.
            let plain = [&b"7bit"[..], b"8bit", b"binary"];
            let is_plain = plain.iter().any(|plain| value.eq_ignore_ascii_case(plain));
            if !is_plain || std::mem::replace(&mut self.has_encoding, true) {
                return Err(Refusal::bad("a part is encoded, which RFC 7578, 4.7 forbids"));
            }
        }
        Ok(())
    }

    fn take_disposition(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let Ok(found) = content_disposition(value) else {
            return Err(Refusal::bad("the Content-Disposition of a part is malformed"));
        };
        if found.filename_star().is_some() {
            return Err(Refusal::bad("a part has a filename*, which RFC 7578, 4.2 forbids"));
        }
        let (true, Some(name)) = (found.is_form_data(), found.name()) else {
            return Err(Refusal::bad("a part is not form-data with a name"));
        };
        if self.name.replace(unescape(name.raw())?).is_some() {
            return Err(Refusal::bad("a part has two names"));
        }
        self.file_name = found.filename().map(|name| unescape(name.raw())).transpose()?;
        Ok(())
    }

    fn part(&self) -> Result<Part<'_>, Refusal> {
        let Some(name) = &self.name else {
            return Err(Refusal::bad("a part is not form-data with a name"));
        };
        Ok(Part::new(name, self.file_name.as_deref(), self.content_type.as_deref()))
    }
}

fn text(bytes: &[u8]) -> Result<String, Refusal> {
    let not_text = |_| Refusal::bad("the header of a part is not UTF-8");
    String::from_utf8(bytes.to_vec()).map_err(not_text)
}

/// A name without its escapes: those of browsers (`%22`, `%0D`, `%0A`), and a backslash before a
/// quote or another one. Other backslashes are no escapes, because browsers send them as they are.
fn unescape(raw: &[u8]) -> Result<String, Refusal> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(&first) = rest.first() {
        let (byte, length) = match rest {
            [b'\\', escaped @ (b'"' | b'\\'), ..] => (*escaped, 2),
            [b'%', b'2', b'2', ..] => (b'"', 3),
            [b'%', b'0', b'D' | b'd', ..] => (b'\r', 3),
            [b'%', b'0', b'A' | b'a', ..] => (b'\n', 3),
            _ => (first, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    text(&bytes)
}

#[cfg(test)]
mod tests {
    use quickcheck::{Gen, QuickCheck};

    use super::*;

    /// What a body of pieces is cut into.
    fn cut<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Result<bool, Refusal>) {
        let mut reader = PartReader::new(b"multipart/form-data; boundary=B").unwrap();
        let mut told = Vec::new();
        for piece in pieces {
            let fed = reader.feed(piece, &mut |piece| {
                match piece {
                    Piece::Part(part) => told.extend_from_slice(format!("[{part:?}]").as_bytes()),
                    Piece::Data(data) => told.extend_from_slice(data),
                    Piece::End => told.extend_from_slice(b"[end]"),
                }
                true
            });
            assert!(reader.held.len() < MAX_HEAD_BYTES);
            if let Err(refusal) = fed {
                return (told, Err(refusal));
            }
        }
        (told, Ok(reader.is_finished()))
    }

    /// What bodies are made of, so that delimiters and their look-alikes are frequent.
    const WORDS: [&str; 14] = [
        "\r\n--B\r\nContent-Disposition: form-data; name=a\r\n\r\n",
        "Content-Disposition: form-data; name=\"b\"; filename=\"c\"\r\n",
        "\r\n--B--",
        "\r\n--B",
        "--B\r\n",
        "\r\n",
        "\r",
        "\n",
        "--",
        "-",
        "B",
        " \t",
        ":",
        "x",
    ];

    #[test]
    fn a_body_is_cut_alike_however_it_comes() {
        fn property(words: Vec<usize>, starts: bool, size: usize, sizes: Vec<usize>) {
            let start = match starts {
                true => &b"--B\r\nContent-Disposition: form-data; name=a\r\n\r\n"[..],
                false => b"",
            };
            let words = words.iter().map(|word| WORDS[word % WORDS.len()].as_bytes());
            let body = [start, &words.collect::<Vec<_>>().concat()].concat();
            let whole = cut([&body[..]]);
            let mut rest = &body[..];
            let mut pieces = Vec::new();
            for size in std::iter::once(&size).chain(&sizes).cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, behind) = rest.split_at(rest.len().min(1 + size % 39));
                pieces.push(piece);
                rest = behind;
            }
            // Of one that is refused, what was told before depends on the pieces.
            let split = cut(pieces);
            assert_eq!(split.1, whole.1);
            if whole.1.is_ok() {
                assert_eq!(split.0, whole.0);
            }
            assert_eq!(cut(body.chunks(1)).1, whole.1);
        }
        let mut check = QuickCheck::new().tests(256).rng(Gen::new(24));
        check.quickcheck(property as fn(_, _, _, _));
    }
}
