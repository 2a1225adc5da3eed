//! UTF-8 that comes in pieces, refused as early as it can be.

/// How far a text has been checked: the beginning of a character that was cut.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Utf8 {
    /// Its bytes so far.
    carry: [u8; 3],
    /// How many those are.
    count: u8,
}

/// The text cannot be UTF-8, whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotUtf8;

impl Utf8 {
    /// Checks the next piece.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), NotUtf8> {
        while self.count > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return Ok(()) };
            piece = rest;
            let held = usize::from(self.count);
            let mut char = [0; 4];
            char[..held].copy_from_slice(&self.carry[..held]);
            char[held] = byte;
            match std::str::from_utf8(&char[..=held]) {
                Ok(_) => self.count = 0,
                Err(error) if error.error_len().is_some() => return Err(NotUtf8),
                Err(_) => self.keep(&char[..=held]),
            }
        }
        match std::str::from_utf8(piece) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(NotUtf8),
            Err(error) => {
                self.keep(&piece[error.valid_up_to()..]);
                Ok(())
            }
        }
    }

    /// Whether the text may end here.
    #[cfg(test)]
    pub(super) fn is_complete(&self) -> bool {
        self.count == 0
    }

    /// At most three bytes: four that are no error are a whole character.
    fn keep(&mut self, begun: &[u8]) {
        self.carry[..begun.len()].copy_from_slice(begun);
        self.count = begun.len() as u8;
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::QuickCheck;

    use super::*;

    /// How many bytes of `bytes` pass, one at a time.
    fn passed(bytes: &[u8]) -> usize {
        let mut utf8 = Utf8::default();
        bytes.iter().take_while(|byte| utf8.push(&[**byte]).is_ok()).count()
    }

    #[test]
    fn it_fails_at_the_first_byte_that_cannot_be() {
        assert_eq!(passed("κόσμε\u{10ffff}".as_bytes()), 14);
        assert_eq!(passed(b"ab\xf4\x90\x80\x80"), 3); // above U+10FFFF
        assert_eq!(passed(b"\xed\xa0\x80"), 1); // a surrogate
        assert_eq!(passed(b"\xc0\xaf"), 0); // overlong
        assert_eq!(passed(b"\xe0\x80\x80"), 1);
        assert_eq!(passed(b"\x80"), 0);
    }

    /// However it is cut, the verdict is that of the standard library on the whole.
    #[test]
    fn cut_anywhere() {
        // At a place, a byte is another one, or the text ends.
        type Damage = Option<(u8, Option<u8>)>;
        fn property(text: Result<String, Vec<u8>>, damage: Damage, cuts: [u8; 5]) {
            let mut bytes = text.map_or_else(|bytes| bytes, String::into_bytes);
            if let Some((at, value)) = damage.filter(|_| !bytes.is_empty()) {
                let at = usize::from(at) % bytes.len();
                match value {
                    Some(value) => bytes[at] = value,
                    None => bytes.truncate(at),
                }
            }
            let mut utf8 = Utf8::default();
            let mut left = &bytes[..];
            let mut is_good = true;
            for cut in cuts {
                let (piece, rest) = left.split_at(usize::from(cut % 40).min(left.len()));
                is_good &= utf8.push(piece).is_ok();
                left = rest;
                if !is_good {
                    break;
                }
            }
            is_good = is_good && utf8.push(left).is_ok() && utf8.is_complete();
            assert_eq!(is_good, std::str::from_utf8(&bytes).is_ok());
        }
        QuickCheck::new().tests(256).quickcheck(property as fn(_, _, _));
    }
}
