//! A string of bytes that lies in place if it is short.

use std::borrow::Borrow;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::ops::Deref;

/// Bytes of the longest string that is stored in place: with its length and the tag as large as
/// a pointer, a length and the tag of a longer one.
const SHORT_BYTES: usize = 22;

/// A key or a value. Most are short; a look at one of these is a look at the table itself, with
/// no pointer to follow to memory that the cache has not got.
pub(crate) enum Text {
    Short { len: u8, bytes: [u8; SHORT_BYTES] },
    Long(Box<[u8]>),
}

impl From<&[u8]> for Text {
    #[inline]
    fn from(text: &[u8]) -> Self {
        let mut bytes = [0; SHORT_BYTES];
        match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                let len = text.len() as u8;
                Self::Short { len, bytes }
            }
            None => Self::Long(text.into()),
        }
    }
}

impl Text {
    /// Another string in the place of this one. A long one of the same length needs no new memory.
    #[inline]
    pub(crate) fn set(&mut self, text: &[u8]) {
        match self {
            Self::Long(bytes) if bytes.len() == text.len() => bytes.copy_from_slice(text),
            _ => *self = text.into(),
        }
    }
}

impl Deref for Text {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Text {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl Hash for Text {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl PartialEq for Text {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

/// The standard hasher, whose seed keeps a client from choosing keys that collide. A quarter of the
/// work of a `GET` is done in it. Foldhash needs nearly none, but its authors advise against it
/// where those who choose the keys can study how a program behaves for long.
#[derive(Default)]
pub(crate) struct TextHashes(RandomState);

impl BuildHasher for TextHashes {
    type Hasher = TextHasher;

    #[inline]
    fn build_hasher(&self) -> TextHasher {
        TextHasher(self.0.build_hasher())
    }
}

pub(crate) struct TextHasher(DefaultHasher);

impl Hasher for TextHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// Slices put their length in front, which tells apart what is hashed one behind the other. A
    /// string is hashed alone, and to leave the length out saves a third of the work.
    #[inline]
    fn write_usize(&mut self, _: usize) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}
