//! Connections that leave their thread.

use super::super::{Stream, os};

/// An accepted connection that no poll knows: it may go to another thread. Only those of the
/// operating system can.
#[derive(Debug)]
pub(crate) struct Loose(os::Stream);

impl Loose {
    pub(crate) fn new(stream: Stream) -> Option<Self> {
        match stream {
            Stream::Os(stream) => Some(Self(stream)),
            Stream::Sim(_) => None,
            Stream::Absent => None,
        }
    }

    pub(crate) fn into_stream(self) -> Stream {
        Stream::Os(self.0)
    }
}
