//! The fields of a head, as they were parsed or as they are kept.

use std::slice;

use super::fields::trim;

/// The longest text of fields that is kept, in bytes.
pub(super) const MAX_KEPT_BYTES: usize = 4 << 10;

/// The fields of a head, in their order.
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldList<'a> {
    /// As the parser found them.
    Parsed(&'a [httparse::Header<'a>]),
    /// As those of an earlier head, of the same bytes.
    Kept(&'a FieldText),
    /// In lines that were parsed once.
    Lines(&'a [u8]),
}

impl<'a> FieldList<'a> {
    /// The names, as they were sent, and the values.
    #[inline]
    pub(super) fn iter(self) -> FieldIter<'a> {
        match self {
            Self::Parsed(fields) => FieldIter::Parsed(fields.iter()),
            Self::Kept(kept) => FieldIter::Kept(&kept.text, kept.marks.iter()),
            Self::Lines(lines) => FieldIter::Lines(lines),
        }
    }
}

/// Goes over the fields of a head.
#[derive(Clone, Debug)]
pub(super) enum FieldIter<'a> {
    Parsed(slice::Iter<'a, httparse::Header<'a>>),
    Kept(&'a str, slice::Iter<'a, Mark>),
    Lines(&'a [u8]),
}

impl<'a> Iterator for FieldIter<'a> {
    type Item = (&'a str, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Parsed(fields) => fields.next().map(|field| (field.name, field.value)),
            Self::Kept(text, marks) => marks.next().and_then(|mark| mark.field(text)),
            Self::Lines(lines) => next_line(lines),
        }
    }
}

/// The next field in lines, which are left with what stands behind it.
fn next_line<'a>(lines: &mut &'a [u8]) -> Option<(&'a str, &'a [u8])> {
    loop {
        let end = lines.iter().position(|&byte| byte == b'\n')?;
        let (line, rest) = lines.split_at_checked(end + 1)?;
        *lines = rest;
        let line = line.strip_suffix(b"\r\n").unwrap_or_default();
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        // A name is a token, which is ASCII.
        if let Ok(name) = std::str::from_utf8(&line[..colon]) {
            return Some((name, trim(&line[colon + 1..])));
        }
    }
}

/// The text of fields, with the empty line behind them, and where each of them stands in it.
#[derive(Debug, Default)]
pub(super) struct FieldText {
    /// Empty: none is kept.
    text: String,
    marks: Vec<Mark>,
}

/// Where the name and the value of a field begin and end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    name: (u16, u16),
    value: (u16, u16),
}

impl Mark {
    /// The field in the text.
    #[inline]
    fn field<'a>(&self, text: &'a str) -> Option<(&'a str, &'a [u8])> {
        let place = |(begin, end): (u16, u16)| usize::from(begin)..usize::from(end);
        Some((text.get(place(self.name))?, text.as_bytes().get(place(self.value))?))
    }
}

impl FieldText {
    /// The bytes of it all.
    #[inline(always)]
    pub(super) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// A part of it.
    #[inline(always)]
    pub(super) fn part(&self, (begin, end): (u16, u16)) -> &[u8] {
        self.bytes().get(usize::from(begin)..usize::from(end)).unwrap_or_default()
    }

    /// Keeps none.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.marks.clear();
    }

    /// Keeps a text and the fields that were found in it; whether it could. One that is not UTF-8
    /// is not kept.
    pub(super) fn keep(&mut self, text: &[u8], fields: &[httparse::Header<'_>]) -> bool {
        self.clear();
        let Some(kept) = std::str::from_utf8(text).ok().filter(|kept| kept.len() <= MAX_KEPT_BYTES)
        else {
            return false;
        };
        for field in fields {
            let name = place_in(text, field.name.as_bytes());
            let (Some(name), Some(value)) = (name, place_in(text, field.value)) else {
                return false;
            };
            self.marks.push(Mark { name, value });
        }
        self.text.push_str(kept);
        true
    }
}

/// Where a part of a text begins and ends.
pub(super) fn place_in(text: &[u8], part: &[u8]) -> Option<(u16, u16)> {
    let begin = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let end = begin.checked_add(part.len()).filter(|&end| end <= text.len())?;
    Some((u16::try_from(begin).ok()?, u16::try_from(end).ok()?))
}
