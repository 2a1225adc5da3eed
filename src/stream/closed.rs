//! What is said of a connection that has ended.

use std::sync::Arc;

use crate::base::close::CloseReason;
use crate::base::id::ConnId;
use crate::stream::config::Dial;

/// How a connection ended: what `on_close` is told.
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// The connection that was; its id finds nothing any more.
    pub id: ConnId,
    /// Why it ended.
    pub reason: CloseReason,
    /// Bytes that `write` or `send_file` had accepted and the kernel had not: they are lost.
    ///
    /// Zero means that the kernel took everything. It does not mean that the peer has read it;
    /// only an answer of the peer means that.
    pub unsent_bytes: usize,
    /// How it came to be, if it may be connected again.
    pub(crate) dial: Option<Arc<Dial>>,
}
