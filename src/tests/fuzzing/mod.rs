//! Rooms that are not public, driven by the bytes of a fuzzer.
//!
//! Each function takes any bytes and panics if the room does something wrong. The fuzzers call
//! them through this door, which is there for them only; the tests run their corpora.

mod buffer;
mod connection;
mod input;
mod options;
mod script;

#[cfg(feature = "http-forms")]
pub use crate::http::fuzzing::multipart;
#[cfg(feature = "http-files")]
pub use crate::http::fuzzing::range;
#[cfg(feature = "http")]
pub use crate::http::fuzzing::{chunk, head, target};
#[cfg(feature = "ws")]
pub use crate::ws::fuzzing::{deflate as ws_deflate, frame as ws_frame, handshake as ws_handshake};

/// Queues and their spare buffers, against positions in one long stream.
pub fn buffer(bytes: &[u8]) {
    buffer::run(bytes);
}

/// What one connection waits for and until when, against its own account of it.
pub fn connection(bytes: &[u8]) {
    connection::run(bytes);
}

/// Options of any values: refused by name, or usable.
pub fn options(bytes: &[u8]) {
    options::run(bytes);
}

/// Runs a connection from its opening to its end, over a stream that does as the bytes say.
pub fn script(bytes: &[u8]) {
    script::run(bytes);
}

#[cfg(test)]
mod tests {
    use super::input::replay;
    use super::*;

    #[test]
    fn the_corpora_pass() {
        replay("buffer", buffer);
        replay("connection", connection);
        replay("options", options);
        replay("script", script);
    }

    #[cfg(all(feature = "http-files", feature = "http-forms"))]
    #[test]
    fn the_corpora_of_http_pass() {
        replay("head", head);
        replay("chunk", chunk);
        replay("target", target);
        replay("multipart", multipart);
        replay("range", range);
    }

    #[cfg(feature = "ws")]
    #[test]
    fn the_corpora_of_websocket_pass() {
        replay("ws_frame", ws_frame);
        replay("ws_handshake", ws_handshake);
        replay("ws_deflate", ws_deflate);
    }
}
