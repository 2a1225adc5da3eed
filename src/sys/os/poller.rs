//! The poll of the operating system.

use std::io;
use std::time::Duration;

use mio::event::Source;
use mio::{Events, Interest, Poll as Poller, Token, Waker};

use super::{STREAM_INPUT, Stream};

/// A waker whose events have `token`.
pub(crate) fn waker(poller: &Poller, token: usize) -> io::Result<Waker> {
    Waker::new(poller.registry(), Token(token))
}

fn interest(input: Interest, writable: bool) -> Interest {
    if writable { input | Interest::WRITABLE } else { input }
}

/// Registers a socket.
pub(crate) fn add(
    poller: &Poller,
    source: &mut impl Source,
    token: usize,
    writable: bool,
) -> io::Result<()> {
    poller.registry().register(source, Token(token), interest(Interest::READABLE, writable))
}

/// Registers a connection.
pub(crate) fn add_stream(
    poller: &Poller,
    stream: &mut Stream,
    token: usize,
    writable: bool,
) -> io::Result<()> {
    poller.registry().register(stream, Token(token), interest(STREAM_INPUT, writable))
}

/// Watches a socket no more.
pub(crate) fn remove(poller: &Poller, source: &mut impl Source) -> io::Result<()> {
    poller.registry().deregister(source)
}

/// Changes what a connection is watched for; reports what is ready anew.
pub(crate) fn change_stream(
    poller: &Poller,
    stream: &mut Stream,
    token: usize,
    writable: bool,
) -> io::Result<()> {
    poller.registry().reregister(stream, Token(token), interest(STREAM_INPUT, writable))
}

/// Waits for events; an interruption by a signal is neither an event nor an error.
pub(crate) fn poll(
    poller: &mut Poller,
    events: &mut Events,
    timeout: Option<Duration>,
) -> io::Result<()> {
    match poller.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        result => result,
    }
}

/// Asks the poll for writability of a datagram socket, or no longer; reports what is ready anew.
///
/// mio's poll(2) lets go of a socket for which the system reports an error, and says `NotFound`
/// for it ever after. A connection is over then; a datagram socket has only had an error reported,
/// and is registered as if it were new.
pub(crate) fn watch(
    poller: &Poller,
    socket: &mut impl Source,
    token: usize,
    writable: bool,
) -> io::Result<()> {
    let interest = interest(Interest::READABLE, writable);
    match poller.registry().reregister(socket, Token(token), interest) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Its half in the poll is gone, which is an error; that in the socket goes.
            let _ = remove(poller, socket);
            add(poller, socket, token, writable)
        }
        result => result,
    }
}
