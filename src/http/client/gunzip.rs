//! Answers that were compressed.

use flate2::{Decompress, FlushDecompress, Status};

use super::answer::Answer;
use super::call::Call;
use super::error::ClientError;

/// The base two logarithm of the window: the largest.
const WINDOW_BITS: u8 = 15;

/// What a step may add to a body, in bytes.
const STEP_BYTES: usize = 64 << 10;

/// Members of a body beyond those that have so many bytes each on average: to begin a member costs
/// as much as to decode some thousand bytes, and the loop waits for it.
const MAX_SMALL_MEMBERS: usize = 1_000;
const MEMBER_BYTES: usize = 1 << 10;

impl Call {
    /// Asks for an answer in the format gzip, and decodes one that comes so: for
    /// [`Client::send`](super::Client::send); what is streamed is handed over as it came. The limit
    /// [`max_body_bytes`](super::ClientOptions::max_body_bytes) holds for the decoded body too, so
    /// that a small answer cannot become a huge one. The fields stay as the server sent them.
    #[must_use]
    pub fn gzip(self) -> Self {
        let mut call = self.header("Accept-Encoding", "gzip");
        call.is_decoded = true;
        call
    }
}

/// Whether the body of an answer is in this format.
pub(super) fn is_gzip(answer: &Answer<'_>) -> bool {
    let coding = answer.header("content-encoding").unwrap_or_default();
    ["gzip", "x-gzip"].iter().any(|name| name.eq_ignore_ascii_case(coding))
}

/// Decodes a whole body, which may be of several members (RFC 1952, 2.2).
pub(super) fn gunzip(mut packed: &[u8], max_bytes: usize) -> Result<Vec<u8>, ClientError> {
    let mut decoder = Decompress::new_gzip(WINDOW_BITS);
    let (mut body, mut members) = (Vec::new(), 1);
    while !packed.is_empty() {
        // One byte more than is allowed tells a body that is too large from one that just fits.
        body.reserve(STEP_BYTES.min((max_bytes - body.len()).saturating_add(1)));
        let before = decoder.total_in();
        let step = decoder.decompress_vec(packed, &mut body, FlushDecompress::None);
        let status = step.map_err(|_| ClientError::Malformed("its gzip is malformed"))?;
        let used = usize::try_from(decoder.total_in() - before).unwrap_or(usize::MAX);
        packed = packed.get(used..).unwrap_or_default();
        if body.len() > max_bytes {
            return Err(ClientError::TooLarge(max_bytes));
        }
        match status {
            Status::StreamEnd if packed.is_empty() => return Ok(body),
            Status::StreamEnd if members > MAX_SMALL_MEMBERS + body.len() / MEMBER_BYTES => {
                return Err(ClientError::Malformed("its gzip has too many members without data"));
            }
            Status::StreamEnd => {
                decoder = Decompress::new_gzip(WINDOW_BITS);
                members += 1;
            }
            // Nothing to read is left, and room to write is.
            _ if packed.is_empty() && body.len() < body.capacity() => break,
            Status::Ok | Status::BufError => {}
        }
    }
    Err(ClientError::Malformed("its gzip is cut"))
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn pack(body: &[u8]) -> Vec<u8> {
        let mut packed = Vec::with_capacity(body.len() + 1_000);
        let mut compress = Compress::new_gzip(Compression::new(6), WINDOW_BITS);
        compress.compress_vec(body, &mut packed, FlushCompress::Finish).unwrap();
        packed
    }

    #[test]
    fn a_body_is_decoded_whole_or_not_at_all() {
        let body: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        let packed = pack(&body);
        assert_eq!(gunzip(&packed, body.len()).unwrap(), body);
        assert!(matches!(gunzip(&packed, body.len() - 1), Err(ClientError::TooLarge(_))));
        for cut in [0, 1, 9, 10, 20, packed.len() - 9, packed.len() - 1] {
            assert!(
                matches!(gunzip(&packed[..cut], 1 << 20), Err(ClientError::Malformed(_))),
                "{cut}"
            );
        }
        let two = [pack(b"one, "), pack(b"two")].concat();
        assert_eq!(gunzip(&two, 100).unwrap(), b"one, two");
        let trailed = [&packed[..], b"x"].concat();
        assert!(matches!(gunzip(&trailed, 1 << 20), Err(ClientError::Malformed(_))));
        assert_eq!(gunzip(&pack(b""), 0).unwrap(), b"");
        let mut wrong = packed.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert!(matches!(gunzip(&wrong, 1 << 20), Err(ClientError::Malformed(_))));
    }

    #[test]
    fn a_limit_may_be_none_at_all() {
        let packed = pack(b"some");
        assert_eq!(gunzip(&packed, usize::MAX).unwrap(), b"some");
        assert!(matches!(gunzip(&packed, 0), Err(ClientError::TooLarge(0))));
    }

    /// Each member costs the set-up of a decoder, and an empty one is 20 bytes.
    #[test]
    fn small_members_do_not_hold_the_loop() {
        let few = pack(b"x").repeat(MAX_SMALL_MEMBERS);
        assert_eq!(gunzip(&few, 1 << 20).unwrap().len(), MAX_SMALL_MEMBERS);
        for member in [pack(b""), pack(b"x")] {
            let many = member.repeat(MAX_SMALL_MEMBERS + 2);
            assert!(matches!(gunzip(&many, 1 << 20), Err(ClientError::Malformed(_))));
        }
        let blocks = pack(&[0; MEMBER_BYTES]).repeat(2 * MAX_SMALL_MEMBERS);
        let length = 2 * MAX_SMALL_MEMBERS * MEMBER_BYTES;
        assert_eq!(gunzip(&blocks, length).unwrap().len(), length);
    }

    #[test]
    fn a_bomb_takes_no_more_than_the_limit() {
        let bomb = pack(&vec![0; 50 << 20]);
        assert!(bomb.len() < 100_000);
        assert!(matches!(gunzip(&bomb, 1 << 20), Err(ClientError::TooLarge(_))));
    }
}
