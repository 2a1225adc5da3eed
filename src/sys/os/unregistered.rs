//! Connections that leave their thread.

use crate::sys::Stream;

/// An accepted connection that is registered with no poll, so that it may go to another thread.
/// Only a connection of the operating system can.
#[derive(Debug)]
pub(crate) struct Unregistered(super::Stream);

impl Unregistered {
    pub(crate) fn new(stream: Stream) -> Option<Self> {
        match stream {
            Stream::Os(stream) => Some(Self(stream)),
            Stream::Sim(_) | Stream::Absent => None,
        }
    }

    pub(crate) fn into_stream(self) -> Stream {
        Stream::Os(self.0)
    }
}
