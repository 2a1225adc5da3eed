//! Answers in pieces, compressed as they are written.

use flate2::{Compress, Compression, FlushCompress, Status};

use super::{Plan, WINDOW_BITS, add_vary, is_fixed, may_pack, type_of, weaken_tag};
use crate::http::Method;
use crate::http::exchange::Output;
use crate::http::respond;
use crate::http::response::Response;
use crate::stream::Written;

/// Room that the compressor is given at once, in bytes.
const STEP: usize = 16 << 10;

/// What compresses one answer.
pub(in crate::http) struct Packer {
    compress: Compress,
    /// Bytes that must follow, if the handler has said so.
    left: Option<u64>,
}

impl Packer {
    fn new(level: u32, left: Option<u64>) -> Self {
        Self { compress: Compress::new_gzip(Compression::new(level), WINDOW_BITS), left }
    }

    /// Compresses a piece behind what is in `packed`. Returns whether that went well.
    fn pack(&mut self, mut piece: &[u8], flush: FlushCompress, packed: &mut Vec<u8>) -> bool {
        loop {
            packed.reserve(STEP);
            let before = self.compress.total_in();
            let status = self.compress.compress_vec(piece, packed, flush);
            piece = &piece[(self.compress.total_in() - before) as usize..];
            let has_room = packed.len() < packed.capacity();
            match status {
                Ok(Status::StreamEnd) => return true,
                Ok(_) if piece.is_empty() && has_room => return flush != FlushCompress::Finish,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
}

/// An answer in pieces begins. Returns the length to say, which is not known of one that is
/// compressed.
pub(in crate::http) fn begin<A: 'static>(
    res: &mut Response<'_, A>,
    length: Option<u64>,
) -> Option<u64> {
    let Some(Plan::Offer(offer)) = res.exchange.gzip.take() else { return length };
    let (rules, fields) = (&offer.rules, &mut res.shared.fields);
    let status = res.exchange.status;
    if status == 304 {
        offer.confirm(fields);
    }
    let media_type = type_of(fields);
    let is_events = res.exchange.is_events
        || media_type.is_some_and(|name| name.trim_start().starts_with("text/event-stream"));
    let is_short = length.is_some_and(|length| length < rules.min_bytes as u64);
    let is_taken = rules.streams && media_type.is_some_and(|name| rules.takes_type(name));
    if !is_taken || !may_pack(status) || is_events || is_short || is_fixed(fields) {
        return length;
    }
    add_vary(&mut res.shared.fields);
    if !offer.is_accepted {
        return length;
    }
    weaken_tag(&mut res.shared.fields);
    res.shared.fields.extend_from_slice(b"Content-Encoding: gzip\r\n");
    if res.exchange.method != Method::Head {
        let packer = Packer::new(offer.rules.level, length);
        res.exchange.gzip = Some(Plan::Packs(Box::new(packer)));
    }
    None
}

/// Writes a piece. `None`: the answer is not compressed.
pub(in crate::http) fn write<A: 'static>(
    res: &mut Response<'_, A>,
    piece: &[u8],
) -> Option<Written> {
    write_with(res, piece, FlushCompress::None)
}

/// Sends what the compressor holds back. `None`: the answer is not compressed.
pub(in crate::http) fn flush<A: 'static>(res: &mut Response<'_, A>) -> Option<Written> {
    write_with(res, b"", FlushCompress::Sync)
}

#[cold]
fn write_with<A: 'static>(
    res: &mut Response<'_, A>,
    piece: &[u8],
    flush: FlushCompress,
) -> Option<Written> {
    if !matches!(res.exchange.output, Output::Stream(_)) {
        return None; // the answer is over, and its compressor with it
    }
    let Some(Plan::Packs(packer)) = &mut res.exchange.gzip else { return None };
    let count = piece.len() as u64;
    if packer.left.is_some_and(|left| left < count) {
        log::error!("{}: the body is longer than its Content-Length", res.id());
        return Some(Written::Closed);
    }
    packer.left = packer.left.map(|left| left - count);
    let mut packed = std::mem::take(&mut res.shared.compressor.packed);
    packed.clear();
    let is_good = packer.pack(piece, flush, &mut packed);
    let written = respond::write_piece(res, &packed);
    res.shared.compressor.keep(packed);
    if !is_good || written == Written::Full {
        // The compressor has taken the piece: without it, what follows cannot be read.
        res.conn.abort();
        return Some(Written::Closed);
    }
    Some(written)
}

/// The answer ends. Returns whether it is whole.
pub(in crate::http) fn end<A: 'static>(res: &mut Response<'_, A>) -> bool {
    let Some(Plan::Packs(packer)) = &res.exchange.gzip else { return true };
    let left = packer.left.unwrap_or(0);
    if left > 0 {
        log::error!("{}: the body is {left} bytes shorter than its Content-Length", res.id());
        return false;
    }
    write_with(res, b"", FlushCompress::Finish).is_none_or(Written::is_accepted)
}
