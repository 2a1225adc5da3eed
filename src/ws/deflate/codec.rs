//! Compressors and decompressors that connections share.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::ws::code::Fault;
use crate::ws::deflate::fast::Fast;
use crate::ws::deflate::{MAX_BITS, MIN_BITS};

/// What ends a flushed block, and is left out of a message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Memory that is kept for the text of the next message, in bytes.
const KEPT_TEXT: usize = 128 << 10;

/// The message without bytes (RFC 7692, section 7.2.3.6).
const EMPTY: [u8; 1] = [0];

/// How a message is compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// The window, as a base-2 logarithm.
    pub(crate) bits: u8,
    pub(crate) level: u8,
    /// Whether also what does not get smaller is.
    pub(crate) is_always: bool,
}

/// Decompressors that are kept for the next message. More are in use only while messages come in
/// pieces.
const KEPT_INFLATERS: usize = 2;

/// How much room there is at once for what is inflated, in bytes.
const STEP: usize = 16 << 10;

/// Last blocks that a message may have beyond one for so many bytes that it inflates to: to begin
/// again behind one costs as much as to inflate some thousand bytes, and one without content takes
/// two.
const MAX_ENDS: u64 = 1_000;
const END_BYTES: u64 = 1 << 10;

/// Decompresses one message at a time.
pub(crate) struct Inflater {
    decompress: Decompress,
    /// Last blocks of the message so far.
    ends: u64,
    /// Bytes that it has inflated to.
    given: u64,
    /// Bytes of windows that were set since that was last asked.
    copied: usize,
}

/// How far a piece of a message has been inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inflated {
    /// All of it.
    All,
    /// There is more in it than the limit allows.
    TooBig,
}

impl Inflater {
    /// Inflates a piece of a message behind what `plain` holds so far, its first `filled` bytes.
    pub(crate) fn inflate(
        &mut self,
        mut piece: &[u8],
        plain: &mut Vec<u8>,
        filled: &mut usize,
        limit: usize,
    ) -> Result<Inflated, Fault> {
        // One byte past the limit shows that there is more.
        let max = limit.saturating_add(1);
        loop {
            let room = max.saturating_sub(*filled).min(STEP);
            if plain.len() < *filled + room {
                plain.resize(*filled + room, 0);
            }
            let (ins, outs) = (self.decompress.total_in(), self.decompress.total_out());
            let to = &mut plain[*filled..];
            let room = to.len().min(max.saturating_sub(*filled));
            let result = self.decompress.decompress(piece, &mut to[..room], FlushDecompress::Sync);
            let status = result.map_err(|_| Fault::data("a compressed message that is broken"))?;
            piece = &piece[(self.decompress.total_in() - ins) as usize..];
            let gave = self.decompress.total_out() - outs;
            *filled += gave as usize;
            self.given += gave;
            if *filled > limit {
                return Ok(Inflated::TooBig);
            }
            let is_full = gave == room as u64;
            match status {
                Status::StreamEnd => self.go_on_behind_end(&plain[..*filled])?,
                _ if is_full || !piece.is_empty() && self.decompress.total_in() > ins => {}
                _ if piece.is_empty() => return Ok(Inflated::All),
                _ => return Err(Fault::data("a compressed message that is broken")),
            }
        }
    }

    /// Inflates a piece of a message as far as there is room behind the first `filled` bytes of
    /// `plain`. Returns how much of the piece was read, and how much of `plain` is filled then.
    pub(crate) fn inflate_into(
        &mut self,
        piece: &[u8],
        plain: &mut [u8],
        mut filled: usize,
    ) -> Result<(usize, usize), Fault> {
        let broken = Fault::data("a compressed message that is broken");
        let mut read = 0;
        loop {
            let (ins, outs) = (self.decompress.total_in(), self.decompress.total_out());
            let to = &mut plain[filled..];
            let result = self.decompress.decompress(&piece[read..], to, FlushDecompress::Sync);
            let status = result.map_err(|_| broken)?;
            let (took, gave) =
                (self.decompress.total_in() - ins, self.decompress.total_out() - outs);
            (read, filled) = (read + took as usize, filled + gave as usize);
            self.given += gave;
            match status {
                Status::StreamEnd => self.go_on_behind_end(&plain[..filled])?,
                _ if filled == plain.len() || read == piece.len() => return Ok((read, filled)),
                _ if took + gave > 0 => {}
                _ => return Err(broken),
            }
        }
    }

    /// A last block may come before the message ends, and more blocks behind it.
    fn go_on_behind_end(&mut self, plain: &[u8]) -> Result<(), Fault> {
        self.ends += 1;
        if self.ends > MAX_ENDS + self.given / END_BYTES {
            return Err(Fault::policy("a compressed message of too many last blocks"));
        }
        self.begin_again(plain);
        Ok(())
    }

    fn begin_again(&mut self, plain: &[u8]) {
        let window = &plain[plain.len().saturating_sub(1 << MAX_BITS)..];
        self.decompress.reset(false);
        if !window.is_empty() {
            // It cannot be refused: a stream without a header takes a dictionary at any time.
            let _ = self.decompress.set_dictionary(window);
        }
        self.copied += window.len();
    }

    /// What went into beginning again since this was last asked, in bytes.
    pub(crate) fn take_copied(&mut self) -> usize {
        std::mem::take(&mut self.copied)
    }

    /// Inflates what every message leaves out at its end.
    pub(crate) fn finish(
        &mut self,
        plain: &mut Vec<u8>,
        filled: &mut usize,
        limit: usize,
    ) -> Result<Inflated, Fault> {
        self.inflate(&TAIL, plain, filled, limit)
    }

    /// Inflates the same behind the first `filled` bytes of `plain`, in which there must be room
    /// for it. Returns how much is filled then.
    pub(crate) fn finish_into(&mut self, plain: &mut [u8], filled: usize) -> Result<usize, Fault> {
        let (read, filled) = self.inflate_into(&TAIL, plain, filled)?;
        debug_assert_eq!(read, TAIL.len());
        Ok(filled)
    }
}

/// What the connections of one endpoint compress with.
#[derive(Default)]
pub(crate) struct Codecs {
    /// By the size of the window, from [`MIN_BITS`] on; made when first used.
    compressors: [Option<Compress>; (MAX_BITS - MIN_BITS + 1) as usize],
    /// For level 1.
    fast: Option<Fast>,
    inflaters: Vec<Inflater>,
    /// What was compressed last.
    output: Vec<u8>,
}

impl Codecs {
    /// Compresses a message. `None` if it does not get smaller, unless that does not matter.
    pub(crate) fn deflate(&mut self, plain: &[u8], window: &[u8], how: How) -> Option<&[u8]> {
        if plain.is_empty() {
            return how.is_always.then_some(&EMPTY);
        }
        let body = match how.level {
            0 | 1 => {
                let fast = self.fast.get_or_insert_default();
                fast.compress(plain, window, how.bits, &mut self.output, KEPT_TEXT);
                &self.output[..]
            }
            _ => self.deflate_well(plain, window, how)?,
        };
        (how.is_always || body.len() < plain.len()).then_some(body)
    }

    /// Compresses with zlib.
    fn deflate_well(&mut self, plain: &[u8], window: &[u8], how: How) -> Option<&[u8]> {
        let place = &mut self.compressors[usize::from(how.bits - MIN_BITS)];
        let level = Compression::new(u32::from(how.level));
        let compress =
            place.get_or_insert_with(|| Compress::new_with_window_bits(level, false, how.bits));
        compress.reset();
        if !window.is_empty() {
            compress.set_dictionary(window).ok()?;
        }
        // What needs more room than the first does not get smaller; the second is enough for all.
        let larger = if how.is_always { plain.len() / 8 + 64 } else { 0 };
        let room = plain.len() + TAIL.len() + larger;
        let output = &mut self.output;
        if output.len() < room {
            output.resize(room, 0);
        }
        compress.compress(plain, &mut output[..room], FlushCompress::Sync).ok()?;
        let length = compress.total_out() as usize;
        let is_whole = compress.total_in() == plain.len() as u64 && length < room;
        output[..length].strip_suffix(&TAIL).filter(|_| is_whole)
    }

    /// A decompressor for one message.
    pub(crate) fn inflater(&mut self, window: &[u8]) -> Inflater {
        let spare = self.inflaters.pop().map(|spare| spare.decompress);
        let decompress = spare.unwrap_or_else(|| Decompress::new(false));
        let mut inflater = Inflater { decompress, ends: 0, given: 0, copied: 0 };
        inflater.begin_again(window);
        inflater.copied = 0; // of every message, and not its making
        inflater
    }

    /// Takes one back.
    pub(crate) fn put_back(&mut self, inflater: Inflater) {
        if self.inflaters.len() < KEPT_INFLATERS {
            self.inflaters.push(inflater);
        }
    }

    /// Gives back what a large message took.
    pub(crate) fn shrink(&mut self, kept: usize) {
        if self.output.len() > kept {
            self.output.truncate(kept);
            self.output.shrink_to(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::{Gen, QuickCheck};

    use super::*;
    use crate::ws::deflate::Window;

    /// Inflates a message in pieces of `cut` bytes.
    fn inflate(body: &[u8], window: &[u8], cut: usize, limit: usize) -> Result<Vec<u8>, u16> {
        let mut inflater = Codecs::default().inflater(window);
        let (mut plain, mut filled) = (Vec::new(), 0);
        let step = |inflated| match inflated {
            Ok(Inflated::All) => Ok(()),
            Ok(Inflated::TooBig) => Err(1009),
            Err(Fault { code, .. }) => Err(code.get()),
        };
        for piece in body.chunks(cut) {
            step(inflater.inflate(piece, &mut plain, &mut filled, limit))?;
        }
        step(inflater.finish(&mut plain, &mut filled, limit))?;
        plain.truncate(filled);
        Ok(plain)
    }

    const HOW: How = How { bits: 12, level: 6, is_always: false };

    /// Message after message, each with the window that those before have left.
    #[test]
    fn there_and_back() {
        type Messages = Vec<(u8, usize, usize)>;
        fn property(messages: Messages, how: (u8, u8, bool), keeps: bool, cut: usize) {
            let (bits, level, is_always) = (9 + how.0 % 7, 1 + how.1 % 9, how.2);
            let cut = 1 + cut % 2999;
            let mut codecs = Codecs::default();
            let mut window = Window::default();
            for (seed, length, step) in messages {
                let (length, step) = (length % 5000, 1 + step % 59);
                let plain: Vec<u8> = (0..length).map(|at| (at / step) as u8 ^ seed).collect();
                let context = if keeps { window.bytes() } else { &[] };
                let body = codecs.deflate(&plain, context, How { bits, level, is_always });
                assert!(body.is_some() || !is_always);
                if let Some(body) = body {
                    let back = inflate(body, context, cut, plain.len());
                    assert_eq!(back.as_deref(), Ok(&plain[..]));
                    if length > 0 {
                        assert_eq!(inflate(body, context, cut, length - 1), Err(1009));
                    }
                    window.push(&plain, bits);
                }
            }
        }
        QuickCheck::new().tests(256).rng(Gen::new(8)).quickcheck(property as fn(_, _, _, _));
    }

    /// Whatever comes is inflated or refused, and never more than the limit.
    #[test]
    fn anything() {
        fn property(body: Vec<u8>, cut: usize) {
            if let Ok(plain) = inflate(&body, &[], 1 + cut % 49, 1000) {
                assert!(plain.len() <= 1000);
            }
        }
        QuickCheck::new().tests(256).quickcheck(property as fn(_, _));
    }

    #[test]
    fn a_second_message_that_is_much_like_the_first_is_small_with_a_context_only() {
        let (mut codecs, mut window) = (Codecs::default(), Window::default());
        let text: Vec<u8> = (0..400_u32).flat_map(|n| (n * n * 31).to_be_bytes()).collect();
        window.push(&text, 12);
        let alone = codecs.deflate(&text, &[], HOW).map_or(text.len(), <[u8]>::len);
        let after = codecs.deflate(&text, window.bytes(), HOW).unwrap().len();
        assert!(after * 10 < alone, "{after} {alone}");
    }

    /// Each costs a window, whatever it holds.
    #[test]
    fn last_blocks_are_as_many_as_the_message_is_long() {
        let empty = |count: usize| b"\x03\x00".repeat(count);
        let many = MAX_ENDS as usize;
        assert_eq!(inflate(&empty(many), &[], 7, 5).as_deref(), Ok(&b""[..]));
        assert_eq!(inflate(&empty(many + 1), &[], 7, 5), Err(1008));
        let length = 1 << 20;
        let long = Codecs::default().deflate(&vec![0; length], &[], HOW).unwrap().to_vec();
        let body = [long, b"\x00\x00\xff\xff".to_vec(), empty(2 * many)].concat();
        assert_eq!(inflate(&body, &[], 7, length).map(|plain| plain.len()), Ok(length));
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let body = Codecs::default().deflate(&vec![0; 1 << 24], &[], HOW).unwrap().to_vec();
        assert!(body.len() < 40_000);
        let mut inflater = Codecs::default().inflater(&[]);
        let (mut plain, mut filled) = (Vec::new(), 0);
        let result = inflater.inflate(&body, &mut plain, &mut filled, 1 << 20);
        assert_eq!(result, Ok(Inflated::TooBig));
        assert!(plain.capacity() <= 3 << 20, "{}", plain.capacity());
    }

    /// The two forms of RFC 7692, sections 7.2.3.3 and 7.2.3.4: a block without compression, and
    /// one that is marked as the last, with a byte of zeros behind.
    #[test]
    fn the_examples_of_the_specification() {
        let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
        let stored = b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00";
        let last = b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00";
        let two = b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
        for body in [&hello[..], stored, last, two] {
            for cut in 1..=body.len() {
                assert_eq!(inflate(body, &[], cut, 5).as_deref(), Ok(&b"Hello"[..]));
            }
        }
        assert_eq!(inflate(b"\xf2\x00\x11\x00\x00", b"Hello", 5, 5).as_deref(), Ok(&b"Hello"[..]));
        assert_eq!(inflate(b"\xf2\x00\x11\x00\x00", b"", 5, 5), Err(1007));
        assert_eq!(inflate(b"\x07\xff", &[], 1, 5), Err(1007));
        assert_eq!(inflate(b"\x00", &[], 1, 0).as_deref(), Ok(&b""[..]));
    }
}
