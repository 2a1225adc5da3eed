//! Stands for `gunzip.rs` in a build without the feature `http-gzip`, where no call can ask for it.

use super::answer::Answer;
use super::error::ClientError;

/// No body is in the format, as far as this build knows.
pub(super) fn is_gzip(_: &Answer<'_>) -> bool {
    false
}

/// Returns the body as it came.
pub(super) fn gunzip(packed: &[u8], _: usize) -> Result<Vec<u8>, ClientError> {
    Ok(packed.to_vec())
}
