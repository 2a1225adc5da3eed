//! The fields of a head, as they were parsed or as they are kept.

/// The longest text of fields that is kept, in bytes.
pub(super) const MAX_KEPT_BYTES: usize = 4 << 10;

/// The fields of a head, in their order.
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldList<'a> {
    /// As the parser found them.
    Parsed(&'a [httparse::Header<'a>]),
    /// As those of an earlier head, of the same bytes.
    Kept(&'a FieldText),
}

impl<'a> FieldList<'a> {
    /// The names, as they were sent, and the values.
    pub(super) fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        (0..).map_while(move |place| match self {
            Self::Parsed(fields) => fields.get(place).map(|field| (field.name, field.value)),
            Self::Kept(text) => text.field(place),
        })
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
struct Mark {
    name: (u16, u16),
    value: (u16, u16),
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

    fn field(&self, place: usize) -> Option<(&str, &[u8])> {
        let mark = self.marks.get(place)?;
        let name = self.text.get(usize::from(mark.name.0)..usize::from(mark.name.1))?;
        Some((name, self.part(mark.value)))
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
