//! A connection that is refused with words: one write and FIN, while nothing of it is kept.

use std::io::{self, Read, Write};

use crate::stream::handover::reset;
use crate::sys::Stream;

/// Bytes that a refusal may have. A new connection's send buffer takes so many at once on every
/// platform.
pub(crate) const MAX_REFUSAL_BYTES: usize = 4 << 10;

/// Reads of what the client has sent already: each takes a read buffer full. A client that sends
/// more finds a reset behind the words.
const REFUSAL_READS: usize = 2;

/// Calls that a signal has interrupted are made again, so many times.
const ATTEMPTS: usize = 8;

/// Tells the client why, and ends the connection. Words that the socket does not take whole end in
/// a reset, so that a part of them is never taken for the whole.
pub(crate) fn refuse_with(mut stream: Stream, words: &[u8], buffer: &mut [u8]) {
    let sent = attempt(|| stream.write(words));
    if !sent.is_ok_and(|count| count == words.len()) || stream.shutdown_write().is_err() {
        return reset(stream);
    }
    // To close a socket that has unread input sends RST, and that may overtake the words.
    for _ in 0..REFUSAL_READS {
        let received = attempt(|| stream.read(buffer));
        if !received.is_ok_and(|count| count > 0) {
            return;
        }
    }
}

fn attempt(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    let mut result = call();
    for _ in 1..ATTEMPTS {
        match &result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => result = call(),
            _ => break,
        }
    }
    result
}
