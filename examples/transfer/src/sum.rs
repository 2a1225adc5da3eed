//! The checksum of a part of a file, read piece by piece.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crc32fast::Hasher;

/// Bytes read at once.
const PIECE_BYTES: usize = 128 << 10;

/// Why a checksum is not there.
pub const UNWANTED: &str = "nobody waits for it any more";

/// Adds the bytes of a file from `start` to `end` to a checksum; gives up when it is not wanted any
/// more.
pub fn add(
    hasher: &mut Hasher,
    file: &mut File,
    start: u64,
    end: u64,
    is_wanted: impl Fn() -> bool,
) -> io::Result<()> {
    file.seek(SeekFrom::Start(start))?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = end - start;
    while left > 0 {
        if !is_wanted() {
            return Err(io::Error::other(UNWANTED));
        }
        let most = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        match file.read(&mut piece[..most]) {
            Ok(0) => {
                let text = format!("the file was cut short: {left} bytes are missing");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            Ok(count) => {
                hasher.update(&piece[..count]);
                left -= count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
